"""Elements taken from between the elements of a tensor: GridSample, AffineGrid, DeformConv."""

import functools
import itertools
import math
import operator
from collections.abc import Sequence
from typing import Any

import numpy as np
import tensorflow as tf

from seaway.convert.native import shapes
from seaway.convert.native.dtypes import tensor
from seaway.convert.native.ops.resize import cubic
from seaway.convert.native.table import SPATIAL, op

MODES = {"bilinear": "linear", "bicubic": "cubic"}  # as versions before 20 name them
CUBIC = -0.75


@op("GridSample", since=16, kind=SPATIAL)
def grid_sample(call: Any, x: Any, grid: Any) -> Any:
    """`grid`: [N, ..., D] in -1 to 1, the last axis' coordinate first."""
    x, grid = tensor(x), tensor(grid)
    mode = call.get("mode", "linear")
    mode, padding, align = MODES.get(mode, mode), call.get("padding_mode", "zeros"), call.get("align_corners", 0)
    wide = tf.float64 if x.dtype == tf.float64 else tf.float32
    own, sizes = x.dtype, shapes.numbers(x)[1:-1]
    if mode != "nearest":
        x = tf.cast(x, wide)
    at = []
    for axis, size in enumerate(sizes):
        given, whole = tf.cast(grid[..., len(sizes) - 1 - axis], wide), tf.cast(size, wide)
        at.append((given + 1) / 2 * (whole - 1) if align else ((given + 1) * whole - 1) / 2)
    return tf.cast(sampled(x, at, mode, padding, bool(align)), own)


def sampled(x: Any, at: Sequence[Any], mode: str, padding: str, align_corners: bool = False) -> Any:
    """[N, P..., C]: what lies in `x`, [N, ..., C], at coordinates, one tensor [N, P...] for each axis of space."""
    sizes = shapes.numbers(x)
    space = sizes[1:-1]
    flat = tf.reshape(x, shapes.as_target([sizes[0], math.prod(space), sizes[-1]]))
    taps = [_taps(a, size, mode, padding, align_corners) for a, size in zip(at, space, strict=True)]
    total = None
    for chosen in itertools.product(*taps):
        place = chosen[0][0]
        for (more, _), size in zip(chosen[1:], space[1:], strict=True):
            place = place * size + more
        got = tf.gather(flat, place, batch_dims=1)
        weights = [weight for _, weight in chosen if weight is not None]
        if weights:
            got *= tf.cast(functools.reduce(operator.mul, weights), x.dtype)[..., None]
        total = got if total is None else total + got
    return total


def _taps(at: Any, size: Any, mode: str, padding: str, align_corners: bool) -> list[tuple[Any, Any]]:
    """The places along one axis, int64, and their weights, None for 1; a place outside is brought inside or weighs
    nothing."""
    if mode == "nearest":
        taps = [(tf.round(at), None)]
    elif mode == "linear":
        low = tf.floor(at)
        taps = [(low, 1 - (at - low)), (low + 1, at - low)]
    elif mode == "cubic":
        low = tf.floor(at)
        taps = [(low + step, cubic(at - low - step, CUBIC)) for step in (-1, 0, 1, 2)]
    else:
        raise ValueError(f"mode {mode}")
    last = tf.cast(size, at.dtype) - 1
    return [(_inside(place, last, padding, align_corners), _counted(place, last, w, padding)) for place, w in taps]


def _inside(place: Any, last: Any, padding: str, align_corners: bool) -> Any:
    if padding == "reflection":  # at the outermost elements' centres, or at their outer edges
        period = 2 * last if align_corners else 2 * last + 2
        place = tf.math.floormod(place, tf.maximum(period, 1))
        place = tf.where(place > last, period - place - (0 if align_corners else 1), place)
    elif padding not in ("zeros", "border"):
        raise ValueError(f"padding_mode {padding}")
    return tf.cast(tf.clip_by_value(place, tf.zeros_like(last), last), tf.int64)


def _counted(place: Any, last: Any, weight: Any, padding: str) -> Any:
    if padding != "zeros":
        return weight
    within = tf.cast((place >= 0) & (place <= last), place.dtype)
    return within if weight is None else weight * within


