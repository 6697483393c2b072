"""Image formats that TensorFlow does not decode, as uint8 [height, width, 3]: binary PNM and uncompressed TIFF.

A file's bytes are `text`, a string, or `encoded`, uint8 [length].
"""

from typing import Any

import numpy as np
import tensorflow as tf

_BYTES = np.array([bytes([i]) for i in range(256)], object)
# Width, height and the largest value, each after whitespace and comments; then one character of whitespace.
PNM_HEADER = r"^(P[56](?:(?:\s|#[^\r\n]*[\r\n])+\d+){3}\s)\C*$"
PNM_HEADER_BYTES = 4096  # at most, with comments

# Tags with one value that say how samples are stored, and the values that are decoded (None: it may be absent).
TIFF_TAGS = {
    259: (1, None),  # compression
    262: (1, 2),  # photometric interpretation
    274: (1, None),  # orientation
    277: (1, 3, 4, None),  # samples per pixel
    284: (1, None),  # planar configuration
    339: (1, None),  # sample format
}
TIFF_REFUSED = "a TIFF image that is not grey, RGB or RGBA in uncompressed strips with 8 bits per sample"


def joined(encoded: Any) -> Any:
    return tf.strings.reduce_join(tf.gather(_BYTES, tf.cast(encoded, tf.int32)))


def is_pnm(text: Any) -> Any:
    return tf.strings.regex_full_match(tf.strings.substr(text, 0, PNM_HEADER_BYTES), PNM_HEADER)


def decode_pnm(text: Any, encoded: Any) -> Any:
    """P5 and P6, with one or two bytes per sample; 255 stands for the header's largest value."""
    header = tf.strings.regex_replace(tf.strings.substr(text, 0, PNM_HEADER_BYTES), PNM_HEADER, r"\1")
    numbers = tf.strings.split(tf.strings.regex_replace(header, r"^P[56]|#[^\r\n]*", " "))
    width, height, largest = tf.unstack(tf.strings.to_number(numbers, tf.int64), 3)
    wide = largest > 255
    samples = tf.reshape(encoded[tf.strings.length(header) :], [-1, tf.where(wide, 2, 1)])
    values = tf.cast(samples[:, 0], tf.int64)
    values = tf.where(wide, values * 256 + tf.cast(samples[:, -1], tf.int64), values)
    levels = tf.round(tf.cast(values, tf.float64) / tf.cast(largest, tf.float64) * 255.0)
    channels = tf.where(tf.strings.substr(header, 1, 1) == "6", np.int64(3), np.int64(1))
    return _rgb(tf.cast(tf.minimum(levels, 255.0), tf.uint8), height, width, channels)


def _rgb(samples: Any, height: Any, width: Any, channels: Any) -> Any:
    """Grey as RGB, and RGBA without alpha."""
    image = tf.reshape(samples[: height * width * channels], [height, width, channels])
    return tf.gather(image, tf.minimum(np.arange(3), channels - 1), axis=2)


def is_tiff(text: Any) -> Any:
    head = tf.strings.substr(text, 0, 4)
    return tf.logical_or(head == b"II*\0", head == b"MM\0*")


def decode_tiff(encoded: Any) -> Any:
    """The first image of a file, if it is grey, RGB or RGBA in strips of 8 bits per sample without compression."""

    def number(part: Any) -> Any:
        """Unsigned integers of the bytes along the last axis, in the file's byte order."""
        ordered = tf.where(encoded[0] == ord("I"), part, tf.reverse(part, [-1]))
        weights = tf.pow(np.int64(256), tf.range(tf.shape(part, tf.int64)[-1]))
        return tf.reduce_sum(tf.cast(ordered, tf.int64) * weights, -1)

    first = number(encoded[4:8]) + 2
    entries = tf.reshape(encoded[first : first + 12 * number(encoded[first - 2 : first])], [-1, 12])
    tags, counts, longs = number(entries[:, :2]), number(entries[:, 4:8]), number(entries[:, 8:])
    is_short = number(entries[:, 2:4]) == 3
    values = tf.where(is_short, number(entries[:, 8:10]), longs)

    def one(tag: int) -> Any:
        """A tag's value, [1]; [0] if it is absent."""
        return tf.gather(values, tf.where(tags == tag)[:1, 0])

    def several(tag: int) -> Any:
        """A tag's values: they are in the entry itself if they fit."""
        row = tf.reduce_max(tf.where(tags == tag))
        size = tf.where(is_short[row], np.int64(2), np.int64(4))
        length = counts[row] * size
        start = tf.where(length <= 4, first + 12 * row + 8, longs[row])
        return number(tf.reshape(encoded[start : start + length], [-1, size]))

    known = [_all_in(one(tag), allowed) for tag, allowed in TIFF_TAGS.items()]
    known += [tf.reduce_any(tags == tag) for tag in (258, 273, 279)]
    with tf.control_dependencies([tf.debugging.Assert(tf.reduce_all(known), [TIFF_REFUSED])]):
        tags = tf.identity(tags)
    starts, lengths = several(273), several(279)
    checks = [
        tf.debugging.Assert(_all_in(several(258), (8,)), [TIFF_REFUSED]),
        tf.debugging.Assert(tf.reduce_sum(lengths) <= tf.size(encoded, tf.int64), ["strips longer than the file"]),
    ]
    with tf.control_dependencies(checks):
        index = tf.ragged.range(starts, starts + lengths).flat_values
    channels = tf.reduce_max(tf.concat([one(277), [1]], 0))
    return _rgb(tf.gather(encoded, index), tf.reduce_max(one(257)), tf.reduce_max(one(256)), channels)


def _all_in(values: Any, allowed: tuple[int | None, ...]) -> Any:
    known = tf.reduce_all(tf.reduce_any(values[:, None] == np.array([n for n in allowed if n], np.int64), 1))
    return known if None in allowed else tf.logical_and(known, tf.size(values) > 0)
