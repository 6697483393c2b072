"""`seaway convert`: converts an ONNX model to a TensorFlow SavedModel, without PyTorch."""

from pathlib import Path
from typing import Annotated

import typer

from seaway.cli import options


def convert(
    model: Annotated[Path, typer.Argument(help="An .onnx file, or a folder written by python -m seaway.export.")],
    saved_model: Annotated[Path, typer.Argument(help="The folder to write; an existing SavedModel is replaced.")],
    converter: options.Converter = options.DEFAULT_CONVERTER,
    check: Annotated[
        bool, typer.Option(help="Run the ONNX model and the SavedModel on the same random input and print max |Δ|.")
    ] = True,
) -> None:
    """Converts an ONNX model to a TensorFlow SavedModel with the same inputs and outputs.

    [bold]Examples[/bold]

      seaway convert model.onnx saved_model/

      seaway convert model.onnx saved_model/ --no-check
    """
    from seaway.convert import convert as stage
    from seaway.errors import Unsupported

    work = stage.convert_artifact if model.is_dir() else stage.convert
    metadata = work(model, saved_model, converter)
    if not check:
        return
    from seaway.validate import random_input

    file = model / stage.MODEL if model.is_dir() else model
    try:
        differences = random_input.differences(file, saved_model, metadata)
    except Unsupported as error:  # which says nothing about the conversion
        typer.echo(f"convert: not compared with ONNX Runtime: {error}")
        return
    for output, (difference, largest) in differences.items():
        typer.echo(f"convert: {output}: max |Δ| {difference:.1e} vs ONNX Runtime, for values up to {largest:.1e}")
