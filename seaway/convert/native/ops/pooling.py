"""Poolings. Tensors are channels last, [N, ..., C]."""

import functools
import math
from collections.abc import Callable
from typing import Any

import numpy as np
import tensorflow as tf

from seaway.convert.native import shapes
from seaway.convert.native.dtypes import scalar, tensor
from seaway.convert.native.ops import windows
from seaway.convert.native.registry import SPATIAL, op
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
        return _with_indices(call, x, window)
    return _max(x, window)


def _max(x: Any, window: windows.Window) -> Any:
    dtype = x.dtype
    if dtype in (tf.int8, tf.uint8):
        return tf.cast(_max(tf.cast(x, tf.float32), window), dtype)
    padding, dilated = window.padding(), any(d != 1 for d in window.dilations)
    can_pad = padding in ("VALID", "SAME") or _kernel_can_pad(x, window)
    if padding != "VALID" and (dilated or not can_pad):
        lowest = dtype.min if not dtype.is_floating else scalar(-np.inf, x)
        x, padding = tf.pad(x, window.paddings(), constant_values=tf.cast(lowest, dtype)), "VALID"
    if dilated:
        return _dilated(x, window, lambda taps: functools.reduce(tf.maximum, taps))
    spatial = len(window.kernel)
    function = {1: tf.nn.max_pool1d, 2: tf.nn.max_pool2d, 3: tf.nn.max_pool3d}[spatial]
    return function(x, window.kernel, window.strides, padding)


def _kernel_can_pad(x: Any, window: windows.Window) -> bool:
    """Whether the kernel can apply the pads itself, without a copy of the input: no window may consist of pads only."""
    within = window.is_static and all(max(pair) < k for pair, k in zip(window.pads, window.kernel, strict=True))
    return bool(x.dtype == tf.float32) and len(window.kernel) == 2 and within


@op("AveragePool", kind=SPATIAL)
def average_pool(call: Any, x: Any) -> Any:
    """The mean over the elements inside the image; with count_include_pad over the pads too, but never over what
    ceil_mode adds beyond them."""
    x = tensor(x)
    unceiled = windows.of(call, call.get("kernel_shape"), x)
    window = _ceiled(call, unceiled)
    include_pads, padded = bool(call.get("count_include_pad", 0)), window.padding() != "VALID"
    if not padded:
        return _average(x, window)
    same = window.padding() == "SAME"
    if not include_pads and same and not any(d != 1 for d in window.dilations):
        return _average(x, window, "SAME")  # TensorFlow's mean ignores pads
    total = _average(tf.pad(x, window.paddings()), window, "VALID")
    if include_pads and (window is unceiled or (window.is_static and window.pads == unceiled.pads)):
        return total
    ones = tf.ones_like(x[:1, ..., :1])
    counts = tf.pad(ones, unceiled.paddings(), constant_values=1) if include_pads else tf.pad(ones, unceiled.paddings())
    ceil_pads = [[0, 0], *[[0, w[1] - p[1]] for w, p in zip(window.pads, unceiled.pads, strict=True)], [0, 0]]
    return total / _average(tf.pad(counts, ceil_pads), window, "VALID")


def _average(x: Any, window: windows.Window, padding: str = "VALID") -> Any:
    if any(d != 1 for d in window.dilations):
        return _dilated(x, window, lambda taps: tf.add_n(taps) / scalar(len(taps), x))
    function = {1: tf.nn.avg_pool1d, 2: tf.nn.avg_pool2d, 3: tf.nn.avg_pool3d}[len(window.kernel)]
    return function(x, window.kernel, window.strides, padding)


def _dilated(x: Any, window: windows.Window, combine: Callable[[list[Any]], Any]) -> Any:
    """Combines dilated windows of an already padded tensor, one axis after another."""
    index = [slice(None)] * x.shape.rank
    for axis, size in enumerate(shapes.shape_dims(x)[1:-1]):
        reach, step, dilation = window.reach()[axis], window.strides[axis], window.dilations[axis]
        starts = [tap * dilation for tap in range(window.kernel[axis])]
        slices = [slice(start, size - reach + start + 1, step) for start in starts]
        x = combine([x[(*index[: axis + 1], part)] for part in slices])
    return x


