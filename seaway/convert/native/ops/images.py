"""ImageDecoder, Col2Im, DepthToSpace and SpaceToDepth."""

import math
from typing import Any

import numpy as np
import tensorflow as tf

from seaway.convert.native import shapes
from seaway.convert.native.dtypes import tensor
from seaway.convert.native.ops import image_formats
from seaway.convert.native.registry import SPATIAL, op


@op("ImageDecoder", since=20, foldable=False)
def image_decoder(call: Any, encoded: Any) -> Any:
    """JPEG, PNG, BMP, WebP, PNM and uncompressed TIFF; TensorFlow's decoder raises an error for other formats."""
    pixel_format = call.get("pixel_format", "RGB")
    if pixel_format not in ("RGB", "BGR", "Grayscale"):
        raise ValueError(f"pixel_format {pixel_format}")
    encoded = tensor(encoded)
    text = image_formats.joined(encoded)
    image = tf.case(
        [  # decode_image uses a faster inverse transform for JPEG, which is off by a few levels
            (tf.io.is_jpeg(text), lambda: tf.io.decode_jpeg(text, 3, dct_method="INTEGER_ACCURATE")),
            (image_formats.is_pnm(text), lambda: image_formats.decode_pnm(text, encoded)),
            (image_formats.is_tiff(text), lambda: image_formats.decode_tiff(encoded)),
        ],
        lambda: tf.io.decode_image(text, 3, expand_animations=False),
    )
    image = tf.ensure_shape(image, [None, None, 3])
    if pixel_format == "Grayscale":
        weighted = tf.reduce_sum(tf.cast(image, tf.int32) * _LUMA, -1, keepdims=True)
        return tf.cast(tf.bitwise.right_shift(weighted + (1 << 15), 16), tf.uint8)
    return tf.reverse(image, [-1]) if pixel_format == "BGR" else image


_LUMA = np.array([19595, 38470, 7471], np.int32)  # 0.299, 0.587 and 0.114 of 65536


@op("Col2Im", sizes=(1, 2))
def col2im(call: Any, x: Any, image: Any, block: Any) -> Any:
    """Sums blocks, [N, C * block, L], into the image at their positions."""
    rank = int(block.shape[0]) if not isinstance(block, tuple) else len(block)
    image, block = ([sizes[i] for i in range(rank)] for sizes in (image, block))
    strides, dilations = call.get("strides", [1] * rank), call.get("dilations", [1] * rank)
    pads = call.get("pads", [0] * 2 * rank)
    index = tf.zeros([1, 1], tf.int64)  # flat index into the image, -1 outside it; [block, L]
    for i in range(rank):
        reach = (block[i] - 1) * dilations[i] + 1
        count = (image[i] + pads[i] + pads[rank + i] - reach) // strides[i] + 1
        taps, steps = tf.cast(tf.range(block[i]), tf.int64), tf.cast(tf.range(count), tf.int64)
        position = taps[:, None] * dilations[i] + steps * strides[i] - pads[i]
        index, position = index[:, None, :, None], position[None, :, None, :]
        size = tf.cast(image[i], tf.int64)
        index = tf.where((index >= 0) & (position >= 0) & (position < size), index * size + position, np.int64(-1))
        rows, columns = tf.shape(index)[0] * tf.shape(index)[1], tf.shape(index)[2] * tf.shape(index)[3]
        index = tf.reshape(index, [rows, columns])
    n, rows, count = shapes.shape_dims(x)
    channels = rows // math.prod(block)
    taps = tf.reshape(x, shapes.as_tensor([n * channels, math.prod(block) * count]))
    # unsorted_segment_sum drops negative indices.
    total = tf.math.unsorted_segment_sum(tf.transpose(taps), tf.reshape(index, [-1]), math.prod(image))
    return tf.reshape(tf.transpose(total), shapes.reshape_target([n, channels, *image]))


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
    result = tf.nn.space_to_depth(x, block) if block > 1 else x
    if call.get("mode", "DCR") == "DCR":
        return result
    channels = int(result.shape[-1])
    return tf.gather(result, np.arange(channels).reshape(block * block, -1).T.reshape(-1), axis=-1)
