"""Quantized operators: integers in, exact sums of integers, integers out."""

from typing import Any

import numpy as np
import tensorflow as tf

from seaway.convert.native import dtypes
from seaway.convert.native.dtypes import HALVES, tensor
from seaway.convert.native.ops import nn
from seaway.convert.native.table import SPATIAL, op

QUANTIZED = (tf.int8, tf.uint8, tf.int16, tf.uint16)
EXACT = {tf.float32: 1 << 24, tf.float64: 1 << 53}  # up to here every integer is a number of the type


def _aligned(parameter: Any, x: Any, call: Any) -> Any:
    """A scale or zero point as it is broadcast over `x`: one for all, one for each place of an axis, or one for each
    block along it."""
    rank, block = x.shape.rank, call.get("block_size", 0)
    sizes = parameter.shape
    if len(sizes) == 0 or (len(sizes) == 1 and sizes[0] == 1 and not block):
        return tf.reshape(parameter, [])
    axis = call.get("axis", 1)
    axis = axis + rank if axis < 0 else axis
    if len(sizes) == 1 and not (block and rank == 1):
        return tf.reshape(parameter, [-1 if place == axis else 1 for place in range(rank)])
    if not block:
        raise ValueError(f"a scale of {len(sizes)} axes without a block size")
    wide = tf.repeat(parameter, block, axis=axis)
    return wide[(slice(None),) * axis + (slice(0, tf.shape(x)[axis]),)]


def _saturated(x: Any, wanted: Any) -> Any:
    """Floats that are whole numbers as integers, those beyond the type's ends as its ends."""
    low, high = tf.constant(wanted.min, x.dtype), tf.constant(wanted.max, x.dtype)
    return tf.cast(tf.cast(tf.clip_by_value(x, low, high), tf.int32), wanted)


def _allowed(wanted: Any) -> Any:
    if wanted not in QUANTIZED:
        raise ValueError(f"{wanted.name} is no type that values are quantized to here")
    return wanted


@op("QuantizeLinear")
def quantize(call: Any, x: Any, scale: Any, zero: Any = None) -> Any:
    x = tensor(x)
    wanted = dtypes.of(call.get("output_dtype")) if call.get("output_dtype") else tf.uint8
    wanted = _allowed(wanted if zero is None else tf.as_dtype(zero.dtype))
    wide = dtypes.of(call.get("precision")) if call.get("precision") else tf.as_dtype(scale.dtype)
    ratio = tf.cast(x, wide) / tf.cast(_aligned(scale, x, call), wide)
    rounded = tf.round(tf.cast(ratio, tf.float32))
    return _saturated(rounded if zero is None else rounded + _aligned(tf.cast(zero, tf.float32), x, call), wanted)


@op("DequantizeLinear")
def dequantize(call: Any, x: Any, scale: Any, zero: Any = None) -> Any:
    x = tensor(x)
    if x.dtype not in (*QUANTIZED, tf.int32):
        raise ValueError(f"{x.dtype.name} is no type of quantized values here")
    wanted = dtypes.of(call.get("output_dtype")) if call.get("output_dtype") else tf.as_dtype(scale.dtype)
    whole = tf.cast(x, tf.int32)
    whole = whole if zero is None else whole - _aligned(tf.cast(zero, tf.int32), x, call)
    wide = tf.float32 if wanted in HALVES else wanted
    return tf.cast(tf.cast(whole, wide) * tf.cast(_aligned(scale, x, call), wide), wanted)


@op("DynamicQuantizeLinear")
def dynamic_quantize(call: Any, x: Any) -> Any:
    """To uint8, by a scale from the smallest to the largest, zero included."""
    x = tensor(x)
    low, high = tf.minimum(tf.reduce_min(x), 0.0), tf.maximum(tf.reduce_max(x), 0.0)
    scale = tf.where(high > low, (high - low) / 255.0, 1.0)
    zero = tf.round(tf.clip_by_value(-low / scale, 0.0, 255.0))
    return [_saturated(tf.round(x / scale) + zero, tf.uint8), scale, tf.cast(zero, tf.uint8)]


