"""Quantized operators of com.microsoft, which ONNX Runtime's quantizer and optimizer write."""

from collections.abc import Callable
from typing import Any

import numpy as np
import tensorflow as tf

from seaway.convert.native import layout
from seaway.convert.native.dtypes import tensor
from seaway.convert.native.ops import attention, pooling, quantized, recurrent
from seaway.convert.native.ops.elementwise import quotient
from seaway.convert.native.registry import ELEMENTWISE, MICROSOFT, VALUES, op
from seaway.convert.native.values import Value

op("QuantizeLinear", domain=MICROSOFT)(quantized.quantize)
op("DequantizeLinear", domain=MICROSOFT)(quantized.dequantize)


def _in_either_layout(function: Callable[..., Any]) -> Callable[..., Any]:
    """An operator of kind VALUES from a function of kind SPATIAL: with channels_last=1, which ONNX Runtime's optimizer
    sets, the axes are in the function's order in ONNX too."""

    def call_with_values(call: Any, x: Value, *rest: Value | None) -> Any:
        plain = [None if value is None else value.plain() for value in rest]
        if call.get("channels_last", 0):
            return function(call, x.plain(), *plain)
        order = layout.channels_last(x.rank or 0)
        return Value(function(call, x.ordered(order), *plain), order)

    return call_with_values


op("QLinearConv", kind=VALUES, domain=MICROSOFT)(_in_either_layout(quantized.qlinear_conv))
op("NhwcMaxPool", domain=MICROSOFT)(pooling.max_pool)


def _real(x: Any, scale: Any, zero: Any) -> Any:
    """Quantized values as float32, with one scale."""
    x = tf.cast(x, tf.float32)
    x = x if zero is None else x - tf.cast(tf.reshape(zero, []), tf.float32)
    return x * tf.reshape(scale, [])


def _whole(x: Any, scale: Any, zero: Any, dtype: Any = tf.uint8) -> Any:
    """Numbers quantized with one scale."""
    rounded = tf.round(quotient(x, tf.reshape(scale, [])))
    if zero is None:
        return quantized.saturated(rounded, dtype)
    return quantized.saturated(rounded + tf.cast(tf.reshape(zero, []), tf.float32), tf.as_dtype(zero.dtype))


@op("QLinearAdd", kind=ELEMENTWISE, domain=MICROSOFT)
def qlinear_add(
    call: Any, a: Any, a_scale: Any, a_zero: Any, b: Any, b_scale: Any, b_zero: Any, c_scale: Any, c_zero: Any = None
) -> Any:
    return _whole(_real(a, a_scale, a_zero) + _real(b, b_scale, b_zero), c_scale, c_zero, tf.as_dtype(a.dtype))


@op("QLinearMul", kind=ELEMENTWISE, domain=MICROSOFT)
def qlinear_mul(
    call: Any, a: Any, a_scale: Any, a_zero: Any, b: Any, b_scale: Any, b_zero: Any, c_scale: Any, c_zero: Any = None
) -> Any:
    return _whole(_real(a, a_scale, a_zero) * _real(b, b_scale, b_zero), c_scale, c_zero, tf.as_dtype(a.dtype))


@op("QLinearSigmoid", "QLinearLeakyRelu", kind=ELEMENTWISE, domain=MICROSOFT)
def qlinear_activation(call: Any, x: Any, x_scale: Any, x_zero: Any, y_scale: Any, y_zero: Any = None) -> Any:
    real = _real(x, x_scale, x_zero)
    leaky = call.node.op == "QLinearLeakyRelu"
    result = tf.nn.leaky_relu(real, call.get("alpha", 0.01)) if leaky else tf.sigmoid(real)
    return _whole(result, y_scale, y_zero, tf.as_dtype(x.dtype))


@op("QLinearSoftmax", domain=MICROSOFT)
def qlinear_softmax(call: Any, x: Any, x_scale: Any, x_zero: Any, y_scale: Any, y_zero: Any) -> Any:
    """Since opset 13 over one axis, before over all axes from it on."""
    real = _real(x, x_scale, x_zero)
    axis = call.get("axis", -1) % real.shape.rank
    if call.get("opset", 13) >= 13 or axis == real.shape.rank - 1:
        result = tf.nn.softmax(real, axis)
    else:
        sizes = tf.shape(real)
        flat = tf.nn.softmax(tf.reshape(real, tf.concat([sizes[:axis], [-1]], 0)))
        result = tf.ensure_shape(tf.reshape(flat, sizes), real.shape)
    return _whole(result, y_scale, y_zero)


@op("QLinearAveragePool", kind=VALUES, domain=MICROSOFT)
@_in_either_layout
def qlinear_average_pool(call: Any, x: Any, x_scale: Any, x_zero: Any, y_scale: Any, y_zero: Any = None) -> Any:
    result = pooling.average_pool(call, _real(x, x_scale, x_zero))
    return _whole(result, y_scale, y_zero, tf.as_dtype(x.dtype))


