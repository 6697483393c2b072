"""`seaway run`: the whole way on this machine, ending with one table."""

import contextlib
import signal
import sys
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any, Literal

import typer

from seaway.cli import options

# Option → the pipeline's parameter that it is.
PARAMETERS = {
    **{name: name for name in ("net", "epochs", "sampling", "training", "converter", "seed", "name")},
    **{name: name for name in ("load_seconds", "load_users", "load_rate")},
    "data": "source",
    "limit": "load_limits",
}
SERVED = {"volume", "url"}  # parameters of a pipeline that publishes or asks a server


def run(
    context: typer.Context,
    data: options.Data = "strokes",
    net: Annotated[
        str, typer.Option(help="cnn, cnn-large, mlp, linear, torchvision:NAME, or python:MODULE:FUNCTION, your own.")
    ] = "cnn",
    epochs: Annotated[int, typer.Option(help="Passes over the training data; 0 for the net's own default.", min=0)] = 0,
    sampling: Annotated[
        str, typer.Option(help="Where classes are unevenly filled: none, down, up, synthetic or weighted.")
    ] = "none",
    training: Annotated[
        list[str] | None,
        typer.Option(help="NAME=VALUE, as learning_rate=0.001: any other setting of the training; repeat."),
    ] = None,
    converter: options.Converter = options.DEFAULT_CONVERTER,
    seed: Annotated[int, typer.Option(help="Makes training repeatable.")] = 0,
    name: options.Name = options.DEFAULT_NAME,
    root: options.Root = options.DEFAULT_ROOT,
    port: options.Port = options.DEFAULT_PORT,
    load_seconds: Annotated[int, typer.Option(help="Seconds of Locust on each protocol.", min=1, max=3600)] = 5,
    load_users: Annotated[int, typer.Option(help="Users that Locust plays at the same time.", min=1, max=1000)] = 8,
    load_rate: Annotated[float, typer.Option(help="Requests a second, instead of users.", min=0)] = 0,
    limit: Annotated[
        list[str] | None, typer.Option(help="NAME=VALUE, as p99_ms=50: nothing is promoted that breaks it; repeat.")
    ] = None,
    pipeline: options.Pipeline = "characters",
    param: options.Params = None,
    runner: Annotated[
        Literal["subprocess", "docker"],
        typer.Option(help="Stages as processes, or each in its own image ('make images' builds them)."),
    ] = "subprocess",
    keep: Annotated[
        bool | None, typer.Option("--keep/--no-keep", help="Go on serving afterwards (default: on a terminal).")
    ] = None,
) -> None:
    """Trains, exports, converts, validates, publishes, serves and load-tests a model of handwritten characters.

    Interrupted or failed? Run the same command again: finished stages are picked up, training resumes.

    [bold]Examples[/bold]

      seaway run                                  [dim]# pictures made offline, about three minutes[/dim]

      seaway run --data idx:path/to/emnist        [dim]# EMNIST's own files[/dim]

      seaway run --net mlp --epochs 5 --sampling synthetic --training learning_rate=0.001

      seaway run --runner docker --root in-docker

      seaway run --pipeline mine.py --param passes=2        [dim]# a pipeline of your own[/dim]
    """
    from seaway import extras
    from seaway.artifacts import store
    from seaway.cli.table import print_hops
    from seaway.data.data import fingerprint
    from seaway.pipeline import containers, definitions, local
    from seaway.pipeline.request import arguments as given
    from seaway.pipeline.request import check_load
    from seaway.train.settings import parsed

    if runner == "subprocess" and not pipeline.endswith(definitions.SUFFIX):  # what a user's own needs is not known
        extras.require("torch", "onnxscript", "tensorflow", "kfp", "matplotlib", "locust")
    started = time.monotonic()
    root = root.absolute()
    dag = definitions.pipeline(pipeline)
    inputs = definitions.inputs(dag)
    _check_options(context, inputs, pipeline)
    store.check_name(name)
    settings = options.pairs("--training", "learning_rate=0.001", training)
    parsed(
        {"net": net, "epochs": str(epochs), "sampling": sampling, "seed": str(seed)}, settings
    )  # what cannot be is told at once
    chosen = {
        "source": data,
        "name": name,
        "net": net,
        "epochs": epochs,
        "sampling": sampling,
        "training": settings,
        "seed": seed,
        "converter": converter,
        "load_seconds": load_seconds,
        "load_users": load_users,
        "load_rate": load_rate,
        "load_limits": options.limits(limit),
    }
    chosen = {PARAMETERS[key]: chosen[PARAMETERS[key]] for key in PARAMETERS if _given(context, key)}
    places = {
        "cache": str(root / "data"),
        "work": str(root / "work"),
        "volume": str(root / local.VOLUME),
        "url": f"http://127.0.0.1:{port}",
        "baseline": "",
        "namespace": "",
        "metrics": "",
        "fingerprint": "",
        "code": "",
    }
    known = {key: value for key, value in (places | chosen).items() if key in inputs}
    defaults = {key: one["defaultValue"] for key, one in inputs.items() if "defaultValue" in one}
    # The pipeline's defaults too, of which the IR has whole numbers as floats.
    arguments = defaults | known | given(inputs, param or [], known)
    check_load(inputs, arguments)
    (root / "data").mkdir(parents=True, exist_ok=True)
    if "source" in arguments:
        arguments["source"] = absolute_source(str(arguments["source"]))
    if "source" in arguments and not arguments.get("fingerprint", "none is wanted"):
        arguments["fingerprint"] = fingerprint(arguments["source"], root / "data")
    if "net" in arguments and not arguments.get("code", "none is wanted"):
        arguments["code"] = _code(str(arguments["net"]))
    engine = containers.runner(dag, root, reads(arguments.get("source", ""))) if runner == "docker" else None
    served = _server(root, port) if SERVED & inputs.keys() else contextlib.nullcontext(("", ""))
    with served as (url, metrics):
        if not arguments.get("metrics", "none are wanted"):
            arguments["metrics"] = metrics
        outputs = local.run(dag, arguments, root, engine)
        reports = local.collect_reports({name: outputs[name] for name in definitions.outputs(dag)}, root)
        if "version" in outputs and {"volume", "name"} <= inputs.keys():
            print_hops(Path(arguments["volume"]), arguments["name"], int(outputs["version"]))
        else:
            _print_outputs(outputs)
        typer.echo(f"\nThe whole way took {time.monotonic() - started:.0f} s.")
        if url:
            typer.echo(f"Server   {url}/v1/models/{arguments.get('name', '')}".rstrip("/"))
        for report in reports:
            typer.echo(f"Report   {report.as_uri()}")
        if not url:
            return
        if sys.stdout.isatty() if keep is None else keep:
            _serve_until_interrupted(url)
        else:
            typer.echo(f"The server has ended with the run; again: seaway serve --volume {_short(root / local.VOLUME)}")


