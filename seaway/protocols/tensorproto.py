"""TensorFlow's TensorProto ⇄ arrays, as TensorFlow reads and writes it.

Numbers are in `tensor_content`, raw and little-endian, or in the field of their type. If that field has fewer than the
shape needs, the last one is repeated; none at all count as zeros. Seaway writes the typed fields, as TensorFlow
Serving does by default and as clients read them (`outputs["scores"].float_val`).
"""

import math
from typing import Any

import numpy as np
from google.protobuf.message import DecodeError

from seaway.errors import InvalidInput, Unsupported
from seaway.protocols import messages, protobuf_wire, tensors

TensorProto = messages.message("tensorflow.TensorProto")
DataType = messages.POOL.FindEnumTypeByName("tensorflow.DataType")
MAX_ELEMENTS = 1 << 31
MAX_FILLED_BYTES = 16 << 20  # that a tensor may ask for by repeating its last number: a small message, much memory

# Our name of a type → its number, its field, and that field's type in memory
_TYPES: dict[str, tuple[int, str, str]] = {
    "float32": (1, "float_val", "<f4"),
    "float64": (2, "double_val", "<f8"),
    "int32": (3, "int_val", ""),
    "uint8": (4, "int_val", ""),
    "int16": (5, "int_val", ""),
    "int8": (6, "int_val", ""),
    tensors.STRING: (7, "string_val", ""),
    "complex64": (8, "scomplex_val", "<c8"),
    "int64": (9, "int64_val", ""),
    "bool": (10, "bool_val", "?"),
    "uint16": (17, "int_val", ""),
    "complex128": (18, "dcomplex_val", "<c16"),
    "float16": (19, "half_val", ""),
    "uint32": (22, "uint32_val", ""),
    "uint64": (23, "uint64_val", ""),
}
DTYPES = tuple(_TYPES)
_NAMES = {number: name for name, (number, _, _) in _TYPES.items()}
_DTYPE, _SHAPE, _CONTENT = 1, 2, 4
_FIELDS = {field.name: field.number for field in TensorProto.DESCRIPTOR.fields}
# Our name of a type → the fields that hold its numbers as they are in memory
_RAW = {
    name: (_CONTENT, _FIELDS[field]) if packed else (_CONTENT,)
    for name, (_, field, packed) in _TYPES.items()
    if name not in ("bool", tensors.STRING)
}


def type_name(number: int) -> str:
    """TensorFlow's name of a type's number, as DT_FLOAT."""
    value = DataType.values_by_number.get(number)
    return str(value.name) if value else f"type {number}"


def dtype(number: int) -> str:
    """Our name of a type's number; TensorFlow's in lower case if we have none, as bfloat16."""
    return _NAMES.get(number) or type_name(number).removeprefix("DT_").lower()


def read(serialised: bytes | memoryview, what: str) -> np.ndarray:
    """The array of a serialised TensorProto, if possible as a read-only view of it.

    Raises InvalidInput, Unsupported, both beginning with `what`.
    """
    array = _view(serialised, what)
    if array is not None:
        return array
    try:
        tensor = TensorProto.FromString(bytes(serialised))
    except DecodeError as error:
        raise InvalidInput(f"{what} is not a TensorProto: {error}") from None
    return _read(tensor, what)


def _view(serialised: bytes | memoryview, what: str) -> np.ndarray | None:
    """A view of a tensor whose numbers are raw: a type, a shape and one block of bytes. None for any other tensor."""
    type_, shape, block = 0, list[int](), None
    for number, value in protobuf_wire.fields(serialised):
        if number == _DTYPE and isinstance(value, int) and not type_:
            type_ = value
        elif number == _SHAPE and isinstance(value, memoryview) and not shape:
            for dim, size in protobuf_wire.fields(value):
                if dim != 2 or not isinstance(size, memoryview):
                    return None  # of unknown rank
                sizes = [s for n, s in protobuf_wire.fields(size) if n == 1 and isinstance(s, int)]
                shape.append(sizes[-1] if sizes else 0)
        elif block is None and isinstance(value, memoryview):
            block = number, value
        else:
            return None
    name = _NAMES.get(type_)
    if name is None or block is None or block[0] not in _RAW.get(name, ()):
        return None
    if math.prod(shape) * tensors.DTYPES[name].itemsize != len(block[1]) or len(shape) > tensors.MAX_RANK:
        return None
    return tensors.from_raw(name, shape, block[1])


