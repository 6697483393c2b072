"""What `load`, `load capacity` and `verify` have in common: options, examples, limits, reports."""

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from seaway.cli import options

if TYPE_CHECKING:
    from seaway.load.gate import Limits, Line
    from seaway.load.run import LoadResult, Plan


def seconds(given: str | int) -> int:
    """Whole seconds of "60", "60s", "5m" or "1h"; a default is a number already."""
    text = str(given)
    number, unit = (text[:-1], text[-1]) if text[-1:] in _UNITS else (text, "s")
    if not number.isdigit() or not int(number):
        raise typer.BadParameter(f"{text!r} is no time of a second or more; give one like 60, 60s, 5m or 1h")
    return int(number) * _UNITS[unit]


_UNITS = {"s": 1, "m": 60, "h": 3600}

Protocols = Annotated[
    list[str] | None,
    typer.Option(
        "--protocol",
        help="tfs, graphpipe, oip, oip-binary or png; repeat for more. Without it: the first of tfs, oip and graphpipe "
        "that the server is found to speak.",
    ),
]
Protocol = Annotated[
    str,
    typer.Option(
        "--protocol",
        help="tfs, graphpipe, oip, oip-binary or png. Without it: the first of tfs, oip and graphpipe that the server "
        "is found to speak.",
    ),
]
Users = Annotated[
    int, typer.Option(help="Users at a time; 0: 8, or with --rate as many as it takes, up to 256.", min=0)
]
Rate = Annotated[
    float,
    typer.Option(help="Requests a second, due whatever the answers take; 0: each user waits for its answer.", min=0),
]
Arrivals = Annotated[
    str,
    typer.Option(help="When the requests of --rate are due: poisson, as independent callers send them, or uniform."),
]
Seed = Annotated[int, typer.Option(help="Of the Poisson arrivals: the same seed asks at the same moments.", min=0)]
Time = Annotated[
    int,
    typer.Option("--time", help="A protocol, after the warm-up: 60, 60s, 5m, 1h.", parser=seconds, metavar="TIME"),
]
Warmup = Annotated[int, typer.Option(help="Seconds before that whose latencies do not count.", min=0)]
Batch = Annotated[int, typer.Option(help="Examples a request.", min=1)]
Processes = Annotated[int, typer.Option(help="Processes that send.", min=1)]
Timeout = Annotated[float, typer.Option(help="Seconds after which a request has failed.")]
Insecure = Annotated[bool, typer.Option("--insecure", help="Accept any certificate.")]
Name = Annotated[str, typer.Option(help="The model's name on the server.")]
Version = Annotated[int, typer.Option(help="Which version to ask; 0: with --volume the one that is stable.")]
Golden = Annotated[
    Path | None,
    typer.Option(
        "--golden", "--data", exists=True,
        help="A version's folder, an ONNX artifact, or an .npz file of examples, instead of --volume.",
    ),
]  # fmt: skip
LimitsFile = Annotated[
    Path | None, typer.Option("--limits", exists=True, dir_okay=False, help="A YAML file of limits.")
]
Limit = Annotated[
    list[str] | None,
    typer.Option(help="NAME=VALUE: failed, wrong (shares, default 0), p50_ms … p99_ms, rate, slower; repeat for more."),
]
Metrics = Annotated[
    str, typer.Option(help="Address of the server's Prometheus page; the report then shows it beside the load.")
]
Report = Annotated[Path | None, typer.Option(help="Folder for load.html, load.json and load.md.")]


def check_extra(report: Path | None) -> None:
    """Raises ModuleNotFoundError before the load where what makes it, or its report, is not installed."""
    from seaway import extras

    extras.require("locust", *(("matplotlib", "jinja2") if report else ()))


def source_of(golden: Path | None, volume: Path, name: str, version: int, plan: "Plan") -> "tuple[Path, Plan]":
    """Where the examples are, and the plan with the model's name and version. Raises NotFound."""
    from seaway.artifacts import store
    from seaway.errors import NotFound

    if golden is not None:
        return golden, replace(plan, model=name, version=version or None)
    name = name or options.DEFAULT_NAME
    available = store.versions(volume, name)
    if not available:
        raise NotFound(f"{volume} holds no model {name!r}: give --volume and --name, or --golden")
    version = version or store.labels(volume, name).get(store.STABLE, available[-1])
    return store.existing(volume, name, version), replace(plan, model=name, version=version)


def protocols_of(given: "Sequence[str] | None", url: str, source: Path, plan: "Plan") -> list[str]:
    """Those that were named, else the one that a server is asked over where it speaks several. Raises as a client."""
    from seaway.load import spoken

    return list(given or ()) or [spoken.first(url, source, plan)]


def limits_of(file: Path | None, given: list[str] | None) -> "Limits":
    """The file's limits, and over them those that were given one by one. Raises InvalidInput."""
    from seaway.load import gate

    values = options.limits(given)
    if file is None:
        return gate.limits(values, "--limit")
    return gate.limits({**gate.given(gate.read(file)), **values}, f"{file} and --limit")


def run(url: str, source: Path, plan: "Plan") -> "LoadResult":
    """One run, watched."""
    from seaway.cli.live import watching
    from seaway.load import run
    from seaway.protocols import wire

    with watching(wire.named(plan.protocol).title) as told:
        return run.run(url, source, plan, told)


def write_report(folder: Path, results: "Sequence[LoadResult]", lines: "Sequence[Line]" = ()) -> None:
    from seaway.artifacts import atomic
    from seaway.load import report
    from seaway.load import results as written

    folder.mkdir(parents=True, exist_ok=True)
    title = f"Load test of {results[0].url}" if results else "Load test"
    written.write_json(folder / written.JSON, results, lines)
    with atomic.file(folder / written.MARKDOWN) as part:
        part.write_text(written.markdown(title, results, lines), encoding="utf-8")
    with atomic.file(folder / written.HTML) as part:
        part.write_text(report.load_page(title, results, lines), encoding="utf-8")
    typer.echo(f"written: {folder / written.HTML}, {written.JSON}, {written.MARKDOWN}", err=True)
