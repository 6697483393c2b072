"""Pictures decoded, and pictures cut into blocks and put together again."""

import math
from typing import Any

import numpy as np
import tensorflow as tf

from seaway.convert.native import shapes
from seaway.convert.native.dtypes import tensor
from seaway.convert.native.table import SPATIAL, op


@op("ImageDecoder", since=20, foldable=False)
def image_decoder(call: Any, encoded: Any) -> Any:
    """JPEG, PNG and BMP; TensorFlow's decoder says so itself when it is given something else."""
    wanted = call.get("pixel_format", "RGB")
    if wanted not in ("RGB", "BGR", "Grayscale"):
        raise ValueError(f"pixel_format {wanted}")
    text = tf.strings.reduce_join(tf.gather(_BYTES, tf.cast(encoded, tf.int32)))
    picture = tf.cond(  # decode_image takes a faster inverse transform for JPEG, which is off by a few
        tf.io.is_jpeg(text),
        lambda: tf.io.decode_jpeg(text, 3, dct_method="INTEGER_ACCURATE"),
        lambda: tf.io.decode_image(text, 3, expand_animations=False),
    )
    picture = tf.ensure_shape(picture, [None, None, 3])
    if wanted == "Grayscale":
        weighted = tf.reduce_sum(tf.cast(picture, tf.int32) * _LUMA, -1, keepdims=True)
        return tf.cast(tf.bitwise.right_shift(weighted + (1 << 15), 16), tf.uint8)
    return tf.reverse(picture, [-1]) if wanted == "BGR" else picture


_LUMA = np.array([19595, 38470, 7471], np.int32)  # 0.299, 0.587 and 0.114 of 65536
_BYTES = np.array([bytes([i]) for i in range(256)], object)


@op("Col2Im", sizes=(1, 2))
def col2im(call: Any, x: Any, image: Any, block: Any) -> Any:
    """Blocks, [N, C * block, L], added up where they lie in the picture."""
    rank = int(block.shape[0]) if not isinstance(block, tuple) else len(block)
    image, block = ([sizes[i] for i in range(rank)] for sizes in (image, block))
    strides, dilations = call.get("strides", [1] * rank), call.get("dilations", [1] * rank)
    pads = call.get("pads", [0] * 2 * rank)
    place = tf.zeros([1, 1], tf.int64)  # in the picture, below zero outside it; [block, L]
    for i in range(rank):
        reach = (block[i] - 1) * dilations[i] + 1
        count = (image[i] + pads[i] + pads[rank + i] - reach) // strides[i] + 1
        taps, steps = tf.cast(tf.range(block[i]), tf.int64), tf.cast(tf.range(count), tf.int64)
        at = taps[:, None] * dilations[i] + steps * strides[i] - pads[i]
        place, at = place[:, None, :, None], at[None, :, None, :]
        size = tf.cast(image[i], tf.int64)
        place = tf.where((place >= 0) & (at >= 0) & (at < size), place * size + at, np.int64(-1))
        rows, columns = tf.shape(place)[0] * tf.shape(place)[1], tf.shape(place)[2] * tf.shape(place)[3]
        place = tf.reshape(place, [rows, columns])
    whole, (n, rows, count) = math.prod(image), shapes.numbers(x)
    channels = rows // math.prod(block)
    taps = tf.reshape(x, shapes.as_tensor([n * channels, math.prod(block) * count]))
    total = tf.math.unsorted_segment_sum(tf.transpose(taps), tf.reshape(place, [-1]), whole)  # leaves out below zero
    return tf.reshape(tf.transpose(total), shapes.as_target([n, channels, *image]))


@op("DepthToSpace", kind=SPATIAL)
def depth_to_space(call: Any, x: Any) -> Any:
    x, block = tensor(x), call.get("blocksize")
    if call.get("mode", "DCR") != "DCR":  # channels before blocks: TensorFlow's kernel has blocks before channels
        channels = int(x.shape[-1])
        x = tf.gather(x, np.arange(channels).reshape(-1, block * block).T.reshape(-1), axis=-1)
    return tf.nn.depth_to_space(x, block) if block > 1 else x


@op("SpaceToDepth", kind=SPATIAL)
def space_to_depth(call: Any, x: Any) -> Any:
    x, block = tensor(x), call.get("blocksize")
    got = tf.nn.space_to_depth(x, block) if block > 1 else x
    if call.get("mode", "DCR") == "DCR":
        return got
    channels = int(got.shape[-1])
    return tf.gather(got, np.arange(channels).reshape(block * block, -1).T.reshape(-1), axis=-1)
