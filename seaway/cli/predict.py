"""`seaway predict`: pictures to a running server, labels and probabilities back."""

import io
import warnings
from pathlib import Path
from typing import Annotated

import typer

from seaway.cli import options

LARGEST = 2048  # px a side, as from_png takes them


def predict(
    pictures: Annotated[list[Path], typer.Argument(help="Picture files: PNG, JPEG or whatever Pillow reads.")],
    url: options.Url = options.DEFAULT_URL,
    name: options.Name = options.DEFAULT_NAME,
) -> None:
    """Asks a running server what is in pictures: label and probability, and what else it might be.

    The server decodes and prepares pictures itself (signature from_png): dark ink on light paper is inverted, cropped
    and centred.

    [bold]Example[/bold]

      seaway predict seven.png letter.jpg
    """
    import numpy as np
    from rich.console import Console
    from rich.table import Table

    from seaway.load.client import Client
    from seaway.protocols import tensors

    pngs = [_as_png(path) for path in pictures]
    table = Table("picture", "label", "probability", "or else")
    with Client(url) as client:
        for path, png in zip(pictures, pngs, strict=True):
            inputs = {"png": tensors.strings([png], [1])}
            outputs = client.predict_rest(name, inputs, signature="from_png").outputs
            labels = [label.decode("utf-8", "replace") for label in tensors.string_values(outputs["top_labels"])]
            scores = np.asarray(outputs["top_scores"])[0]
            others = ", ".join(f"{label} {score:.1%}" for label, score in zip(labels[1:], scores[1:], strict=True))
            table.add_row(str(path), labels[0], f"{scores[0]:.1%}", others)
    Console().print(table)


def _as_png(path: Path) -> bytes:
    """The picture as PNG, upright, made smaller where a side is longer than the server takes. Raises InvalidInput."""
    from PIL import Image, ImageOps, UnidentifiedImageError

    from seaway.errors import InvalidInput

    content = path.read_bytes()
    try:
        with warnings.catch_warnings(), Image.open(io.BytesIO(content)) as opened, io.BytesIO() as png:
            warnings.simplefilter("ignore", Image.DecompressionBombWarning)
            opened.load()
            if opened.format == "PNG" and max(opened.size) <= LARGEST:
                return content
            picture = ImageOps.exif_transpose(opened)
            picture = picture.convert("RGBA" if picture.has_transparency_data else "RGB")
            picture.thumbnail((LARGEST, LARGEST))
            picture.save(png, "PNG")
            return png.getvalue()
    except UnidentifiedImageError:
        raise InvalidInput(f"{path}: not a picture; give a PNG, a JPEG or whatever Pillow reads") from None
    except (OSError, SyntaxError, ValueError, Image.DecompressionBombError) as error:  # SyntaxError: a broken PNG
        raise InvalidInput(f"{path}: not a picture that can be read ({error})") from None
