"""What is known of sizes while the model is built.

PyTorch's exporters write arithmetic on shapes: Shape, Gather, Mul, Concat, then Reshape. Of a shape all is known but
the batch, so lists of sizes are followed number by number: what is an int stays one, and what is not is a scalar
tensor of its own. In the end a Reshape to [batch, 3, 64] is one to [-1, 3, 64], and TensorFlow knows every other size.
"""

import operator
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import tensorflow as tf
from onnx import TensorProto

from seaway.convert.native.graph import Node
from seaway.convert.native.values import Part, Value, from_parts, parts_of

Follow = Callable[[Node, Sequence[Value | None]], Value | None]


def known(node: Node, given: Sequence[Value | None]) -> Value | None:
    """The node's output where it is a list of sizes whose numbers can be followed; None for the table to work out."""
    follow = _FOLLOW.get(node.op) if not node.domain else None
    if follow is None or (node.op not in ("Shape", "Size") and not any(v is not None and v.parts for v in given)):
        return None
    return follow(node, given)


def numbers(tensor: Any) -> list[Part]:
    """A tensor's or array's shape: ints, and int64 scalars for what run time alone knows. The rank must be known."""
    sizes = list(tensor.shape)
    if all(size is not None for size in sizes):
        return [int(size) for size in sizes]
    dynamic = tf.unstack(tf.shape(tensor, tf.int64), len(sizes))
    return [dynamic[axis] if size is None else int(size) for axis, size in enumerate(sizes)]


def as_target(parts: Sequence[Part]) -> Any:
    """Sizes as tf.reshape wants them: constants with at most one -1, or a tensor where more is known at run time."""
    dynamic = [place for place, part in enumerate(parts) if not isinstance(part, int)]
    if not dynamic:
        return list(parts)
    if len(dynamic) == 1 and all(part > 0 for part in parts if isinstance(part, int)):
        return [-1 if place == dynamic[0] else part for place, part in enumerate(parts)]
    return as_tensor(parts)


def as_tensor(parts: Sequence[Part]) -> Any:
    """Sizes as an int64 list for TensorFlow: an array where all are ints."""
    if all(isinstance(part, int) for part in parts):
        return np.array(parts, np.int64)
    return tf.stack([tf.cast(part, tf.int64) for part in parts])


def spread(values: Any, axes: Any, rest: Any) -> Any:
    """An int64 list: `values` at the places that `axes` name, known at run time alone, `rest` at the others."""
    rest = tf.cast(rest, tf.int64)
    places = tf.cast(tf.reshape(axes, [-1]), tf.int64)
    places = tf.where(places < 0, places + tf.size(rest, tf.int64), places)
    return tf.tensor_scatter_nd_update(rest, places[:, None], tf.cast(values, tf.int64))


def _shape(node: Node, given: Sequence[Value | None]) -> Value | None:
    value = given[0]
    if value is None or value.shape is None:
        return None
    rank = len(value.shape)
    held = numbers(value.held)
    sizes = held if value.order is None else [held[value.order.index(axis)] for axis in range(rank)]
    start, end = node.get("start", 0), node.get("end", rank)
    return from_parts(sizes[slice(*slice(start, end).indices(rank))])


def _size(node: Node, given: Sequence[Value | None]) -> Value | None:
    value = given[0]
    if value is None or value.shape is None or None in value.shape:
        return None
    return from_parts([int(np.prod(value.shape, dtype=np.int64))], scalar=True)  # type: ignore[arg-type]


def _gather(node: Node, given: Sequence[Value | None]) -> Value | None:
    data, indices = given
    if data is None or indices is None or data.scalar or not indices.constant or indices.held.ndim > 1:
        return None
    parts = parts_of(data)
    if parts is None:
        return None
    return from_parts([parts[int(i)] for i in indices.held.reshape(-1)], scalar=indices.held.ndim == 0)


def _slice(node: Node, given: Sequence[Value | None]) -> Value | None:
    data, rest = given[0], [None if v is None or not v.constant else v.held.reshape(-1) for v in given[1:]]
    if data is None or len(rest) < 2 or rest[0] is None or rest[1] is None or data.scalar:
        return None
    if any(v is not None and not v.constant for v in given[1:]):
        return None
    parts = parts_of(data)
    step = int(rest[3][0]) if len(rest) > 3 and rest[3] is not None else 1
    if parts is None or step < 1:
        return None
    return from_parts(parts[int(rest[0][0]) : int(rest[1][0]) : step])


def _concat(node: Node, given: Sequence[Value | None]) -> Value | None:
    lists = [None if value is None else parts_of(value) for value in given]
    if any(parts is None for parts in lists):
        return None
    return from_parts([part for parts in lists for part in parts or ()])


def _unsqueeze(node: Node, given: Sequence[Value | None]) -> Value | None:
    value = given[0]
    axes = node.get("axes") or (parts_of(given[1]) if len(given) > 1 and given[1] is not None else None)
    if value is None or not value.scalar or axes is None or list(axes) not in ([0], [-1]):
        return None
    return from_parts(value.parts or ())


def _squeeze(node: Node, given: Sequence[Value | None]) -> Value | None:
    value = given[0]
    if value is None or value.scalar or value.parts is None or len(value.parts) != 1:
        return None
    return from_parts(value.parts, scalar=True)


def _cast(node: Node, given: Sequence[Value | None]) -> Value | None:
    """To int64 and nothing is changed; a tensor of another type is no list of sizes any more."""
    value = given[0]
    return value if value is not None and node.get("to") == TensorProto.INT64 else None


def _same(node: Node, given: Sequence[Value | None]) -> Value | None:
    return given[0]


def _arithmetic(whole: Callable[[int, int], int], tensors: Callable[[Any, Any], Any]) -> Follow:
    def follow(node: Node, given: Sequence[Value | None]) -> Value | None:
        pair = [None if value is None else parts_of(value) for value in given]
        if len(pair) != 2:
            return None
        if any(v is not None and v.dtype != np.int64 for v in given):
            return None
        left, right = pair
        if left is None or right is None:
            return None
        count = max(len(left), len(right))
        if len(left) not in (1, count) or len(right) not in (1, count):
            return None
        left, right = left * (count // len(left)), right * (count // len(right))
        scalar = all(v is not None and v.rank == 0 for v in given)
        return from_parts([_one(whole, tensors, a, b) for a, b in zip(left, right, strict=True)], scalar)

    return follow


def _one(whole: Callable[[int, int], int], tensors: Callable[[Any, Any], Any], a: Part, b: Part) -> Part:
    if isinstance(a, int) and isinstance(b, int):
        return whole(a, b)
    return tensors(tf.cast(a, tf.int64), tf.cast(b, tf.int64))


def _truncated(a: int, b: int) -> int:
    return abs(a) // abs(b) * (1 if (a < 0) == (b < 0) else -1) if b else 0


_FOLLOW: dict[str, Follow] = {
    "Shape": _shape,
    "Size": _size,
    "Gather": _gather,
    "Slice": _slice,
    "Concat": _concat,
    "Unsqueeze": _unsqueeze,
    "Squeeze": _squeeze,
    "Cast": _cast,
    "Identity": _same,
    "Add": _arithmetic(operator.add, tf.add),
    "Sub": _arithmetic(operator.sub, tf.subtract),
    "Mul": _arithmetic(operator.mul, tf.multiply),
    "Div": _arithmetic(_truncated, tf.truncatediv),
}
