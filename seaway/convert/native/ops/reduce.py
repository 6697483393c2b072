"""Reductions, matrix products, Softmax, ArgMax, TopK and cumulative sums."""

from collections.abc import Callable
from typing import Any

import numpy as np
import tensorflow as tf

from seaway.convert.native.dtypes import HALVES, SMALL, scalar, tensor
from seaway.convert.native.registry import KEEP, VALUES, op
from seaway.convert.native.values import Value

REDUCE: dict[str, Callable[..., Any]] = {
    "ReduceSum": tf.reduce_sum, "ReduceMean": tf.reduce_mean, "ReduceProd": tf.reduce_prod,
    "ReduceMax": tf.reduce_max, "ReduceMin": tf.reduce_min,
    "ReduceL1": lambda x, a, k: tf.reduce_sum(tf.abs(x), a, k),
    "ReduceL2": lambda x, a, k: tf.sqrt(tf.reduce_sum(x * x, a, k)),
    "ReduceSumSquare": lambda x, a, k: tf.reduce_sum(x * x, a, k),
    "ReduceLogSum": lambda x, a, k: tf.math.log(tf.reduce_sum(x, a, k)),
    "ReduceLogSumExp": lambda x, a, k: tf.reduce_logsumexp(x, a, k),
}  # fmt: skip


@op(*REDUCE, kind=VALUES)
def reduction(call: Any, value: Value, axes: Value | None = None) -> Any:
    """Reduces in the value's current axis order; the remaining axes keep theirs."""
    name, keepdims = call.node.op, bool(call.get("keepdims", 1))
    x, rank = tensor(value.tensor), value.rank
    reduced_axes = call.get("axes") if axes is None else axes.plain()
    is_static = isinstance(reduced_axes, np.ndarray | list)
    if reduced_axes is not None and (np.size(reduced_axes) if is_static else reduced_axes.shape.num_elements()) == 0:
        reduced_axes = None
    if reduced_axes is None:
        if call.get("noop_with_empty_axes", 0):
            return _over_no_axis(name, value)
        if rank is None:
            return _reduced(name, x, None, keepdims)
        reduced_axes = list(range(rank))
    elif not is_static:
        return _reduced(name, tensor(value.plain()), reduced_axes, keepdims)
    order = value.order or tuple(range(rank or 0))
    positions = [order.index(int(a) % rank) for a in np.reshape(reduced_axes, -1)] if rank else []
    result = _reduced(name, x, positions, keepdims)
    if keepdims or not rank:
        return Value(result, value.order)
    remaining = [a for a in order if order.index(a) not in positions]
    return Value(result, tuple(sorted(remaining).index(a) for a in remaining))


def _over_no_axis(name: str, value: Value) -> Any:
    """The result of a reduction over no axis."""
    functions = {"ReduceL1": tf.abs, "ReduceL2": tf.abs, "ReduceSumSquare": tf.square, "ReduceLogSum": tf.math.log}
    return functions[name](tensor(value.plain())) if name in functions else value


def _reduced(name: str, x: Any, axes: Any, keepdims: bool) -> Any:
    function = REDUCE[name]
    if x.dtype == tf.bool:
        return (tf.reduce_any if name == "ReduceMax" else tf.reduce_all)(x, axes, keepdims)
    narrow = x.dtype in (*SMALL, tf.uint32) or (x.dtype in HALVES and name not in ("ReduceMax", "ReduceMin"))
    compute_dtype = (tf.float32 if x.dtype.is_floating else tf.int64) if narrow else x.dtype
    if not x.dtype.is_floating and name in ("ReduceL2", "ReduceLogSum", "ReduceLogSumExp"):
        compute_dtype = tf.float64
    return tf.cast(function(tf.cast(x, compute_dtype), axes, keepdims), x.dtype)


@op("ArgMax", "ArgMin", kind=VALUES)
def arg(call: Any, value: Value) -> Any:
    x, axis = tensor(value.plain()), call.get("axis", 0)
    x = tf.cast(x, tf.int64) if x.dtype in (tf.uint64, tf.uint32) else x
    function = tf.argmax if call.node.op == "ArgMax" else tf.argmin
    if call.get("select_last_index", 0):
        size = tf.shape(x, tf.int64)[axis]
        result = size - 1 - function(tf.reverse(x, [axis]), axis)
    else:
        result = function(x, axis)
    return tf.expand_dims(result, axis) if call.get("keepdims", 1) else result


@op("Softmax", "LogSoftmax", "Hardmax", since=13, kind=KEEP)
def softmax(call: Any, x: Any) -> Any:
    x = tensor(x)
    return _softmax(call.node.op, x, call.axis(call.get("axis", -1), x.shape.rank))


@op("Softmax", "LogSoftmax", "Hardmax", since=1)
def softmax_flat(call: Any, x: Any) -> Any:
    """Before opset 13: flattens all axes from `axis` on."""
    x = tensor(x)
    axis = call.get("axis", 1) % x.shape.rank
    if axis == x.shape.rank - 1:
        return _softmax(call.node.op, x, axis)
    sizes = tf.shape(x)
    flat = tf.reshape(x, [tf.reduce_prod(sizes[:axis]), tf.reduce_prod(sizes[axis:])])
    result = tf.reshape(_softmax(call.node.op, flat, 1), sizes)
    result.set_shape(x.shape)
    return result


def _softmax(name: str, x: Any, axis: int) -> Any:
    if name == "Hardmax":
        hot = tf.one_hot(tf.argmax(x, axis), tf.shape(x)[axis], axis=axis, dtype=x.dtype)
        return tf.ensure_shape(hot, x.shape)
    if x.dtype in HALVES:  # on a CPU TensorFlow computes it in the narrow type itself
        return tf.cast(_softmax(name, tf.cast(x, tf.float32), axis), x.dtype)
    return (tf.nn.softmax if name == "Softmax" else tf.nn.log_softmax)(x, axis)


