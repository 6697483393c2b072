"""Elementwise operators; their inputs broadcast."""

import functools
from collections.abc import Callable
from typing import Any

import numpy as np
import onnx
import tensorflow as tf

from seaway.convert.native import dtypes
from seaway.convert.native.dtypes import HALVES, SMALL, scalar, tensor, through
from seaway.convert.native.registry import ELEMENTWISE, op

UNARY: dict[str, Callable[[Any], Any]] = {
    "Acos": tf.acos, "Asin": tf.asin, "Asinh": tf.asinh, "Atan": tf.atan,
    "Cos": tf.cos, "Cosh": tf.cosh, "Sin": tf.sin, "Sinh": tf.sinh, "Tan": tf.tan, "Tanh": tf.tanh,
    "Erf": tf.math.erf, "Exp": tf.exp, "Log": tf.math.log, "Sqrt": tf.sqrt,
    "Not": tf.logical_not, "BitwiseNot": tf.bitwise.invert, "Identity": tf.identity,
}  # fmt: skip
COMPOSED = {  # of several steps, each of which TensorFlow's kernels round to the type
    "Acosh": tf.acosh, "Atanh": tf.atanh, "Sigmoid": tf.sigmoid, "Softsign": tf.nn.softsign,
    "Softplus": tf.math.softplus,
}  # fmt: skip
ROUNDED = {"Ceil": tf.math.ceil, "Floor": tf.floor, "Round": tf.round}
BINARY: dict[str, Callable[[Any, Any], Any]] = {
    "Add": tf.add, "Sub": tf.subtract, "Mul": tf.multiply, "Equal": tf.equal, "Greater": tf.greater,
    "GreaterOrEqual": tf.greater_equal, "Less": tf.less, "LessOrEqual": tf.less_equal, "And": tf.logical_and,
    "Or": tf.logical_or, "Xor": tf.math.logical_xor, "BitwiseAnd": tf.bitwise.bitwise_and,
    "BitwiseOr": tf.bitwise.bitwise_or, "BitwiseXor": tf.bitwise.bitwise_xor,
}  # fmt: skip


def _unary(function: Callable[[Any], Any]) -> Callable[..., Any]:
    return lambda call, x: function(tensor(x))


def _binary(function: Callable[[Any, Any], Any]) -> Callable[..., Any]:
    return lambda call, a, b: function(tensor(a), tensor(b))


for _name, _function in (UNARY | ROUNDED).items():
    op(_name, kind=ELEMENTWISE)(_unary(_function))
for _name, _function in COMPOSED.items():
    op(_name, kind=ELEMENTWISE)(through(tf.float32, *HALVES)(_unary(_function)))


def _comparison(function: Callable[[Any, Any], Any]) -> Callable[..., Any]:
    """TensorFlow has no kernels that compare uint16 and uint32."""

    def compare(call: Any, a: Any, b: Any) -> Any:
        a, b = tensor(a), tensor(b)
        compute_dtype = tf.int64 if a.dtype in (tf.uint16, tf.uint32) else a.dtype
        return function(tf.cast(a, compute_dtype), tf.cast(b, compute_dtype))

    return compare


# Before opset 7 an attribute says to which axis the second input is aligned.
def _legacy_broadcast(function: Callable[[Any, Any], Any]) -> Callable[..., Any]:
    def old(call: Any, a: Any, b: Any) -> Any:
        a, b = tensor(a), tensor(b)
        axis, rank = call.get("axis"), a.shape.rank
        if call.get("broadcast", 0) and axis is not None and b.shape.rank != rank:
            after = rank - (axis + rank if axis < 0 else axis) - b.shape.rank
            b = tf.reshape(b, tf.concat([tf.shape(b), [1] * after], 0))
        return function(a, b)

    return old


for _name, _function in BINARY.items():
    _entry = _binary(_function)
    if _name.startswith(("Greater", "Less")):
        _entry = _comparison(_function)
    if _name in ("Add", "Sub", "Mul"):
        _entry = through(tf.int64, tf.uint16, tf.uint32)(_entry)
    op(
        _name, since=1 if _name in ("GreaterOrEqual", "LessOrEqual") or _name.startswith("Bit") else 7, kind=ELEMENTWISE
    )(_entry)
    if _name in ("Add", "Sub", "Mul", "Equal", "Greater", "Less", "And", "Or", "Xor"):
        op(_name, since=1)(_legacy_broadcast(_function))


