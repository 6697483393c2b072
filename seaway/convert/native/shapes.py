"""Shape propagation: arithmetic on shapes, computed dim by dim during conversion.

PyTorch's exporters write arithmetic on shapes: Shape, Gather, Mul, Concat, then Reshape. Usually only the batch is
unknown, so each dim is tracked separately: an int stays an int, and an unknown one is a scalar tensor of its own. A
Reshape to [batch, 3, 64] thus becomes one to [-1, 3, 64], and TensorFlow knows every other dim.
"""

import operator
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import tensorflow as tf
from onnx import TensorProto

from seaway.convert.native.graph import Node
from seaway.convert.native.values import Dim, Value, dims_of, from_dims

Propagate = Callable[[Node, Sequence[Value | None]], Value | None]


def propagate_shape(node: Node, inputs: Sequence[Value | None]) -> Value | None:
    """The node's output if it is a list of dims that can be computed here; None leaves the node to the registry."""
    propagate = _PROPAGATE.get(node.op) if not node.domain else None
    if propagate is None or (node.op not in ("Shape", "Size") and not any(v is not None and v.dims for v in inputs)):
        return None
    return propagate(node, inputs)


def shape_dims(tensor: Any) -> list[Dim]:
    """A tensor's or array's shape: ints, and int64 scalar tensors for unknown dims. The rank must be known."""
    sizes = list(tensor.shape)
    if all(size is not None for size in sizes):
        return [int(size) for size in sizes]
    dynamic = tf.unstack(tf.shape(tensor, tf.int64), len(sizes))
    return [dynamic[axis] if size is None else int(size) for axis, size in enumerate(sizes)]


def reshape_target(dims: Sequence[Dim]) -> Any:
    """Dims as the shape argument of tf.reshape: constants with at most one -1; a tensor if more than one is unknown."""
    dynamic = [i for i, dim in enumerate(dims) if not isinstance(dim, int)]
    if not dynamic:
        return list(dims)
    if len(dynamic) == 1 and all(dim > 0 for dim in dims if isinstance(dim, int)):
        return [-1 if i == dynamic[0] else dim for i, dim in enumerate(dims)]
    return as_tensor(dims)


def as_tensor(dims: Sequence[Dim]) -> Any:
    """Dims as an int64 vector: an array if all are ints, else a tensor."""
    if all(isinstance(dim, int) for dim in dims):
        return np.array(dims, np.int64)
    return tf.stack([tf.cast(dim, tf.int64) for dim in dims])


def scatter(values: Any, axes: Any, rest: Any) -> Any:
    """An int64 vector: `rest` with `values` at the indices `axes`, which are known only at run time."""
    rest = tf.cast(rest, tf.int64)
    indices = tf.cast(tf.reshape(axes, [-1]), tf.int64)
    indices = tf.where(indices < 0, indices + tf.size(rest, tf.int64), indices)
    return tf.tensor_scatter_nd_update(rest, indices[:, None], tf.cast(values, tf.int64))


def _shape(node: Node, inputs: Sequence[Value | None]) -> Value | None:
    value = inputs[0]
    if value is None or value.shape is None:
        return None
    rank = len(value.shape)
    dims = shape_dims(value.tensor)
    if value.order is not None:
        dims = [dims[value.order.index(axis)] for axis in range(rank)]
    start, end = node.get("start", 0), node.get("end", rank)
    return from_dims(dims[slice(*slice(start, end).indices(rank))])


def _size(node: Node, inputs: Sequence[Value | None]) -> Value | None:
    value = inputs[0]
    if value is None or value.shape is None or None in value.shape:
        return None
    return from_dims([int(np.prod(value.shape, dtype=np.int64))], scalar=True)  # type: ignore[arg-type]


def _gather(node: Node, inputs: Sequence[Value | None]) -> Value | None:
    data, indices = inputs
    if data is None or indices is None or data.scalar or not indices.constant or indices.tensor.ndim > 1:
        return None
    dims = dims_of(data)
    if dims is None:
        return None
    return from_dims([dims[int(i)] for i in indices.tensor.reshape(-1)], scalar=indices.tensor.ndim == 0)


