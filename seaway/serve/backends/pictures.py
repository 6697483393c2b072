"""PNG bytes to a picture model's input, for backends whose graph cannot decode: NumPy and Pillow.

The SavedModel's signature from_png decodes inside its graph (seaway/convert/pictures.py); this gives the same
numbers, to within rounding, by the same rules and with the same limits. The header is read before anything unfolds.
"""

from io import BytesIO
from typing import Any

import numpy as np
from PIL import Image

from seaway.errors import InvalidInput

LARGEST = 2048  # px a side
_SIGNATURE = b"\x89PNG\r\n\x1a\n"
_INK = 0.2  # of the strongest pixel: lighter than a stroke's core, darker than paper's grain
_GREY = np.array([299, 587, 114], np.float32)  # whole thousandths: grey stays the same grey


def read(png: bytes, height: int, width: int, channels: int) -> np.ndarray:
    """One PNG → float32 [height, width, channels] in 0..1; channels are 1 or 3. Raises InvalidInput.

    A picture of exactly the model's size with a dark border is used as it is, pixel / 255. Any other one is prepared
      1 channel   as EMNIST was: a light background is inverted, the ink cropped, kept in aspect, centred with a margin
                  of 1/14 of a side (2 px of 28), and resized with antialiasing
      3 channels  as photographs usually are: the middle of the picture in the model's aspect, resized likewise
    """
    _check(png)
    colour = _on_background(_decoded(png))
    if channels == 3:
        return _photograph(colour / np.float32(255), height, width)
    grey = colour @ _GREY / np.float32(1000) / np.float32(255)
    as_it_is = grey.shape == (height, width) and _border_mean(grey) <= 0.5
    return (grey if as_it_is else _character(grey, height, width))[..., np.newaxis]


def _check(png: bytes) -> None:
    """That the header says PNG and a bearable size."""
    if len(png) < 33:
        raise InvalidInput(f"from_png: this is not a PNG picture, or a truncated one; its length: {len(png)}")
    if png[:8] != _SIGNATURE or png[12:16] != b"IHDR":
        raise InvalidInput(f"from_png: this is not a PNG picture; its length: {len(png)}")
    sides = [int.from_bytes(png[start : start + 4], "big") for start in (16, 20)]
    if not all(1 <= side <= LARGEST for side in sides):
        raise InvalidInput(
            f"from_png: each side of a picture must be between 1 and {LARGEST:,} px, but width and height are: {sides}"
        )


def _decoded(png: bytes) -> np.ndarray:
    """uint8 [h, w, 4]: grey, palette, 16 bits and transparency all become RGBA of 8 bits."""
    try:
        with Image.open(BytesIO(png), formats=("PNG",)) as opened:
            opened.load()
            if opened.mode.startswith("I"):  # grey of 16 bits
                return _from_16_bits(np.asarray(opened, np.uint16), opened.info.get("transparency"))
            _mend_transparency(opened, bits=png[24])
            return np.asarray(opened.convert("RGBA"))
    except (OSError, SyntaxError, ValueError) as error:  # Pillow raises SyntaxError for broken chunks
        raise InvalidInput(f"from_png: this PNG picture cannot be decoded: {error}") from None


def _from_16_bits(values: np.ndarray, transparent: int | None) -> np.ndarray:
    grey = (values >> 8).astype(np.uint8)
    alpha = np.where(values == transparent, 0, 255).astype(np.uint8)
    return np.stack([grey, grey, grey, alpha], axis=-1)


def _mend_transparency(opened: Image.Image, bits: int) -> None:
    """The transparent colour on the scale of the decoded pixels: Pillow leaves it on the file's."""
    found: Any = opened.info.get("transparency")
    if isinstance(found, int) and opened.mode in ("1", "L"):
        opened.info["transparency"] = found * 255 // (2**bits - 1)
    elif isinstance(found, tuple) and bits == 16:
        opened.info["transparency"] = tuple(level >> 8 for level in found)


def _on_background(pixels: np.ndarray) -> np.ndarray:
    """RGBA 0..255 → float32 RGB 0..255: transparent parts become white, or black behind light ink."""
    colour = pixels[..., :3].astype(np.float32)
    if (pixels[..., 3] == 255).all():
        return colour
    alpha = pixels[..., 3:] / np.float32(255)
    whole = 3 * alpha.sum()
    ink = (colour * alpha).sum() / whole if whole else 0.0
    background = np.float32(0 if ink > 127.5 else 255)
    return np.asarray(colour * alpha + background * (1 - alpha))


def _border_mean(grey: np.ndarray) -> np.float32:
    return np.float32(np.concatenate([grey[0], grey[-1], grey[:, 0], grey[:, -1]]).mean())


def _character(grey: np.ndarray, height: int, width: int) -> np.ndarray:
    """float32 [h, w] → [height, width], white ink on black, centred and in aspect."""
    dark = 1 - grey if _border_mean(grey) > 0.5 else grey
    ink = _cropped(_stretched(np.maximum(dark - _border_mean(dark), 0)))
    inner = (height - 2 * round(height / 14), width - 2 * round(width / 14))
    h, w = np.array(ink.shape, np.float32)  # rounded as TensorFlow rounds: a pixel of margin may hang on it
    scale = min(np.float32(inner[0]) / h, np.float32(inner[1]) / w)
    return _stretched(_resized(_centred(ink, np.float32(height) / scale, np.float32(width) / scale), height, width))


def _stretched(dark: np.ndarray) -> np.ndarray:
    strongest = dark.max()
    return dark / strongest if strongest else np.zeros_like(dark)


def _cropped(dark: np.ndarray) -> np.ndarray:
    """The smallest rectangle that holds all ink; the whole picture where there is none."""
    ink = dark > _INK
    if not ink.any():
        return dark
    rows, columns = np.flatnonzero(ink.any(axis=1)), np.flatnonzero(ink.any(axis=0))
    return dark[rows[0] : rows[-1] + 1, columns[0] : columns[-1] + 1]


def _centred(ink: np.ndarray, height: np.float32, width: np.float32) -> np.ndarray:
    """Black around the ink, to about [height, width]."""
    missing = [max(0, int(np.rint(side)) - had) for side, had in zip((height, width), ink.shape, strict=True)]
    return np.pad(ink, [(more // 2, more - more // 2) for more in missing])


def _photograph(colour: np.ndarray, height: int, width: int) -> np.ndarray:
    h, w = colour.shape[:2]
    crop_h = min(max(w * height // width, 1), h)
    crop_w = min(max(h * width // height, 1), w)
    top, left = (h - crop_h) // 2, (w - crop_w) // 2
    middle = colour[top : top + crop_h, left : left + crop_w]
    return np.stack([_resized(middle[..., channel], height, width) for channel in range(3)], axis=-1)


def _resized(picture: np.ndarray, height: int, width: int) -> np.ndarray:
    """float32 [h, w] → [height, width], bilinear with antialiasing; unchanged where it has that size."""
    if picture.shape == (height, width):
        return picture
    resized = Image.fromarray(np.ascontiguousarray(picture)).resize((width, height), Image.Resampling.BILINEAR)
    return np.asarray(np.clip(np.asarray(resized), 0, 1))
