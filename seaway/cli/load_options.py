"""Options, examples, limits and reports that `load`, `load capacity` and `verify` share."""

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from seaway.cli import options

if TYPE_CHECKING:
    from seaway.load.config import LoadConfig
    from seaway.load.formatting import Pair
    from seaway.load.gate import LimitResult, Limits
    from seaway.load.result import LoadResult


def parse_duration(value: str | int) -> int:
    """Whole seconds of "60", "60s", "5m" or "1h"; a default is already a number."""
    text = str(value)
    number, unit = (text[:-1], text[-1]) if text[-1:] in _UNITS else (text, "s")
    if not number.isdigit() or not int(number):
        raise typer.BadParameter(f"{text!r} is not a duration of at least a second; give one like 60, 60s, 5m or 1h")
    return int(number) * _UNITS[unit]


_UNITS = {"s": 1, "m": 60, "h": 3600}

LIMITS_HELP = (
    "Maximum: p50_ms, p90_ms, p95_ms, p99_ms (latency), failed, wrong (fraction of requests; default 0), slower (than "
    "the baseline, e.g. 20%). Minimum: rate (correct responses per second)."
)
PROTOCOLS_HELP = (
    "tfs (TensorFlow Serving's REST API), oip (Open Inference Protocol v2, JSON), oip-binary (the same with binary "
    "tensors), graphpipe, or png (PNG files over REST, signature from_png); with "
    "a URL like grpc://127.0.0.1:8500, or grpcs:// with TLS: tfs-grpc "
    "(TensorFlow Serving's Predict) or oip-grpc (ModelInfer)"
)
PREFERRED_HELP = "Default: the first of tfs, oip and graphpipe, or tfs-grpc and oip-grpc, that the server supports."
Protocols = Annotated[
    list[str] | None, typer.Option("--protocol", help=f"{PROTOCOLS_HELP}; repeat for more. {PREFERRED_HELP}")
]
Protocol = Annotated[str, typer.Option("--protocol", help=f"{PROTOCOLS_HELP}. {PREFERRED_HELP}")]
Users = Annotated[
    int | None,
    typer.Option(
        help="Concurrent users. Default: 8, or with --rate as many as needed, up to 256.", min=1, show_default=False
    ),
]
Rate = Annotated[
    float,
    typer.Option(
        help="Requests per second in an open loop, independent of response times. Default: a closed loop, in which "
        "each user waits for its response.",
        min=0,
        show_default=False,
    ),
]
Arrivals = Annotated[
    str,
    typer.Option(help="Arrival process with --rate: poisson (independent clients) or uniform (evenly spaced)."),
]
Seed = Annotated[
    int, typer.Option(help="Random seed of Poisson arrivals; the same seed gives the same schedule.", min=0)
]


def time_option(help_text: str) -> Any:
    return typer.Option("--time", help=f"{help_text}, e.g. 60, 60s, 5m or 1h.", parser=parse_duration, metavar="TIME")


Time = Annotated[int, time_option("Measured time per protocol, after the warm-up")]
Warmup = Annotated[int, typer.Option(help="Warm-up in seconds; its latencies are not counted.", min=0)]
Batch = Annotated[int, typer.Option(help="Examples per request.", min=1)]
Processes = Annotated[int, typer.Option(help="Load-generator processes.", min=1)]
Timeout = Annotated[float, typer.Option(help="Request timeout in seconds.")]
Name = Annotated[
    str,
    typer.Option(
        help="The model's name on the server. Default: the only one in the model repository; with --golden, the name "
        "in its metadata (required for an .npz file)."
    ),
]
Version = Annotated[
    int | None,
    typer.Option(
        help="The version to request. Default: stable, or the newest if none is stable; with --golden, the server's "
        "default.",
        min=1,
        show_default=False,
    ),
]
Golden = Annotated[
    Path | None,
    typer.Option(
        "--golden", "--data", exists=True,
        help="Inputs and expected outputs, instead of --model-repository: a version's folder (models/NAME/VERSION), an "
        "ONNX artifact, or an .npz file.",
    ),
]  # fmt: skip
LimitsFile = Annotated[
    Path | None,
    typer.Option(
        "--limits",
        exists=True,
        dir_okay=False,
        metavar="FILE",
        help="YAML file, one 'p99_ms: 50' per line; --limit overrides it.",
    ),
]
Limit = Annotated[
    list[str] | None,
    typer.Option(metavar="NAME=VALUE", help=f"A limit, e.g. p99_ms=50; repeat for more. {LIMITS_HELP}"),
]
Metrics = Annotated[
    str,
    typer.Option(
        help="URL of the server's Prometheus metrics, to plot in the report, e.g. http://127.0.0.1:8502/metrics.",
        metavar="URL",
    ),
]
Report = Annotated[
    Path | None, typer.Option(help="Folder to write load.html, load.json and load.md to.", metavar="DIR")
]


