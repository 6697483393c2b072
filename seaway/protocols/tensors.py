"""Arrays as the protocols see them: a dtype's name, a shape, raw little-endian bytes; strings: object arrays of bytes.

`dtype` is a name from the artifact metadata: NumPy's ("float32"), or "str" for strings, which are arbitrary bytes.
"""

import math
from collections.abc import Iterable, Sequence

import numpy as np

from seaway.errors import InvalidInput

STRING = "str"
MAX_RANK = 32  # NumPy 1's limit, the lowest of the libraries involved
MAX_TENSORFLOW_RANK = 254  # TensorFlow's limit
_MAX_COPIED_BYTES = 4096  # up to this size a copy is faster than a view

_NUMBERS = (
    *("bool", "int8", "int16", "int32", "int64", "uint8", "uint16", "uint32", "uint64"),
    *("float16", "float32", "float64", "complex64", "complex128"),
)
# NumPy's dtype for each name in the artifact metadata
DTYPES = {name: np.dtype(name).newbyteorder("<") for name in _NUMBERS} | {STRING: np.dtype(object)}


class HighRankArray(np.ndarray):
    """An array of more dimensions than NumPy supports: stored one-dimensional, while `shape`, `ndim` and len() report
    the real dimensions."""

    _sizes: tuple[int, ...]

    def __array_finalize__(self, source: object) -> None:
        self._sizes = np.ndarray.shape.__get__(self)

    @property  # type: ignore[misc]
    def shape(self) -> tuple[int, ...]:
        return self._sizes

    @property
    def ndim(self) -> int:
        return len(self._sizes)

    def __len__(self) -> int:
        return self._sizes[0]


def shaped(flat: np.ndarray, shape: Sequence[int]) -> np.ndarray:
    """A flat array in `shape`, which has its size; a `HighRankArray` if the rank is above MAX_RANK."""
    if len(shape) <= MAX_RANK:
        return flat.reshape(shape)
    high_rank = flat.view(HighRankArray)
    high_rank._sizes = tuple(map(int, shape))
    return high_rank


def dtype_name(array: np.ndarray) -> str:
    """The artifact metadata's name for the array's type."""
    return STRING if array.dtype.kind in "OSU" else array.dtype.name


def strings(values: Iterable[bytes], shape: Sequence[int]) -> np.ndarray:
    """An object array of bytes. Raises InvalidInput if the count does not match the shape."""
    items = list(values)
    _check_shape(shape)
    if len(items) != math.prod(shape):
        raise InvalidInput(f"shape {list(shape)} needs {math.prod(shape)} strings, but got {len(items)}")
    array = np.empty(len(items), object)
    array[:] = items
    try:
        return array.reshape(shape)
    except (ValueError, OverflowError) as error:  # a size of 0, and others whose product is too large
        raise InvalidInput(f"shape {list(shape)} cannot be used: {error}") from None


def string_values(array: np.ndarray) -> list[bytes]:
    """The strings of an array of objects, str or bytes, in row-major order, as bytes (UTF-8)."""
    return [
        v if isinstance(v, bytes) else str(v).encode("utf-8", "surrogateescape") for v in array.reshape(-1).tolist()
    ]


def raw(array: np.ndarray) -> memoryview:
    """The numbers as contiguous little-endian bytes, row-major; copied only if small or not laid out like that."""
    if array.nbytes <= _MAX_COPIED_BYTES and array.dtype.isnative and np.little_endian:
        return memoryview(array.tobytes())
    flat = np.ascontiguousarray(array, dtype=array.dtype.newbyteorder("<")).reshape(-1)
    return flat.view(np.uint8).data if flat.size else memoryview(b"")


def from_raw(dtype: str, shape: Sequence[int], data: memoryview) -> np.ndarray:
    """A read-only view of numbers in `data`, the reverse of `raw`. Raises InvalidInput if length and shape disagree."""
    _check_shape(shape)
    element = DTYPES.get(dtype) or np.dtype(dtype).newbyteorder("<")
    needed = math.prod(shape) * element.itemsize
    if len(data) != needed:
        raise InvalidInput(f"{dtype} of shape {list(shape)} needs {needed} bytes of data, but got {len(data)}")
    try:
        return np.ndarray(shape, element, data)
    except (ValueError, OverflowError) as error:
        raise InvalidInput(f"shape {list(shape)} cannot be used: {error}") from None


def _check_shape(shape: Sequence[int]) -> None:
    if len(shape) > MAX_RANK:
        raise InvalidInput(f"a tensor of {len(shape)} dimensions: at most {MAX_RANK} are supported")
    if min(shape, default=0) < 0:
        raise InvalidInput(f"shape {list(shape)} has a negative size; send the actual sizes")
