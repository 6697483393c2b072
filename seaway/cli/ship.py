"""`seaway ship`: publishes any PyTorch model in the model repository."""

import contextlib
import time
from functools import partial
from pathlib import Path
from typing import Annotated, Literal

import typer

from seaway.arguments import seaway_command, short_path
from seaway.cli import options

EXAMPLE = "python:torchvision.models:resnet18"


def ship(
    model: Annotated[
        str,
        typer.Argument(
            help="python:MODULE:FUNCTION, a function without arguments that returns an nn.Module; or an .onnx file; or "
            "the folder of a SavedModel."
        ),
    ],
    shapes: Annotated[
        list[str],
        typer.Option(
            "--input",
            help="An input's name, the shape of one example, and dtype, e.g. 3x224x224; repeat for more.",
            metavar="[NAME:]SHAPE[:DTYPE]",
        ),
    ] = [],  # noqa: B006 - typer copies it
    sizes: Annotated[
        list[str],
        typer.Option(
            "--size",
            help="The range of an axis that --input names, e.g. L=1..512 for ids:L:int64; repeat for more.",
            metavar="NAME=LOW..HIGH[:STEP]",
        ),
    ] = [],  # noqa: B006
    batch: Annotated[
        bool, typer.Option(help="Whether every input has a batch as its first axis, which --input leaves out.")
    ] = True,
    outputs: Annotated[
        list[str],
        typer.Option(
            "--output",
            help="An output to serve, and its new name; repeat for more. Default: all.",
            metavar="[NEW=]NAME",
        ),
    ] = [],  # noqa: B006
    weights: Annotated[Path | None, typer.Option(help="A state_dict saved by torch.save.", exists=True)] = None,
    labels: Annotated[Path | None, typer.Option(help="A text file with one class name per line.", exists=True)] = None,
    activation: Annotated[
        Literal["softmax", "sigmoid", "none"] | None,
        typer.Option(help="Function from a classifier's logits to scores. Default: softmax with --labels."),
    ] = None,
    golden: Annotated[
        Path | None, typer.Option(help="An .npz file of real inputs for the parity checks.", exists=True)
    ] = None,
    exporter: Annotated[
        Literal["auto", "torchscript", "dynamo"] | None,
        typer.Option(
            help="PyTorch's exporter: the torch.export one (dynamo), the tracing one (torchscript), or auto: the "
            "latter if the former's graph does not hold. Default: auto."
        ),
    ] = None,
    second_opinion: Annotated[
        bool, typer.Option("--second-opinion", help="Try the exporter that was not needed, too, and report the result.")
    ] = False,
    converter: options.Converter = options.DEFAULT_CONVERTER,
    name: Annotated[str, typer.Option(help="The model's name. Default: the function's or the file's.")] = "",
    root: options.Root = options.DEFAULT_ROOT,
    runner: Annotated[
        Literal["warm", "subprocess"],
        typer.Option(help="Run each stage as a process that has its framework imported already, or as a new process."),
    ] = "warm",
) -> None:
    """Exports, converts, validates and publishes any PyTorch or ONNX model; a running server loads it automatically.

    A SavedModel is only checked and run as a server does, and published.

    [bold]Examples[/bold]

      seaway ship python:torchvision.models:resnet18 --weights w.pt --input 3x224x224 --labels imagenet.txt

      seaway ship python:mynets:tabular --input numbers:6 --input categories:3:int64

      seaway ship python:mynets:tagger --input ids:L:int64 --size L=1..512

      seaway ship model.onnx --golden examples.npz

      seaway ship saved_model/ --name mine
    """
    from seaway import extras
    from seaway.artifacts import atomic, model_repository
    from seaway.errors import check_all
    from seaway.export import inputs
    from seaway.nets import names
    from seaway.pipeline import definitions, local, warm

    of_python = names.of_python(
        inputs=shapes, batch=batch, weights=weights, activation=activation, exporter=exporter,
        second_opinion=second_opinion,
    )  # fmt: skip
    root = root.absolute()
    if Path(model).is_dir():
        others = {"--size": sizes, "--output": outputs, "--labels": labels}
        _saved_model(Path(model), root / local.REPOSITORY, name, golden, of_python | others)
        return
    extras.require("torch", "onnxscript", "tensorflow", "kfp", "matplotlib")  # before its stages fail without them
    is_file = model.endswith(names.ONNX)
    if is_file:
        model = str(Path(model).absolute())
    name = name or (names.of_file(model) if is_file else model.rpartition(":")[2])
    check_all(
        lambda: names.check_file(model, of_python) if is_file else names.check_function(model, "MODEL", EXAMPLE),
        lambda: model_repository.check_name(name),
        lambda: inputs.check_given(shapes) if not is_file else None,
        *(partial(inputs.parse, shape) for shape in shapes),
        *(partial(inputs.parse_size, size) for size in sizes),
    )
    repository = root / local.REPOSITORY
    atomic.make_folder(repository)
    arguments = {
        "model": model,
        "weights": _path(weights),
        "inputs": shapes,
        "sizes": sizes,
        "batch": batch,
        "outputs": outputs,
        "labels": _path(labels),
        "activation": activation or "",
        "golden": _path(golden),
        "exporter": exporter or "",
        "second_opinion": second_opinion,
        "converter": converter,
        "name": name,
        "repository": str(repository),
    }
    pipeline = definitions.pipeline("ship")
    if not weights and not is_file:
        typer.echo(f"without --weights, the weights are those of the network that {model} returns")
    began = time.time()
    try:
        with warm.runner(pipeline) if runner == "warm" else contextlib.nullcontext() as kfp_runner:
            version = int(local.run(pipeline, arguments, root, kfp_runner)["Output"])
    finally:
        for report in local.collect_reports(root, began):
            typer.echo(f"Report   {report.as_uri()}")
    _say_published(name, version, repository)


def _saved_model(folder: Path, repository: Path, name: str, golden: Path | None, others: dict[str, object]) -> None:
    from seaway import extras
    from seaway.artifacts import atomic
    from seaway.errors import InvalidInput
    from seaway.nets import names

    given = [option for option, value in others.items() if value]
    if given:
        raise InvalidInput(f"{', '.join(given)}: a SavedModel has its own; only --golden and --name can be given")
    extras.require("tensorflow")
    from seaway.serve import adopt

    atomic.make_folder(repository)
    name = name or names.of_file(str(folder.absolute()))
    _say_published(name, adopt.publish(folder, repository, name, golden), repository, "--backend", "savedmodel")


def _say_published(name: str, version: int, repository: Path, *options_of_serve: str) -> None:
    serve = seaway_command("serve", "--model-repository", short_path(repository), *options_of_serve)
    typer.echo(f"{name} is version {version} in {repository}. A running server loads it within a second; to start one:")
    typer.echo(f"  {serve}")
    typer.echo("and then, in another terminal:")
    typer.echo(f"  curl {options.DEFAULT_URL}/v1/models/{name}/metadata")


def _path(path: Path | None) -> str:
    return str(path.absolute()) if path else ""