def _server(root: Path, port: int) -> contextlib.AbstractContextManager[tuple[str, str]]:
    from seaway.pipeline import local

    return local.server(root / local.VOLUME, port, root / "server.log")


def _given(context: typer.Context, option: str) -> bool:
    """Whether it is on the command line; where it is not, the pipeline's own default holds."""
    source = context.get_parameter_source(option)
    return source is not None and source.name == "COMMANDLINE"


def _check_options(context: typer.Context, inputs: Mapping[str, object], pipeline: str) -> None:
    """Raises InvalidInput for an option that the pipeline has no parameter for."""
    from seaway.errors import InvalidInput

    for option, parameter in PARAMETERS.items():
        if parameter not in inputs and _given(context, option):
            raise InvalidInput(f"--{option.replace('_', '-')}: the pipeline {pipeline} has no parameter {parameter}")


def _print_outputs(outputs: Mapping[str, Any]) -> None:
    """What a pipeline returns that has no hop table: values, and where artifacts are that are no reports."""
    from kfp import dsl

    for name, value in outputs.items():
        if not isinstance(value, dsl.HTML):
            typer.echo(f"{name:<8} {getattr(value, 'path', value)}")


def _code(net: str) -> str:
    """What tells a net of the user's own from another of its name. PyTorch takes seconds to load: for those alone."""
    if not net.startswith("python:"):
        return ""
    from seaway.nets.build import fingerprint

    return fingerprint(net)


def _serve_until_interrupted(url: str) -> None:
    typer.echo(f"\nThe server goes on until Ctrl-C. Try: seaway predict picture.png --url {url}")
    with contextlib.suppress(KeyboardInterrupt):
        signal.pause()


def absolute_source(source: str) -> str:
    """`idx:DIR` with DIR made absolute and plain, since stages run in other folders; other sources as they are."""
    kind, _, rest = source.partition(":")
    return f"idx:{Path(rest).expanduser().resolve()}" if kind == "idx" and rest else source


def reads(source: str) -> list[Path]:
    """The folder of an `idx:` source."""
    kind, _, rest = source.partition(":")
    folder = Path(rest) if Path(rest).is_dir() else Path(rest.rpartition("#")[0])
    return [folder] if kind == "idx" else []


def _short(path: Path) -> str:
    return str(path.relative_to(Path.cwd())) if path.is_relative_to(Path.cwd()) else str(path)
