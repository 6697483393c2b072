"""Arrays as the protocols see them: a dtype's name, a shape, raw little-endian bytes; strings: object arrays of bytes.

`dtype` is the card's: NumPy's name ("float32"), or "str" for strings, which are bytes of any value throughout.
"""

import math
from collections.abc import Iterable, Sequence

import numpy as np

from seaway.errors import InvalidInput

STRING = "str"
MAX_RANK = 32  # what every library on the way can carry
DEEPEST = 254  # TensorFlow's most dimensions
_FEW = 4096  # bytes that are copied sooner than viewed

_NUMBERS = (
    *("bool", "int8", "int16", "int32", "int64", "uint8", "uint16", "uint32", "uint64"),
    *("float16", "float32", "float64", "complex64", "complex128"),
)
# NumPy's dtype for each of the card's
DTYPES = {name: np.dtype(name).newbyteorder("<") for name in _NUMBERS} | {STRING: np.dtype(object)}


class Deep(np.ndarray):
    """More dimensions than NumPy has: in memory there is one, and `shape`, `ndim` and len() say what it stands for."""

    _sizes: tuple[int, ...]

    def __array_finalize__(self, made_from: object) -> None:
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
    """One dimension as `shape`, of its size; a `Deep` where that has more than MAX_RANK."""
    if len(shape) <= MAX_RANK:
        return flat.reshape(shape)
    deep = flat.view(Deep)
    deep._sizes = tuple(map(int, shape))
    return deep


def dtype_name(array: np.ndarray) -> str:
    """The card's name for the array's type."""
    return STRING if array.dtype.kind in "OSU" else array.dtype.name


def strings(values: Iterable[bytes], shape: Sequence[int]) -> np.ndarray:
    """An object array of bytes. Raises InvalidInput where the count is not the shape's."""
    listed = list(values)
    _check_shape(shape)
    if len(listed) != math.prod(shape):
        raise InvalidInput(f"shape {list(shape)} needs {math.prod(shape)} strings, but {len(listed)} came")
    array = np.empty(len(listed), object)
    array[:] = listed
    try:
        return array.reshape(shape)
    except (ValueError, OverflowError) as error:  # no strings, and sizes beside the 0 that are too large together
        raise InvalidInput(f"shape {list(shape)} cannot be used: {error}") from None


def string_values(array: np.ndarray) -> list[bytes]:
    """The strings of an array of objects, str or bytes, in row-major order, as bytes (UTF-8)."""
    return [
        v if isinstance(v, bytes) else str(v).encode("utf-8", "surrogateescape") for v in array.reshape(-1).tolist()
    ]


def raw(array: np.ndarray) -> memoryview:
    """The numbers as contiguous little-endian bytes, row-major; copied only where they are few or not that already."""
    if array.nbytes <= _FEW and array.dtype.isnative and np.little_endian:
        return memoryview(array.tobytes())
    flat = np.ascontiguousarray(array, dtype=array.dtype.newbyteorder("<")).reshape(-1)
    return flat.view(np.uint8).data if flat.size else memoryview(b"")


def from_raw(dtype: str, shape: Sequence[int], data: memoryview) -> np.ndarray:
    """A read-only view of numbers in `data`, the reverse of `raw`. Raises InvalidInput for a length not the shape's."""
    _check_shape(shape)
    kind = DTYPES.get(dtype) or np.dtype(dtype).newbyteorder("<")
    needed = math.prod(shape) * kind.itemsize
    if len(data) != needed:
        raise InvalidInput(f"{dtype} of shape {list(shape)} needs {needed} bytes of data, but {len(data)} came")
    try:
        return np.ndarray(shape, kind, data)
    except (ValueError, OverflowError) as error:
        raise InvalidInput(f"shape {list(shape)} cannot be used: {error}") from None


def _check_shape(shape: Sequence[int]) -> None:
    if len(shape) > MAX_RANK:
        raise InvalidInput(f"a tensor of {len(shape)} dimensions: at most {MAX_RANK} are supported")
    if min(shape, default=0) < 0:
        raise InvalidInput(f"shape {list(shape)} has a negative size; give the actual one")