@op("MatMul")
def matmul(call: Any, a: Any, b: Any) -> Any:
    a, b = tensor(a), tensor(b)
    if a.shape.rank == 1 or b.shape.rank == 1:
        left = a[None] if a.shape.rank == 1 else a
        right = b[:, None] if b.shape.rank == 1 else b
        result = _matmul(left, right)
        result = tf.squeeze(result, -2) if a.shape.rank == 1 else result
        return tf.squeeze(result, -1) if b.shape.rank == 1 else result
    return _matmul(a, b)


def _matmul(a: Any, b: Any) -> Any:
    if a.dtype in (tf.uint32, tf.uint64, *HALVES):  # halves: on a CPU TensorFlow accumulates in the narrow type itself
        compute_dtype = tf.float32 if a.dtype.is_floating else tf.int64
        return tf.cast(_matmul(tf.cast(a, compute_dtype), tf.cast(b, compute_dtype)), a.dtype)
    if a.shape.rank and a.shape.rank > 2 and b.shape.rank == 2 and a.shape[-1] is not None:
        # One large product in place of many small ones.
        flat = tf.matmul(tf.reshape(a, [-1, a.shape[-1]]), b)
        leading = a.shape[:-1].as_list()
        output_shape = [*leading, b.shape[-1]] if leading.count(None) == 0 and b.shape[-1] is not None else None
        if output_shape is None and leading.count(None) == 1 and b.shape[-1] is not None:
            output_shape = [-1 if k is None else k for k in leading] + [b.shape[-1]]
        return tf.reshape(
            flat, output_shape if output_shape is not None else tf.concat([tf.shape(a)[:-1], [tf.shape(b)[-1]]], 0)
        )
    return tf.matmul(a, b)


@op("Gemm")
def gemm(call: Any, a: Any, b: Any, c: Any = None) -> Any:
    alpha, beta = call.get("alpha", 1.0), call.get("beta", 1.0)
    if isinstance(b, np.ndarray) and call.get("transB", 0):
        b, transposed = b.T, False
    else:
        transposed = bool(call.get("transB", 0))
    a, b = tensor(a), tensor(b)
    compute_dtype = tf.int64 if a.dtype in (tf.uint32, tf.uint64) else a.dtype
    a_wide, b_wide = tf.cast(a, compute_dtype), tf.cast(b, compute_dtype)
    if call.get("transA", 0):
        # With oneDNN TensorFlow 2.21 fuses a MatMul with the following Add, and then refuses a transposed first factor.
        result = tf.raw_ops.BatchMatMulV2(x=a_wide, y=b_wide, adj_x=True, adj_y=transposed)
    else:
        result = tf.matmul(a_wide, b_wide, transpose_b=transposed)
    result = tf.cast(result, a.dtype)
    result = result if alpha == 1 else result * scalar(alpha, a)
    if c is None:
        return result
    c = tensor(c)
    if beta == 1 and c.shape.rank == 1 and c.shape[0] == result.shape[-1] and result.dtype.is_floating:
        return tf.nn.bias_add(result, c)
    return result + (c if beta == 1 else c * scalar(beta, c))


@op("Einsum")
def einsum(call: Any, *inputs: Any) -> Any:
    tensors = [tensor(g) for g in inputs]
    dtype = tensors[0].dtype
    compute_dtype = tf.float32 if dtype in HALVES else tf.int32 if dtype in SMALL else dtype
    result = tf.einsum(call.get("equation").replace(" ", ""), *[tf.cast(one, compute_dtype) for one in tensors])
    return tf.cast(result, dtype)


@op("TopK", since=10)
def top_k(call: Any, x: Any, k: Any) -> Any:
    x, axis = tensor(x), call.get("axis", -1) % len(x.shape)
    k = tf.cast(tf.reshape(k, []), tf.int32) if not isinstance(k, np.ndarray) else int(k.reshape(-1)[0])
    last = x.shape.rank - 1
    perm = [i for i in range(last + 1) if i != axis] + [axis]
    inverse_perm = [perm.index(i) for i in range(last + 1)]
    transposed = x if axis == last else tf.transpose(x, perm)
    if call.get("largest", 1):
        values, indices = tf.math.top_k(transposed, k)
    else:
        indices = tf.argsort(transposed, stable=True)[..., :k]
        values = tf.gather(transposed, indices, batch_dims=last)
    indices = tf.cast(indices, tf.int64)
    return (
        [values, indices] if axis == last else [tf.transpose(values, inverse_perm), tf.transpose(indices, inverse_perm)]
    )


@op("TopK", since=1)
def top_k_old(call: Any, x: Any) -> Any:
    return top_k(call, x, np.array([call.get("k")]))


@op("CumSum", "CumProd")
def cumulative(call: Any, x: Any, axis: Any) -> Any:
    function = tf.cumsum if call.node.op == "CumSum" else tf.math.cumprod
    return function(
        tensor(x), tf.cast(tf.reshape(axis, []), tf.int32), bool(call.get("exclusive", 0)), bool(call.get("reverse", 0))
    )


@op("Det")
def det(call: Any, x: Any) -> Any:
    return tf.linalg.det(x)


@op("LpNormalization", kind=KEEP)
def lp_normalization(call: Any, x: Any) -> Any:
    x = tensor(x)
    axis = call.axis(call.get("axis", -1), x.shape.rank)
    size = tf.reduce_sum(tf.abs(x), axis, True) if call.get("p", 2) == 1 else tf.sqrt(tf.reduce_sum(x * x, axis, True))
    return tf.math.divide_no_nan(x, size)
