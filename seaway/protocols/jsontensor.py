"""JSON ⇄ arrays by TensorFlow Serving's rules: NaN and Infinity as bare tokens, {"b64": …} for bytes, no coercion.

Three ways lead from text to numbers, each a shortcut of the next, with the same result:

    open_regular, regular_array    a document of one regular list of numbers: no number becomes a Python object
    parse, to_array(no_bools=True) numbers that NumPy can take in bulk
    parse, to_array                everything else (NaN, strings, ragged lists, a wrong type), and all errors
"""

import base64
import binascii
import contextlib
import json
import math
import re
from collections.abc import Iterable
from typing import Any

import numpy as np
import orjson
import simdjson

from seaway.errors import InvalidInput, Unsupported
from seaway.protocols import jsonerrors, tensors
from seaway.protocols.jsonerrors import excerpt, json_type

# Each integer type accepts its own range. TensorFlow Serving lets the narrower ones wrap around silently; that is not
# copied.
INTEGERS = ("int8", "int16", "int32", "int64", "uint8", "uint32", "uint64")
FLOATS = {"float32": "float", "float64": "double"}  # NumPy's name → TensorFlow's, for messages
READABLE = (*INTEGERS, *FLOATS, "bool", tensors.STRING)
WRITABLE = READABLE
TENSORFLOW_NAMES = {**FLOATS, tensors.STRING: "string", "float16": "half"}


_NUMERALS = b"0123456789+-.eE \t\r\n"  # in a list of numbers, besides brackets and commas
_EDGE_BYTES = 200  # bytes at either end of a regular document that may hold keys and a signature's name
_MAX_KEYS = 50  # of a document for which duplicates are searched one by one

# One string, or one of the tokens that TensorFlow Serving's parser accepts and Python's does not.
_TOKENS = re.compile(r'"(?:[^"\\]|\\.)*+"?|-NaN|-?Inf(?:inity)?', re.DOTALL)
# One escape sequence; the group holds half a surrogate pair.
_ESCAPES = re.compile(r"\\(?:u[dD][89abAB]..\\u[dD][c-fC-F]..|(u[dD][89a-fA-F]..)|.)", re.DOTALL)


def open_regular(body: bytes) -> simdjson.Object | None:
    """The document, lazily parsed, if it is one complete JSON object without quotes in its middle; else None.

    It keeps duplicate keys: the caller checks for them.
    """
    if body.find(b'"', _EDGE_BYTES, max(_EDGE_BYTES, len(body) - _EDGE_BYTES)) >= 0:
        return None
    try:
        document = simdjson.Parser().parse(body)
    except (ValueError, RuntimeError):
        return None
    return document if isinstance(document, simdjson.Object) else None


def regular_array(document: simdjson.Object, key: str, body: bytes, dtype: str) -> np.ndarray | None:
    """The same as `to_array` of the document's `key`, if that is a regular list of numbers of `dtype`; else None.

    Only `key` may hold a list. simdjson has validated the text as JSON and flattens the nested lists; the brackets and
    commas of the text then prove that the lists are as regular as their first elements suggest.
    """
    nested = document[key]
    if not isinstance(nested, simdjson.Array) or not (dtype in FLOATS or dtype in INTEGERS):
        return None
    try:
        if dtype in FLOATS:
            numbers: np.ndarray = np.frombuffer(nested.as_buffer(of_type="d"), np.float64)
        elif dtype == "uint64":
            numbers = np.frombuffer(nested.as_buffer(of_type="u"), np.uint64)
        else:
            numbers = np.frombuffer(nested.as_buffer(of_type="i"), np.int64)
    except (TypeError, ValueError):  # an element is not a number, or not of this kind
        return None
    shape = _first_lengths(nested)
    if len(shape) > tensors.MAX_RANK or math.prod(shape) != len(numbers):
        return None
    lists = body[body.find(b"[") : body.rfind(b"]") + 1]
    if lists.translate(None, _NUMERALS) != _brackets(shape):
        return None
    return _cast(numbers.reshape(shape), dtype)


def _first_lengths(value: Any) -> list[int]:
    """Lengths along the first elements; at most one more than MAX_RANK."""
    shape: list[int] = []
    while isinstance(value, simdjson.Array) and len(value) and len(shape) <= tensors.MAX_RANK:
        shape.append(len(value))
        value = value[0]
    return shape


