"""Reductions, products and orderings along axes."""

from collections.abc import Callable
from typing import Any

import numpy as np
import tensorflow as tf

from seaway.convert.native.dtypes import HALVES, SMALL, scalar, tensor
from seaway.convert.native.table import KEEP, VALUES, op
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
    """Where an axis stays, the others keep their order, whichever it is."""
    name, kept = call.node.op, bool(call.get("keepdims", 1))
    x, rank = tensor(value.held), value.rank
    given = call.get("axes") if axes is None else axes.plain()
    known = isinstance(given, np.ndarray | list)
    if given is not None and (np.size(given) if known else given.shape.num_elements()) == 0:
        given = None
    if given is None:
        if call.get("noop_with_empty_axes", 0):
            return _each(name, value)
        if rank is None:
            return _reduced(name, x, None, kept)
        given = list(range(rank))
    elif not known:
        return _reduced(name, tensor(value.plain()), given, kept)
    order = value.order or tuple(range(rank or 0))
    places = [order.index(int(a) % rank) for a in np.reshape(given, -1)] if rank else []
    got = _reduced(name, x, places, kept)
    if kept or not rank:
        return Value(got, value.order)
    left = [a for a in order if order.index(a) not in places]
    return Value(got, tuple(sorted(left).index(a) for a in left))


def _each(name: str, value: Value) -> Any:
    """What is reduced over no axis."""
    functions = {"ReduceL1": tf.abs, "ReduceL2": tf.abs, "ReduceSumSquare": tf.square, "ReduceLogSum": tf.math.log}
    return functions[name](tensor(value.plain())) if name in functions else value


def _reduced(name: str, x: Any, axes: Any, kept: bool) -> Any:
    function = REDUCE[name]
    if x.dtype == tf.bool:
        return (tf.reduce_any if name == "ReduceMax" else tf.reduce_all)(x, axes, kept)
    narrow = x.dtype in (*SMALL, tf.uint32) or (x.dtype in HALVES and name not in ("ReduceMax", "ReduceMin"))
    wide = (tf.float32 if x.dtype.is_floating else tf.int64) if narrow else x.dtype
    if not x.dtype.is_floating and name in ("ReduceL2", "ReduceLogSum", "ReduceLogSumExp"):
        wide = tf.float64
    return tf.cast(function(tf.cast(x, wide), axes, kept), x.dtype)


@op("ArgMax", "ArgMin", kind=VALUES)
def arg(call: Any, value: Value) -> Any:
    x, axis = tensor(value.plain()), call.get("axis", 0)
    x = tf.cast(x, tf.int64) if x.dtype in (tf.uint64, tf.uint32) else x
    function = tf.argmax if call.node.op == "ArgMax" else tf.argmin
    if call.get("select_last_index", 0):
        size = tf.shape(x, tf.int64)[axis]
        got = size - 1 - function(tf.reverse(x, [axis]), axis)
    else:
        got = function(x, axis)
    return tf.expand_dims(got, axis) if call.get("keepdims", 1) else got


@op("Softmax", "LogSoftmax", "Hardmax", since=13, kind=KEEP)
def softmax(call: Any, x: Any) -> Any:
    x = tensor(x)
    return _soft(call.node.op, x, call.axis(call.get("axis", -1), x.shape.rank))


@op("Softmax", "LogSoftmax", "Hardmax", since=1)
def softmax_flat(call: Any, x: Any) -> Any:
    """All axes from this one on are taken as one."""
    x = tensor(x)
    axis = call.get("axis", 1) % x.shape.rank
    if axis == x.shape.rank - 1:
        return _soft(call.node.op, x, axis)
    sizes = tf.shape(x)
    flat = tf.reshape(x, [tf.reduce_prod(sizes[:axis]), tf.reduce_prod(sizes[axis:])])
    got = tf.reshape(_soft(call.node.op, flat, 1), sizes)
    got.set_shape(x.shape)
    return got


def _soft(name: str, x: Any, axis: int) -> Any:
    if name == "Hardmax":
        hot = tf.one_hot(tf.argmax(x, axis), tf.shape(x)[axis], axis=axis, dtype=x.dtype)
        return tf.ensure_shape(hot, x.shape)
    return (tf.nn.softmax if name == "Softmax" else tf.nn.log_softmax)(x, axis)