@op("AffineGrid", sizes=(1,))
def affine_grid(call: Any, theta: Any, sizes: Any) -> Any:
    """[N, ..., D]: a grid for GridSample, moved by `theta`, [N, D, D + 1]."""
    theta = tensor(theta)
    count = theta.shape[1]
    if count not in (2, 3):
        raise ValueError("the number of axes is not known")
    axes = [_line(sizes[2 + axis], call.get("align_corners", 0), theta.dtype) for axis in range(count)]
    meshed = tf.meshgrid(*axes, indexing="ij")
    places = tf.stack([*reversed(meshed), tf.ones_like(meshed[0])], -1)
    flat = tf.reshape(places, [1, -1, count + 1])
    moved = tf.matmul(flat, theta, transpose_b=True)
    return tf.reshape(moved, shapes.as_target([shapes.numbers(theta)[0], *map(_size, axes), count]))


def _size(line: Any) -> Any:
    return shapes.numbers(line)[0]


def _line(size: Any, align_corners: int, dtype: Any) -> Any:
    """From -1 to 1: the elements' centres, or with align_corners the first and the last at the ends."""
    whole, steps = tf.cast(size, dtype), tf.cast(tf.range(size), dtype)
    if not align_corners:
        return (2 * steps + 1) / whole - 1
    return tf.where(whole > 1, tf.math.divide_no_nan(2 * steps, whole - 1) - 1, tf.zeros_like(steps))


@op("DeformConv", since=19, kind=SPATIAL)
def deform_conv(call: Any, x: Any, weight: Any, offset: Any, bias: Any = None, mask: Any = None) -> Any:
    """Each tap of the kernel looks where its offset says; then a product with the weights."""
    x, weight, offset = tensor(x), tensor(weight), tensor(offset)
    if x.shape.rank != 4:
        raise ValueError(f"DeformConv over {x.shape.rank - 2} axes; it is carried over two")
    kernel = [int(k) for k in weight.shape[2:]]
    strides, dilations = call.get("strides", [1, 1]), call.get("dilations", [1, 1])
    pads, groups, parts = call.get("pads", [0] * 4), call.get("group", 1), call.get("offset_group", 1)
    taps = kernel[0] * kernel[1]
    n, _, high, wide = shapes.numbers(offset)
    moved = tf.reshape(offset, shapes.as_target([n, parts, taps, 2, high, wide]))
    moved = tf.cast(tf.transpose(moved, [3, 1, 0, 4, 5, 2]), tf.float32)  # [2, parts, N, H, W, taps]
    steps = [np.repeat(np.arange(kernel[0]), kernel[1]), np.tile(np.arange(kernel[1]), kernel[0])]
    starts = [tf.cast(tf.range(high), tf.float32)[:, None, None], tf.cast(tf.range(wide), tf.float32)[:, None]]
    at = [
        moved[i] + (starts[i] * strides[i] + (steps[i] * dilations[i] - pads[i]).astype(np.float32)) for i in range(2)
    ]
    looked = [sampled(part, [at[0][i], at[1][i]], "linear", "zeros") for i, part in enumerate(tf.split(x, parts, -1))]
    if mask is not None:
        given = tf.reshape(tensor(mask), shapes.as_target([n, parts, taps, high, wide]))
        given = tf.transpose(given, [1, 0, 3, 4, 2])[..., None]
        looked = [one * given[i] for i, one in enumerate(looked)]
    seen = tf.concat(looked, -1)  # [N, H, W, taps, C]
    got = []
    for part, own in zip(tf.split(seen, groups, -1), tf.split(weight, groups), strict=True):
        flat = tf.reshape(part, shapes.as_target([n, high, wide, taps * part.shape[-1]]))
        filters = tf.reshape(tf.transpose(own, [2, 3, 1, 0]), [taps * int(own.shape[1]), int(own.shape[0])])
        got.append(tf.tensordot(flat, filters, 1))
    joined = tf.concat(got, -1)
    return joined if bias is None else tf.nn.bias_add(joined, tensor(bias))