@op("Max", "Min", "Sum", kind=ELEMENTWISE)
@through(tf.int64, *SMALL, tf.uint32)
def variadic(call: Any, *inputs: Any) -> Any:
    function = {"Max": tf.maximum, "Min": tf.minimum, "Sum": tf.add}[call.node.op]
    tensors = [tensor(x) for x in inputs]
    if tensors[0].dtype != tf.uint64:
        return functools.reduce(function, tensors)
    # No kernel for uint64: flipping the highest bit maps its order to that of int64. (ONNX sums no uint64.)
    flipped = [tf.bitcast(x, tf.int64) ^ np.int64(-(2**63)) for x in tensors]
    return tf.bitcast(functools.reduce(function, flipped) ^ np.int64(-(2**63)), tf.uint64)


@op("Mean", kind=ELEMENTWISE)
def mean(call: Any, *inputs: Any) -> Any:
    return functools.reduce(tf.add, [tensor(x) for x in inputs]) / scalar(len(inputs), inputs[0])


def quotient(x: Any, y: Any) -> Any:
    """x / y, correctly rounded. Unless in float64, TensorFlow makes a reciprocal of 1 / x, which is 0.12499999 for 8,
    and a product of x / constant; so would other integers come out of a rounding that follows."""
    dtype = tf.as_dtype(x.dtype)
    return tf.cast(tf.cast(x, tf.float64) / tf.cast(y, tf.float64), dtype)


@op("Reciprocal", kind=ELEMENTWISE)
def reciprocal(call: Any, x: Any) -> Any:
    x = tensor(x)
    return quotient(tf.constant(1, x.dtype), x)


@op("Div", since=7, kind=ELEMENTWISE)
def div(call: Any, a: Any, b: Any) -> Any:
    inexact = isinstance(a, np.ndarray) and bool((a == 1).all())
    if isinstance(b, np.ndarray) and not inexact:  # multiplying by the reciprocal of a power of two is exact
        inexact = bool((np.abs(np.frexp(b.astype(np.float64))[0]) != 0.5).any())
    a, b = tensor(a), tensor(b)
    if a.dtype.is_floating:
        return quotient(a, b) if inexact else tf.divide(a, b)
    compute_dtype = tf.int64 if a.dtype in (*SMALL, tf.uint32) else a.dtype
    return tf.cast(tf.truncatediv(tf.cast(a, compute_dtype), tf.cast(b, compute_dtype)), a.dtype)


op("Div", since=1)(_legacy_broadcast(lambda a, b: quotient(a, b) if a.dtype.is_floating else tf.truncatediv(a, b)))


@op("Mod", kind=ELEMENTWISE)
def mod(call: Any, a: Any, b: Any) -> Any:
    a, b = tensor(a), tensor(b)
    compute_dtype = tf.int64 if a.dtype in (*SMALL, tf.uint32) else tf.float32 if a.dtype in HALVES else a.dtype
    function = tf.truncatemod if call.get("fmod", 0) else tf.math.floormod
    return tf.cast(function(tf.cast(a, compute_dtype), tf.cast(b, compute_dtype)), a.dtype)


@op("Pow", since=7, kind=ELEMENTWISE)
def power(call: Any, a: Any, b: Any) -> Any:
    a, b = tensor(a), tensor(b)
    if a.dtype.is_floating or b.dtype.is_floating:
        compute_dtype = tf.float64 if tf.float64 in (a.dtype, b.dtype) or not a.dtype.is_floating else tf.float32
        return tf.cast(tf.pow(tf.cast(a, compute_dtype), tf.cast(b, compute_dtype)), a.dtype)
    return tf.cast(tf.pow(tf.cast(a, tf.int64), tf.cast(b, tf.int64)), a.dtype)


op("Pow", since=1)(_legacy_broadcast(lambda a, b: power(None, a, b)))


@op("Abs", "Neg", "Sign", kind=ELEMENTWISE)
def signs(call: Any, x: Any) -> Any:
    function = {"Abs": tf.abs, "Neg": tf.negative, "Sign": tf.sign}[call.node.op]
    x = tensor(x)
    if x.dtype in (tf.uint8, tf.uint16, tf.uint32, tf.uint64) and call.node.op == "Abs":
        return x
    compute_dtype = tf.int64 if x.dtype in (*SMALL, tf.uint32, tf.uint64) else x.dtype
    return tf.cast(function(tf.cast(x, compute_dtype)), x.dtype)


@op("Relu", kind=ELEMENTWISE)
def relu(call: Any, x: Any) -> Any:
    return tf.nn.relu(tensor(x))


@op("LeakyRelu", kind=ELEMENTWISE)
def leaky_relu(call: Any, x: Any) -> Any:
    return tf.nn.leaky_relu(tensor(x), call.get("alpha", 0.01))


@op("PRelu", since=7, kind=ELEMENTWISE)
def prelu(call: Any, x: Any, slope: Any) -> Any:
    x = tensor(x)
    return tf.where(x < scalar(0, x), x * tensor(slope), x)


