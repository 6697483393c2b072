"""Quantized operators: integers in, exact integer sums, integers out."""

from typing import Any

import numpy as np
import tensorflow as tf

from seaway.convert.native import dtypes
from seaway.convert.native.dtypes import HALVES, tensor
from seaway.convert.native.ops import nn
from seaway.convert.native.ops.elementwise import quotient
from seaway.convert.native.registry import SPATIAL, op

QUANTIZED = (tf.int8, tf.uint8, tf.int16, tf.uint16)
EXACT = {tf.float32: 1 << 24, tf.float64: 1 << 53}  # up to here the type represents every integer


def _broadcastable(parameter: Any, x: Any, call: Any) -> Any:
    """A scale or zero point shaped to broadcast over `x`: per tensor, per axis, or per block along an axis."""
    rank, block = x.shape.rank, call.get("block_size", 0)
    sizes = parameter.shape
    if len(sizes) == 0 or (len(sizes) == 1 and sizes[0] == 1 and not block):
        return tf.reshape(parameter, [])
    axis = call.get("axis", 1)
    axis = axis + rank if axis < 0 else axis
    if len(sizes) == 1 and not (block and rank == 1):
        return tf.reshape(parameter, [-1 if i == axis else 1 for i in range(rank)])
    if not block:
        raise ValueError(f"a scale of {len(sizes)} axes without a block size")
    repeated = tf.repeat(parameter, block, axis=axis)
    return repeated[(slice(None),) * axis + (slice(0, tf.shape(x)[axis]),)]


def saturated(x: Any, dtype: Any) -> Any:
    """Casts whole floats to integers, saturating at the type's limits."""
    low, high = tf.constant(dtype.min, x.dtype), tf.constant(dtype.max, x.dtype)
    return tf.cast(tf.cast(tf.clip_by_value(x, low, high), tf.int32), dtype)


def _checked_dtype(dtype: Any) -> Any:
    if dtype not in QUANTIZED:
        raise ValueError(f"{dtype.name} is not supported as the type of quantized values")
    return dtype


@op("QuantizeLinear")
def quantize(call: Any, x: Any, scale: Any, zero: Any = None) -> Any:
    x = tensor(x)
    dtype = dtypes.of(call.get("output_dtype")) if call.get("output_dtype") else tf.uint8
    dtype = _checked_dtype(dtype if zero is None else tf.as_dtype(zero.dtype))
    compute_dtype = dtypes.of(call.get("precision")) if call.get("precision") else tf.as_dtype(scale.dtype)
    ratio = quotient(tf.cast(x, compute_dtype), tf.cast(_broadcastable(scale, x, call), compute_dtype))
    rounded = tf.round(tf.cast(ratio, tf.float32))
    return saturated(rounded if zero is None else rounded + _broadcastable(tf.cast(zero, tf.float32), x, call), dtype)


@op("DequantizeLinear")
def dequantize(call: Any, x: Any, scale: Any, zero: Any = None) -> Any:
    x = tensor(x)
    if x.dtype not in (*QUANTIZED, tf.int32):
        raise ValueError(f"{x.dtype.name} is not supported as the type of quantized values")
    dtype = dtypes.of(call.get("output_dtype")) if call.get("output_dtype") else tf.as_dtype(scale.dtype)
    integers = tf.cast(x, tf.int32)
    integers = integers if zero is None else integers - _broadcastable(tf.cast(zero, tf.int32), x, call)
    compute_dtype = tf.float32 if dtype in HALVES else dtype
    return tf.cast(tf.cast(integers, compute_dtype) * tf.cast(_broadcastable(scale, x, call), compute_dtype), dtype)


@op("DynamicQuantizeLinear")
def dynamic_quantize(call: Any, x: Any) -> Any:
    """Quantizes to uint8 with a scale that spans minimum to maximum, zero included."""
    x = tensor(x)
    low, high = tf.minimum(tf.reduce_min(x), 0.0), tf.maximum(tf.reduce_max(x), 0.0)
    scale = tf.where(high > low, quotient(high - low, 255.0), 1.0)
    zero = tf.round(tf.clip_by_value(-low / scale, 0.0, 255.0))
    return [saturated(tf.round(x / scale) + zero, tf.uint8), scale, tf.cast(zero, tf.uint8)]


