"""Images of a dataset inside an HTML page: pixel for pixel, enlarged, laid out in columns, with text below."""

import base64
import struct
import zlib
from collections.abc import Iterable, Sequence
from pathlib import Path

import numpy as np
from markupsafe import Markup

from seaway.reporting.report import Templates

SIDE = 56  # CSS pixels of an image's longer side: EMNIST's pixels twice as large


def png(pixels: np.ndarray) -> bytes:
    """A PNG of uint8 [H, W] grey levels."""
    height, width = pixels.shape
    lines = np.pad(pixels, ((0, 0), (1, 0))).tobytes()  # each line begins with the number of its filter: none
    encoded = b"\x89PNG\r\n\x1a\n"
    header = struct.pack(">2I5B", width, height, 8, 0, 0, 0, 0)
    for chunk in (b"IHDR" + header, b"IDAT" + zlib.compress(lines, 9), b"IEND"):
        encoded += struct.pack(">I", len(chunk) - 4) + chunk + struct.pack(">I", zlib.crc32(chunk))
    return encoded


def image(pixels: np.ndarray, alt: str, size: tuple[int, int], side: int = SIDE) -> Markup:
    """uint8 [H, W] as an <img>, scaled so that the longer side of `size` (height, width) takes `side` CSS pixels."""
    scale = side / max(size)
    return TEMPLATES.render(
        "image",
        png=base64.b64encode(png(pixels)).decode(),
        alt=alt,
        width=max(1, round(pixels.shape[1] * scale)),
        height=max(1, round(pixels.shape[0] * scale)),
        rendering="pixelated" if scale > 1 else "auto",
    )


def sheet(images: np.ndarray, columns: int) -> np.ndarray:
    """uint8 [N, H, W] as one image with `columns` images a row; the rest of the last row is black."""
    count, height, width = images.shape
    rows = max(1, -(-count // columns))
    whole = np.zeros((rows * columns, height, width), np.uint8)
    whole[:count] = images
    return whole.reshape(rows, columns, height, width).swapaxes(1, 2).reshape(rows * height, columns * width)


def thumbnail(images: Sequence[Markup], lines: Sequence[str]) -> Markup:
    """Images side by side, with lines of text below them."""
    return TEMPLATES.render("thumbnail", images=images, lines=lines)


def columns(parts: Iterable[Markup], width: str) -> Markup:
    """Parts in as many columns of a CSS width as fit on the page."""
    return TEMPLATES.render("columns", parts=parts, width=width)


def gallery(thumbnails: Iterable[Markup], caption: str, width: str = "5.6rem") -> Markup:
    """Thumbnails in columns of a CSS width, below a caption."""
    return TEMPLATES.render("gallery", columns=columns(thumbnails, width), caption=caption)


TEMPLATES = Templates(Path(__file__).parent / "templates")
