"""Decodes PNG bytes to an image model's input with NumPy and Pillow, for backends whose graph cannot.

The SavedModel's signature from_png decodes in its graph (seaway/convert/png_decoder.py). This module gives the same
numbers, up to rounding, with the same rules and limits. It checks the header before it decompresses anything.
"""

from io import BytesIO
from typing import Any

import numpy as np
from PIL import Image

from seaway.errors import InvalidInput

MAX_SIDE = 2048  # pixels
_SIGNATURE = b"\x89PNG\r\n\x1a\n"
_INK_THRESHOLD = 0.2  # of the strongest pixel: between the paper's grain and a stroke's core
_LUMA_WEIGHTS = np.array([299, 587, 114], np.float32)  # in thousandths, so that grey pixels keep their value


def decode(png: bytes, height: int, width: int, channels: int) -> np.ndarray:
    """One PNG → float32 [height, width, channels] in 0..1; channels are 1 or 3. Raises InvalidInput.

    An image of exactly the model's size with a dark border is used as is, pixel / 255. Any other image is preprocessed:
      1 channel   like EMNIST: inverts a light background, crops to the ink, centres it with its aspect ratio and a
                  margin of 1/14 of a side (2 px of 28), and resizes with antialiasing
      3 channels  like photographs: crops the centre to the model's aspect ratio, and resizes likewise
    """
    _check(png)
    colour = _on_background(_decode(png))
    if channels == 3:
        return _preprocess_photograph(colour / np.float32(255), height, width)
    grey = colour @ _LUMA_WEIGHTS / np.float32(1000) / np.float32(255)
    is_ready = grey.shape == (height, width) and _border_mean(grey) <= 0.5
    return (grey if is_ready else _preprocess_character(grey, height, width))[..., np.newaxis]


def _check(png: bytes) -> None:
    """Checks that the header says PNG and an acceptable size."""
    if len(png) < 33:
        raise InvalidInput(f"from_png: this is not a PNG image, or a truncated one; its length: {len(png)}")
    if png[:8] != _SIGNATURE or png[12:16] != b"IHDR":
        raise InvalidInput(f"from_png: this is not a PNG image; its length: {len(png)}")
    sides = [int.from_bytes(png[start : start + 4], "big") for start in (16, 20)]
    if not all(1 <= side <= MAX_SIDE for side in sides):
        raise InvalidInput(
            f"from_png: each side of an image must be between 1 and {MAX_SIDE:,} px, but width and height are: {sides}"
        )


def _decode(png: bytes) -> np.ndarray:
    """→ uint8 [h, w, 4]: converts grey, palette, 16-bit and transparent images to 8-bit RGBA."""
    try:
        with Image.open(BytesIO(png), formats=("PNG",)) as opened:
            opened.load()
            if opened.mode.startswith("I"):  # grey of 16 bits
                return _from_16_bits(np.asarray(opened, np.uint16), opened.info.get("transparency"))
            _fix_transparency(opened, bits=png[24])
            return np.asarray(opened.convert("RGBA"))
    except (OSError, SyntaxError, ValueError) as error:  # Pillow raises SyntaxError for broken chunks
        raise InvalidInput(f"from_png: this PNG image cannot be decoded: {error}") from None


def _from_16_bits(values: np.ndarray, transparent: int | None) -> np.ndarray:
    grey = (values >> 8).astype(np.uint8)
    alpha = np.where(values == transparent, 0, 255).astype(np.uint8)
    return np.stack([grey, grey, grey, alpha], axis=-1)


def _fix_transparency(opened: Image.Image, bits: int) -> None:
    """Rescales the transparent colour to the decoded pixels: Pillow leaves it on the file's scale."""
    transparent: Any = opened.info.get("transparency")
    if isinstance(transparent, int) and opened.mode in ("1", "L"):
        opened.info["transparency"] = transparent * 255 // (2**bits - 1)
    elif isinstance(transparent, tuple) and bits == 16:
        opened.info["transparency"] = tuple(level >> 8 for level in transparent)


def _on_background(pixels: np.ndarray) -> np.ndarray:
    """RGBA 0..255 → float32 RGB 0..255: fills transparent parts with white, or with black behind light ink."""
    colour = pixels[..., :3].astype(np.float32)
    if (pixels[..., 3] == 255).all():
        return colour
    alpha = pixels[..., 3:] / np.float32(255)
    alpha_sum = 3 * alpha.sum()
    ink = (colour * alpha).sum() / alpha_sum if alpha_sum else 0.0
    background = np.float32(0 if ink > 127.5 else 255)
    return np.asarray(colour * alpha + background * (1 - alpha))


def _border_mean(grey: np.ndarray) -> np.float32:
    return np.float32(np.concatenate([grey[0], grey[-1], grey[:, 0], grey[:, -1]]).mean())


def _preprocess_character(grey: np.ndarray, height: int, width: int) -> np.ndarray:
    """float32 [h, w] → [height, width], white ink on black, centred, with its aspect ratio."""
    ink_on_black = 1 - grey if _border_mean(grey) > 0.5 else grey
    ink = _crop(_stretch(np.maximum(ink_on_black - _border_mean(ink_on_black), 0)))
    inner = (height - 2 * round(height / 14), width - 2 * round(width / 14))
    h, w = np.array(ink.shape, np.float32)  # float32 like TensorFlow: a pixel of margin may depend on the rounding
    scale = min(np.float32(inner[0]) / h, np.float32(inner[1]) / w)
    return _stretch(_resize(_centre(ink, np.float32(height) / scale, np.float32(width) / scale), height, width))


def _stretch(ink_on_black: np.ndarray) -> np.ndarray:
    strongest = ink_on_black.max()
    return ink_on_black / strongest if strongest else np.zeros_like(ink_on_black)


def _crop(ink_on_black: np.ndarray) -> np.ndarray:
    """Crops to the smallest rectangle with all ink; the whole image if it has none."""
    ink = ink_on_black > _INK_THRESHOLD
    if not ink.any():
        return ink_on_black
    rows, columns = np.flatnonzero(ink.any(axis=1)), np.flatnonzero(ink.any(axis=0))
    return ink_on_black[rows[0] : rows[-1] + 1, columns[0] : columns[-1] + 1]


def _centre(ink: np.ndarray, height: np.float32, width: np.float32) -> np.ndarray:
    """Pads the ink with black to about [height, width]."""
    padding = [max(0, int(np.rint(side)) - size) for side, size in zip((height, width), ink.shape, strict=True)]
    return np.pad(ink, [(total // 2, total - total // 2) for total in padding])


def _preprocess_photograph(colour: np.ndarray, height: int, width: int) -> np.ndarray:
    h, w = colour.shape[:2]
    crop_h = min(max(w * height // width, 1), h)
    crop_w = min(max(h * width // height, 1), w)
    top, left = (h - crop_h) // 2, (w - crop_w) // 2
    middle = colour[top : top + crop_h, left : left + crop_w]
    return np.stack([_resize(middle[..., channel], height, width) for channel in range(3)], axis=-1)


def _resize(image: np.ndarray, height: int, width: int) -> np.ndarray:
    """float32 [h, w] → [height, width], bilinear with antialiasing; unchanged if it has that size already."""
    if image.shape == (height, width):
        return image
    resized = Image.fromarray(np.ascontiguousarray(image)).resize((width, height), Image.Resampling.BILINEAR)
    return np.asarray(np.clip(np.asarray(resized), 0, 1))
