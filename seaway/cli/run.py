"""`seaway run`: the whole pipeline on this machine, ending with the hop table."""

import contextlib
import signal
import sys
import time
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import typer

from seaway.arguments import seaway_command, short_path
from seaway.cli import load_options, options

if TYPE_CHECKING:
    from seaway.pipeline.local import ServerAddresses

# Option → the pipeline's parameter that it sets.
PARAMETERS = {
    **{name: name for name in ("net", "epochs", "sampling", "training", "converter", "seed", "name")},
    **{name: name for name in ("load_users", "load_rate", "load_duration_s")},
    "data": "source",
    "limit": "load_limits",
}
SERVER_PARAMETERS = {"repository", "url"}  # a pipeline with one of these publishes to a server, or sends requests to it


def run(
    context: typer.Context,
    data: options.Data = "strokes",
    net: Annotated[
        str, typer.Option(help="cnn, cnn-large, mlp, linear, torchvision:NAME, or your own: python:MODULE:FUNCTION.")
    ] = "cnn",
    epochs: Annotated[
        int, typer.Option(help="Epochs. Default: the network's own number.", min=0, show_default=False)
    ] = 0,
    sampling: Annotated[
        str, typer.Option(help="For imbalanced classes: none, weighted, undersample, oversample or augment.")
    ] = "none",
    training: Annotated[
        list[str] | None,
        typer.Option(
            help="A training setting (the pipeline's parameter training), e.g. learning_rate=0.001; repeat for more. "
            "`python -m seaway.train --help` lists them.",
            metavar="NAME=VALUE",
        ),
    ] = None,
    converter: options.Converter = options.DEFAULT_CONVERTER,
    seed: Annotated[int, typer.Option(help="Random seed of the training.")] = 0,
    name: Annotated[str, typer.Option(help="The model's name.")] = options.DEFAULT_NAME,
    root: options.Root = options.DEFAULT_ROOT,
    port: options.Port = options.DEFAULT_PORT,
    load_duration_s: Annotated[
        int, typer.Option(help="Duration of the load test per protocol, in seconds.", min=1, max=3600)
    ] = 3,
    load_users: Annotated[int, typer.Option(help="Concurrent users of the load test.", min=1, max=1000)] = 8,
    load_rate: Annotated[
        float,
        typer.Option(
            help="Requests per second of the load test, in an open loop. Default: a closed loop of --load-users.",
            min=0,
            show_default=False,
        ),
    ] = 0,
    limit: Annotated[
        list[str] | None,
        typer.Option(
            help="A limit that a version must meet to be promoted; repeat for more. " + load_options.LIMITS_HELP,
            metavar="NAME=VALUE",
        ),
    ] = None,
    pipeline: options.Pipeline = "characters",
    param: options.Params = None,
    runner: Annotated[
        Literal["warm", "subprocess", "docker"],
        typer.Option(
            help="Run each stage as a process that has its framework imported already, as a new process, or in its own "
            "Docker image (built by `make images`)."
        ),
    ] = "warm",
    keep: Annotated[
        bool | None,
        typer.Option("--keep/--no-keep", help="Keep the server running afterwards. Default: only on a terminal."),
    ] = None,
) -> None:
    """Runs the whole pipeline on this machine: trains, exports, converts, validates, publishes, serves and load-tests a
    model of handwritten characters.

    After an interruption or failure, run the same command again: finished stages are reused and training resumes.

    [bold]Examples[/bold]

      seaway run                                  [dim]# synthetic images, about three minutes[/dim]

      seaway run --data idx:path/to/emnist        [dim]# the original EMNIST files[/dim]

      seaway run --net mlp --epochs 5 --sampling augment --training learning_rate=0.001

      seaway run --runner docker --root in-docker           [dim]# each stage in its own container[/dim]

      seaway run --pipeline mine.py --param passes=2        [dim]# your own pipeline[/dim]
    """
    from seaway import extras
    from seaway.artifacts import model_repository
    from seaway.errors import check_all
    from seaway.nets import names
    from seaway.pipeline import definitions, local
    from seaway.pipeline.request import check_load
    from seaway.train.settings import parse_settings

    if runner != "docker" and not pipeline.endswith(definitions.SUFFIX):  # a user's pipeline may need less
        extras.require("torch", "onnxscript", "tensorflow", "kfp", "matplotlib", "locust")
    began = time.time()
    root = root.absolute()
    dag = definitions.pipeline(pipeline)
    inputs = definitions.inputs(dag)
    _check_options(context, inputs, pipeline)
    settings = options.pairs("--training", "learning_rate=0.001", training)
    check_all(
        lambda: model_repository.check_name(name),
        lambda: names.check_net(net),
        lambda: parse_settings({"net": net, "epochs": str(epochs), "sampling": sampling, "seed": str(seed)}, settings),
    )
    values = {
        "source": data,
        "name": name,
        "net": net,
        "epochs": epochs,
        "sampling": sampling,
        "training": settings,
        "seed": seed,
        "converter": converter,
        "load_duration_s": load_duration_s,
        "load_users": load_users,
        "load_rate": load_rate,
        "load_limits": options.limits(limit),
    }
    options_set = {parameter: values[parameter] for key, parameter in PARAMETERS.items() if _is_set(context, key)}
    arguments = _arguments(inputs, _places(root, port) | options_set, param or [])
    check_load(inputs, arguments)
    (root / "data").mkdir(parents=True, exist_ok=True)
    _resolve_source(arguments, root / "data")
    if "net" in arguments and "code" in arguments and not arguments["code"]:
        arguments["code"] = _code_fingerprint(str(arguments["net"]))
    engine = _engine(runner, dag, root, arguments)
    needs_server = SERVER_PARAMETERS & inputs.keys()
    server = _server(root, port) if needs_server else contextlib.nullcontext(local.ServerAddresses())
    with engine as kfp_runner, server as (url, metrics, grpc_url):
        if arguments.get("url", url) == url:  # not another server, of `--param url`
            found = {"metrics": metrics, "grpc_url": grpc_url}
            arguments |= {key: address for key, address in found.items() if arguments.get(key) == ""}
        try:
            outputs = local.run(dag, arguments, root, kfp_runner)
        except BaseException:  # also Ctrl-C: what finished stages report is there
            _print_reports(local.collect_reports(root, began))
            raise
        reports = local.collect_reports(root, began, outputs)
        _print_results(outputs, inputs, arguments)
        typer.echo(f"\nThe whole run took {time.time() - began:.0f} s.")
        _print_reports(reports)
        keep = sys.stdout.isatty() if keep is None else keep
        if url and keep:
            typer.echo(f"Server   {url}/ (a page to try it, until Ctrl-C)\ngRPC     {grpc_url}")
            with contextlib.suppress(KeyboardInterrupt):
                signal.pause()
    if url and not keep:
        command = seaway_command("serve", "--model-repository", short_path(root / local.REPOSITORY))
        typer.echo(f"The server stopped with the run. Start it again:\n  {command}")