def _along_rows(parameter: Any) -> Any:
    """A parameter of the left matrix: one for all, or one for each row."""
    return parameter[:, None] if len(parameter.shape) == 1 and parameter.shape[0] != 1 else parameter


def _centred(x: Any, zero: Any, wide: Any) -> Any:
    if isinstance(x, np.ndarray) and (zero is None or isinstance(zero, np.ndarray)):
        own = wide.as_numpy_dtype
        return x.astype(own) if zero is None else x.astype(own) - zero.astype(own)
    return tf.cast(x, wide) if zero is None else tf.cast(x, wide) - tf.cast(zero, wide)


@op("MatMulInteger")
def matmul_integer(call: Any, a: Any, b: Any, a_zero: Any = None, b_zero: Any = None) -> Any:
    left = _centred(a, None if a_zero is None else _along_rows(a_zero), tf.int32)
    right = _centred(b, b_zero, tf.int32)
    vector_a, vector_b = len(left.shape) == 1, len(right.shape) == 1
    left = tensor(left)[None] if vector_a else tensor(left)
    right = tensor(right)[:, None] if vector_b else tensor(right)
    got = tf.matmul(left, right)
    got = tf.squeeze(got, -2) if vector_a else got
    return tf.squeeze(got, -1) if vector_b else got


@op("QLinearMatMul")
def qlinear_matmul(
    call: Any, a: Any, a_scale: Any, a_zero: Any, b: Any, b_scale: Any, b_zero: Any, y_scale: Any, y_zero: Any
) -> Any:
    whole = matmul_integer(call, a, b, a_zero, b_zero)
    scales = [tf.cast(s, tf.float32) for s in (_along_rows(a_scale), b_scale, _along_rows(y_scale))]
    return _rescaled(whole, scales[0], scales[1], scales[2], _along_rows(y_zero))


def _rescaled(whole: Any, a_scale: Any, b_scale: Any, y_scale: Any, y_zero: Any) -> Any:
    """Sums of integers as integers of another scale."""
    rounded = tf.round(tf.cast(whole, tf.float32) * (a_scale * b_scale / y_scale))
    return _saturated(rounded + tf.cast(y_zero, tf.float32), _allowed(tf.as_dtype(y_zero.dtype)))


def _convolved(call: Any, x: Any, w: Any, x_zero: Any, w_zero: Any) -> Any:
    """int32, by a convolution of floats that hold every sum exactly. Its pads stand for the zero point."""
    reach = int(np.prod(w.shape[1:]))
    wide = next(t for t, most in EXACT.items() if reach * 256 * 256 <= most)
    if w_zero is not None and len(w_zero.shape) == 1 and w_zero.shape[0] != 1:
        w_zero = (
            w_zero.reshape([-1, *[1] * (len(w.shape) - 1)])
            if isinstance(w_zero, np.ndarray)
            else tf.reshape(w_zero, [-1, *[1] * (len(w.shape) - 1)])
        )
    return tf.cast(tf.round(nn.conv(call, _centred(x, x_zero, wide), _centred(w, w_zero, wide))), tf.int32)


@op("ConvInteger", kind=SPATIAL)
def conv_integer(call: Any, x: Any, w: Any, x_zero: Any = None, w_zero: Any = None) -> Any:
    return _convolved(call, x, w, x_zero, w_zero)


@op("QLinearConv", kind=SPATIAL)
def qlinear_conv(
    call: Any, x: Any, x_scale: Any, x_zero: Any, w: Any, w_scale: Any, w_zero: Any, y_scale: Any, y_zero: Any,
    bias: Any = None,
) -> Any:  # fmt: skip
    """A weight's scale may be one for each channel, which come last."""
    whole = _convolved(call, x, w, x_zero, w_zero)
    whole = whole if bias is None else whole + tf.cast(bias, tf.int32)
    return _rescaled(whole, tensor(x_scale), tensor(w_scale), tensor(y_scale), y_zero)
