"""Unique: the distinct values of a tensor or slices along an axis."""

from typing import Any

import numpy as np
import tensorflow as tf

from seaway.convert.native.dtypes import HALVES, SMALL, tensor
from seaway.convert.native.registry import op


@op("Unique")
def unique(call: Any, x: Any) -> Any:
    x, axis = tensor(x), call.get("axis")
    ordered = bool(call.get("sorted", 1))
    if ordered and x.dtype == tf.string:
        raise ValueError("strings cannot be sorted in TensorFlow")
    flat, axis = (tf.reshape(x, [-1]), 0) if axis is None else (x, axis % x.shape.rank)
    wide = tf.float32 if x.dtype in HALVES else tf.int64 if x.dtype in (*SMALL, tf.uint32, tf.bool) else x.dtype
    values, inverse, counts = tf.raw_ops.UniqueWithCountsV2(
        x=tf.cast(flat, wide) if wide != x.dtype else flat, axis=np.array([axis], np.int64), out_idx=tf.int64
    )
    number = tf.size(counts)
    first = tf.math.unsorted_segment_min(tf.range(tf.size(inverse, tf.int64)), inverse, number)
    if ordered:
        order = _order(values, axis)
        values, counts, first = tf.gather(values, order, axis=axis), tf.gather(counts, order), tf.gather(first, order)
        inverse = tf.gather(tf.cast(tf.math.invert_permutation(order), tf.int64), inverse)
    values = tf.cast(values, x.dtype) if wide != x.dtype else values
    values = tf.ensure_shape(values, [None if i == axis else size for i, size in enumerate(flat.shape)])
    return [values, first, inverse, counts][: max(1, call.outputs)]


def _order(values: Any, axis: int) -> Any:
    """Indices that sort the slices along the axis lexicographically."""
    if values.shape.rank == 1:
        return tf.argsort(values, stable=True)
    rest = [other for other in range(values.shape.rank) if other != axis]
    transposed = tf.transpose(values, [axis, *rest])
    rows = tf.reshape(transposed, [tf.shape(transposed)[0], -1])

    def by_column(i: Any, order: Any) -> Any:
        column = tf.gather(rows[:, i], order)
        return i - 1, tf.gather(order, tf.argsort(column, stable=True))

    start = tf.shape(rows)[1] - 1, tf.range(tf.shape(rows)[0])
    invariants = tf.TensorShape([]), tf.TensorShape([None])
    return tf.while_loop(lambda i, _: i >= 0, by_column, start, invariants)[1]
