"""`seaway ship`: any PyTorch model into the volume."""

from pathlib import Path
from typing import Annotated

import typer

from seaway.cli import options


def ship(
    model: Annotated[
        str, typer.Argument(help="python:MODULE:FUNCTION; the function takes nothing and returns an nn.Module.")
    ],
    shapes: Annotated[
        list[str],
        typer.Option("--input", help="[NAME:]SHAPE[:DTYPE] of one example, without the batch; repeat for more."),
    ],
    weights: Annotated[Path | None, typer.Option(help="A state_dict written by torch.save.", exists=True)] = None,
    labels: Annotated[Path | None, typer.Option(help="A text file, one class name a line.", exists=True)] = None,
    activation: Annotated[
        str, typer.Option(help="What turns logits into scores: softmax, sigmoid or none.")
    ] = "softmax",
    golden: Annotated[Path | None, typer.Option(help="An .npz of real inputs to prove parity on.", exists=True)] = None,
    converter: options.Converter = options.DEFAULT_CONVERTER,
    name: Annotated[str, typer.Option(help="The model's name in the volume; default: the function's.")] = "",
    root: options.Root = options.DEFAULT_ROOT,
) -> None:
    """Exports, converts, validates and publishes any PyTorch model; a running server takes it up by itself.

    [bold]Examples[/bold]

      seaway ship python:torchvision.models:resnet18 --weights w.pt --input 3x224x224 --labels imagenet.txt

      seaway ship python:mynets:tabular --input numbers:6 --input categories:3:int64 --activation none
    """
    from seaway import extras
    from seaway.artifacts import atomic
    from seaway.pipeline import definitions, local

    extras.require("torch", "onnxscript", "tensorflow", "kfp", "matplotlib")  # what its stages would end for want of
    root = root.absolute()
    volume = root / local.VOLUME
    atomic.make_folder(volume)
    name = name or model.rpartition(":")[2]
    arguments = {
        "model": model,
        "weights": _path(weights),
        "inputs": shapes,
        "labels": _path(labels),
        "activation": activation,
        "golden": _path(golden),
        "converter": converter,
        "name": name,
        "volume": str(volume),
    }
    version = int(local.run(definitions.pipeline("ship"), arguments, root)["Output"])
    typer.echo(f"{name} is version {version} in {volume}. A running server has it in a second; to start one:")
    typer.echo(f"  seaway serve --volume {volume}")
    typer.echo(f"  curl http://127.0.0.1:{options.DEFAULT_PORT}/v1/models/{name}/metadata")


def _path(path: Path | None) -> str:
    return str(path.absolute()) if path else ""
