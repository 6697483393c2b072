"""JSON ⇄ arrays by TensorFlow Serving's rules: NaN and Infinity as bare tokens, {"b64": …} for bytes, no coercion.

There are three ways from text to numbers, each the next one's shortcut, with the same values:

    open_regular, regular_array    a document of one regular list of numbers: no Python object is made of any number
    parse, to_array(regular=True)  numbers that NumPy can take in bulk
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
from seaway.protocols.jsonerrors import json_type, shown

# JSON type → "INT32/INT16/INT8/UINT8 need a JSON integer in int32 range", and so on; narrower types wrap silently in
# TensorFlow Serving, a defect that is not copied: each type has its own range here.
INTEGERS = ("int8", "int16", "int32", "int64", "uint8", "uint32", "uint64")
FLOATS = {"float32": "float", "float64": "double"}  # NumPy's name → TensorFlow's, for messages
READABLE = (*INTEGERS, *FLOATS, "bool", tensors.STRING)
WRITABLE = READABLE
TENSORFLOW_NAMES = {**FLOATS, tensors.STRING: "string", "float16": "half"}


_NUMERALS = b"0123456789+-.eE \t\r\n"  # what a list of numbers holds besides brackets and commas
_NAMES = 200  # bytes at either end of a regular document, where keys and a signature's name may stand
_MOST_KEYS = 50  # more are not searched for one by one

# One string, or one of the tokens that TensorFlow Serving's parser takes and Python's does not.
_TOKENS = re.compile(r'"(?:[^"\\]|\\.)*+"?|-NaN|-?Inf(?:inity)?', re.DOTALL)
# One escape sequence; the group holds half a surrogate pair.
_ESCAPES = re.compile(r"\\(?:u[dD][89abAB]..\\u[dD][c-fC-F]..|(u[dD][89a-fA-F]..)|.)", re.DOTALL)


def open_regular(body: bytes) -> simdjson.Object | None:
    """The document, unread, if it is one whole JSON object without quotes in its middle; else None.

    Of equal keys all are in it: that is for the caller to see.
    """
    if body.find(b'"', _NAMES, max(_NAMES, len(body) - _NAMES)) >= 0:
        return None
    try:
        document = simdjson.Parser().parse(body)
    except (ValueError, RuntimeError):
        return None
    return document if isinstance(document, simdjson.Object) else None


def regular_array(document: simdjson.Object, key: str, body: bytes, dtype: str) -> np.ndarray | None:
    """What `to_array` makes of the document's `key`, if that is a regular list of numbers which `dtype` takes.

    Nothing but `key` may hold a list. simdjson has proved the text to be JSON, and takes all numbers out of all lists;
    what brackets and commas are in the text then proves that the lists are as regular as their first elements say.
    """
    held = document[key]
    if not isinstance(held, simdjson.Array) or not (dtype in FLOATS or dtype in INTEGERS):
        return None
    try:
        if dtype in FLOATS:
            numbers: np.ndarray = np.frombuffer(held.as_buffer(of_type="d"), np.float64)
        elif dtype == "uint64":
            numbers = np.frombuffer(held.as_buffer(of_type="u"), np.uint64)
        else:
            numbers = np.frombuffer(held.as_buffer(of_type="i"), np.int64)
    except (TypeError, ValueError):  # something is no number, or not of this kind
        return None
    shape = _first_lengths(held)
    if len(shape) > tensors.MAX_RANK or math.prod(shape) != len(numbers):
        return None
    lists = body[body.find(b"[") : body.rfind(b"]") + 1]
    if lists.translate(None, _NUMERALS) != _brackets(shape):
        return None
    return _cast(numbers.reshape(shape), dtype)


def _first_lengths(value: Any) -> list[int]:
    """Lengths along the first elements, and one more than can be used where there are too many."""
    shape: list[int] = []
    while isinstance(value, simdjson.Array) and len(value) and len(shape) <= tensors.MAX_RANK:
        shape.append(len(value))
        value = value[0]
    return shape


def _brackets(shape: list[int]) -> bytes:
    """What is left of lists of this shape when their numbers are taken away."""
    one = b""
    for length in reversed(shape):
        one = b"[" + (one + b",") * (length - 1) + one + b"]"
    return one


class Repeating(dict[str, Any]):
    """An object that has a key more than once: the first of equal ones counts here, and `pairs` holds them all."""

    def __init__(self, pairs: list[tuple[str, Any]]) -> None:
        super().__init__(reversed(pairs))
        self.pairs = pairs


def pairs(held: dict[str, Any]) -> Iterable[tuple[str, Any]]:
    """An object's keys and values as they were written, equal keys included."""
    return held.pairs if isinstance(held, Repeating) else held.items()