def _brackets(shape: list[int]) -> bytes:
    """The text of lists of this shape without their numbers."""
    text = b""
    for length in reversed(shape):
        text = b"[" + (text + b",") * (length - 1) + text + b"]"
    return text


class DuplicateKeys(dict[str, Any]):
    """An object with duplicate keys: as a dict it has the first of each, and `pairs` has them all."""

    def __init__(self, pairs: list[tuple[str, Any]]) -> None:
        super().__init__(reversed(pairs))
        self.pairs = pairs


def pairs(document: dict[str, Any]) -> Iterable[tuple[str, Any]]:
    """An object's keys and values as they were written, duplicates included."""
    return document.pairs if isinstance(document, DuplicateKeys) else document.items()


def parse(body: bytes) -> Any:
    """The first JSON document in `body`; the rest is ignored, and the first of duplicate keys counts (`pairs`)."""
    try:
        parsed = orjson.loads(body)
    except orjson.JSONDecodeError:
        return _parse_general(body)
    return _parse_general(body) if _may_repeat_keys(parsed, body) else parsed


def _may_repeat_keys(document: Any, body: bytes) -> bool:
    """False if no key can occur twice in the document, in an object directly in it, in the rows directly in it, or in
    a {"b64": …}."""
    if not isinstance(document, dict):
        return False
    if "examples" in document or (b'"b64"' in body and _SECOND_B64.search(body)):
        return True
    counts = dict.fromkeys(document, 1)
    for value in document.values():
        rows = value if isinstance(value, list) else [value]
        for key in rows[0] if rows and isinstance(rows[0], dict) else ():
            counts[key] = counts.get(key, 0) + len(rows)
    return len(counts) > _MAX_KEYS or any(body.count(b'"%s"' % key.encode()) > n for key, n in counts.items())


def _parse_general(body: bytes) -> Any:
    text = original = body.decode("utf-8", "surrogateescape").removeprefix("\ufeff")
    start = len(text) - len(text.lstrip(" \t\r\n"))
    if start == len(text):
        raise InvalidInput("JSON Parse error: The document is empty")
    if b"Inf" in body or b"-NaN" in body:
        text = _TOKENS.sub(lambda token: _PYTHON_TOKENS.get(token[0], token[0]), text)
    try:
        parsed, end = _DECODER.raw_decode(text, start)
    except (json.JSONDecodeError, jsonerrors.TooBig) as error:
        description, at = jsonerrors.parse_error(error, text)
        before = original[: at if text is original else _original_position(original, at)]
        offset = len(before.encode("utf-8", "surrogateescape"))
        raise InvalidInput(f"JSON Parse error: {description} at offset: {offset}") from None
    except RecursionError:
        raise InvalidInput("JSON Parse error: the document is nested too deeply") from None
    if "\\u" in text and any(escape[1] for escape in _ESCAPES.finditer(text, start, end)):
        raise InvalidInput("JSON Parse error: The surrogate pair in string is invalid.")
    return parsed


def _original_position(original: str, at: int) -> int:
    """The position in `original` of what is at `at` in the text with Python's tokens."""
    for token in _TOKENS.finditer(original):
        if token.start() >= at:
            break
        at += len(token[0]) - len(_PYTHON_TOKENS.get(token[0], token[0]))
    return at