def _read(tensor: Any, what: str) -> np.ndarray:
    name = _NAMES.get(tensor.dtype)
    if name is None:
        raise Unsupported(f"{what} is {type_name(tensor.dtype)}, which is not supported", status=400)
    if tensor.tensor_shape.unknown_rank:
        raise InvalidInput(f"{what} has a shape of unknown rank; send the actual sizes")
    shape = tuple(dim.size for dim in tensor.tensor_shape.dim)
    if len(shape) > tensors.MAX_RANK:
        raise InvalidInput(f"{what} has {len(shape)} dimensions: at most {tensors.MAX_RANK} are supported")
    if min(shape, default=0) < 0:
        raise InvalidInput(f"{what} has the shape {list(shape)}; send the actual sizes")
    count = math.prod(shape)
    if count >= MAX_ELEMENTS:
        raise InvalidInput(f"{what} has the shape {list(shape)}: more than {MAX_ELEMENTS} elements")
    if tensor.tensor_content and name != tensors.STRING:
        return _from_content(name, shape, tensor.tensor_content, what)
    values = _values(tensor, name, what)
    if len(values) > count:
        raise InvalidInput(f"{what}: shape {list(shape)} needs {count} elements, but got {len(values)}")
    if len(values) == count:
        return values.reshape(shape)
    if count * values.dtype.itemsize > MAX_FILLED_BYTES:
        raise InvalidInput(
            f"{what} has {len(values)} of the {count} elements of its shape {list(shape)}; the last one is repeated up "
            f"to {MAX_FILLED_BYTES >> 20} MiB: send all of them"
        )
    last = values[-1] if len(values) else b"" if name == tensors.STRING else values.dtype.type(0)
    filled = np.full(count, last, values.dtype)
    filled[: len(values)] = values
    return filled.reshape(shape)


def _from_content(name: str, shape: tuple[int, ...], content: bytes, what: str) -> np.ndarray:
    try:
        array = tensors.from_raw(name, shape, memoryview(content))
    except InvalidInput as error:
        raise InvalidInput(f"{what}: {error}") from None
    # any byte but 0 is true; NumPy's own bools must be 0 or 1
    return np.not_equal(array.view(np.uint8), 0) if name == "bool" else array


def _values(tensor: Any, name: str, what: str) -> np.ndarray:
    """The elements of the type's own field, flat."""
    _, field, packed = _TYPES[name]
    values = getattr(tensor, field)
    if name == tensors.STRING:
        return tensors.strings(values, [len(values)])
    if packed:  # as bytes, which is much faster than number by number
        only = TensorProto()
        getattr(only, field).MergeFrom(values)
        dtype = np.dtype(packed)
        elements = len(values) // (2 if dtype.kind == "c" else 1)
        content = only.SerializeToString()
        return np.frombuffer(content[len(content) - elements * dtype.itemsize :], dtype)
    if name == "float16":  # its bits
        return _narrowed(values, "uint16", what).view(np.float16)
    return _narrowed(values, name, what)


def _narrowed(values: Any, name: str, what: str) -> np.ndarray:
    dtype = tensors.DTYPES[name]
    wide = np.fromiter(values, np.uint64 if dtype.kind == "u" and dtype.itemsize == 8 else np.int64, len(values))
    limits = np.iinfo(dtype)
    if len(wide) and (wide.min() < limits.min or wide.max() > limits.max):
        raise InvalidInput(f"{what}: a number is outside the range of {name}")
    return wide.astype(dtype, copy=False)


def write(array: np.ndarray, what: str) -> bytes:
    """A serialised TensorProto. Raises Unsupported for a type that Seaway does not know, as bfloat16."""
    name = tensors.dtype_name(array)
    if name not in _TYPES:
        raise Unsupported(f"{what!r} is {name}, which is not supported here; cast it in the model")
    dtype_number, field, packed = _TYPES[name]
    dims = b"".join(protobuf_wire.encode(2, b"\x08" + protobuf_wire.varint(size)) for size in array.shape)
    head = b"\x08" + protobuf_wire.varint(dtype_number) + protobuf_wire.encode(2, dims)
    if packed:
        return head + protobuf_wire.encode(_FIELDS[field], tensors.raw(array))
    tensor = TensorProto()
    if name == tensors.STRING:
        values: list[Any] = tensors.string_values(array)
    else:
        values = (array.view(np.uint16) if name == "float16" else array).reshape(-1).tolist()
    getattr(tensor, field).extend(values)
    return head + bytes(tensor.SerializeToString())
