"""Sampling between a tensor's elements: GridSample, AffineGrid, DeformConv."""

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
from seaway.convert.native.registry import SPATIAL, op

MODES = {"bilinear": "linear", "bicubic": "cubic"}  # the names before version 20
CUBIC = -0.75


@op("GridSample", since=16, kind=SPATIAL)
def grid_sample(call: Any, x: Any, grid: Any) -> Any:
    """`grid`: [N, ..., D] in -1 to 1; the coordinate of the last axis comes first."""
    x, grid = tensor(x), tensor(grid)
    mode = call.get("mode", "linear")
    mode, padding, align = MODES.get(mode, mode), call.get("padding_mode", "zeros"), call.get("align_corners", 0)
    compute_dtype = tf.float64 if x.dtype == tf.float64 else tf.float32
    dtype, sizes = x.dtype, shapes.shape_dims(x)[1:-1]
    if mode != "nearest":
        x = tf.cast(x, compute_dtype)
    coordinates = []
    for axis, size in enumerate(sizes):
        coordinate, float_size = tf.cast(grid[..., len(sizes) - 1 - axis], compute_dtype), tf.cast(size, compute_dtype)
        coordinates.append(
            (coordinate + 1) / 2 * (float_size - 1) if align else ((coordinate + 1) * float_size - 1) / 2
        )
    return tf.cast(sampled(x, coordinates, mode, padding, bool(align)), dtype)


def sampled(x: Any, coordinates: Sequence[Any], mode: str, padding: str, align_corners: bool = False) -> Any:
    """Samples `x` ([N, ..., C]) at `coordinates`, one tensor [N, P...] per spatial axis; returns [N, P..., C]."""
    sizes = shapes.shape_dims(x)
    spatial_dims = sizes[1:-1]
    flat = tf.reshape(x, shapes.reshape_target([sizes[0], math.prod(spatial_dims), sizes[-1]]))
    taps = [_taps(a, size, mode, padding, align_corners) for a, size in zip(coordinates, spatial_dims, strict=True)]
    total = None
    for chosen in itertools.product(*taps):
        index = chosen[0][0]
        for (axis_index, _), size in zip(chosen[1:], spatial_dims[1:], strict=True):
            index = index * size + axis_index
        result = tf.gather(flat, index, batch_dims=1)
        weights = [weight for _, weight in chosen if weight is not None]
        if weights:
            result *= tf.cast(functools.reduce(operator.mul, weights), x.dtype)[..., None]
        total = result if total is None else total + result
    return total


def _taps(coordinates: Any, size: Any, mode: str, padding: str, align_corners: bool) -> list[tuple[Any, Any]]:
    """The indices along one axis (int64) and their weights (None for 1); an index outside is moved inside or gets
    weight 0."""
    if mode == "nearest":
        taps = [(tf.round(coordinates), None)]
    elif mode == "linear":
        low = tf.floor(coordinates)
        taps = [(low, 1 - (coordinates - low)), (low + 1, coordinates - low)]
    elif mode == "cubic":
        low = tf.floor(coordinates)
        taps = [(low + step, cubic(coordinates - low - step, CUBIC)) for step in (-1, 0, 1, 2)]
    else:
        raise ValueError(f"mode {mode}")
    last = tf.cast(size, coordinates.dtype) - 1
    return [
        (_index_inside(index, last, padding, align_corners), _masked_weight(index, last, w, padding))
        for index, w in taps
    ]


def _index_inside(index: Any, last: Any, padding: str, align_corners: bool) -> Any:
    if padding == "reflection":  # at the centers of the outermost elements, or at their outer edges
        period = 2 * last if align_corners else 2 * last + 2
        index = tf.math.floormod(index, tf.maximum(period, 1))
        index = tf.where(index > last, period - index - (0 if align_corners else 1), index)
    elif padding not in ("zeros", "border"):
        raise ValueError(f"padding_mode {padding}")
    return tf.cast(tf.clip_by_value(index, tf.zeros_like(last), last), tf.int64)


def _masked_weight(index: Any, last: Any, weight: Any, padding: str) -> Any:
    if padding != "zeros":
        return weight
    within = tf.cast((index >= 0) & (index <= last), index.dtype)
    return within if weight is None else weight * within


