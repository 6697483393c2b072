"""Pictures of a dataset as they are, inside an HTML page: enlarged with hard pixels, in columns, with words below."""

import base64
import struct
import zlib
from collections.abc import Iterable, Sequence

import numpy as np
from markupsafe import Markup

SIDE = 56  # CSS pixels of a picture's longer side: EMNIST's pixels twice as large


def png(pixels: np.ndarray) -> bytes:
    """uint8 [H, W] in grey levels."""
    height, width = pixels.shape
    lines = np.pad(pixels, ((0, 0), (1, 0))).tobytes()  # before each line the filter's number: none
    written = b"\x89PNG\r\n\x1a\n"
    header = struct.pack(">2I5B", width, height, 8, 0, 0, 0, 0)
    for content in (b"IHDR" + header, b"IDAT" + zlib.compress(lines, 9), b"IEND"):
        written += struct.pack(">I", len(content) - 4) + content + struct.pack(">I", zlib.crc32(content))
    return written


def image(pixels: np.ndarray, alt: str, size: tuple[int, int], side: int = SIDE) -> Markup:
    """uint8 [H, W] as an img; a picture of `size` (height, width) on it is shown with `side` as its longer side."""
    scale = side / max(size)
    return Markup(
        '<img src="data:image/png;base64,{}" alt="{}" width="{}" height="{}" '
        'style="image-rendering:{};border-radius:2px">'
    ).format(
        base64.b64encode(png(pixels)).decode(),
        alt,
        max(1, round(pixels.shape[1] * scale)),
        max(1, round(pixels.shape[0] * scale)),
        "pixelated" if scale > 1 else "auto",
    )


def sheet(pictures: np.ndarray, across: int) -> np.ndarray:
    """uint8 [N, H, W] as one picture, `across` in a row, with black where none is left."""
    count, height, width = pictures.shape
    rows = max(1, -(-count // across))
    whole = np.zeros((rows * across, height, width), np.uint8)
    whole[:count] = pictures
    return whole.reshape(rows, across, height, width).swapaxes(1, 2).reshape(rows * height, across * width)


def tile(images: Sequence[Markup], lines: Sequence[str]) -> Markup:
    """Pictures side by side, and lines of text below them."""
    return Markup('<div><div style="display:flex;gap:2px">{}</div>{}</div>').format(
        Markup("").join(images), Markup("").join(Markup("<div>{}</div>").format(line) for line in lines)
    )


def columns(parts: Iterable[Markup], width: str) -> Markup:
    """As many columns of a CSS width as there is room for."""
    return Markup(
        '<div style="display:grid;grid-template-columns:repeat(auto-fill,minmax(min({},100%),1fr));gap:.8rem 1rem;'
        'margin-top:.8rem">{}</div>'
    ).format(width, Markup("").join(parts))


def gallery(tiles: Iterable[Markup], caption: str, width: str = "5.6rem") -> Markup:
    """Tiles of a CSS width in columns, below a caption."""
    return Markup(
        '<figure style="font-size:.72rem;line-height:1.35">'
        '<figcaption style="font-size:.88rem">{}</figcaption>{}</figure>'
    ).format(caption, columns(tiles, width))


def fold(summary: str, parts: Iterable[Markup], opened: bool = False) -> Markup:
    """What a reader may open, or close."""
    return Markup('<details{} style="margin-top:1rem"><summary style="cursor:pointer">{}</summary>{}</details>').format(
        Markup(" open") if opened else "", summary, Markup("").join(parts)
    )