def parse(body: bytes) -> Any:
    """The first JSON document in `body`; what follows it is ignored, and of equal keys the first counts (`pairs`)."""
    try:
        parsed = orjson.loads(body)
    except orjson.JSONDecodeError:
        return _parse_general(body)
    return _parse_general(body) if _may_repeat_keys(parsed, body) else parsed


def _may_repeat_keys(document: Any, body: bytes) -> bool:
    """False where no key can be there twice of the document, of an object right in it, of the rows right in it, or of
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
    return len(counts) > _MOST_KEYS or any(body.count(b'"%s"' % key.encode()) > n for key, n in counts.items())


def _parse_general(body: bytes) -> Any:
    text = sent = body.decode("utf-8", "surrogateescape").removeprefix("\ufeff")
    start = len(text) - len(text.lstrip(" \t\r\n"))
    if start == len(text):
        raise InvalidInput("JSON Parse error: The document is empty")
    if b"Inf" in body or b"-NaN" in body:
        text = _TOKENS.sub(lambda token: _PYTHON_TOKENS.get(token[0], token[0]), text)
    try:
        parsed, end = _DECODER.raw_decode(text, start)
    except (json.JSONDecodeError, jsonerrors.TooBig) as error:
        said, at = jsonerrors.parse_error(error, text)
        before = sent[: at if text is sent else _place(sent, at)]
        offset = len(before.encode("utf-8", "surrogateescape"))
        raise InvalidInput(f"JSON Parse error: {said} at offset: {offset}") from None
    except RecursionError:
        raise InvalidInput("JSON Parse error: the document is nested too deeply") from None
    if "\\u" in text and any(escape[1] for escape in _ESCAPES.finditer(text, start, end)):
        raise InvalidInput("JSON Parse error: The surrogate pair in string is invalid.")
    return parsed


def _place(sent: str, at: int) -> int:
    """Where in `sent` is what is at `at` of the text with Python's tokens."""
    for token in _TOKENS.finditer(sent):
        if token.start() >= at:
            break
        at += len(token[0]) - len(_PYTHON_TOKENS.get(token[0], token[0]))
    return at


