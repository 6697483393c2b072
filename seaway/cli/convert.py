"""`seaway convert`: an ONNX model as a TensorFlow SavedModel, without PyTorch."""

from pathlib import Path
from typing import Annotated

import typer

from seaway.cli import options


def convert(
    model: Annotated[Path, typer.Argument(help="An .onnx file, or the folder that export wrote.")],
    saved_model: Annotated[Path, typer.Argument(help="The folder to make; a SavedModel that is there is replaced.")],
    converter: options.Converter = options.DEFAULT_CONVERTER,
    check: Annotated[
        bool, typer.Option("--check", help="Then run both on the same random input and print the largest difference.")
    ] = False,
) -> None:
    """Converts an ONNX model to a TensorFlow SavedModel with the same inputs and outputs.

    [bold]Examples[/bold]

      seaway convert model.onnx saved_model/

      seaway convert model.onnx saved_model/ --check
    """
    from seaway.convert import convert as stage

    work = stage.convert_artifact if model.is_dir() else stage.convert
    card = work(model, saved_model, converter)
    if not check:
        typer.echo("convert: add --check to compare it with ONNX Runtime on random input")
        return
    from seaway.validate import random_input

    file = model / stage.MODEL if model.is_dir() else model
    for output, (difference, largest) in random_input.differences(file, saved_model, card).items():
        typer.echo(f"convert: {output}: max |Δ| {difference:.1e} to ONNX Runtime, of values up to {largest:.1e}")
