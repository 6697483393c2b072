"""The layout pass: in which axis order each operator takes its tensors.

On a CPU, TensorFlow's convolutions and poolings are fastest channels last. A convolution therefore takes its input
channels last and leaves its output so; elementwise operators take any order; operators along an axis look up where
that axis is. Tensors are transposed only for operators that need ONNX's order.
"""

import dataclasses
from collections.abc import Sequence
from typing import Any

import numpy as np

from seaway.convert.native import registry
from seaway.convert.native.values import Order, Value, dims_of, move


def call(call: Any, entry: registry.Entry, inputs: Sequence[Value | None]) -> list[Value]:
    """Calls an operator's function with its inputs in the axis order of its kind, and returns the outputs."""
    order = _order(entry.kind, inputs)
    arrays: list[Any] = []
    for index, value in enumerate(inputs):
        dims = dims_of(value) if value is not None and index in entry.sizes else None
        arrays.append(dims if dims is not None else _argument(entry.kind, index, value, order))
    result = entry.function(dataclasses.replace(call, order=order), *arrays)
    outputs = list(result) if isinstance(result, list | tuple) else [result]
    return [
        output if isinstance(output, Value) else Value(output, _output_order(order, output, entry.kind, i))
        for i, output in enumerate(outputs)
    ]


def channels_last(rank: int) -> Order:
    return (0, *range(2, rank), 1)


def _order(kind: str, inputs: Sequence[Value | None]) -> Order | None:
    first = inputs[0] if inputs else None
    if kind == registry.SPATIAL and first is not None and first.rank is not None and first.rank > 2:
        return channels_last(first.rank)
    if kind == registry.KEEP and first is not None:
        return first.order
    if kind == registry.ELEMENTWISE and all(v is None or v.rank is not None for v in inputs):
        rank = max((v.rank or 0 for v in inputs if v is not None), default=0)
        orders = [v.order for v in inputs if v is not None and v.rank == rank and v.order]
        return orders[0] if orders else None
    return None


def _argument(kind: str, index: int, value: Value | None, order: Order | None) -> Any:
    if value is None or kind == registry.VALUES:
        return value
    if order is None or (kind == registry.SPATIAL and index):
        return value.plain()
    if kind == registry.ELEMENTWISE and value.rank != len(order):
        return _broadcast(value, order)
    return value.ordered(order) if value.rank == len(order) else value.plain()


def _broadcast(value: Value, order: Order) -> Any:
    """Prepends axes of size 1 to a value of lower rank, so that it broadcasts in `order`."""
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


def _output_order(order: Order | None, tensor: Any, kind: str, index: int) -> Order | None:
    """The axis order of an output: that of the inputs if it has the same rank, else None."""
    if order is None or (kind == registry.SPATIAL and index):
        return None
    rank = tensor.ndim if isinstance(tensor, np.ndarray) else tensor.shape.rank
    return order if rank == len(order) else None
