"""Poolings. Tensors come channels last, [N, ..., C]."""

import functools
import math
from collections.abc import Callable
from typing import Any

import numpy as np
import tensorflow as tf

from seaway.convert.native import shapes
from seaway.convert.native.dtypes import scalar, tensor
from seaway.convert.native.ops import windows
from seaway.convert.native.table import SPATIAL, op
from seaway.convert.native.values import Value


@op("GlobalAveragePool", "GlobalMaxPool", "GlobalLpPool", kind=SPATIAL)
def global_pool(call: Any, x: Any) -> Any:
    x = tensor(x)
    axes = list(range(1, x.shape.rank - 1))
    if call.node.op == "GlobalAveragePool":
        return tf.reduce_mean(x, axes, keepdims=True)
    if call.node.op == "GlobalMaxPool":
        return tf.reduce_max(x, axes, keepdims=True)
    p = call.get("p", 2)
    return tf.pow(tf.reduce_sum(tf.pow(tf.abs(x), scalar(p, x)), axes, keepdims=True), scalar(1 / p, x))


@op("MaxPool", kind=SPATIAL)
def max_pool(call: Any, x: Any) -> Any:
    x = tensor(x)
    window = _ceiled(call, windows.of(call, call.get("kernel_shape"), x))
    if call.wants(1):
        return _with_places(call, x, window)
    return _max(x, window)


def _max(x: Any, window: windows.Window) -> Any:
    own = x.dtype
    if own in (tf.int8, tf.uint8):
        return tf.cast(_max(tf.cast(x, tf.float32), window), own)
    padding, dilated = window.padding(), any(d != 1 for d in window.dilations)
    taken = padding in ("VALID", "SAME") or _taken(x, window)
    if padding != "VALID" and (dilated or not taken):
        lowest = own.min if not own.is_floating else scalar(-np.inf, x)
        x, padding = tf.pad(x, window.paddings(), constant_values=tf.cast(lowest, own)), "VALID"
    if dilated:
        return _slid(x, window, lambda taps: functools.reduce(tf.maximum, taps))
    spatial = len(window.kernel)
    function = {1: tf.nn.max_pool1d, 2: tf.nn.max_pool2d, 3: tf.nn.max_pool3d}[spatial]
    return function(x, window.kernel, window.strides, padding)


def _taken(x: Any, window: windows.Window) -> bool:
    """Whether the kernel takes the pads themselves, which spares a copy of the input: no window lies in pads alone."""
    within = window.known and all(max(pair) < k for pair, k in zip(window.pads, window.kernel, strict=True))
    return bool(x.dtype == tf.float32) and len(window.kernel) == 2 and within


@op("AveragePool", kind=SPATIAL)
def average_pool(call: Any, x: Any) -> Any:
    """The mean of what lies within the picture; with count_include_pad of the pads as well, but never of what
    ceil_mode adds beyond them."""
    x = tensor(x)
    plain = windows.of(call, call.get("kernel_shape"), x)
    window = _ceiled(call, plain)
    included, padded = bool(call.get("count_include_pad", 0)), window.padding() != "VALID"
    if not padded:
        return _average(x, window)
    same = window.padding() == "SAME"
    if not included and same and not any(d != 1 for d in window.dilations):
        return _average(x, window, "SAME")  # TensorFlow's mean is of what lies within
    total = _average(tf.pad(x, window.paddings()), window, "VALID")
    if included and (window is plain or (window.known and window.pads == plain.pads)):
        return total
    ones = tf.ones_like(x[:1, ..., :1])
    counted = tf.pad(ones, plain.paddings(), constant_values=1) if included else tf.pad(ones, plain.paddings())
    beyond = [[0, 0], *[[0, w[1] - p[1]] for w, p in zip(window.pads, plain.pads, strict=True)], [0, 0]]
    return total / _average(tf.pad(counted, beyond), window, "VALID")


def _average(x: Any, window: windows.Window, padding: str = "VALID") -> Any:
    if any(d != 1 for d in window.dilations):
        return _slid(x, window, lambda taps: tf.add_n(taps) / scalar(len(taps), x))
    function = {1: tf.nn.avg_pool1d, 2: tf.nn.avg_pool2d, 3: tf.nn.avg_pool3d}[len(window.kernel)]
    return function(x, window.kernel, window.strides, padding)


