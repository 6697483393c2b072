"""Tensors of the Open Inference Protocol: JSON objects, their numbers as `data` inside or as bytes after the JSON.

    BOOL UINT8 … UINT64 INT8 … INT64 FP16 FP32 FP64 BYTES        little-endian, row-major; BOOL is one byte,
                                                                  each of BYTES has its length as a uint32 prefix
BF16 is not supported: NumPy has no such type. A tensor's size is compared with its shape before it becomes an array.
"""

import json
import math
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, Literal

import numpy as np
import orjson
import simdjson

from seaway.errors import InvalidInput, Unsupported
from seaway.protocols import tensors

DATATYPE_BY_NAME = {
    "bool": "BOOL",
    "uint8": "UINT8",
    "uint16": "UINT16",
    "uint32": "UINT32",
    "uint64": "UINT64",
    "int8": "INT8",
    "int16": "INT16",
    "int32": "INT32",
    "int64": "INT64",
    "float16": "FP16",
    "float32": "FP32",
    "float64": "FP64",
    tensors.STRING: "BYTES",
}
# JSON of these sizes goes to simdjson: orjson is faster on less, and simdjson takes a dozen bytes of memory a byte.
SIMDJSON_SIZES_BYTES = range(1_000, 16_000_000)
NAME_BY_DATATYPE = {datatype: name for name, datatype in DATATYPE_BY_NAME.items()}
_DATATYPE_BY_DTYPE = {tensors.DTYPES[name]: datatype for name, datatype in DATATYPE_BY_NAME.items()}
# NumPy's kind → Python's types of its JSON values, exactly: true is not a number, and 1.0 not an integer
_ELEMENTS: dict[str, set[type]] = {"f": {float, int}, "i": {int}, "u": {int}, "b": {bool}, "O": {str}}
# NumPy's kind → simdjson's name for its 64-bit type
_WIDEST: dict[str, Literal["d", "i", "u"]] = {"f": "d", "i": "i", "u": "u"}
_TOKENS = {"nan": "NaN", "inf": "Infinity", "-inf": "-Infinity"}


def parse(text: bytes) -> dict[str, Any]:
    """A JSON object, NaN and Infinity as bare tokens allowed. Raises InvalidInput.

    In longer texts the `data` of tensors stays a simdjson array if possible: no number becomes a Python object.
    """
    if len(text) in SIMDJSON_SIZES_BYTES:
        try:
            document = simdjson.Parser().parse(text)
        except (ValueError, RuntimeError):
            document = None
        if isinstance(document, simdjson.Object):
            return {key: _tensors(document[key]) for key in document}
    try:
        plain = orjson.loads(text)
    except orjson.JSONDecodeError:
        plain = _parse_with_tokens(text)
    if type(plain) is not dict:
        raise InvalidInput(f"the JSON is not an object, but {type(plain).__name__}; send an object with inputs")
    return plain


def _parse_with_tokens(text: bytes) -> Any:
    try:
        return json.loads(text.decode())
    except RecursionError:
        raise InvalidInput("the JSON is nested too deeply; send data as a flat list") from None
    except ValueError as error:
        raise InvalidInput(f"the body is not JSON: {str(error)[:200]}") from None


def _tensors(value: Any) -> Any:
    """A key's value as Python values; in the objects of a list, a `data` that is a list stays a simdjson array."""
    if isinstance(value, simdjson.Array):
        return [_tensor(item) if isinstance(item, simdjson.Object) else _to_python(item) for item in value]
    return _to_python(value)


def _tensor(entry: simdjson.Object) -> dict[str, Any]:
    values = ((key, entry[key]) for key in entry)
    return {
        key: value if key == "data" and isinstance(value, simdjson.Array) else _to_python(value)
        for key, value in values
    }


def _to_python(value: Any) -> Any:
    if isinstance(value, simdjson.Array):
        return value.as_list()
    return value.as_dict() if isinstance(value, simdjson.Object) else value


def dump(document: Any) -> bytes:
    """JSON of a document with `write_tensor`'s objects in it."""
    return orjson.dumps(document, option=orjson.OPT_SERIALIZE_NUMPY)


# ---- reading


