"""Reads ONNX files without copying their large weights, which are memory-mapped instead.

protobuf copies all that it parses, and is limited to 2 GiB. So this module walks the file's fields down to the graph's
initializers and replaces the bytes of a large one by a reference to them, in the form of ONNX's external data (key
`location`), but with an absolute path. `array` returns the values of both.
"""

import functools
import math
import mmap
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import onnx
from google.protobuf.message import DecodeError
from onnx import TensorProto, numpy_helper

MIN_MAPPED_BYTES = 1 << 12

# Field numbers in onnx.proto, unchanged since its first version.
GRAPH, INITIALIZER, RAW_DATA = 7, 5, 9
LENGTH_DELIMITED = 2  # protobuf's wire type of strings, bytes and messages
FIXED_BYTES = {1: 8, 5: 4}  # wire type of fixed-size numbers → size


def read(path: Path) -> Any:
    """The ModelProto. Raises DecodeError, OSError; ValueError for data truncated or outside the model's folder."""
    file = _mapped(path)
    model, graphs = onnx.ModelProto(), []
    for number, start, inner, end in _fields(file, 0, len(file)):
        if number == GRAPH:
            graphs.append((inner, end))
        else:
            model.MergeFromString(bytes(file[start:end]))
    for start, end in graphs:
        _graph(model.graph, path, file, start, end)
    for tensor in model.graph.initializer:
        if tensor.data_location == TensorProto.EXTERNAL:
            array(tensor)  # raises if the data is missing or too short
    return model


def array(tensor: Any) -> np.ndarray:
    """A tensor's values; memory-mapped ones are not copied."""
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
    if length != size:  # several numbers in a byte; numpy_helper refuses anything else
        packed = TensorProto(data_type=tensor.data_type, dims=tensor.dims, raw_data=flat.tobytes())
        return np.asarray(numpy_helper.to_array(packed))
    values: np.ndarray = flat.view(dtype).reshape(tuple(tensor.dims))
    return values


def checkable(model: Any) -> Any:
    """The model for ONNX's checker: external tensors become inputs, because the checker would look for their files."""
    copy = onnx.ModelProto()
    copy.CopyFrom(model)
    named = {value.name for value in copy.graph.input}
    external = [tensor for tensor in copy.graph.initializer if tensor.data_location == TensorProto.EXTERNAL]
    for tensor in external:
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
    if len(data) != 1 or data[0][1] - data[0][0] < MIN_MAPPED_BYTES:
        tensor = TensorProto.FromString(bytes(file[start:end]))
        if tensor.data_location == TensorProto.EXTERNAL:
            _set_external(tensor, _external(tensor) | {"location": str(_inside(path.parent, tensor))})
        return tensor
    others = (bytes(file[field:after]) for number, field, _, after in fields if number != RAW_DATA)
    tensor = TensorProto.FromString(b"".join(others))
    (inner, after), *_ = data
    _set_external(tensor, {"location": str(path.absolute()), "offset": str(inner), "length": str(after - inner)})
    return tensor


def _fields(file: Any, start: int, end: int) -> Iterator[tuple[int, int, int, int]]:
    """A message's fields: number, and the offsets of the field, its value and its end."""
    while start < end:
        tag, inner = _varint(file, start, end)
        kind, after = tag & 7, inner
        if kind == LENGTH_DELIMITED:
            length, inner = _varint(file, inner, end)
            after = inner + length
        elif kind in FIXED_BYTES:
            after = inner + FIXED_BYTES[kind]
        elif kind == 0:
            _, after = _varint(file, inner, end)
        else:
            raise DecodeError("it has a wire type that protobuf does not have")
        if after > end:
            raise DecodeError("it ends within a field")
        yield tag >> 3, start, inner, after
        start = after


def _varint(file: Any, start: int, end: int) -> tuple[int, int]:
    """A varint (seven bits per byte), and the offset of its end."""
    number = shift = 0
    while start < end and shift < 64:
        byte = file[start]
        number |= (byte & 0x7F) << shift
        start, shift = start + 1, shift + 7
        if byte < 0x80:
            return number, start
    raise DecodeError("it ends within a number")


def _mapped(path: Path) -> Any:
    stat = path.stat()
    return _mapped_once(path, stat.st_ino, stat.st_size, stat.st_mtime_ns)


@functools.lru_cache(maxsize=4)
def _mapped_once(path: Path, inode: int, size: int, changed: int) -> Any:
    """One memory map for all tensors of a file: each further map would count its pages again."""
    with path.open("rb") as file:
        return mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) if size else b""


def _inside(folder: Path, tensor: Any) -> Path:
    """The path of a tensor's external data. Models are untrusted: only files beside the model are read."""
    location = Path(_external(tensor).get("location", ""))
    if location.is_absolute() or ".." in location.parts or not location.parts:
        raise ValueError(f"the data of the tensor {tensor.name!r} is outside the model's folder: {location}")
    return (folder / location).absolute()


def _external(tensor: Any) -> dict[str, str]:
    return {entry.key: entry.value for entry in tensor.external_data}


def _set_external(tensor: Any, where: dict[str, str]) -> None:
    tensor.data_location = TensorProto.EXTERNAL
    del tensor.external_data[:]
    for key, value in where.items():
        tensor.external_data.add(key=key, value=value)
