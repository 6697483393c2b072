"""The grid that an affine map makes of an even one."""

from typing import Any

import numpy as np
import tensorflow as tf

from components.convert.native import shapes
from components.convert.native.dtypes import HALVES, tensor
from components.convert.native.table import op


@op("AffineGrid", since=20, sizes=(1,))
def affine_grid(call: Any, theta: Any, size: Any) -> Any:
    """[N, H, W, 2], or [N, D, H, W, 3]; ONNX's definition by other operators fails for a batch of one."""
    theta = tensor(theta)
    spatial = theta.shape[1]
    if spatial not in (2, 3):
        raise ValueError("whether the grid has two axes or three is not known")
    counts = size[2:] if isinstance(size, tuple) else [size[2 + axis] for axis in range(spatial)]
    wide = tf.float32 if theta.dtype in HALVES else theta.dtype
    lines = [_line(count, bool(call.get("align_corners", 0)), wide) for count in counts]
    places = tf.meshgrid(*lines, indexing="ij")
    even = tf.stack([*reversed(places), tf.ones_like(places[0])], -1)
    flat = tf.reshape(even, [-1, spatial + 1])
    got = tf.matmul(flat[None], tf.cast(theta, wide), transpose_b=True)
    target = shapes.as_target([shapes.numbers(theta)[0], *counts, spatial])
    return tf.cast(tf.reshape(got, target), theta.dtype)


def _line(count: Any, corners: bool, wide: Any) -> Any:
    """From -1 to 1: corner to corner, or the middles of as many parts."""
    steps, whole = tf.cast(tf.range(count), wide), tf.cast(count, wide)
    one = np.array(1, wide.as_numpy_dtype)
    return 2 * steps / tf.maximum(whole - one, one) - one if corners else (2 * steps + one) / whole - one