def _slid(x: Any, window: windows.Window, joined: Callable[[list[Any]], Any]) -> Any:
    """Windows with dilations over what is padded already, one axis after another."""
    index = [slice(None)] * x.shape.rank
    for axis, size in enumerate(shapes.numbers(x)[1:-1]):
        reach, step, dilation = window.reach()[axis], window.strides[axis], window.dilations[axis]
        starts = [tap * dilation for tap in range(window.kernel[axis])]
        slices = [slice(start, size - reach + start + 1, step) for start in starts]
        x = joined([x[(*index[: axis + 1], one)] for one in slices])
    return x


@op("LpPool", kind=SPATIAL)
def lp_pool(call: Any, x: Any) -> Any:
    x, p = tensor(x), call.get("p", 2)
    window = _ceiled(call, windows.of(call, call.get("kernel_shape"), x))
    powers = tf.pad(tf.pow(tf.abs(x), scalar(p, x)), window.paddings())
    return tf.pow(_average(powers, window) * scalar(math.prod(window.kernel), x), scalar(1 / p, x))


def _ceiled(call: Any, window: windows.Window) -> windows.Window:
    """With ceil_mode the last window may begin within the picture (or its pads before) and end beyond the pads."""
    if not call.get("ceil_mode", 0):
        return window
    pads = []
    for pair, size, reach, stride in zip(window.pads, window.sizes, window.reach(), window.strides, strict=True):
        before, after = pair
        span = size + before + after - reach
        count = -(-span // stride) + 1
        if isinstance(count, int):
            count -= int((count - 1) * stride >= size + before)  # it would begin in the pads after
            pads.append((before, after + max(0, (count - 1) * stride - span)))
        else:
            count = tf.where((count - 1) * stride >= size + before, count - 1, count)
            pads.append((before, after + tf.maximum(np.int64(0), (count - 1) * stride - span)))
    return windows.Window(window.kernel, window.strides, window.dilations, pads, window.sizes)


def _with_places(call: Any, x: Any, window: windows.Window) -> Any:
    """Largest values, and where each stands in the whole tensor as ONNX lays it out, [N, C, ...]."""
    spatial = len(window.kernel)
    rank = x.shape.rank
    sizes = shapes.numbers(x)
    turn = reversed if call.get("storage_order", 0) else list  # columns first, or rows
    laid_out = shapes.as_tensor([sizes[0], sizes[-1], *turn(sizes[1:-1])])
    places = tf.reshape(tf.range(tf.size(x, tf.int64)), laid_out)
    places = tf.transpose(places, [0, *turn(range(2, rank)), 1])
    lowest = x.dtype.min if not x.dtype.is_floating else scalar(-np.inf, x)
    padded = tf.pad(x, window.paddings(), constant_values=tf.cast(lowest, x.dtype))
    where = tf.pad(places, window.paddings())
    taps = np.stack(
        np.meshgrid(*[np.arange(k) * d for k, d in zip(window.kernel, window.dilations, strict=True)], indexing="ij"),
        -1,
    )
    values, found = [], []
    full = shapes.numbers(padded)[1:-1]
    for tap in taps.reshape(-1, spatial):
        index = [slice(None)]
        for start, size, reach, stride in zip(tap, full, window.reach(), window.strides, strict=True):
            index.append(slice(int(start), size - reach + int(start) + 1, stride))
        values.append(padded[tuple(index)])
        found.append(where[tuple(index)])
    stacked = tf.stack(values, -1)
    best = tf.argmax(stacked, -1)
    got = tf.reduce_max(stacked, -1)
    picked = tf.gather(tf.stack(found, -1), best, batch_dims=rank)
    return [got, Value(picked, (0, *range(2, rank), 1))]


@op("MaxUnpool", since=9, sizes=(2,))
def max_unpool(call: Any, x: Any, places: Any, wanted: Any = None) -> Any:
    """Values back at the places MaxPool found them, counted in the whole output; zeros elsewhere."""
    x, kernel = tensor(x), call.get("kernel_shape")
    spatial = len(kernel)
    strides, pads = call.get("strides", [1] * spatial), call.get("pads", [0] * 2 * spatial)
    n, channels, *sizes = shapes.numbers(x)
    if wanted is None:
        own = [(size - 1) * strides[i] - pads[i] - pads[spatial + i] + kernel[i] for i, size in enumerate(sizes)]
    else:
        own = [wanted[2 + i] for i in range(spatial)]
    flat = tf.zeros(shapes.as_tensor([math.prod([n, channels, *own])]), x.dtype)
    flat = tf.tensor_scatter_nd_update(flat, tf.reshape(places, [-1, 1]), tf.reshape(x, [-1]))
    return tf.reshape(flat, shapes.as_target([n, channels, *own]))
