"""Options that several verbs share, so that they are named and explained once."""

from pathlib import Path
from typing import Annotated, Literal

import typer

DEFAULT_ROOT = Path(".seaway")
DEFAULT_VOLUME = DEFAULT_ROOT / "models"
DEFAULT_NAME = "characters"
DEFAULT_PORT = 8501
DEFAULT_CONVERTER: Literal["seaway"] = "seaway"
DEFAULT_URL = f"http://127.0.0.1:{DEFAULT_PORT}"

Root = Annotated[Path, typer.Option(help="Folder for everything that runs leave behind: volume, cache, reports.")]
Volume = Annotated[Path, typer.Option(help="The model volume: a folder of <name>/<version>/.")]
Name = Annotated[str, typer.Option(help="The model's name.")]
Port = Annotated[int, typer.Option(help="Port of the model server on 127.0.0.1.", min=1, max=65535)]
Url = Annotated[str, typer.Option(help="Address of a running server.")]
Converter = Annotated[
    Literal["seaway", "onnx-tf"], typer.Option(help="Who converts ONNX to TensorFlow: our own, or onnx-tf.")
]
Pipeline = Annotated[
    str,
    typer.Option(help="characters, ship, or a Python file with a pipeline of your own: mine.py.", metavar="PIPELINE"),
]
Params = Annotated[
    list[str] | None, typer.Option("--param", help="NAME=VALUE of a parameter of the pipeline; repeat for more.")
]
Registry = Annotated[str, typer.Option(help="Where the images are: ghcr.io/example.")]
Claim = Annotated[str, typer.Option(help="The model volume's PersistentVolumeClaim.")]
Data = Annotated[
    str,
    typer.Option(
        help="Where pictures come from: 'strokes[:N]' (made here, offline), 'idx:DIR' (a folder of EMNIST's own "
        "files), 'emnist[:byclass|bymerge|balanced|letters|digits|mnist]' (downloads)."
    ),
]


def pairs(option: str, example: str, given: list[str] | None) -> dict[str, str]:
    """["p99_ms=50"] as {"p99_ms": "50"}. Raises InvalidInput for what is not NAME=VALUE."""
    from seaway.errors import InvalidInput

    values = {}
    for text in given or ():
        name, equals, value = text.partition("=")
        if not equals:
            raise InvalidInput(f"{option} {text!r}: give NAME=VALUE, as {example}")
        values[name.strip()] = value
    return values


def limits(given: list[str] | None) -> dict[str, str]:
    """What `--limit` says. Raises InvalidInput."""
    return pairs("--limit", "p99_ms=50", given)