def read_tensor(
    entry: Mapping[str, Any], where: str, parameters: Mapping[str, Any], body: bytes | memoryview, at: int
) -> tuple[np.ndarray, int]:
    """The array that `entry` describes, and where in `body` the next binary tensor starts; this one starts at `at`.

    Raises InvalidInput, its message beginning with `where`, if shape, datatype and data disagree.
    """
    shape, datatype, size = entry.get("shape"), entry.get("datatype"), parameters.get("binary_data_size")
    if type(shape) is not list or not {*map(type, shape)} <= {int} or min(shape, default=0) < 0:
        raise InvalidInput(f"{where}: shape is {_excerpt(shape)}; send a list of sizes, none of them negative")
    if len(shape) > tensors.MAX_RANK:
        raise InvalidInput(f"{where}: {len(shape)} dimensions; at most {tensors.MAX_RANK} are supported")
    dtype = NAME_BY_DATATYPE.get(datatype) if isinstance(datatype, str) else None
    if dtype is None:
        raise InvalidInput(
            f"{where}: datatype {_excerpt(datatype)} is not supported; use one of {', '.join(NAME_BY_DATATYPE)}"
        )
    if size is None:
        if "data" not in entry:
            raise InvalidInput(f"{where} has neither data nor binary_data_size; send one of them")
        return _from_json(entry["data"], where, dtype, shape), at
    if "data" in entry:
        raise InvalidInput(f"{where} has data and binary_data_size; send one of them")
    if type(size) is not int or not 0 <= size <= len(body) - at:
        raise InvalidInput(f"{where}: binary_data_size is {_excerpt(size)}, but {len(body) - at} bytes are left")
    return _from_bytes(body, at, size, where, dtype, shape), at + size


def _from_json(data: Any, where: str, dtype: str, shape: list[int]) -> np.ndarray:
    """Ignores how lists are nested and takes their elements in order, as Triton does."""
    kind, count = tensors.DTYPES[dtype], math.prod(shape)
    numbers = _numbers(data, kind)
    flat = _flatten(data, where) if numbers is None else []
    size = len(flat) if numbers is None else len(numbers)
    if size != count:
        raise InvalidInput(f"{where}: shape {shape} needs {count} elements of data, but got {size}")
    try:
        if numbers is None:
            numbers = _elements(flat, where, dtype)
        with np.errstate(over="ignore"):  # a number too large for FP32 is infinite, as in TensorFlow Serving
            return numbers.astype(kind, copy=False).reshape(shape)
    except OverflowError:
        raise InvalidInput(f"{where}: a number of data is outside the range of {DATATYPE_BY_NAME[dtype]}") from None
    except UnicodeEncodeError:
        raise InvalidInput(f"{where}: a string of data holds half a surrogate pair") from None
    except ValueError as error:
        raise InvalidInput(f"{where}: shape {shape} cannot be used: {error}") from None


def _numbers(data: Any, kind: np.dtype) -> np.ndarray | None:
    """All numbers in simdjson's lists at once, as the widest type of their kind; None if anything else is inside, or a
    number that `kind` cannot represent."""
    if kind.kind not in "fiu" or not isinstance(data, simdjson.Array):
        return None
    try:
        numbers = np.frombuffer(data.as_buffer(of_type=_WIDEST[kind.kind]), f"<{kind.kind}8")
    except (TypeError, ValueError):
        return None
    if kind.kind != "f" and kind.itemsize < 8 and len(numbers):
        limits = np.iinfo(kind)
        if numbers.min() < limits.min or numbers.max() > limits.max:
            return None
    return numbers


def _elements(flat: list[Any], where: str, dtype: str) -> np.ndarray:
    """Converts Python values. Raises InvalidInput, which quotes the first one that is not a `dtype`."""
    kind = tensors.DTYPES[dtype]
    wrong = {*map(type, flat)} - _ELEMENTS[kind.kind]
    if wrong:
        value = next(value for value in flat if type(value) in wrong)
        raise InvalidInput(f"{where}: {_excerpt(value)} is not {DATATYPE_BY_NAME[dtype]}")
    if dtype == tensors.STRING:
        return tensors.strings([text.encode() for text in flat], [len(flat)])
    with np.errstate(over="ignore"):
        return np.fromiter(flat, kind, len(flat))


def _flatten(data: Any, where: str) -> list[Any]:
    """The elements of nested lists, in order."""
    if isinstance(data, simdjson.Array):
        data = data.as_list()
    if type(data) is not list:
        raise InvalidInput(f"{where}: data is not a list; send the elements in row-major order, nested or flat")
    if list not in {*map(type, data)}:
        return data
    flat: list[Any] = []
    open_lists = [iter(data)]
    while open_lists:
        for value in open_lists[-1]:
            if type(value) is list:
                open_lists.append(iter(value))
                break
            flat.append(value)
        else:
            open_lists.pop()
    return flat