def _object(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    made = dict(pairs)
    return made if len(made) == len(pairs) else Repeating(pairs)


def _integer(text: str) -> int | float:
    """Beyond 64 bits an integer is a double."""
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


def may_hold_bools(body: bytes) -> bool:
    """NumPy takes [true, 1.5] for numbers; where this is False, `to_array` may leave them to it."""
    return b"true" in body or b"false" in body


def to_array(value: Any, dtype: str, regular: bool = False) -> np.ndarray:
    """A value or nested lists as an array of `dtype`; the shape is the nesting. Raises InvalidInput, Unsupported.

    `regular` says that no bool is inside (`may_hold_bools`), so that numbers can take the short way.
    """
    if regular and (dtype in FLOATS or dtype in INTEGERS):
        array = _regular(value, dtype)
        if array is not None:
            return array
    if dtype not in READABLE:
        while isinstance(value, list) and value:
            value = value[0]
        raise Unsupported(f"Conversion of JSON Value: {shown(value)} to type: {_tensorflow(dtype)}")
    shape = _shape(value)
    if len(shape) > tensors.DEEPEST:
        raise InvalidInput(f"JSON Value is nested {len(shape)} lists deep; at most {tensors.DEEPEST} are supported")
    flat: list[Any] = []
    _fill(value, shape, 0, dtype, flat)
    if dtype == tensors.STRING:
        return tensors.shaped(tensors.strings(flat, [len(flat)]), shape)
    with np.errstate(over="ignore"):  # "|x| > FLT_MAX -> +-inf"
        return tensors.shaped(np.array(flat, dtype), shape)


def _regular(value: Any, dtype: str) -> np.ndarray | None:
    """The array where NumPy finds that every element is a number of the right kind and range, else None."""
    try:
        array = np.asarray(value)
    except (ValueError, OverflowError, RecursionError):
        return None
    if array.ndim > tensors.MAX_RANK or array.dtype.kind not in ("iuf" if dtype in FLOATS else "iu"):
        return None
    return _cast(array, dtype)


def _cast(array: np.ndarray, dtype: str) -> np.ndarray | None:
    """Numbers as `dtype`, floats by way of double; None where an integer is out of range."""
    if dtype in FLOATS:
        with np.errstate(over="ignore"):  # "|x| > FLT_MAX -> +-inf"
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
                f"JSON Value: {shown(value)} found at incorrect level: {level + 1} in the JSON DOM. "
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
            raise InvalidInput(f"JSON Value: {shown(value)} not formatted correctly for base64 data")
    elif dtype == "bool":
        if kind is bool:
            return value
    elif dtype in FLOATS:
        if kind in (int, float):
            return _finite_or_token(value)
    elif kind is int and np.iinfo(dtype).min <= value <= np.iinfo(dtype).max:
        return value
    raise InvalidInput(
        f"JSON Value: {shown(value)} Type: {json_type(value)} is not of expected type: {_tensorflow(dtype)}"
    )


def _finite_or_token(value: int | float) -> float:
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
    """The standard alphabet, with all of the padding or none of it ("=", or "."), and blanks anywhere: what TensorFlow
    Serving's decoder (Abseil's Base64Unescape) takes, which has bits left over in the last character, too."""
    if len(text) % 4 == 0 and not text.endswith("==="):  # which Python takes
        with contextlib.suppress(binascii.Error, ValueError):
            return base64.b64decode(text, validate=True)
    found = _BASE64.fullmatch(text.translate(_NO_BLANKS))
    if not found:
        raise InvalidInput("Unable to base64 decode")
    digits, padding = found.groups()
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
    """The array as what `dump` takes: numbers stay an array, strings become text, or {"b64": …} with `as_bytes`."""
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
    return float(str(array)) if array.dtype.kind == "f" else array.item()  # str: float32's own shortest digits


def shortest(array: np.ndarray) -> Any:
    """Nested lists of Python floats that are written with the digits that float32, or whatever it is, needs."""
    return _nested([float(str(v)) for v in array.reshape(-1)], array.shape)


def _nested(values: list[Any], shape: tuple[int, ...]) -> Any:
    """Row by row, as the lists of lists that `shape` says."""
    if len(shape) <= tensors.MAX_RANK:
        held = np.empty(len(values), object)
        held[:] = values
        return held.reshape(shape).tolist()
    left = iter(values)

    def take(sizes: tuple[int, ...]) -> Any:
        return [take(sizes[1:]) for _ in range(sizes[0])] if sizes else next(left)

    return take(shape)


def _as_base64(value: bytes) -> dict[str, str]:
    return {"b64": base64.b64encode(value).decode()}


def dump(document: Any) -> bytes:
    """JSON text of a document made of `from_array`'s values."""
    if _plain(document):
        try:
            return orjson.dumps(document, option=orjson.OPT_SERIALIZE_NUMPY | orjson.OPT_NON_STR_KEYS)
        except orjson.JSONEncodeError:
            pass  # text that is no UTF-8: written as the bytes it came as
    text = json.dumps(document, ensure_ascii=False, default=_plain_numpy)
    return text.encode("utf-8", "surrogateescape")


def _plain(document: Any) -> bool:
    """False where a NaN or an infinity is inside, for which orjson writes null."""
    if isinstance(document, dict):
        return all(map(_plain, document.values()))
    if isinstance(document, list):
        return all(map(_plain, document))
    return not isinstance(document, float) or document - document == 0


def _plain_numpy(value: Any) -> Any:
    return orjson.loads(orjson.dumps(value, option=orjson.OPT_SERIALIZE_NUMPY))


def _tensorflow(dtype: str) -> str:
    return TENSORFLOW_NAMES.get(dtype, dtype)