def check_extra(report: Path | None) -> None:
    """Raises ModuleNotFoundError before the load if a package for it, or for its report, is not installed."""
    from seaway import extras

    extras.require("locust", *(("matplotlib", "jinja2") if report else ()))


def check_server(url: str, config: "LoadConfig") -> None:
    """Raises NoResponse if no server accepts connections at the URL, InvalidInput if it is no URL."""
    from seaway.load.client import Client

    with Client(url, config.request_timeout_s, config.tls) as client:
        client.connect()


def find_examples(
    golden: Path | None, repository: Path, name: str, version: int | None, config: "LoadConfig"
) -> "tuple[Path, LoadConfig]":
    """The path of the examples, and the config with the model's name and version. Raises NotFound."""
    from seaway.artifacts import model_repository
    from seaway.errors import NotFound

    if golden is not None:
        return golden, replace(config, model=name, version=version)
    if not repository.is_dir():
        raise NotFound(
            f"{repository}: no such model repository: give --model-repository, or --golden with a version's folder, an "
            "ONNX artifact or an .npz file"
        )
    name = options.model_name(repository, name)
    available = model_repository.versions(repository, name)
    if not available:
        raise model_repository.no_model(repository, name)
    version = version or model_repository.labels(repository, name).get(model_repository.STABLE, available[-1])
    return model_repository.existing(repository, name, version), replace(config, model=name, version=version)


def select_protocols(protocols: "Sequence[str] | None", url: str, source: Path, config: "LoadConfig") -> list[str]:
    """`protocols`, or the preferred one that the server supports. Raises as a client."""
    from seaway.load import supported_protocols

    return list(protocols or ()) or [supported_protocols.preferred_protocol(url, source, config)]


def parse_limits(file: Path | None, pairs: list[str] | None) -> "Limits":
    """The file's limits, overridden by those of `--limit`. Raises InvalidInput."""
    from seaway.load import gate

    values = options.limits(pairs)
    if file is None:
        return gate.parse_limits(values, "--limit")
    return gate.parse_limits({**gate.to_mapping(gate.read_limits(file)), **values}, f"{file} and --limit")


def run(url: str, source: Path, config: "LoadConfig") -> "LoadResult":
    """One run, with its progress shown."""
    from seaway.cli.live import show_progress
    from seaway.load import progress, run
    from seaway.protocols import client_codecs

    with show_progress(client_codecs.named(config.protocol).title) as on_progress:
        return run.run(url, source, config, progress.with_title(on_progress, ""))


def write_report(
    folder: Path,
    results: "Sequence[LoadResult]",
    limit_results: "Sequence[LimitResult]" = (),
    conclusion: str = "",
    pairs: "Sequence[Pair]" = (),
) -> None:
    """`pairs`: the rounds of a comparison, whose candidates are `results`."""
    from seaway.artifacts import atomic
    from seaway.load import report, result_files
    from seaway.reporting.environment import hide_passwords

    folder.mkdir(parents=True, exist_ok=True)
    title = f"Load test of {hide_passwords(results[0].url)}" if results else "Load test"
    if pairs:
        baseline = pairs[0][0].url
        title += " against a baseline" if baseline == results[0].url else f" against {hide_passwords(baseline)}"
    result_files.write_json(folder / result_files.JSON, results, limit_results, pairs)
    with atomic.file(folder / result_files.MARKDOWN) as part:
        part.write_text(result_files.markdown(title, results, limit_results, conclusion, pairs), encoding="utf-8")
    with atomic.file(folder / result_files.HTML) as part:
        part.write_text(report.load_page(title, results, limit_results, conclusion, pairs), encoding="utf-8")
    names = ", ".join((result_files.HTML, result_files.JSON, result_files.MARKDOWN))
    typer.echo(f"wrote {names} to {folder}", err=True)