def _object(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    unique = dict(pairs)
    return unique if len(unique) == len(pairs) else DuplicateKeys(pairs)


def _integer(text: str) -> int | float:
    """An integer beyond 64 bits becomes a double."""
    value = int(text) if len(text) < 21 else _LARGE
    return value if -(2**63) <= value < 2**64 else _double(text)


def _double(text: str) -> float:
    value = float(text)
    if math.isinf(value):
        raise jsonerrors.TooBig(text)
    return value


_SECOND_B64 = re.compile(rb',\s*"b64"')
_BASE64 = re.compile(r"([A-Za-z0-9+/]*)([=.]*)")
_NO_BLANKS = dict.fromkeys(map(ord, " \t\n\v\f\r"))
_PYTHON_TOKENS = {"Inf": "Infinity", "-Inf": "-Infinity", "-NaN": "NaN"}
_LARGE = 2**64
_DECODER = json.JSONDecoder(object_pairs_hook=_object, parse_int=_integer, parse_float=_double)


def is_base64(value: Any) -> bool:
    """{"b64": "…"} with nothing else is bytes, not an object."""
    return type(value) is dict and len(value) == 1 and isinstance(value.get("b64"), str)


def has_no_bools(body: bytes) -> bool:
    """Whether `to_array` may let NumPy read the numbers, which reads [true, 1.5] as numbers too."""
    return b"true" not in body and b"false" not in body


def to_array(value: Any, dtype: str, no_bools: bool = False) -> np.ndarray:
    """A value or nested lists as an array of `dtype`; the shape is the nesting. Raises InvalidInput, Unsupported.

    `no_bools` says that no bool is inside (`has_no_bools`), so that NumPy can read numbers in bulk.
    """
    if no_bools and (dtype in FLOATS or dtype in INTEGERS):
        array = _array_in_bulk(value, dtype)
        if array is not None:
            return array
    if dtype not in READABLE:
        while isinstance(value, list) and value:
            value = value[0]
        raise Unsupported(f"Conversion of JSON Value: {excerpt(value)} to type: {_tensorflow(dtype)}")
    shape = _shape(value)
    if len(shape) > tensors.MAX_TENSORFLOW_RANK:
        raise InvalidInput(
            f"JSON Value is nested {len(shape)} lists deep; at most {tensors.MAX_TENSORFLOW_RANK} are supported"
        )
    flat: list[Any] = []
    _fill(value, shape, 0, dtype, flat)
    if dtype == tensors.STRING:
        return tensors.shaped(tensors.strings(flat, [len(flat)]), shape)
    with np.errstate(over="ignore"):  # as in TensorFlow Serving, larger numbers become infinite
        return tensors.shaped(np.array(flat, dtype), shape)


def _array_in_bulk(value: Any, dtype: str) -> np.ndarray | None:
    """The array, if NumPy finds that every element is a number of the right kind and range; else None."""
    try:
        array = np.asarray(value)
    except (ValueError, OverflowError, RecursionError):
        return None
    if array.ndim > tensors.MAX_RANK or array.dtype.kind not in ("iuf" if dtype in FLOATS else "iu"):
        return None
    return _cast(array, dtype)


def _cast(array: np.ndarray, dtype: str) -> np.ndarray | None:
    """Numbers as `dtype`, floats by way of double; None if an integer is out of range."""
    if dtype in FLOATS:
        with np.errstate(over="ignore"):  # as in TensorFlow Serving, larger numbers become infinite
            return array.astype(np.float64, copy=False).astype(dtype, copy=False)
    info = np.iinfo(dtype)
    if array.size and (int(array.min()) < info.min or int(array.max()) > info.max):
        return None
    return array.astype(dtype, copy=False)


def _shape(value: Any) -> list[int]:
    """Lengths along the first elements."""
    shape = []
    while isinstance(value, list):
        shape.append(len(value))
        if not value:
            break
        value = value[0]
    return shape


def _fill(value: Any, shape: list[int], level: int, dtype: str, into: list[Any]) -> None:
    if not isinstance(value, list):
        if level != len(shape):
            raise InvalidInput(
                f"JSON Value: {excerpt(value)} found at incorrect level: {level + 1} in the JSON DOM. "
                f"Expected at level: {len(shape)}"
            )
        into.append(_element(value, dtype))
        return
    if level >= len(shape):
        raise InvalidInput(f"Encountered list at unexpected level: {level} expected < {len(shape)}")
    if len(value) != shape[level]:
        raise InvalidInput(
            f"Encountered list at unexpected size: {len(value)} at level: {level} expected size: {shape[level]}"
        )
    for item in value:
        _fill(item, shape, level + 1, dtype, into)


def _element(value: Any, dtype: str) -> Any:
    kind = type(value)
    if dtype == tensors.STRING:
        text = to_bytes(value)
        if text is not None:
            return text
        if isinstance(value, dict) and "b64" in value:
            raise InvalidInput(f"JSON Value: {excerpt(value)} not formatted correctly for base64 data")
    elif dtype == "bool":
        if kind is bool:
            return value
    elif dtype in FLOATS:
        if kind in (int, float):
            return _to_double(value)
    elif kind is int and np.iinfo(dtype).min <= value <= np.iinfo(dtype).max:
        return value
    raise InvalidInput(
        f"JSON Value: {excerpt(value)} Type: {json_type(value)} is not of expected type: {_tensorflow(dtype)}"
    )


def _to_double(value: int | float) -> float:
    try:
        return float(value)
    except OverflowError:
        raise InvalidInput("JSON Parse error: Number too big to be stored in double.") from None


def to_bytes(value: Any) -> bytes | None:
    """The bytes of a string or of {"b64": …}; None for anything else. Raises InvalidInput."""
    if is_base64(value):
        return _unbase64(value["b64"])
    return _utf8(value) if type(value) is str else None


def _unbase64(text: str) -> bytes:
    """The standard alphabet, with all of the padding or none of it ("=", or "."), whitespace anywhere, and leftover
    bits in the last character: what TensorFlow Serving's decoder (Abseil's Base64Unescape) accepts."""
    if len(text) % 4 == 0 and not text.endswith("==="):  # which Python accepts
        with contextlib.suppress(binascii.Error, ValueError):
            return base64.b64decode(text, validate=True)
    match = _BASE64.fullmatch(text.translate(_NO_BLANKS))
    if not match:
        raise InvalidInput("Unable to base64 decode")
    digits, padding = match.groups()
    missing = -len(digits) % 4
    if missing == 3 or len(padding) not in (0, missing):
        raise InvalidInput("Unable to base64 decode")
    return base64.b64decode(digits + "=" * missing)


def _utf8(text: str) -> bytes:
    try:
        return text.encode("utf-8", "surrogateescape")
    except UnicodeEncodeError:
        raise InvalidInput("JSON Parse error: The surrogate pair in string is invalid.") from None


def from_array(array: np.ndarray, as_bytes: bool = False) -> Any:
    """The array in a form for `dump`: numbers stay an array, strings become text, or {"b64": …} with `as_bytes`."""
    if array.dtype.kind in "OSU":
        values = tensors.string_values(array)
        texts = [_as_base64(v) if as_bytes else v.decode("utf-8", "surrogateescape") for v in values]
        return _nested(texts, array.shape)
    if array.dtype.name not in WRITABLE:
        raise InvalidInput(f"Failed to write JSON value for tensor type: {_tensorflow(array.dtype.name)}")
    if array.dtype.kind == "f" and (array.ndim > tensors.MAX_RANK or not np.isfinite(array).all()):
        return shortest(array)
    if array.ndim > tensors.MAX_RANK:
        return _nested(array.reshape(-1).tolist(), array.shape)
    return np.ascontiguousarray(array) if array.ndim else _scalar(array)


def _scalar(array: np.ndarray) -> Any:
    return float(str(array)) if array.dtype.kind == "f" else array.item()  # str: the shortest digits for float32


def shortest(array: np.ndarray) -> Any:
    """Nested lists of Python floats that print with the shortest digits for the array's own type."""
    return _nested([float(str(v)) for v in array.reshape(-1)], array.shape)


def _nested(values: list[Any], shape: tuple[int, ...]) -> Any:
    """Row-major values as nested lists of this shape."""
    if len(shape) <= tensors.MAX_RANK:
        array = np.empty(len(values), object)
        array[:] = values
        return array.reshape(shape).tolist()
    rest = iter(values)

    def take(sizes: tuple[int, ...]) -> Any:
        return [take(sizes[1:]) for _ in range(sizes[0])] if sizes else next(rest)

    return take(shape)


def _as_base64(value: bytes) -> dict[str, str]:
    return {"b64": base64.b64encode(value).decode()}


def dump(document: Any) -> bytes:
    """JSON text of a document made of `from_array`'s values."""
    if _all_finite(document):
        try:
            return orjson.dumps(document, option=orjson.OPT_SERIALIZE_NUMPY | orjson.OPT_NON_STR_KEYS)
        except orjson.JSONEncodeError:
            pass  # text that is not UTF-8: written as its original bytes
    text = json.dumps(document, ensure_ascii=False, default=_numpy_to_python)
    return text.encode("utf-8", "surrogateescape")


def _all_finite(document: Any) -> bool:
    """False if a NaN or an infinity is inside, for which orjson writes null."""
    if isinstance(document, dict):
        return all(map(_all_finite, document.values()))
    if isinstance(document, list):
        return all(map(_all_finite, document))
    return not isinstance(document, float) or document - document == 0


def _numpy_to_python(value: Any) -> Any:
    return orjson.loads(orjson.dumps(value, option=orjson.OPT_SERIALIZE_NUMPY))


def _tensorflow(dtype: str) -> str:
    return TENSORFLOW_NAMES.get(dtype, dtype)