def _slice(node: Node, inputs: Sequence[Value | None]) -> Value | None:
    data, rest = inputs[0], [None if v is None or not v.constant else v.tensor.reshape(-1) for v in inputs[1:]]
    if data is None or len(rest) < 2 or rest[0] is None or rest[1] is None or data.scalar:
        return None
    if any(v is not None and not v.constant for v in inputs[1:]):
        return None
    dims = dims_of(data)
    step = int(rest[3][0]) if len(rest) > 3 and rest[3] is not None else 1
    if dims is None or step < 1:
        return None
    return from_dims(dims[int(rest[0][0]) : int(rest[1][0]) : step])


def _concat(node: Node, inputs: Sequence[Value | None]) -> Value | None:
    lists = [None if value is None else dims_of(value) for value in inputs]
    if any(dims is None for dims in lists):
        return None
    return from_dims([dim for dims in lists for dim in dims or ()])


def _unsqueeze(node: Node, inputs: Sequence[Value | None]) -> Value | None:
    value = inputs[0]
    axes = node.get("axes") or (dims_of(inputs[1]) if len(inputs) > 1 and inputs[1] is not None else None)
    if value is None or not value.scalar or axes is None or list(axes) not in ([0], [-1]):
        return None
    return from_dims(value.dims or ())


def _squeeze(node: Node, inputs: Sequence[Value | None]) -> Value | None:
    value = inputs[0]
    if value is None or value.scalar or value.dims is None or len(value.dims) != 1:
        return None
    return from_dims(value.dims, scalar=True)


def _reshape(node: Node, inputs: Sequence[Value | None]) -> Value | None:
    """To a list of one axis, or a single dim to a scalar."""
    value, sizes = inputs[0], inputs[1] if len(inputs) > 1 else None
    if value is None or value.dims is None or sizes is None or not sizes.constant:
        return None
    target = sizes.tensor.reshape(-1).tolist()
    if target in ([-1], [len(value.dims)]):
        return from_dims(value.dims)
    return from_dims(value.dims, scalar=True) if not target and len(value.dims) == 1 else None


def _cast(node: Node, inputs: Sequence[Value | None]) -> Value | None:
    """A cast to int64 changes nothing; a tensor of another type is no longer a list of dims."""
    value = inputs[0]
    return value if value is not None and node.get("to") == TensorProto.INT64 else None


def _same(node: Node, inputs: Sequence[Value | None]) -> Value | None:
    return inputs[0]


def _arithmetic(on_ints: Callable[[int, int], int], on_tensors: Callable[[Any, Any], Any]) -> Propagate:
    def propagate(node: Node, inputs: Sequence[Value | None]) -> Value | None:
        pair = [None if value is None else dims_of(value) for value in inputs]
        if len(pair) != 2:
            return None
        if any(v is not None and v.dtype != np.int64 for v in inputs):
            return None
        left, right = pair
        if left is None or right is None:
            return None
        count = max(len(left), len(right))
        if len(left) not in (1, count) or len(right) not in (1, count):
            return None
        left, right = left * (count // len(left)), right * (count // len(right))
        scalar = all(v is not None and v.rank == 0 for v in inputs)
        return from_dims([_combine(on_ints, on_tensors, a, b) for a, b in zip(left, right, strict=True)], scalar)

    return propagate


def _combine(on_ints: Callable[[int, int], int], on_tensors: Callable[[Any, Any], Any], a: Dim, b: Dim) -> Dim:
    if isinstance(a, int) and isinstance(b, int):
        return on_ints(a, b)
    return on_tensors(tf.cast(a, tf.int64), tf.cast(b, tf.int64))


def _truncated(a: int, b: int) -> int:
    return abs(a) // abs(b) * (1 if (a < 0) == (b < 0) else -1) if b else 0


_PROPAGATE: dict[str, Propagate] = {
    "Shape": _shape,
    "Size": _size,
    "Gather": _gather,
    "Slice": _slice,
    "Concat": _concat,
    "Unsqueeze": _unsqueeze,
    "Reshape": _reshape,
    "Squeeze": _squeeze,
    "Cast": _cast,
    "Identity": _same,
    "Add": _arithmetic(operator.add, tf.add),
    "Sub": _arithmetic(operator.sub, tf.subtract),
    "Mul": _arithmetic(operator.mul, tf.multiply),
    "Div": _arithmetic(_truncated, tf.truncatediv),
}
