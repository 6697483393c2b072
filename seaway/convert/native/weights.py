"""Stores large constants as variables of the SavedModel: once in its checkpoint, not in its graph.

A graph is copied many times while it is built, saved and loaded, and a protobuf message is limited to 2 GiB. A
variable is not copied.
"""

import contextlib
import zlib
from collections.abc import Iterator
from contextvars import ContextVar
from typing import Any

import numpy as np
import tensorflow as tf

MIN_VARIABLE_BYTES = 1 << 12  # smaller constants stay in the graph


class Weight(np.ndarray):
    """An array that becomes a variable when TensorFlow converts it to a tensor in a graph; so do its transposes and
    slices."""

    def __tf_tensor__(self, dtype: Any = None, name: str | None = None) -> Any:
        array = np.asarray(self) if dtype is None else np.asarray(self, dtype.as_numpy_dtype)
        store = _STORE.get()
        if store is None or tf.executing_eagerly() or array.nbytes < MIN_VARIABLE_BYTES:
            return tf.constant(array, name=name or "Const")
        return store.variable(array).value()


class VariableStore:
    """One model's variables; equal arrays share one."""

    def __init__(self, variables: list[Any]) -> None:
        self._variables = variables
        self._by_checksum: dict[Any, list[tuple[np.ndarray, Any]]] = {}

    def variable(self, array: np.ndarray) -> Any:
        contiguous = np.ascontiguousarray(array)
        checksum = zlib.crc32(contiguous.reshape(-1).view(np.uint8).data)
        same_checksum = self._by_checksum.setdefault((array.shape, array.dtype, checksum), [])
        for stored, variable in same_checksum:
            if np.array_equal(stored, array):
                return variable
        with tf.init_scope():
            # Created at once: lifting it out of the function being traced would cause a second trace.
            variable = tf.Variable(
                contiguous, False, name=f"weight_{len(self._variables)}", experimental_enable_variable_lifting=False
            )
        self._variables.append(variable)
        same_checksum.append((array, variable))
        return variable

    @contextlib.contextmanager
    def active(self) -> Iterator[None]:
        """Inside this context, large constants become variables of this store."""
        token = _STORE.set(self)
        try:
            yield
        finally:
            _STORE.reset(token)


_STORE: ContextVar[VariableStore | None] = ContextVar("_STORE", default=None)


def constant(array: np.ndarray) -> np.ndarray:
    """Returns the array, as a Weight if it is large."""
    large = array.nbytes >= MIN_VARIABLE_BYTES and array.dtype != object
    return array.view(Weight) if large else array