@op("QLinearGlobalAveragePool", kind=VALUES, domain=MICROSOFT)
@_in_either_layout
def qlinear_global_average_pool(call: Any, x: Any, x_scale: Any, x_zero: Any, y_scale: Any, y_zero: Any) -> Any:
    """The sum of integers is exact."""
    axes = list(range(1, len(x.shape) - 1))
    total = tf.reduce_sum(tf.cast(x, tf.int32) - tf.cast(tf.reshape(x_zero, []), tf.int32), axes, keepdims=True)
    count = tf.cast(tf.reduce_prod(tf.shape(x)[1:-1]), tf.float32)
    ratio = tf.reshape(x_scale, []) / (tf.reshape(y_scale, []) * count)
    rounded = tf.round(tf.cast(total, tf.float32) * ratio)
    return quantized.saturated(rounded + tf.cast(tf.reshape(y_zero, []), tf.float32), tf.as_dtype(y_zero.dtype))


@op("QLinearConcat", domain=MICROSOFT)
def qlinear_concat(call: Any, y_scale: Any, y_zero: Any, *inputs: Any) -> Any:
    """Inputs of the output's scale and zero point stay as they are, since rounding gives the same integers back."""
    triples = [inputs[i : i + 3] for i in range(0, len(inputs), 3)]
    return tf.concat([_whole(_real(*triple), y_scale, y_zero) for triple in triples], call.get("axis"))


@op("QLinearWhere", domain=MICROSOFT)
def qlinear_where(
    call: Any, condition: Any, x: Any, x_scale: Any, x_zero: Any, y: Any, y_scale: Any, y_zero: Any, z_scale: Any,
    z_zero: Any,
) -> Any:  # fmt: skip
    x, y = (_whole(_real(*triple), z_scale, z_zero) for triple in ((x, x_scale, x_zero), (y, y_scale, y_zero)))
    return tf.where(condition, x, y)


@op("QGemm", domain=MICROSOFT)
def qgemm(
    call: Any, a: Any, a_scale: Any, a_zero: Any, b: Any, b_scale: Any, b_zero: Any, c: Any = None,
    y_scale: Any = None, y_zero: Any = None,
) -> Any:  # fmt: skip
    """Quantized if it has a scale for the output, else float32. The scale of `b` may be one per column."""
    a = tf.transpose(a) if call.get("transA", 0) else a
    if call.get("transB", 0):
        b = b.T if isinstance(b, np.ndarray) else tf.transpose(b)
    integers = quantized.matmul_integer(call, a, b, a_zero, b_zero)
    integers = integers if c is None else integers + tensor(c)
    scale = tf.reshape(a_scale, []) * tensor(b_scale) * np.float32(call.get("alpha", 1.0))
    if y_scale is None:
        return tf.cast(integers, tf.float32) * scale
    rounded = tf.round(tf.cast(integers, tf.float32) * (scale / tf.reshape(y_scale, [])))
    return quantized.saturated(rounded + tf.cast(tf.reshape(y_zero, []), tf.float32), tf.as_dtype(y_zero.dtype))


@op("MatMulIntegerToFloat", domain=MICROSOFT)
def matmul_integer_to_float(
    call: Any, a: Any, b: Any, a_scale: Any, b_scale: Any, a_zero: Any = None, b_zero: Any = None, bias: Any = None
) -> Any:
    integers = quantized.matmul_integer(call, a, b, a_zero, b_zero)
    result = tf.cast(integers, tf.float32) * (tensor(a_scale) * tensor(b_scale))
    return result if bias is None else result + tensor(bias)


@op("DynamicQuantizeMatMul", domain=MICROSOFT)
def dynamic_quantize_matmul(call: Any, a: Any, b: Any, b_scale: Any, b_zero: Any = None, bias: Any = None) -> Any:
    a, a_scale, a_zero = quantized.dynamic_quantize(call, a)
    return matmul_integer_to_float(call, a, b, a_scale, b_scale, a_zero, b_zero, bias)


@op("QAttention", domain=MICROSOFT)
def qattention(
    call: Any, x: Any, weight: Any, bias: Any, x_scale: Any, weight_scale: Any, mask: Any = None, x_zero: Any = None,
    weight_zero: Any = None, past: Any = None,
) -> Any:  # fmt: skip
    x_zero = None if x_zero is None else tf.reshape(x_zero, [])
    projected = matmul_integer_to_float(
        call, x, weight, tf.reshape(x_scale, []), weight_scale, x_zero, weight_zero, bias
    )
    return attention.self_attention(call, projected, mask, past, None)


@op("DynamicQuantizeLSTM", domain=MICROSOFT)
def dynamic_quantize_lstm(
    call: Any, x: Any, w: Any, r: Any, b: Any, lengths: Any, h: Any, c: Any, p: Any, w_scale: Any, w_zero: Any,
    r_scale: Any, r_zero: Any,
) -> Any:  # fmt: skip
    """An LSTM whose weights are quantized, [directions, input, gates * hidden]; the input is quantized as a whole, the
    state in each step."""

    def product(left: Any, direction: int, weight: Any, scale: Any, zero: Any) -> Any:
        own_zero = None if zero is None else tf.convert_to_tensor(zero[direction])
        return dynamic_quantize_matmul(call, left, weight[direction], scale[direction], own_zero)

    return recurrent.lstm(
        call, x, b, lengths, [h, c], p, int(r.shape[1]),
        lambda flat, direction: product(flat, direction, w, w_scale, w_zero),
        lambda state, direction: product(state, direction, r, r_scale, r_zero),
    )  # fmt: skip
