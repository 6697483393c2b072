"""ONNX files read without their large weights, which stay where they are and are looked at through memory maps.

What protobuf reads it copies, and it ends at 2 GiB. So the file's fields are gone through here as far as the graph's
initializers, and the bytes of a large one are left out: in its place stands where they are, in the way that ONNX itself
names the data of other files (key `location`), but with the whole path. `array` gives the values of both.
"""

import functools
import math
import mmap
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import onnx
from google.protobuf.message import DecodeError  # type: ignore[import-untyped]
from onnx import TensorProto, numpy_helper

LARGE = 1 << 12  # bytes

# Numbers of fields in onnx.proto; both messages have been as they are since the first version.
GRAPH, INITIALIZER, RAW_DATA = 7, 5, 9
WHOLE = 2  # protobuf's wire type of what has a length: texts, bytes, messages
FIXED = {1: 8, 5: 4}  # those of numbers that always take so many bytes


def read(path: Path) -> Any:
    """The ModelProto. Raises DecodeError, OSError; ValueError for data cut short or outside of the model's folder."""
    file = _mapped(path)
    model, graphs = onnx.ModelProto(), []
    for number, start, inner, end in _fields(file, 0, len(file)):
        if number == GRAPH:
            graphs.append((inner, end))
        else:
            model.MergeFromString(bytes(file[start:end]))
    for place in graphs:
        _graph(model.graph, path, file, *place)
    for tensor in model.graph.initializer:
        if tensor.data_location == TensorProto.EXTERNAL:
            array(tensor)  # whether it is there, and as long as it should be
    return model


def array(tensor: Any) -> np.ndarray:
    """A tensor's values; those in a file are not copied."""
    if tensor.data_location != TensorProto.EXTERNAL:
        return np.asarray(numpy_helper.to_array(tensor))
    where = _external(tensor)
    dtype = np.dtype(onnx.helper.tensor_dtype_to_np_dtype(tensor.data_type))
    size = dtype.itemsize * math.prod(tensor.dims)
    if not size:
        return np.zeros(tuple(tensor.dims), dtype)
    offset, length = int(where.get("offset", 0)), int(where.get("length", size))
    file = _mapped(Path(where["location"]))
    if offset < 0 or length < 0 or offset + length > len(file):
        raise ValueError(f"{where['location']} ends within the data of the tensor {tensor.name!r}")
    flat = np.frombuffer(file, np.uint8, length, offset)
    if length != size:  # several numbers in a byte; anything else is refused
        whole = TensorProto(data_type=tensor.data_type, dims=tensor.dims, raw_data=flat.tobytes())
        return np.asarray(numpy_helper.to_array(whole))
    values: np.ndarray = flat.view(dtype).reshape(tuple(tensor.dims))
    return values


def checkable(model: Any) -> Any:
    """The model as ONNX's checker takes it: tensors in files are inputs, which it has no files to look for."""
    copy = onnx.ModelProto()
    copy.CopyFrom(model)
    named = {value.name for value in copy.graph.input}
    outside = [tensor for tensor in copy.graph.initializer if tensor.data_location == TensorProto.EXTERNAL]
    for tensor in outside:
        if tensor.name not in named:
            copy.graph.input.append(onnx.helper.make_tensor_value_info(tensor.name, tensor.data_type, tensor.dims))
        copy.graph.initializer.remove(tensor)
    return copy


def _graph(graph: Any, path: Path, file: Any, start: int, end: int) -> None:
    rest = []
    for number, field, inner, after in _fields(file, start, end):
        if number == INITIALIZER:
            graph.initializer.append(_tensor(path, file, inner, after))
        else:
            rest.append(bytes(file[field:after]))
    graph.MergeFromString(b"".join(rest))


def _tensor(path: Path, file: Any, start: int, end: int) -> Any:
    fields = list(_fields(file, start, end))
    data = [(inner, after) for number, _, inner, after in fields if number == RAW_DATA]
    if len(data) != 1 or data[0][1] - data[0][0] < LARGE:
        tensor = TensorProto.FromString(bytes(file[start:end]))
        if tensor.data_location == TensorProto.EXTERNAL:
            _put_where(tensor, _external(tensor) | {"location": str(_inside(path.parent, tensor))})
        return tensor
    others = (bytes(file[field:after]) for number, field, _, after in fields if number != RAW_DATA)
    tensor = TensorProto.FromString(b"".join(others))
    (inner, after), *_ = data
    _put_where(tensor, {"location": str(path.absolute()), "offset": str(inner), "length": str(after - inner)})
    return tensor


def _fields(file: Any, start: int, end: int) -> Iterator[tuple[int, int, int, int]]:
    """A message's fields: number, and where field, value and end are."""
    while start < end:
        tag, inner = _varint(file, start, end)
        kind, after = tag & 7, inner
        if kind == WHOLE:
            length, inner = _varint(file, inner, end)
            after = inner + length
        elif kind in FIXED:
            after = inner + FIXED[kind]
        elif kind == 0:
            _, after = _varint(file, inner, end)
        else:
            raise DecodeError("there are fields that protobuf does not have")
        if after > end:
            raise DecodeError("it ends within a field")
        yield tag >> 3, start, inner, after
        start = after


def _varint(file: Any, start: int, end: int) -> tuple[int, int]:
    """A number of seven bits a byte, and where it ends."""
    number = shift = 0
    while start < end and shift < 64:
        byte = file[start]
        number |= (byte & 0x7F) << shift
        start, shift = start + 1, shift + 7
        if byte < 0x80:
            return number, start
    raise DecodeError("it ends within a number")


def _mapped(path: Path) -> Any:
    found = path.stat()
    return _mapped_once(path, found.st_ino, found.st_size, found.st_mtime_ns)


@functools.lru_cache(maxsize=4)
def _mapped_once(path: Path, inode: int, size: int, changed: int) -> Any:
    """One map for all tensors of a file: every further one would count its pages again."""
    with path.open("rb") as file:
        return mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) if size else b""


def _inside(folder: Path, tensor: Any) -> Path:
    """Where the data of another file are. Models may be anyone's: only files beside the model are read."""
    location = Path(_external(tensor).get("location", ""))
    if location.is_absolute() or ".." in location.parts or not location.parts:
        raise ValueError(f"the data of the tensor {tensor.name!r} are outside of the model's folder, in {location}")
    return (folder / location).absolute()


def _external(tensor: Any) -> dict[str, str]:
    return {entry.key: entry.value for entry in tensor.external_data}


def _put_where(tensor: Any, where: dict[str, str]) -> None:
    tensor.data_location = TensorProto.EXTERNAL
    del tensor.external_data[:]
    for key, value in where.items():
        tensor.external_data.add(key=key, value=value)