def _from_bytes(body: bytes | memoryview, at: int, size: int, where: str, dtype: str, shape: list[int]) -> np.ndarray:
    kind, count = tensors.DTYPES[dtype], math.prod(shape)
    if dtype == tensors.STRING:
        if count * 4 > size:
            raise InvalidInput(f"{where}: shape {shape} needs {count} strings, which {size} bytes cannot hold")
        return tensors.strings(_strings(body, at, at + size, where, count), shape)
    if count * kind.itemsize != size:
        raise InvalidInput(
            f"{where}: {DATATYPE_BY_NAME[dtype]} of shape {shape} needs {count * kind.itemsize} bytes, "
            f"but binary_data_size is {size}"
        )
    try:
        if not count:
            return np.empty(shape, kind)
        if dtype == "bool":  # any byte but 0 is true; NumPy's own bools must be 0 or 1
            return np.not_equal(np.frombuffer(body, np.uint8, count, at), 0).reshape(shape)
        return np.frombuffer(body, kind, count, at).reshape(shape)
    except ValueError as error:
        raise InvalidInput(f"{where}: shape {shape} cannot be used: {error}") from None


def _strings(body: bytes | memoryview, at: int, end: int, where: str, count: int) -> Iterator[bytes]:
    for _ in range(count):
        start = at + 4
        at = start + int.from_bytes(body[at:start], "little")
        if start > end or at > end:
            raise InvalidInput(f"{where}: a string extends past the end of the tensor's bytes; check the lengths")
        yield bytes(body[start:at])
    if at != end:
        raise InvalidInput(f"{where}: {end - at} bytes follow the last of {count} strings; check the shape")


def _excerpt(value: Any) -> str:
    text = repr(value) if not isinstance(value, list | dict | str) or len(value) <= 40 else f"{type(value).__name__}, …"
    return text if len(text) <= 120 else text[:120] + "…"


# ---- writing


def write_tensor(name: str, array: np.ndarray, binary: bool) -> tuple[dict[str, Any], bytes | memoryview | None]:
    """The JSON object for `dump`, and the bytes that follow the JSON, None if the numbers are in it.

    Raises Unsupported for a dtype that the protocol lacks, InvalidInput for strings in JSON that are not UTF-8.
    """
    datatype = _DATATYPE_BY_DTYPE.get(array.dtype) or DATATYPE_BY_NAME.get(tensors.dtype_name(array))
    if datatype is None:
        raise Unsupported(
            f"{name!r} is {array.dtype.name}, for which the Open Inference Protocol has no type; cast it in the model"
        )
    entry: dict[str, Any] = {"name": name, "datatype": datatype, "shape": list(array.shape)}
    if not binary:
        entry["data"] = _as_json(name, array)
        return entry, None
    if datatype == "BYTES":
        values = tensors.string_values(array)
        block: bytes | memoryview = b"".join([len(v).to_bytes(4, "little") + v for v in values])
    else:
        block = tensors.raw(array)
    entry["parameters"] = {"binary_data_size": len(block)}
    return entry, block


def _as_json(name: str, array: np.ndarray) -> Any:
    if array.dtype.kind in "OSU":
        try:
            return [value.decode() for value in tensors.string_values(array)]
        except UnicodeDecodeError:
            raise InvalidInput(f"{name!r} holds bytes that are not UTF-8; request it with binary_data true") from None
    flat = np.ascontiguousarray(array, array.dtype.newbyteorder("=")).reshape(-1)
    if flat.dtype.kind == "f" and not np.isfinite(flat).all():
        texts = (str(value) for value in flat)  # the shortest digits of the array's own type
        return orjson.Fragment(f"[{','.join(_TOKENS.get(text, text) for text in texts)}]".encode())
    return flat


def best_classes(name: str, array: np.ndarray, count: int, labels: Sequence[str]) -> np.ndarray:
    """Triton's classification: strings "value:index" or "value:index:label", the best first. Shape [N, count] for an
    array of N rows, [count] for one of a single dimension. Raises InvalidInput for an array without numbers."""
    if array.dtype.kind not in "fiu":
        raise InvalidInput(
            f"output {name!r} is {tensors.dtype_name(array)}, which has no best classes; request its values"
        )
    rows = array.reshape(len(array), -1) if array.ndim > 1 and array.size else array.reshape(1, -1)
    width = rows.shape[1]
    count = min(count, width)
    best = width - 1 - np.argsort(rows[:, ::-1], axis=1, kind="stable")[:, ::-1][:, :count]  # the first of equal values
    texts = [
        f"{row[i]!s}:{i}:{labels[i]}" if len(labels) == width else f"{row[i]!s}:{i}"
        for row, order in zip(rows, best.tolist(), strict=True)
        for i in order
    ]
    return tensors.strings([text.encode() for text in texts], [*array.shape[:1], count] if array.ndim > 1 else [count])
