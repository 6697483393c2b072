"""Convolutions and normalizations. Tensors are channels last, [N, ..., C]; weights are in ONNX's order."""

from dataclasses import replace
from typing import Any

import numpy as np
import tensorflow as tf

from seaway.convert.native import shapes
from seaway.convert.native.dtypes import HALVES, scalar, tensor
from seaway.convert.native.ops import windows
from seaway.convert.native.registry import KEEP, SPATIAL, op


@op("Conv", kind=SPATIAL)
def conv(call: Any, x: Any, weight: Any, bias: Any = None) -> Any:
    x = tensor(x)
    spatial = x.shape.rank - 2
    kernel = call.get("kernel_shape") or [int(k) for k in weight.shape[2:]]
    window = windows.of(call, kernel, x)
    groups = call.get("group", 1)
    if spatial == 1:
        result = _conv2d(x[:, None], _as_2d(weight), groups, window.wider())[:, 0]
    elif spatial == 2:
        result = _conv2d(x, weight, groups, window)
    elif spatial == 3:
        result = _grouped(x, weight, groups, lambda part, weight_part: _conv3d(part, weight_part, window))
    else:
        raise ValueError(f"a convolution over {spatial} axes; TensorFlow supports one, two and three")
    return result if bias is None else tf.nn.bias_add(result, tensor(bias))


def _as_2d(weight: Any) -> Any:
    """The weight of a 1-D convolution as that of a 2-D one whose first axis has size 1."""
    return weight[:, :, None] if isinstance(weight, np.ndarray) else tf.expand_dims(weight, 2)


def _conv2d(x: Any, weight: Any, groups: int, window: windows.Window) -> Any:
    output_channels, input_channels = int(weight.shape[0]), int(weight.shape[1])
    x, padding = window.padded(x)
    uniform = window.strides[0] == window.strides[1] and (window.strides[0] == 1 or window.dilations == [1, 1])
    if input_channels == 1 and groups > 1 and uniform:
        multiplier = output_channels // groups
        kernel = list(weight.shape[2:])
        depthwise = _transposed(_reshaped(weight, [groups, multiplier, *kernel]), [2, 3, 0, 1])
        strides = [1, *window.strides, 1]
        if isinstance(padding, list):
            # With oneDNN TensorFlow 2.21 fuses this with the next operator, drops the pads, and aborts the process:
            # "tensor_format.h: Check failed: index >= 0 && index < num_total_dims".
            x, padding = tf.pad(x, padding), "VALID"
        if x.dtype == tf.float16:  # on a CPU the kernel adds in float16
            floats = tf.cast(x, tf.float32), tf.cast(depthwise, tf.float32)
            return tf.cast(tf.nn.depthwise_conv2d(*floats, strides, padding, dilations=window.dilations), x.dtype)
        return tf.nn.depthwise_conv2d(x, depthwise, strides, padding, dilations=window.dilations)

    def convolve(part: Any, weight: Any) -> Any:
        filters = _transposed(weight, [2, 3, 1, 0])
        return tf.nn.conv2d(part, filters, window.strides, padding, dilations=window.dilations)

    return _grouped(x, weight, groups, convolve)


def _grouped(x: Any, weight: Any, groups: int, convolve: Any) -> Any:
    if groups == 1:
        return convolve(x, weight)
    split = np.split if isinstance(weight, np.ndarray) else tf.split
    pairs = zip(tf.split(x, groups, -1), split(weight, groups), strict=True)
    return tf.concat([convolve(part, weight_part) for part, weight_part in pairs], -1)


def _conv3d(x: Any, weight: Any, window: windows.Window) -> Any:
    if max(window.strides) > 1 and max(window.dilations) > 1:  # TensorFlow supports only one of the two at a time
        weight, window = _dilate(weight, window.dilations), replace(window, kernel=window.reach(), dilations=[1, 1, 1])
    filters = _transposed(weight, [2, 3, 4, 1, 0])
    x = tf.pad(x, window.paddings()) if window.padding() not in ("SAME", "VALID") else x
    padding = window.padding() if window.padding() in ("SAME", "VALID") else "VALID"
    # With oneDNN TensorFlow 2.21 returns 0 if a stride is larger than its axis, which then has one window.
    strides = [min(stride, size or stride) for stride, size in zip(window.strides, x.shape[1:-1], strict=True)]
    return tf.nn.convolution(x, filters, strides, padding, dilations=window.dilations)


def _transposed(weight: Any, axes: list[int]) -> Any:
    if isinstance(weight, np.ndarray):
        return weight.transpose(axes)
    return tf.transpose(weight, axes)


def _reshaped(weight: Any, sizes: list[int]) -> Any:
    return weight.reshape(sizes) if isinstance(weight, np.ndarray) else tf.reshape(weight, sizes)


