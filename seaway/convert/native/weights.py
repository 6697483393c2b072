"""The constants of a converted model: large ones are stored as variables, and each is traced back to the ONNX model.

A graph is copied many times while it is built, saved and loaded, and a protobuf message is limited to 2 GiB. A
variable is stored once, in the SavedModel's checkpoint, and is not copied.

Operators only take weights apart (slices, transposes, reshapes), which in numpy are views of the same memory; all
arithmetic on them is constant folding or runs in the graph. So the memory of a constant tells which initializer or
folded value of the ONNX model it is a view of, and which elements it has. `Constant` says that; the gate follows it.
"""

import bisect
import contextlib
import zlib
from collections.abc import Iterator
from contextvars import ContextVar
from typing import Any

import numpy as np
import tensorflow as tf

from seaway.artifacts.constants import Constant

MIN_VARIABLE_BYTES = 1 << 12  # smaller constants stay in the graph


class Weight(np.ndarray):
    """An array whose origin is recorded when TensorFlow converts it to a tensor in a graph, as a variable if it is
    large; so it is with its transposes and slices."""

    def __tf_tensor__(self, dtype: Any = None, name: str | None = None) -> Any:
        array = np.asarray(self) if dtype is None else np.asarray(self, dtype.as_numpy_dtype)
        store = _STORE.get()
        if store is None or tf.executing_eagerly():
            return tf.constant(array, name=name or "Const")
        store.record(array)
        if array.nbytes < MIN_VARIABLE_BYTES:
            return tf.constant(array, name=name or "Const")
        return store.variable(array).value()


class Origins:
    """The arrays of the ONNX graph's values, by their place in memory."""

    def __init__(self) -> None:
        self._addresses: list[int] = []
        self._arrays: list[tuple[str, np.ndarray]] = []  # they stay alive, so that no other array gets their memory
        self._sizes: dict[str, int] = {}

    def add(self, value: str, array: np.ndarray) -> None:
        """Adds a contiguous array of floats, unless it is a view of one that was added."""
        if np.issubdtype(array.dtype, np.floating) and array.size and self.find(array) is None:
            index = bisect.bisect(self._addresses, _address(array))
            self._addresses.insert(index, _address(array))
            self._arrays.insert(index, (value, np.asarray(array)))
            self._sizes[value] = array.size

    def size(self, value: str) -> int:
        """The number of elements of a value that was added."""
        return self._sizes[value]

    def find(self, array: Any) -> Constant | None:
        """What the array is a view of; None for an array of other memory."""
        if not isinstance(array, np.ndarray):
            return None
        address = _address(array)
        index = bisect.bisect(self._addresses, address) - 1
        if index < 0:
            return None  # it lies before all of them
        value, whole = self._arrays[index]
        offset = address - self._addresses[index]
        if offset >= whole.nbytes or array.dtype != whole.dtype:
            return None
        size = array.itemsize
        return Constant(value, offset // size, array.shape, tuple(stride // size for stride in array.strides))


def is_weight(array: np.ndarray) -> bool:
    """Whether the gate follows the array: floating point, two elements or more."""
    return bool(np.issubdtype(array.dtype, np.floating)) and array.size > 1


class VariableStore:
    """One model's variables, of which equal arrays share one, and the origins of its constants."""

    def __init__(self, variables: list[Any]) -> None:
        self._variables = variables
        self._by_checksum: dict[Any, list[tuple[np.ndarray, Any]]] = {}
        self.origins = Origins()
        self.constants: dict[Constant, None] = {}  # in the order of their use

    def record(self, array: np.ndarray) -> None:
        constant = self.origins.find(array)
        if constant:
            self.constants.setdefault(constant)

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
        """Inside this context, constants are recorded, and large ones become variables of this store."""
        self.origins = Origins()
        token = _STORE.set(self)
        try:
            yield
        finally:
            _STORE.reset(token)


_STORE: ContextVar[VariableStore | None] = ContextVar("_STORE", default=None)


def origins() -> Origins:
    """Those of the model being converted."""
    store = _STORE.get()
    return store.origins if store else Origins()


def constant(array: np.ndarray) -> np.ndarray:
    """Returns the array, as a Weight if it is large or the gate follows it."""
    large = array.nbytes >= MIN_VARIABLE_BYTES and array.dtype != object
    return array.view(Weight) if large or is_weight(array) or origins().find(array) is not None else array


def _address(array: np.ndarray) -> int:
    return int(array.__array_interface__["data"][0])
