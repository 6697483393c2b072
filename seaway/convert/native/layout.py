"""In which order of axes operators are given tensors: the layout pass.

TensorFlow's convolutions and poolings on a CPU want channels last, and so do its vector instructions. A convolution
therefore takes its input channels last and leaves its output so; what goes element by element takes what it gets; what
works along an axis is told where that axis is. Only an operator that needs the axes in their places has them moved.
"""

import dataclasses
from collections.abc import Sequence
from typing import Any

import numpy as np

from seaway.convert.native import table
from seaway.convert.native.values import Order, Value, move, parts_of


def call(call: Any, entry: table.Entry, given: Sequence[Value | None]) -> list[Value]:
    """The outputs of an operator's function on inputs in the order of axes that it takes."""
    order = _order(entry.kind, given)
    arrays: list[Any] = []
    for place, value in enumerate(given):
        sizes = parts_of(value) if value is not None and place in entry.sizes else None
        arrays.append(sizes if sizes is not None else _given(entry.kind, place, value, order))
    got = entry.function(dataclasses.replace(call, order=order), *arrays)
    listed = list(got) if isinstance(got, list | tuple) else [got]
    return [
        one if isinstance(one, Value) else Value(one, _fitting(order, one, entry.kind, i))
        for i, one in enumerate(listed)
    ]


def channels_last(rank: int) -> Order:
    return (0, *range(2, rank), 1)


def _order(kind: str, given: Sequence[Value | None]) -> Order | None:
    first = given[0] if given else None
    if kind == table.SPATIAL and first is not None and first.rank is not None and first.rank > 2:
        return channels_last(first.rank)
    if kind == table.KEEP and first is not None:
        return first.order
    if kind == table.ELEMENTWISE and all(v is None or v.rank is not None for v in given):
        ranks = max((v.rank or 0 for v in given if v is not None), default=0)
        orders = [v.order for v in given if v is not None and v.rank == ranks and v.order]
        return orders[0] if orders else None
    return None


def _given(kind: str, place: int, value: Value | None, order: Order | None) -> Any:
    if value is None or kind == table.VALUES:
        return value
    if order is None or (kind == table.SPATIAL and place):
        return value.plain()
    if kind == table.ELEMENTWISE and value.rank != len(order):
        return _broadcast(value, order)
    return value.ordered(order) if value.rank == len(order) else value.plain()


def _broadcast(value: Value, order: Order) -> Any:
    """A value of fewer axes, which stand at the end, in an order of more."""
    plain = value.plain()
    if value.rank == 0 or (value.constant and plain.size == 1):
        return plain.reshape(()) if value.constant else plain
    missing = len(order) - (value.rank or 0)
    if value.constant:
        return move(plain.reshape((1,) * missing + plain.shape), None, order)
    import tensorflow as tf

    wider = tf.reshape(plain, tf.concat([np.ones(missing, np.int64), tf.shape(plain, tf.int64)], 0))
    wider.set_shape([1] * missing + plain.shape.as_list())
    return move(wider, None, order)


def _fitting(order: Order | None, tensor: Any, kind: str, index: int) -> Order | None:
    """The order of an output: that of the inputs, if it has as many axes."""
    if order is None or (kind == table.SPATIAL and index):
        return None
    rank = tensor.ndim if isinstance(tensor, np.ndarray) else tensor.shape.rank
    return order if rank == len(order) else None