@op("PRelu", since=1, kind=ELEMENTWISE)
def prelu_old(call: Any, x: Any, slope: Any) -> Any:
    """One slope per channel, the second axis."""
    rank = x.shape.rank if hasattr(x.shape, "rank") else x.ndim
    shape = [-1 if axis == call.axis(1, rank) else 1 for axis in range(rank)]
    return prelu(call, x, tf.reshape(slope, shape) if np.prod(slope.shape) > 1 else tf.reshape(slope, []))


@op("Elu", kind=ELEMENTWISE)
@through(tf.float32, *HALVES)
def elu(call: Any, x: Any) -> Any:
    x, alpha = tensor(x), call.get("alpha", 1.0)
    return (
        tf.nn.elu(x)
        if alpha == 1
        else tf.where(x < scalar(0, x), scalar(alpha, x) * tf.math.expm1(tf.minimum(x, scalar(0, x))), x)
    )


@op("Selu", kind=ELEMENTWISE)
@through(tf.float32, *HALVES)
def selu(call: Any, x: Any) -> Any:
    x = tensor(x)
    alpha, gamma = call.get("alpha", 1.67326319217681884765625), call.get("gamma", 1.05070102214813232421875)
    low = scalar(gamma * alpha, x) * tf.math.expm1(tf.minimum(x, scalar(0, x)))
    return tf.where(x <= scalar(0, x), low, scalar(gamma, x) * x)


@op("Celu", kind=ELEMENTWISE)
@through(tf.float32, *HALVES)
def celu(call: Any, x: Any) -> Any:
    x, alpha = tensor(x), call.get("alpha", 1.0)
    low = scalar(alpha, x) * tf.math.expm1(tf.minimum(x, scalar(0, x)) / scalar(alpha, x))
    return tf.maximum(x, scalar(0, x)) + low


@op("HardSigmoid", kind=ELEMENTWISE)
def hard_sigmoid(call: Any, x: Any) -> Any:
    x = tensor(x)
    line = x * scalar(call.get("alpha", 0.2), x) + scalar(call.get("beta", 0.5), x)
    return tf.clip_by_value(line, scalar(0, x), scalar(1, x))


@op("HardSwish", kind=ELEMENTWISE)
def hard_swish(call: Any, x: Any) -> Any:
    """x · relu6(x + 3) / 6, which TensorFlow's optimizer fuses."""
    x = tensor(x)
    if x.dtype != tf.float32:
        return x * tf.clip_by_value(x / scalar(6, x) + scalar(0.5, x), scalar(0, x), scalar(1, x))
    return x * (tf.nn.relu6(x + 3.0) * np.float32(1 / 6))


@op("Gelu", kind=ELEMENTWISE)
@through(tf.float32, *HALVES)
def gelu(call: Any, x: Any) -> Any:
    return tf.nn.gelu(tensor(x), approximate=call.get("approximate", "none") == "tanh")


@op("Mish", kind=ELEMENTWISE)
@through(tf.float32, *HALVES)
def mish(call: Any, x: Any) -> Any:
    x = tensor(x)
    return x * tf.tanh(tf.math.softplus(x))


@op("ThresholdedRelu", kind=ELEMENTWISE)
def thresholded_relu(call: Any, x: Any) -> Any:
    x = tensor(x)
    return tf.where(x > scalar(call.get("alpha", 1.0), x), x, tf.zeros_like(x))


@op("Shrink", kind=ELEMENTWISE)
def shrink(call: Any, x: Any) -> Any:
    x, limit, bias = tensor(x), call.get("lambd", 0.5), call.get("bias", 0.0)
    floats = tf.cast(x, tf.float64) if not x.dtype.is_floating else x
    shrunk = tf.where(
        floats > scalar(limit, floats),
        floats - scalar(bias, floats),
        tf.zeros_like(floats),
    )
    return tf.cast(
        tf.where(floats < scalar(-limit, floats), floats + scalar(bias, floats), shrunk),
        x.dtype,
    )


@op("Clip", since=11, kind=ELEMENTWISE)
def clip(call: Any, x: Any, low: Any = None, high: Any = None) -> Any:
    x = tensor(x)
    if x.dtype == tf.float32 and _is(low, 0.0) and _is(high, 6.0):
        return tf.nn.relu6(x)
    compute_dtype = tf.int64 if x.dtype in (*SMALL, tf.uint32) else x.dtype
    result = tf.cast(x, compute_dtype)
    result = result if low is None else tf.maximum(result, tf.cast(tf.reshape(low, []), compute_dtype))
    result = result if high is None else tf.minimum(result, tf.cast(tf.reshape(high, []), compute_dtype))
    return tf.cast(result, x.dtype)


@op("Clip", since=1, kind=ELEMENTWISE)
def clip_old(call: Any, x: Any) -> Any:
    low, high = call.get("min"), call.get("max")
    return clip(call, x, None if low is None else scalar(low, x), None if high is None else scalar(high, x))


