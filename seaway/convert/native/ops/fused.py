"""Float operators of com.microsoft, which ONNX Runtime's optimizer writes in place of several of ONNX's.

LayerNormalization before opset 17 and SimplifiedLayerNormalization are ONNX Runtime's too, in ONNX's default domain.
"""

from typing import Any

import numpy as np
import tensorflow as tf

from seaway.convert.native.dtypes import HALVES, scalar, tensor
from seaway.convert.native.ops import nn, reduce
from seaway.convert.native.registry import ELEMENTWISE, MICROSOFT, SPATIAL, op


def activated(x: Any, name: str, parameters: list[Any]) -> Any:
    """An activation with its parameters in ONNX Runtime's order."""
    a, b = [*parameters, None, None][:2]
    functions = {
        "": lambda: x,
        "Relu": lambda: tf.nn.relu(x),
        "Sigmoid": lambda: tf.sigmoid(x),
        "Tanh": lambda: tf.tanh(x),
        "LeakyRelu": lambda: tf.nn.leaky_relu(x, 0.01 if a is None else a),
        "Clip": lambda: tf.clip_by_value(x, scalar(a, x), scalar(b, x)),
        "HardSigmoid": lambda: tf.clip_by_value(scalar(a, x) * x + scalar(b, x), scalar(0, x), scalar(1, x)),
        "HardSwish": lambda: x * tf.clip_by_value(x / scalar(6, x) + scalar(0.5, x), scalar(0, x), scalar(1, x)),
        "Elu": lambda: tf.where(x < scalar(0, x), scalar(a, x) * tf.math.expm1(tf.minimum(x, scalar(0, x))), x),
        "Softplus": lambda: tf.math.softplus(x),
        "Softsign": lambda: tf.nn.softsign(x),
        "ThresholdedRelu": lambda: tf.where(x > scalar(a, x), x, tf.zeros_like(x)),
    }
    if name not in functions:
        raise ValueError(f"the activation {name}")
    return functions[name]()


@op("FusedConv", kind=SPATIAL, domain=MICROSOFT)
def fused_conv(call: Any, x: Any, weight: Any, bias: Any = None, added: Any = None) -> Any:
    """A convolution, to which `added` (channels second) is added, and an activation."""
    result = nn.conv(call, x, weight, bias)
    if added is not None:
        rank = len(added.shape)
        result = result + tf.transpose(added, [0, *range(2, rank), 1])
    return activated(result, call.get("activation", ""), call.get("activation_params") or [])


@op("FusedMatMul", "TransposeMatMul", "FusedMatMulActivation", domain=MICROSOFT)
def fused_matmul(call: Any, a: Any, b: Any) -> Any:
    a = _transposed(a, bool(call.get("transA", 0)), bool(call.get("transBatchA", 0)))
    b = _transposed(b, bool(call.get("transB", 0)), bool(call.get("transBatchB", 0)))
    result, alpha = reduce.matmul(call, a, b), call.get("alpha", 1.0)
    result = result if alpha == 1 else result * scalar(alpha, result)
    return activated(result, call.get("activation", ""), _gemm_parameters(call))


def _transposed(x: Any, last: bool, batch: bool) -> Any:
    """`batch`: the first axis becomes the last but one; `last`: then the last two change places. Vectors stay."""
    rank = len(x.shape)
    if rank < 2 or not (last or batch):
        return x
    perm = [*range(1, rank - 1), 0, rank - 1] if batch else list(range(rank))
    if last:
        perm[-2:] = perm[:-3:-1]
    return x.transpose(perm) if isinstance(x, np.ndarray) else tf.transpose(x, perm)


@op("FusedGemm", domain=MICROSOFT)
def fused_gemm(call: Any, a: Any, b: Any, c: Any = None) -> Any:
    return activated(reduce.gemm(call, a, b, c), call.get("activation", ""), _gemm_parameters(call))


def _gemm_parameters(call: Any) -> list[Any]:
    return [value for name in ("alpha", "beta") if (value := call.get(f"activation_{name}")) is not None]


@op("Gelu", kind=ELEMENTWISE, domain=MICROSOFT)
def gelu(call: Any, x: Any) -> Any:
    return tf.nn.gelu(tensor(x))