@op("ConvTranspose", kind=SPATIAL)
def conv_transpose(call: Any, x: Any, weight: Any, bias: Any = None) -> Any:
    """The transposed convolution without pads, then cropped by the pads or extended by the output padding."""
    x = tensor(x)
    spatial = x.shape.rank - 2
    kernel = [int(k) for k in weight.shape[2:]]
    strides, dilations = call.get("strides", [1] * spatial), call.get("dilations", [1] * spatial)
    uncropped = _grouped(
        x,
        _dilate(weight, dilations),
        call.get("group", 1),
        lambda part, weight_part: _transposed_conv(part, weight_part, strides),
    )
    sizes = shapes.shape_dims(x)[1:-1]
    reach = [(k - 1) * d + 1 for k, d in zip(kernel, dilations, strict=True)]
    uncropped_sizes = [(size - 1) * s + r for size, s, r in zip(sizes, strides, reach, strict=True)]
    result = _crop(uncropped, _transposed_pads(call, sizes, uncropped_sizes, strides), uncropped_sizes)
    return result if bias is None else tf.nn.bias_add(result, tensor(bias))


def _transposed_pads(call: Any, sizes: list[Any], full: list[Any], strides: list[int]) -> list[tuple[Any, Any]]:
    """How much to crop at the start and end of each axis; a negative number pads."""
    spatial, auto = len(sizes), call.get("auto_pad", "NOTSET")
    output_padding = call.get("output_padding", [0] * spatial)
    output_shape = call.get("output_shape")
    if output_shape is None and auto in ("SAME_UPPER", "SAME_LOWER"):
        output_shape = [size * s for size, s in zip(sizes, strides, strict=True)]
    if output_shape is not None:
        output_shape = output_shape[-spatial:]
        totals = [f + e - w for f, e, w in zip(full, output_padding, output_shape, strict=True)]
        halves = [_positive(t) // 2 for t in totals]  # a negative total is padded at the end only
        first = halves if auto == "SAME_UPPER" else [_positive(t) - h for t, h in zip(totals, halves, strict=True)]
        return [(a, t - a - e) for a, t, e in zip(first, totals, output_padding, strict=True)]
    pads = call.get("pads", [0] * 2 * spatial) if auto == "NOTSET" else [0] * 2 * spatial
    return [(pads[i], pads[spatial + i] - output_padding[i]) for i in range(spatial)]


def _positive(part: Any) -> Any:
    return max(part, 0) if isinstance(part, int) else tf.maximum(part, np.int64(0))


def _transposed_conv(x: Any, weight: Any, strides: list[int]) -> Any:
    """The transposed convolution of [N, ..., C] with [C, M, ...], without pads."""
    spatial = len(strides)
    if spatial == 1:
        return _transposed_conv(x[:, None], _as_2d(weight), [1, *strides])[:, 0]
    sizes = shapes.shape_dims(x)
    kernel = [int(k) for k in weight.shape[2:]]
    filters = _transposed(weight, [*range(2, 2 + spatial), 1, 0])
    function = tf.nn.conv2d_transpose if spatial == 2 else tf.nn.conv3d_transpose
    output_sizes = [(n - 1) * s + k for n, s, k in zip(sizes[1:-1], strides, kernel, strict=True)]
    output_shape = tf.cast(shapes.as_tensor([sizes[0], *output_sizes, int(weight.shape[1])]), tf.int32)
    return function(x, filters, output_shape, strides, "VALID")


def _dilate(weight: Any, dilations: list[int]) -> Any:
    """The kernel with zeros between its taps, which replaces dilations."""
    weight = tensor(weight) if max(dilations) > 1 else weight
    for axis, d in enumerate(dilations, start=2):
        if d == 1:
            continue
        size = int(weight.shape[axis])
        positions = np.arange(size) * d
        hot = np.zeros((size, (size - 1) * d + 1), tf.as_dtype(weight.dtype).as_numpy_dtype)
        hot[np.arange(size), positions] = 1
        rank = len(weight.shape)
        back = [*range(axis), rank - 1, *range(axis, rank - 1)]
        weight = tf.transpose(tf.tensordot(weight, hot, [[axis], [0]]), back)
    return weight


def _crop(x: Any, pads: list[tuple[Any, Any]], full: list[Any]) -> Any:
    index: list[Any] = [slice(None)]
    padding: list[list[Any]] = [[0, 0]]
    for (start, end), size in zip(pads, full, strict=True):
        is_static = isinstance(start, int) and isinstance(end, int)
        low = max(0, start) if is_static else tf.maximum(start, 0)
        high = (None if end <= 0 else -end) if is_static else size - tf.maximum(end, 0)
        index.append(slice(low, high))
        padding.append([max(0, -start), max(0, -end)] if is_static else [tf.maximum(-start, 0), tf.maximum(-end, 0)])
    x = x[(*index, slice(None))]
    if all(n == 0 for pair in padding for n in pair if isinstance(n, int)) and all(
        isinstance(n, int) for p in padding for n in p
    ):
        return x
    return tf.pad(x, [*padding, [0, 0]])


@op("BatchNormalization", kind=KEEP)
def batch_normalization(call: Any, x: Any, scale: Any, bias: Any, mean: Any, variance: Any) -> Any:
    x = tensor(x)
    rank, epsilon = x.shape.rank, call.get("epsilon", 1e-5)
    axis = call.axis(1, rank) if rank > 1 else 0
    if call.get("training_mode", 0):
        return _training(call, x, scale, bias, mean, variance, axis, epsilon)
    if (
        rank == 4
        and axis == 3
        and {x.dtype} | {tf.as_dtype(v.dtype) for v in (scale, bias, mean, variance)} == {tf.float32}
    ):
        result, *_ = tf.compat.v1.nn.fused_batch_norm(
            x, tensor(scale), tensor(bias), tensor(mean), tensor(variance), epsilon, is_training=False
        )
        return result
    return _scaled(x, scale, bias, mean, variance, axis, epsilon)


def _scaled(x: Any, scale: Any, bias: Any, mean: Any, variance: Any, axis: int, epsilon: float) -> Any:
    compute_dtype = tf.float32 if x.dtype in HALVES else x.dtype
    broadcast_shape = [-1 if i == axis else 1 for i in range(x.shape.rank)]
    scale, bias, mean, variance = (tf.cast(tensor(v), compute_dtype) for v in (scale, bias, mean, variance))
    factor = scale * tf.math.rsqrt(variance + epsilon)
    offset = bias - mean * factor
    return tf.cast(
        tf.cast(x, compute_dtype) * tf.reshape(factor, broadcast_shape) + tf.reshape(offset, broadcast_shape), x.dtype
    )


def _training(call: Any, x: Any, scale: Any, bias: Any, mean: Any, variance: Any, axis: int, epsilon: float) -> Any:
    others = [i for i in range(x.shape.rank) if i != axis]
    batch_mean, batch_variance = tf.nn.moments(tf.cast(x, tf.float32) if x.dtype in HALVES else x, others)
    momentum = call.get("momentum", 0.9)
    running = [
        tf.cast(tf.cast(old, new.dtype) * momentum + new * (1 - momentum), tf.as_dtype(old.dtype))
        for old, new in ((mean, batch_mean), (variance, batch_variance))
    ]
    return [_scaled(x, scale, bias, batch_mean, batch_variance, axis, epsilon), *running]


@op("InstanceNormalization", kind=SPATIAL)
def instance_normalization(call: Any, x: Any, scale: Any, bias: Any) -> Any:
    x = tensor(x)
    return _normalized(x, list(range(1, x.shape.rank - 1)), scale, bias, call.get("epsilon", 1e-5))[0]


@op("LayerNormalization")
def layer_normalization(call: Any, x: Any, scale: Any, bias: Any = None) -> Any:
    x = tensor(x)
    axis = call.get("axis", -1) % x.shape.rank
    result, mean, inverse = _normalized(x, list(range(axis, x.shape.rank)), scale, bias, call.get("epsilon", 1e-5))
    return [result, mean, inverse][: max(1, call.outputs)]


def _normalized(x: Any, axes: list[int], scale: Any, bias: Any, epsilon: float) -> tuple[Any, Any, Any]:
    floats = tf.cast(x, tf.float32) if x.dtype in HALVES else x
    mean = tf.reduce_mean(floats, axes, keepdims=True)
    centred = floats - mean
    inverse = tf.math.rsqrt(tf.reduce_mean(tf.square(centred), axes, keepdims=True) + epsilon)
    result = tf.cast(centred * inverse, x.dtype) * tensor(scale)
    return (result if bias is None else result + tensor(bias)), mean, inverse


@op("LRN", kind=SPATIAL)
def lrn(call: Any, x: Any) -> Any:
    x, size = tensor(x), call.get("size")
    alpha, beta, bias = call.get("alpha", 1e-4), call.get("beta", 0.75), call.get("bias", 1.0)
    before, after = (size - 1) // 2, size - 1 - (size - 1) // 2
    if before == after and x.shape.rank == 4 and x.dtype == tf.float32:
        return tf.nn.local_response_normalization(x, before, bias, alpha / size, beta)
    squares = tf.pad(tf.square(x), [[0, 0]] * (x.shape.rank - 1) + [[before, after]])
    total = tf.add_n([squares[..., i : i + x.shape[-1]] for i in range(size)])
    return x / tf.pow(scalar(bias, x) + scalar(alpha / size, x) * total, scalar(beta, x))


@op("MeanVarianceNormalization", kind=KEEP)
def mean_variance(call: Any, x: Any) -> Any:
    x = tensor(x)
    axes = [call.axis(a, x.shape.rank) for a in call.get("axes", [0, 2, 3])]
    mean, variance = tf.nn.moments(x, axes, keepdims=True)
    return (x - mean) / (tf.sqrt(variance) + scalar(1e-9, x))
