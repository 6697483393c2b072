"""Large constants become variables of the SavedModel: they are in its checkpoint once, not in its graph.

A graph is copied many times while it is built, saved and loaded, and protobuf ends at 2 GiB. A variable is not copied.
"""

import contextlib
import zlib
from collections.abc import Iterator
from contextvars import ContextVar
from typing import Any

import numpy as np
import tensorflow as tf

LARGE = 1 << 12  # bytes from which on a constant becomes a variable


class Weight(np.ndarray):
    """An array that is a variable where TensorFlow asks for a tensor in a graph; so are its transposes and parts."""

    def __tf_tensor__(self, dtype: Any = None, name: str | None = None) -> Any:
        array = np.asarray(self) if dtype is None else np.asarray(self, dtype.as_numpy_dtype)
        kept = _KEPT.get()
        if kept is None or tf.executing_eagerly() or array.nbytes < LARGE:
            return tf.constant(array, name=name or "Const")
        return kept.variable(array).value()


class Kept:
    """The variables of one model; of equal arrays there is one."""

    def __init__(self, variables: list[Any]) -> None:
        self._variables = variables
        self._known: dict[Any, list[tuple[np.ndarray, Any]]] = {}

    def variable(self, array: np.ndarray) -> Any:
        together = np.ascontiguousarray(array)
        checksum = zlib.crc32(together.reshape(-1).view(np.uint8).data)
        alike = self._known.setdefault((array.shape, array.dtype, checksum), [])
        for known, variable in alike:
            if np.array_equal(known, array):
                return variable
        with tf.init_scope():
            # Made at once: lifted out of the function that is being traced, it would have that traced again.
            made = tf.Variable(
                together, False, name=f"weight_{len(self._variables)}", experimental_enable_variable_lifting=False
            )
        self._variables.append(made)
        alike.append((array, made))
        return made

    @contextlib.contextmanager
    def open(self) -> Iterator[None]:
        """Within, weights become variables."""
        token = _KEPT.set(self)
        try:
            yield
        finally:
            _KEPT.reset(token)


_KEPT: ContextVar[Kept | None] = ContextVar("_KEPT", default=None)


def constant(array: np.ndarray) -> np.ndarray:
    """The array, as a weight where it is large."""
    large = array.nbytes >= LARGE and array.dtype != object
    return array.view(Weight) if large else array
