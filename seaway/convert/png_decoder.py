"""Decodes PNG bytes to an image model's input inside the TensorFlow graph, so that every server does the same.

The header is checked before decoding: an image of more than 2,048 px a side is refused, however small its file is.
An image of exactly the model's size with a dark border is used unchanged, pixel / 255. Any other image is prepared
  1 channel   as EMNIST was: a light background is inverted, the ink cropped, centered with a margin of 1/14 of a side
              (2 px of 28) in its aspect ratio, and resized with antialiasing
  3 channels  as photographs usually are: a center crop in the model's aspect ratio, resized with antialiasing
"""

from typing import Any

import tensorflow as tf

MAX_SIDE = 2048  # px
_SIGNATURE = b"\x89PNG\r\n\x1a\n"
_INK = 0.2  # of the strongest pixel: below a stroke's core, above paper grain


def read(png: Any, height: int, width: int, channels: int) -> Any:
    """One PNG (string scalar) → float32 [height, width, channels] in 0..1."""
    png = _checked(png)
    pixels = tf.io.decode_png(png, channels=4)  # grey, palette, 16-bit and alpha all become 8-bit RGBA
    colour = _on_background(tf.cast(_opaque(pixels, png), tf.float32))
    if channels == 3:
        return tf.ensure_shape(_photograph(colour / 255.0, height, width), [height, width, 3])
    # These sum to 1, unlike the usual 0.2989 + 0.5870 + 0.1140, so grey pixels stay unchanged.
    grey = tf.reduce_sum(colour * tf.constant([299.0, 587.0, 114.0]), axis=-1) / 1000.0 / 255.0
    size = tf.shape(grey)
    usable = (size[0] == height) & (size[1] == width) & (_border_mean(grey) <= 0.5)
    prepared = tf.cond(usable, lambda: grey, lambda: _character(grey, height, width))
    return tf.ensure_shape(prepared, [height, width])[..., tf.newaxis]


def _checked(png: Any) -> Any:
    """The same bytes, once the header is that of a PNG of an allowed size; InvalidArgument otherwise."""
    length = tf.strings.length
    png = _after(length(png) >= 33, "from_png: this is not a PNG image, or a truncated one; its length:", png, length)
    header = tf.strings.substr(png, 0, 16)
    is_png = (tf.strings.substr(header, 0, 8) == _SIGNATURE) & (tf.strings.substr(header, 12, 4) == b"IHDR")
    png = _after(is_png, "from_png: this is not a PNG image; its length:", png, length)

    def sides(png: Any) -> Any:
        return tf.io.decode_raw(tf.strings.substr(png, 16, 8), tf.int32, little_endian=False)

    allowed = tf.reduce_all((sides(png) >= 1) & (sides(png) <= MAX_SIDE))
    message = f"from_png: each side of an image must be between 1 and {MAX_SIDE:,} px, but width and height are:"
    return _after(allowed, message, png, sides)


def _after(condition: Any, message: str, png: Any, shown: Any) -> Any:
    """`png` behind an assertion: whatever reads the result runs only after the check."""
    with tf.control_dependencies([tf.debugging.Assert(condition, [message, shown(png)])]):
        return tf.identity(png)


def _opaque(pixels: Any, png: Any) -> Any:
    """RGBA with alpha 255 if the file has none: for 1, 2 or 4 bits TensorFlow returns 1, 3 or 15 instead."""
    depth = tf.io.decode_raw(tf.strings.substr(png, 24, 1), tf.uint8)[0]
    filler = tf.bitwise.left_shift(tf.constant(1, tf.int32), tf.cast(tf.minimum(depth, 8), tf.int32)) - 1
    alpha = pixels[..., 3:]
    none = tf.reduce_all(alpha == tf.cast(filler, tf.uint8))
    return tf.concat([pixels[..., :3], tf.where(none, tf.constant(255, tf.uint8), alpha)], axis=-1)


def _on_background(pixels: Any) -> Any:
    """RGBA 0..255 → RGB 0..255: transparent parts become white, or black behind light ink; opaque pixels stay exact."""
    colour, alpha = pixels[..., :3], pixels[..., 3:] / 255.0
    ink = tf.math.divide_no_nan(tf.reduce_sum(colour * alpha), 3.0 * tf.reduce_sum(alpha))
    background = tf.where(ink > 127.5, 0.0, 255.0)
    return colour * alpha + background * (1.0 - alpha)


def _border_mean(grey: Any) -> Any:
    return tf.reduce_mean(tf.concat([grey[0], grey[-1], grey[:, 0], grey[:, -1]], 0))


def _character(grey: Any, height: int, width: int) -> Any:
    """float32 [h, w] → [height, width], white ink on black, centered, aspect ratio kept."""
    dark = tf.where(_border_mean(grey) > 0.5, 1.0 - grey, grey)
    dark = _stretched(tf.maximum(dark - _border_mean(dark), 0.0))
    ink = _cropped(dark)
    inner = (height - 2 * round(height / 14), width - 2 * round(width / 14))
    h, w = (tf.cast(side, tf.float32) for side in tf.unstack(tf.shape(ink)))
    scale = tf.minimum(inner[0] / h, inner[1] / w)
    padded = _centered(ink, height / scale, width / scale)
    return _stretched(_resized(padded[..., tf.newaxis], height, width)[..., 0])


def _stretched(dark: Any) -> Any:
    return tf.math.divide_no_nan(dark, tf.reduce_max(dark))


def _cropped(dark: Any) -> Any:
    """The smallest rectangle with all ink; the whole image if there is none."""
    ink = dark > _INK
    ink = ink | ~tf.reduce_any(ink)
    rows, columns = tf.where(tf.reduce_any(ink, 1))[:, 0], tf.where(tf.reduce_any(ink, 0))[:, 0]
    return dark[rows[0] : rows[-1] + 1, columns[0] : columns[-1] + 1]


def _centered(ink: Any, height: Any, width: Any) -> Any:
    """Pads the ink with black to about [height, width]."""
    missing = tf.cast(tf.round(tf.stack([height, width])), tf.int32) - tf.shape(ink)
    before = tf.maximum(missing, 0) // 2
    return tf.pad(ink, tf.stack([before, tf.maximum(missing, 0) - before], axis=1))


def _photograph(colour: Any, height: int, width: int) -> Any:
    # Crop before resizing: resized first, an image of 1 by 2,048 px would grow to gigabytes.
    h, w = tf.unstack(tf.shape(colour)[:2])
    crop_h = tf.clip_by_value(w * height // width, 1, h)
    crop_w = tf.clip_by_value(h * width // height, 1, w)
    top, left = (h - crop_h) // 2, (w - crop_w) // 2
    return _resized(colour[top : top + crop_h, left : left + crop_w], height, width)


def _resized(image: Any, height: int, width: int) -> Any:
    """[h, w, c] → [height, width, c]; unchanged if it has that size."""
    size = tf.shape(image)
    same = (size[0] == height) & (size[1] == width)
    channels = image.shape[-1]
    resized = tf.cond(
        same,
        lambda: image,
        lambda: tf.clip_by_value(tf.image.resize(image, [height, width], antialias=True), 0.0, 1.0),
    )
    return tf.ensure_shape(resized, [height, width, channels])