def _is(bound: Any, value: float) -> bool:
    return isinstance(bound, np.ndarray) and bound.size == 1 and float(bound.reshape(-1)[0]) == value


@op("Where", kind=ELEMENTWISE)
def where(call: Any, condition: Any, a: Any, b: Any) -> Any:
    return tf.where(condition, tensor(a), tensor(b))


@op("IsNaN", kind=ELEMENTWISE)
def is_nan(call: Any, x: Any) -> Any:
    return tf.math.is_nan(tensor(x))


@op("IsInf", kind=ELEMENTWISE)
def is_inf(call: Any, x: Any) -> Any:
    x = tensor(x)
    signs = (call.get("detect_negative", 1), call.get("detect_positive", 1))
    if signs == (1, 1):
        return tf.math.is_inf(x)
    if signs == (0, 0):
        return tf.zeros_like(x, tf.bool)
    return tf.equal(x, scalar(float("-inf") if signs[0] else float("inf"), x))


@op("BitShift", kind=ELEMENTWISE)
def bit_shift(call: Any, x: Any, by: Any) -> Any:
    """A shift beyond the type's width leaves only the sign; in TensorFlow that is undefined."""
    x, by = tensor(x), tensor(by)
    width = x.dtype.size * 8
    in_range = tf.logical_and(_as_int64(by) >= 0, _as_int64(by) < width)
    safe_shift = tf.where(in_range, by, tf.zeros_like(by))
    if call.get("direction") == "LEFT":
        result = tf.bitwise.left_shift(x, safe_shift)
        return tf.where(in_range, result, tf.zeros_like(result))
    result = tf.bitwise.right_shift(x, safe_shift)
    beyond = (
        tf.zeros_like(result) if x.dtype.is_unsigned else tf.bitwise.right_shift(x, tf.constant(width - 1, x.dtype))
    )
    return tf.where(in_range, result, beyond)


def _as_int64(by: Any) -> Any:
    """As int64; a larger uint64 becomes negative."""
    return tf.bitcast(by, tf.int64) if by.dtype == tf.uint64 else tf.cast(by, tf.int64)


@op("Cast", kind=ELEMENTWISE)
def cast(call: Any, x: Any) -> Any:
    to = call.get("to")  # before opset 6 a name
    return to_dtype(x, dtypes.of(onnx.TensorProto.DataType.Value(to) if isinstance(to, str) else to))


@op("CastLike", kind=ELEMENTWISE)
def cast_like(call: Any, x: Any, like: Any) -> Any:
    return to_dtype(x, tf.as_dtype(like.dtype))


def to_dtype(x: Any, target: Any) -> Any:
    x = tensor(x)
    if x.dtype == target:
        return x
    if x.dtype == tf.string:
        compute_dtype = tf.int64 if target.is_integer else tf.float64 if target == tf.float64 else tf.float32
        return tf.cast(tf.strings.to_number(x, compute_dtype), target)
    return _to_string(x) if target == tf.string else tf.cast(x, target)


def _to_string(x: Any) -> Any:
    """Numbers as strings, in ONNX Runtime's format."""
    if x.dtype == tf.bool or not x.dtype.is_floating:
        return tf.strings.as_string(tf.cast(x, tf.int64) if x.dtype == tf.bool else x)
    floats = tf.cast(x, tf.float32) if x.dtype in HALVES else x
    text = tf.strings.as_string(floats, precision=8, shortest=True)
    text = tf.where(tf.math.is_nan(floats), "NaN", text)
    return tf.where(tf.math.is_inf(floats), tf.where(floats > scalar(0, floats), "INF", "-INF"), text)


@op("Dropout", since=(1, 7), kind=ELEMENTWISE)
def dropout(call: Any, x: Any, *rest: Any) -> Any:
    x = tensor(x)
    return [x, tf.ones_like(x, tf.bool if call.since >= 10 else x.dtype)][: max(1, call.outputs)]


@op("Dropout", since=12, kind=ELEMENTWISE, foldable=False)
def dropout_training(call: Any, x: Any, ratio: Any = None, training: Any = None) -> Any:
    x = tensor(x)
    if training is None or (isinstance(training, np.ndarray) and not training.any()):
        return [x, tf.ones_like(x, tf.bool)][: max(1, call.outputs)]
    drop_ratio = tf.cast(0.5 if ratio is None else ratio, tf.float32)
    noise = tf.random.uniform(tf.shape(x), seed=call.get("seed"))
    mask = tf.logical_or(tf.logical_not(tf.cast(training, tf.bool)), noise >= drop_ratio)
    scale = tf.where(tf.cast(training, tf.bool), 1 / (1 - drop_ratio), 1.0)
    return [tf.where(mask, x * tf.cast(scale, x.dtype), tf.zeros_like(x)), mask][: max(1, call.outputs)]