@op("LpPool", kind=SPATIAL)
def lp_pool(call: Any, x: Any) -> Any:
    x, p = tensor(x), call.get("p", 2)
    window = _ceiled(call, windows.of(call, call.get("kernel_shape"), x))
    powers = tf.pad(tf.pow(tf.abs(x), scalar(p, x)), window.paddings())
    return tf.pow(_average(powers, window) * scalar(math.prod(window.kernel), x), scalar(1 / p, x))


def _ceiled(call: Any, window: windows.Window) -> windows.Window:
    """The window with the extra end pads of ceil_mode: the last window must start in the image or its start pads."""
    if not call.get("ceil_mode", 0):
        return window
    pads = []
    for pair, size, reach, stride in zip(window.pads, window.sizes, window.reach(), window.strides, strict=True):
        before, after = pair
        span = size + before + after - reach
        count = -(-span // stride) + 1
        if isinstance(count, int):
            count -= int((count - 1) * stride >= size + before)  # it would start in the end pads
            pads.append((before, after + max(0, (count - 1) * stride - span)))
        else:
            count = tf.where((count - 1) * stride >= size + before, count - 1, count)
            pads.append((before, after + tf.maximum(np.int64(0), (count - 1) * stride - span)))
    return windows.Window(window.kernel, window.strides, window.dilations, pads, window.sizes)


def _with_indices(call: Any, x: Any, window: windows.Window) -> Any:
    """The maxima, and the flat index of each in the whole tensor in ONNX's layout, [N, C, ...]."""
    spatial = len(window.kernel)
    rank = x.shape.rank
    sizes = shapes.shape_dims(x)
    spatial_order = reversed if call.get("storage_order", 0) else list  # columns first, or rows
    onnx_dims = shapes.as_tensor([sizes[0], sizes[-1], *spatial_order(sizes[1:-1])])
    indices = tf.reshape(tf.range(tf.size(x, tf.int64)), onnx_dims)
    indices = tf.transpose(indices, [0, *spatial_order(range(2, rank)), 1])
    lowest = x.dtype.min if not x.dtype.is_floating else scalar(-np.inf, x)
    padded = tf.pad(x, window.paddings(), constant_values=tf.cast(lowest, x.dtype))
    padded_indices = tf.pad(indices, window.paddings())
    taps = np.stack(
        np.meshgrid(*[np.arange(k) * d for k, d in zip(window.kernel, window.dilations, strict=True)], indexing="ij"),
        -1,
    )
    values, tap_indices = [], []
    full = shapes.shape_dims(padded)[1:-1]
    for tap in taps.reshape(-1, spatial):
        index = [slice(None)]
        for start, size, reach, stride in zip(tap, full, window.reach(), window.strides, strict=True):
            index.append(slice(int(start), size - reach + int(start) + 1, stride))
        values.append(padded[tuple(index)])
        tap_indices.append(padded_indices[tuple(index)])
    stacked = tf.stack(values, -1)
    best_tap = tf.argmax(stacked, -1)
    result = tf.reduce_max(stacked, -1)
    max_indices = tf.gather(tf.stack(tap_indices, -1), best_tap, batch_dims=rank)
    return [result, Value(max_indices, (0, *range(2, rank), 1))]


@op("MaxUnpool", since=9, sizes=(2,))
def max_unpool(call: Any, x: Any, indices: Any, output_shape: Any = None) -> Any:
    """Puts values back at the flat indices that MaxPool returned; zeros elsewhere."""
    x, kernel = tensor(x), call.get("kernel_shape")
    spatial = len(kernel)
    strides, pads = call.get("strides", [1] * spatial), call.get("pads", [0] * 2 * spatial)
    n, channels, *sizes = shapes.shape_dims(x)
    if output_shape is None:
        output_dims = [
            (size - 1) * strides[i] - pads[i] - pads[spatial + i] + kernel[i] for i, size in enumerate(sizes)
        ]
    else:
        output_dims = [output_shape[2 + i] for i in range(spatial)]
    flat = tf.zeros(shapes.as_tensor([math.prod([n, channels, *output_dims])]), x.dtype)
    flat = tf.tensor_scatter_nd_update(flat, tf.reshape(indices, [-1, 1]), tf.reshape(x, [-1]))
    return tf.reshape(flat, shapes.reshape_target([n, channels, *output_dims]))