def _along_rows(parameter: Any) -> Any:
    """A parameter of the left matrix, per tensor or per row, shaped to broadcast."""
    return parameter[:, None] if len(parameter.shape) == 1 and parameter.shape[0] != 1 else parameter


def _centered(x: Any, zero: Any, compute_dtype: Any) -> Any:
    if isinstance(x, np.ndarray) and (zero is None or isinstance(zero, np.ndarray)):
        numpy_dtype = compute_dtype.as_numpy_dtype
        return x.astype(numpy_dtype) if zero is None else x.astype(numpy_dtype) - zero.astype(numpy_dtype)
    return tf.cast(x, compute_dtype) if zero is None else tf.cast(x, compute_dtype) - tf.cast(zero, compute_dtype)


@op("MatMulInteger")
def matmul_integer(call: Any, a: Any, b: Any, a_zero: Any = None, b_zero: Any = None) -> Any:
    left = _centered(a, None if a_zero is None else _along_rows(a_zero), tf.int32)
    right = _centered(b, b_zero, tf.int32)
    vector_a, vector_b = len(left.shape) == 1, len(right.shape) == 1
    left = tensor(left)[None] if vector_a else tensor(left)
    right = tensor(right)[:, None] if vector_b else tensor(right)
    result = tf.matmul(left, right)
    result = tf.squeeze(result, -2) if vector_a else result
    return tf.squeeze(result, -1) if vector_b else result


@op("QLinearMatMul")
def qlinear_matmul(
    call: Any, a: Any, a_scale: Any, a_zero: Any, b: Any, b_scale: Any, b_zero: Any, y_scale: Any, y_zero: Any
) -> Any:
    integers = matmul_integer(call, a, b, a_zero, b_zero)
    scales = [tf.cast(s, tf.float32) for s in (_along_rows(a_scale), b_scale, _along_rows(y_scale))]
    return _rescaled(integers, scales[0], scales[1], scales[2], _along_rows(y_zero))


def _rescaled(integers: Any, a_scale: Any, b_scale: Any, y_scale: Any, y_zero: Any) -> Any:
    """Integer sums requantized to another scale."""
    rounded = tf.round(tf.cast(integers, tf.float32) * (a_scale * b_scale / y_scale))
    return saturated(rounded + tf.cast(y_zero, tf.float32), _checked_dtype(tf.as_dtype(y_zero.dtype)))


def _convolved(call: Any, x: Any, w: Any, x_zero: Any, w_zero: Any) -> Any:
    """int32, by a float convolution wide enough to be exact; padding with 0 means padding with the zero point."""
    terms = int(np.prod(w.shape[1:]))
    compute_dtype = next(t for t, limit in EXACT.items() if terms * 256 * 256 <= limit)
    if w_zero is not None and len(w_zero.shape) == 1 and w_zero.shape[0] != 1:
        w_zero = (
            w_zero.reshape([-1, *[1] * (len(w.shape) - 1)])
            if isinstance(w_zero, np.ndarray)
            else tf.reshape(w_zero, [-1, *[1] * (len(w.shape) - 1)])
        )
    return tf.cast(
        tf.round(nn.conv(call, _centered(x, x_zero, compute_dtype), _centered(w, w_zero, compute_dtype))), tf.int32
    )


@op("ConvInteger", kind=SPATIAL)
def conv_integer(call: Any, x: Any, w: Any, x_zero: Any = None, w_zero: Any = None) -> Any:
    return _convolved(call, x, w, x_zero, w_zero)


@op("QLinearConv", kind=SPATIAL)
def qlinear_conv(
    call: Any, x: Any, x_scale: Any, x_zero: Any, w: Any, w_scale: Any, w_zero: Any, y_scale: Any, y_zero: Any,
    bias: Any = None,
) -> Any:  # fmt: skip
    """`w_scale` may be per channel, and channels are last."""
    integers = _convolved(call, x, w, x_zero, w_zero)
    integers = integers if bias is None else integers + tf.cast(bias, tf.int32)
    return _rescaled(integers, tensor(x_scale), tensor(w_scale), tensor(y_scale), y_zero)