@op("MatMul")
def matmul(call: Any, a: Any, b: Any) -> Any:
    a, b = tensor(a), tensor(b)
    if a.shape.rank == 1 or b.shape.rank == 1:
        left = a[None] if a.shape.rank == 1 else a
        right = b[:, None] if b.shape.rank == 1 else b
        got = _matmul(left, right)
        got = tf.squeeze(got, -2) if a.shape.rank == 1 else got
        return tf.squeeze(got, -1) if b.shape.rank == 1 else got
    return _matmul(a, b)


def _matmul(a: Any, b: Any) -> Any:
    if a.dtype in (tf.uint32, tf.uint64, *HALVES):  # halves: TensorFlow's sums on a CPU are as narrow as the type
        wide = tf.float32 if a.dtype.is_floating else tf.int64
        return tf.cast(_matmul(tf.cast(a, wide), tf.cast(b, wide)), a.dtype)
    if a.shape.rank and a.shape.rank > 2 and b.shape.rank == 2 and a.shape[-1] is not None:
        # One large product in place of many small ones.
        flat = tf.matmul(tf.reshape(a, [-1, a.shape[-1]]), b)
        known = a.shape[:-1].as_list()
        wanted = [*known, b.shape[-1]] if known.count(None) == 0 and b.shape[-1] is not None else None
        if wanted is None and known.count(None) == 1 and b.shape[-1] is not None:
            wanted = [-1 if k is None else k for k in known] + [b.shape[-1]]
        return tf.reshape(flat, wanted if wanted is not None else tf.concat([tf.shape(a)[:-1], [tf.shape(b)[-1]]], 0))
    return tf.matmul(a, b)


@op("Gemm")
def gemm(call: Any, a: Any, b: Any, c: Any = None) -> Any:
    alpha, beta = call.get("alpha", 1.0), call.get("beta", 1.0)
    if isinstance(b, np.ndarray) and call.get("transB", 0):
        b, turned = b.T, False
    else:
        turned = bool(call.get("transB", 0))
    a, b = tensor(a), tensor(b)
    wide = tf.int64 if a.dtype in (tf.uint32, tf.uint64) else a.dtype
    a_wide, b_wide = tf.cast(a, wide), tf.cast(b, wide)
    if call.get("transA", 0):
        # With oneDNN TensorFlow 2.21 fuses a MatMul with what is added to it, and refuses the first factor transposed.
        got = tf.raw_ops.BatchMatMulV2(x=a_wide, y=b_wide, adj_x=True, adj_y=turned)
    else:
        got = tf.matmul(a_wide, b_wide, transpose_b=turned)
    got = tf.cast(got, a.dtype)
    got = got if alpha == 1 else got * scalar(alpha, a)
    if c is None:
        return got
    c = tensor(c)
    if beta == 1 and c.shape.rank == 1 and c.shape[0] == got.shape[-1] and got.dtype.is_floating:
        return tf.nn.bias_add(got, c)
    return got + (c if beta == 1 else c * scalar(beta, c))


@op("Einsum")
def einsum(call: Any, *given: Any) -> Any:
    listed = [tensor(g) for g in given]
    own = listed[0].dtype
    wide = tf.float32 if own in HALVES else tf.int32 if own in SMALL else own
    got = tf.einsum(call.get("equation").replace(" ", ""), *[tf.cast(one, wide) for one in listed])
    return tf.cast(got, own)


@op("TopK", since=10)
def top_k(call: Any, x: Any, k: Any) -> Any:
    x, axis = tensor(x), call.get("axis", -1) % len(x.shape)
    k = tf.cast(tf.reshape(k, []), tf.int32) if not isinstance(k, np.ndarray) else int(k.reshape(-1)[0])
    last = x.shape.rank - 1
    moved = [i for i in range(last + 1) if i != axis] + [axis]
    back = [moved.index(i) for i in range(last + 1)]
    turned = x if axis == last else tf.transpose(x, moved)
    if call.get("largest", 1):
        values, places = tf.math.top_k(turned, k)
    else:
        places = tf.argsort(turned, stable=True)[..., :k]
        values = tf.gather(turned, places, batch_dims=last)
    places = tf.cast(places, tf.int64)
    return [values, places] if axis == last else [tf.transpose(values, back), tf.transpose(places, back)]


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