def _engine(
    runner: str, pipeline: Any, root: Path, arguments: Mapping[str, Any]
) -> contextlib.AbstractContextManager[Any]:
    from seaway.pipeline import containers, warm

    if runner == "warm":
        return warm.runner(pipeline)
    if runner == "docker":
        return contextlib.nullcontext(containers.runner(pipeline, root, reads(arguments.get("source", ""))))
    return contextlib.nullcontext()


def _places(root: Path, port: int) -> dict[str, str]:
    """Parameters that `run` sets by itself, for folders below `root` and the server on `port`."""
    from seaway.pipeline import local

    return {
        "cache": str(root / "data"),
        "work": str(root / "work"),
        "repository": str(root / local.REPOSITORY),
        "url": f"http://127.0.0.1:{port}",
        "baseline": "",
        "namespace": "",
        "metrics": "",
        "grpc_url": "",
        "fingerprint": "",
        "code": "",
    }


def _arguments(inputs: Mapping[str, Any], values: Mapping[str, Any], params: list[str]) -> dict[str, Any]:
    """The pipeline's arguments: its defaults, then those `values` that it has as parameters, then `--param`."""
    from seaway.pipeline import request

    known = {key: value for key, value in values.items() if key in inputs}
    # The defaults too, because the IR has whole numbers as floats
    defaults = {key: definition["defaultValue"] for key, definition in inputs.items() if "defaultValue" in definition}
    return defaults | known | request.arguments(inputs, params, known)


def _resolve_source(arguments: dict[str, Any], cache: Path) -> None:
    """Makes the path of an `idx:` source absolute, and fills in the source's fingerprint."""
    from seaway.data.datasets import fingerprint

    if "source" not in arguments:
        return
    arguments["source"] = absolute_source(str(arguments["source"]))
    if "fingerprint" in arguments and not arguments["fingerprint"]:
        arguments["fingerprint"] = fingerprint(arguments["source"], cache)


def _server(root: Path, port: int) -> "contextlib.AbstractContextManager[ServerAddresses]":
    from seaway.pipeline import local

    return local.server(root / local.REPOSITORY, port, root / "server.log")


def _is_set(context: typer.Context, option: str) -> bool:
    """Whether the option is on the command line; otherwise the pipeline's own default applies."""
    source = context.get_parameter_source(option)
    return source is not None and source.name == "COMMANDLINE"


def _check_options(context: typer.Context, inputs: Mapping[str, object], pipeline: str) -> None:
    """Raises InvalidInput for an option that the pipeline has no parameter for."""
    from seaway.errors import InvalidInput

    for option, parameter in PARAMETERS.items():
        if parameter not in inputs and _is_set(context, option):
            raise InvalidInput(f"--{option.replace('_', '-')}: the pipeline {pipeline} has no parameter {parameter}")


def _print_results(outputs: Mapping[str, Any], inputs: Mapping[str, Any], arguments: Mapping[str, Any]) -> None:
    """The hop table of a published version; of any other pipeline values, and paths of artifacts except reports."""
    from kfp import dsl

    from seaway.cli.hop_table import print_hops

    if "version" in outputs and {"repository", "name"} <= inputs.keys():
        print_hops(Path(arguments["repository"]), arguments["name"], int(outputs["version"]))
        return
    for name, value in outputs.items():
        if not isinstance(value, dsl.HTML):
            typer.echo(f"{name:<8} {getattr(value, 'path', value)}")


def _print_reports(reports: Iterable[Path]) -> None:
    for report in reports:
        typer.echo(f"Report   {report.as_uri()}")


def _code_fingerprint(net: str) -> str:
    """Of a user's own network, whose code may change; "" for others, because PyTorch takes seconds to load."""
    if not net.startswith("python:"):
        return ""
    from seaway.nets.build import fingerprint

    return fingerprint(net)


def absolute_source(source: str) -> str:
    """`idx:DIR` with an absolute DIR, because stages run in other folders; other sources unchanged."""
    kind, _, rest = source.partition(":")
    return f"idx:{Path(rest).expanduser().resolve()}" if kind == "idx" and rest else source


def reads(source: str) -> list[Path]:
    """The folders that a source reads: that of `idx:DIR`, none for others."""
    kind, _, rest = source.partition(":")
    folder = Path(rest) if Path(rest).is_dir() else Path(rest.rpartition("#")[0])
    return [folder] if kind == "idx" else []