@op("BiasGelu", kind=ELEMENTWISE, domain=MICROSOFT)
def bias_gelu(call: Any, a: Any, b: Any) -> Any:
    return tf.nn.gelu(tensor(a) + tensor(b))


@op("FastGelu", kind=ELEMENTWISE, domain=MICROSOFT)
def fast_gelu(call: Any, x: Any, bias: Any = None) -> Any:
    x = tensor(x) if bias is None else tensor(x) + tensor(bias)
    return tf.nn.gelu(x, approximate=True)


@op("QuickGelu", kind=ELEMENTWISE, domain=MICROSOFT)
def quick_gelu(call: Any, x: Any) -> Any:
    x = tensor(x)
    return x * tf.sigmoid(scalar(call.get("alpha", 1.702), x) * x)


@op("BiasSoftmax", domain=MICROSOFT)
def bias_softmax(call: Any, x: Any, bias: Any) -> Any:
    """Over all axes from `axis` on, as Softmax before opset 13."""
    x = tensor(x) + tensor(bias)
    axis = call.get("axis", 1) % x.shape.rank
    if axis == x.shape.rank - 1:
        return tf.nn.softmax(x)
    sizes = tf.shape(x)
    flat = tf.nn.softmax(tf.reshape(x, tf.concat([sizes[:axis], [-1]], 0)))
    return tf.ensure_shape(tf.reshape(flat, sizes), x.shape)


def root_mean_square(x: Any, scale: Any, epsilon: float, axis: int) -> tuple[Any, Any]:
    """x divided by the root of its mean square over the axes from `axis` on, and the inverse of that root."""
    floats = tf.cast(x, tf.float32) if x.dtype in HALVES else x
    axes = list(range(axis % x.shape.rank, x.shape.rank))
    inverse = tf.math.rsqrt(tf.reduce_mean(tf.square(floats), axes, keepdims=True) + scalar(epsilon, floats))
    return tf.cast(floats * inverse, x.dtype) * tensor(scale), inverse


@op("SimplifiedLayerNormalization")
@op("SimplifiedLayerNormalization", domain=MICROSOFT)
def simplified_layer_normalization(call: Any, x: Any, scale: Any) -> Any:
    results = root_mean_square(tensor(x), scale, call.get("epsilon", 1e-5), call.get("axis", -1))
    return list(results)[: max(1, call.outputs)]


@op("SkipLayerNormalization", domain=MICROSOFT)
def skip_layer_normalization(call: Any, x: Any, skip: Any, gamma: Any, beta: Any = None, bias: Any = None) -> Any:
    total = _with_skip(x, skip, bias)
    mean = tf.reduce_mean(total, -1, True)
    centred = total - mean
    inverse = tf.math.rsqrt(tf.reduce_mean(centred * centred, -1, True) + scalar(call.get("epsilon", 1e-12), total))
    result = centred * inverse * tensor(gamma)
    result = result if beta is None else result + tensor(beta)
    return [result, mean, inverse, total][: max(1, call.outputs)]


@op("SkipSimplifiedLayerNormalization", domain=MICROSOFT)
def skip_simplified(call: Any, x: Any, skip: Any, gamma: Any, bias: Any = None) -> Any:
    total = _with_skip(x, skip, bias)
    result, inverse = root_mean_square(total, gamma, call.get("epsilon", 1e-12), -1)
    return [result, tf.zeros_like(inverse), inverse, total][: max(1, call.outputs)]


def _with_skip(x: Any, skip: Any, bias: Any) -> Any:
    total = tensor(x) + tensor(skip)
    return total if bias is None else total + tensor(bias)


@op("CDist", domain=MICROSOFT)
def distances(call: Any, a: Any, b: Any) -> Any:
    """[rows of a, rows of b]: Euclidean distances, or their squares."""
    wide = [tf.cast(tensor(x), tf.float64) for x in (a, b)]  # float32 would lose digits where rows are close
    lengths = [tf.reduce_sum(x * x, 1) for x in wide]
    squares = lengths[0][:, None] + lengths[1] - 2.0 * tf.matmul(wide[0], wide[1], transpose_b=True)
    squares = tf.maximum(squares, np.float64(0))
    return tf.cast(squares if call.get("metric", "sqeuclidean") == "sqeuclidean" else tf.sqrt(squares), tensor(a).dtype)
