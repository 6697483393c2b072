"""Value: a value of the ONNX graph during conversion: a constant, a tensor in some axis order, or a list of dims.

A Transpose node does not transpose its tensor, nor does a convolution transpose its output back to channels first.
Instead `order` records where each axis belongs; the axes are moved only when an operator needs them in ONNX's order.
"""

from collections.abc import Sequence
from typing import Any

import numpy as np
import tensorflow as tf

from seaway.artifacts.carriers import MAX_NUMBERS, Carrier
from seaway.convert.native import weights

Order = tuple[int, ...]
Dim = Any  # an int, or an int64 scalar tensor if known only at run time


class Value:
    """`tensor`: a numpy array (a constant), or a tensor whose axis i is axis order[i] of the value (None: in order).

    `dims`: the elements of a one-dimensional (if `scalar`, zero-dimensional) int64 value, each a Dim; `tensor` may then
    be None.
    """

    __slots__ = ("_graph", "_tensor", "_transposed", "dims", "order", "scalar")

    def __init__(
        self, tensor: Any, order: Order | None = None, dims: Sequence[Dim] | None = None, scalar: bool = False
    ) -> None:
        tensor = np.asarray(tensor) if isinstance(tensor, np.generic) else tensor
        self._tensor = weights.constant(tensor) if isinstance(tensor, np.ndarray) else tensor
        self._graph: Any = tf.compat.v1.get_default_graph() if tensor is None else None
        self.dims, self.scalar = dims, scalar
        self.order = None if order is None or list(order) == sorted(order) else tuple(order)
        self._transposed: dict[tuple[Order | None, Any], Any] = {}

    @property
    def tensor(self) -> Any:
        """The array or tensor; a list of dims is stacked on first use, because usually only its dims are needed."""
        if self._tensor is None:
            with self._graph.as_default():
                dims = [tf.cast(dim, tf.int64) for dim in self.dims or ()]
                self._tensor = dims[0] if self.scalar else tf.stack(dims)
        return self._tensor

    @property
    def constant(self) -> bool:
        return isinstance(self._tensor, np.ndarray)

    @property
    def dtype(self) -> Any:
        tensor: Any = self._tensor
        if tensor is None:
            return np.dtype(np.int64)
        return tensor.dtype if self.constant else np.dtype(tensor.dtype.as_numpy_dtype)

    @property
    def rank(self) -> int | None:
        tensor: Any = self._tensor
        if tensor is None:
            return 0 if self.scalar else 1
        rank: int | None = tensor.ndim if self.constant else tensor.shape.rank
        return rank

    @property
    def shape(self) -> tuple[int | None, ...] | None:
        """The shape in ONNX's axis order; None if not even the rank is known."""
        if self.rank is None:
            return None
        if self._tensor is None:
            return () if self.scalar else (len(self.dims or ()),)
        sizes = tuple(self._tensor.shape)
        return sizes if self.order is None else tuple(sizes[self.order.index(axis)] for axis in range(len(sizes)))

    def carrier(self) -> Carrier | None:
        """What carries the value in the graph being built; None for a constant of many elements, or of no numbers."""
        if self._tensor is None:
            dims = tuple(dim if isinstance(dim, int) else dim.name for dim in self.dims or ())
            return Carrier(elements=dims, shape=() if self.scalar else (len(dims),))
        tensor: Any = self._tensor
        if not self.constant:
            return Carrier(tensor.name, self.order)
        plain = np.asarray(self.plain())
        few = plain.size <= MAX_NUMBERS and plain.dtype.kind in "biuf" and bool(np.isfinite(plain).all())
        return Carrier(elements=tuple(plain.reshape(-1).tolist()), shape=plain.shape) if few else None

    def plain(self) -> Any:
        """The array or tensor with its axes in ONNX's order."""
        return self.ordered(None)

    def ordered(self, order: Order | None) -> Any:
        """The array or tensor, transposed so that its axis i is axis order[i] of the value."""
        target = None if order is None or list(order) == sorted(order) else tuple(order)
        if target == self.order:
            return self.tensor
        # A tensor transposed inside the body of a loop or a branch cannot be used outside.
        key = target, tf.compat.v1.get_default_graph()
        if key not in self._transposed:
            self._transposed[key] = move(self.tensor, self.order, target)
        return self._transposed[key]


def move(tensor: Any, order: Order | None, target: Order | None) -> Any:
    """Transposes from one axis order to another; if only axes of size 1 move, reshapes without a copy."""
    rank = len(order or target or ())
    current, target_order = order or tuple(range(rank)), target or tuple(range(rank))
    perm = [current.index(axis) for axis in target_order]
    if isinstance(tensor, np.ndarray):
        return tensor.transpose(perm)
    sizes = tensor.shape.as_list()
    not_one = [axis for axis in perm if sizes[axis] != 1]
    unknown = [axis for axis in perm if sizes[axis] is None]
    if not_one == sorted(not_one) and len(unknown) <= 1:
        return tf.reshape(tensor, [-1 if sizes[axis] is None else sizes[axis] for axis in perm])
    return tf.transpose(tensor, perm)


def from_dims(dims: Sequence[Dim], scalar: bool = False) -> Value:
    """A list of dims (or a single one) as a value: a constant if all are ints."""
    if all(isinstance(dim, int) for dim in dims):
        array = np.array(dims, np.int64)
        return Value(array[0].reshape(()) if scalar else array)
    return Value(None, dims=tuple(dims), scalar=scalar)


def dims_of(value: Value) -> tuple[Dim, ...] | None:
    """The dims of a value that is a list of them; None if it is not."""
    if value.dims is not None:
        return tuple(value.dims)
    if value.constant and value.tensor.ndim <= 1 and value.tensor.dtype.kind in "iu":
        return tuple(int(number) for number in value.tensor.reshape(-1))
    return None
