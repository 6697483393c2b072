"""Operators that look at which values there are, or at their bits."""

from typing import Any

import numpy as np
import tensorflow as tf

from seaway.convert.native import dtypes
from seaway.convert.native.dtypes import HALVES, SMALL, tensor
from seaway.convert.native.table import op


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
    values = tf.ensure_shape(values, [None if place == axis else size for place, size in enumerate(flat.shape)])
    return [values, first, inverse, counts][: max(1, call.outputs)]


def _order(values: Any, axis: int) -> Any:
    """The order of what lies along the axis, by its first number, then its second, and so on."""
    if values.shape.rank == 1:
        return tf.argsort(values, stable=True)
    rest = [place for place in range(values.shape.rank) if place != axis]
    turned = tf.transpose(values, [axis, *rest])
    rows = tf.reshape(turned, [tf.shape(turned)[0], -1])

    def by_column(i: Any, order: Any) -> Any:
        column = tf.gather(rows[:, i], order)
        return i - 1, tf.gather(order, tf.argsort(column, stable=True))

    start = tf.shape(rows)[1] - 1, tf.range(tf.shape(rows)[0])
    invariants = tf.TensorShape([]), tf.TensorShape([None])
    return tf.while_loop(lambda i, _: i >= 0, by_column, start, invariants)[1]


@op("BitCast")
def bit_cast(call: Any, x: Any) -> Any:
    x, wanted = tensor(x), dtypes.of(call.get("to"))
    x = tf.cast(x, tf.uint8) if x.dtype == tf.bool else x
    if wanted == tf.bool:
        return tf.not_equal(x, tf.zeros_like(x))
    if x.dtype.size != wanted.size:
        raise ValueError(f"{x.dtype.name} and {wanted.name} are not of the same size")
    return tf.bitcast(x, wanted)


@op("TensorScatter")
def tensor_scatter(call: Any, past: Any, update: Any, places: Any = None) -> Any:
    """Writes each batch's update along an axis from a place of its own on, "circular" over its end."""
    past, update = tensor(past), tensor(update)
    rank = past.shape.rank
    axis = call.get("axis", -2) % rank
    rest = [place for place in range(1, rank) if place != axis]
    turned, back = [0, axis, *rest], [[0, axis, *rest].index(place) for place in range(rank)]
    whole, part = tf.transpose(past, turned), tf.transpose(update, turned)
    batch, steps = tf.shape(part, tf.int64)[0], tf.shape(part, tf.int64)[1]
    first = tf.zeros([batch], tf.int64) if places is None else tf.cast(places, tf.int64)
    along = first[:, None] + tf.range(steps)
    if call.get("mode", "linear") == "circular":
        along = tf.math.floormod(along, tf.shape(whole, tf.int64)[1])
    rows = tf.broadcast_to(tf.range(batch)[:, None], tf.shape(along))
    return tf.transpose(tf.tensor_scatter_nd_update(whole, tf.stack([rows, along], -1), part), back)