@op("AffineGrid", sizes=(1,))
def affine_grid(call: Any, theta: Any, sizes: Any) -> Any:
    """A grid for GridSample, [N, ..., D], transformed by `theta`, [N, D, D + 1]."""
    theta = tensor(theta)
    count = theta.shape[1]
    if count not in (2, 3):
        raise ValueError("the number of axes is unknown")
    axes = [_axis_coordinates(sizes[2 + axis], call.get("align_corners", 0), theta.dtype) for axis in range(count)]
    meshed = tf.meshgrid(*axes, indexing="ij")
    homogeneous = tf.stack([*reversed(meshed), tf.ones_like(meshed[0])], -1)
    flat = tf.reshape(homogeneous, [1, -1, count + 1])
    moved = tf.matmul(flat, theta, transpose_b=True)
    return tf.reshape(moved, shapes.reshape_target([shapes.shape_dims(theta)[0], *map(_size, axes), count]))


def _size(x: Any) -> Any:
    return shapes.shape_dims(x)[0]


def _axis_coordinates(size: Any, align_corners: int, dtype: Any) -> Any:
    """From -1 to 1: the elements' centers; with align_corners the first and last element lie at the ends."""
    float_size, steps = tf.cast(size, dtype), tf.cast(tf.range(size), dtype)
    if not align_corners:
        return (2 * steps + 1) / float_size - 1
    return tf.where(float_size > 1, tf.math.divide_no_nan(2 * steps, float_size - 1) - 1, tf.zeros_like(steps))


@op("DeformConv", since=19, kind=SPATIAL)
def deform_conv(call: Any, x: Any, weight: Any, offset: Any, bias: Any = None, mask: Any = None) -> Any:
    """Samples `x` at each kernel tap moved by its offset, then multiplies by the weights."""
    x, weight, offset = tensor(x), tensor(weight), tensor(offset)
    if x.shape.rank != 4:
        raise ValueError(f"DeformConv over {x.shape.rank - 2} axes; only two are supported")
    kernel = [int(k) for k in weight.shape[2:]]
    strides, dilations = call.get("strides", [1, 1]), call.get("dilations", [1, 1])
    pads, groups, offset_groups = call.get("pads", [0] * 4), call.get("group", 1), call.get("offset_group", 1)
    taps = kernel[0] * kernel[1]
    n, _, height, width = shapes.shape_dims(offset)
    offsets = tf.reshape(offset, shapes.reshape_target([n, offset_groups, taps, 2, height, width]))
    offsets = tf.cast(tf.transpose(offsets, [3, 1, 0, 4, 5, 2]), tf.float32)  # [2, offset groups, N, H, W, taps]
    tap_offsets = [np.repeat(np.arange(kernel[0]), kernel[1]), np.tile(np.arange(kernel[1]), kernel[0])]
    origins = [tf.cast(tf.range(height), tf.float32)[:, None, None], tf.cast(tf.range(width), tf.float32)[:, None]]
    coordinates = [
        offsets[i] + (origins[i] * strides[i] + (tap_offsets[i] * dilations[i] - pads[i]).astype(np.float32))
        for i in range(2)
    ]
    sampled_groups = [
        sampled(part, [coordinates[0][i], coordinates[1][i]], "linear", "zeros")
        for i, part in enumerate(tf.split(x, offset_groups, -1))
    ]
    if mask is not None:
        masks = tf.reshape(tensor(mask), shapes.reshape_target([n, offset_groups, taps, height, width]))
        masks = tf.transpose(masks, [1, 0, 3, 4, 2])[..., None]
        sampled_groups = [one * masks[i] for i, one in enumerate(sampled_groups)]
    samples = tf.concat(sampled_groups, -1)  # [N, H, W, taps, C]
    result = []
    for part, weight_part in zip(tf.split(samples, groups, -1), tf.split(weight, groups), strict=True):
        flat = tf.reshape(part, shapes.reshape_target([n, height, width, taps * part.shape[-1]]))
        filters = tf.reshape(
            tf.transpose(weight_part, [2, 3, 1, 0]), [taps * int(weight_part.shape[1]), int(weight_part.shape[0])]
        )
        result.append(tf.tensordot(flat, filters, 1))
    joined = tf.concat(result, -1)
    return joined if bias is None else tf.nn.bias_add(joined, tensor(bias))
