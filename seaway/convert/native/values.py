"""What a value of the graph is while the model is built: a constant, a tensor in some order of axes, or known sizes.

A tensor is not transposed where ONNX says Transpose, nor back to channels first after a convolution: its axes keep a
note of where they belong, `order`, and are moved when an operator needs them in their places.
"""

from collections.abc import Sequence
from typing import Any

import numpy as np
import tensorflow as tf

from seaway.convert.native import weights

Order = tuple[int, ...]
Part = Any  # one number of a list of sizes: an int, or an int64 scalar tensor where it is known at run time alone


class Value:
    """`held`: a numpy array (a constant), or a tensor whose axis i is axis order[i] of the value (None for as it is).

    `parts` are a one-dimensional (or, where `scalar`, a zero-dimensional) int64 value's numbers, each known by itself;
    then `held` may be None.
    """

    __slots__ = ("_graph", "_held", "_moved", "order", "parts", "scalar")

    def __init__(
        self, held: Any, order: Order | None = None, parts: Sequence[Part] | None = None, scalar: bool = False
    ) -> None:
        held = np.asarray(held) if isinstance(held, np.generic) else held
        self._held = weights.constant(held) if isinstance(held, np.ndarray) else held
        self._graph: Any = tf.compat.v1.get_default_graph() if held is None else None
        self.parts, self.scalar = parts, scalar
        self.order = None if order is None or list(order) == sorted(order) else tuple(order)
        self._moved: dict[tuple[Order | None, Any], Any] = {}

    @property
    def held(self) -> Any:
        """Of a list of sizes the tensor is made when it is asked for: mostly nothing but its numbers is."""
        if self._held is None:
            with self._graph.as_default():
                parts = [tf.cast(part, tf.int64) for part in self.parts or ()]
                self._held = parts[0] if self.scalar else tf.stack(parts)
        return self._held

    @property
    def constant(self) -> bool:
        return isinstance(self._held, np.ndarray)

    @property
    def dtype(self) -> Any:
        held: Any = self._held
        if held is None:
            return np.dtype(np.int64)
        return held.dtype if self.constant else np.dtype(held.dtype.as_numpy_dtype)

    @property
    def rank(self) -> int | None:
        held: Any = self._held
        if held is None:
            return 0 if self.scalar else 1
        rank: int | None = held.ndim if self.constant else held.shape.rank
        return rank

    @property
    def shape(self) -> tuple[int | None, ...] | None:
        """As ONNX sees it; None where not even the rank is known."""
        if self.rank is None:
            return None
        if self._held is None:
            return () if self.scalar else (len(self.parts or ()),)
        sizes = tuple(self._held.shape)
        return sizes if self.order is None else tuple(sizes[self.order.index(axis)] for axis in range(len(sizes)))

    def plain(self) -> Any:
        """The array, or the tensor with its axes in their places."""
        return self.ordered(None)

    def ordered(self, order: Order | None) -> Any:
        """The array or tensor, transposed so that its axis i is axis order[i] of the value."""
        wanted = None if order is None or list(order) == sorted(order) else tuple(order)
        if wanted == self.order:
            return self.held
        # What was moved within the body of a loop or a branch is of no use outside.
        key = wanted, tf.compat.v1.get_default_graph()
        if key not in self._moved:
            self._moved[key] = move(self.held, self.order, wanted)
        return self._moved[key]


def move(held: Any, order: Order | None, wanted: Order | None) -> Any:
    """From one order of axes to another; where only axes of size 1 change places, nothing is copied."""
    rank = len(order or wanted or ())
    now, then = order or tuple(range(rank)), wanted or tuple(range(rank))
    places = [now.index(axis) for axis in then]
    if isinstance(held, np.ndarray):
        return held.transpose(places)
    sizes = held.shape.as_list()
    wide = [place for place in places if sizes[place] != 1]
    unknown = [place for place in places if sizes[place] is None]
    if wide == sorted(wide) and len(unknown) <= 1:
        return tf.reshape(held, [-1 if sizes[place] is None else sizes[place] for place in places])
    return tf.transpose(held, places)


def from_parts(parts: Sequence[Part], scalar: bool = False) -> Value:
    """A list of sizes (or one size) as a value: a constant where all are ints."""
    if all(isinstance(part, int) for part in parts):
        array = np.array(parts, np.int64)
        return Value(array[0].reshape(()) if scalar else array)
    return Value(None, parts=tuple(parts), scalar=scalar)


def parts_of(value: Value) -> tuple[Part, ...] | None:
    """The numbers of a list of sizes, each known by itself; None where the value is no such list."""
    if value.parts is not None:
        return tuple(value.parts)
    if value.constant and value.held.ndim <= 1 and value.held.dtype.kind in "iu":
        return tuple(int(number) for number in value.held.reshape(-1))
    return None
