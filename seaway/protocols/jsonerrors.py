"""Excerpts of JSON and its errors, in TensorFlow Serving's words, because clients may match on them."""

import json
import re
from collections.abc import Iterator
from typing import Any

MAX_SHOWN = 120  # characters of a value that an error quotes

_INDENT = "    "
_IN_ARRAY, _IN_OBJECT = "a comma or ']' after an array element.", "a comma or '}' after an object member."
_PHRASES = {  # the beginning of Python's message → RapidJSON's, which is TensorFlow Serving's parser
    "Expecting value": "Invalid value.",
    "Illegal trailing comma before end of array": "Invalid value.",
    "Expecting property name": "Missing a name for object member.",
    "Illegal trailing comma before end of object": "Missing a name for object member.",
    "Expecting ':' delimiter": "Missing a colon after a name of object member.",
    "Invalid \\u": "Incorrect hex digit after \\u escape in string.",
    "Invalid \\escape": "Invalid escape character in string.",
    "Invalid control character": "Invalid escape character in string.",
    "Unterminated string": "Missing a closing quotation mark in string.",
}
_STRING_OR_NUMBER = re.compile(r'"(?:[^"\\]|\\.)*+"?|-?[0-9]+(?:\.[0-9]+)?(?:[eE][-+]?[0-9]+)?', re.DOTALL)
_GRAMMAR = json.JSONDecoder(parse_int=str, parse_float=str)


class TooBig(Exception):
    """A number beyond a double's range; its text is the only argument."""


def parse_error(error: json.JSONDecodeError | TooBig, text: str) -> tuple[str, int]:
    """The description of what is wrong with `text`, and its position."""
    if isinstance(error, TooBig):
        positions = (match.start() for match in _STRING_OR_NUMBER.finditer(text) if match[0] == error.args[0])
        return "Number too big to be stored in double.", next(positions)
    if error.msg.startswith("Expecting ',' delimiter"):
        return f"Missing {_IN_ARRAY if _in_array(text, error.pos) else _IN_OBJECT}", error.pos
    phrase = next((phrase for start, phrase in _PHRASES.items() if error.msg.startswith(start)), "Invalid value.")
    return phrase, _moved(error, text)


def _moved(error: json.JSONDecodeError, text: str) -> int:
    """The position that TensorFlow Serving would name, where Python names another nearby."""
    at = error.pos
    if error.msg.startswith("Unterminated string"):
        return len(text)
    if error.msg.startswith("Invalid \\"):
        return text.rfind("\\", 0, at + 1)  # where the escape sequence begins
    if error.msg.startswith("Illegal trailing comma"):  # since Python 3.13
        return len(text) - len(text[at + 1 :].lstrip(" \t\r\n"))
    return at + 1 if text[at : at + 1] == "-" else at  # no digit follows a minus


def _in_array(text: str, at: int) -> bool:
    """Whether the innermost open container at `at` is an array: then a bracket closes it."""
    try:
        _GRAMMAR.raw_decode(text[:at] + "]", len(text) - len(text.lstrip(" \t\r\n")))
    except json.JSONDecodeError as error:
        return error.pos > at
    except RecursionError:
        return True  # nested as deep as Python can read: nobody nests objects like that
    return True


def excerpt(value: Any) -> str:
    """A value as an error quotes it: in TensorFlow Serving's layout, truncated to MAX_SHOWN."""
    text = ""
    for part in _parts(value, "\n"):
        text += part
        if len(text) > MAX_SHOWN:
            return text[:MAX_SHOWN] + "…"
    return text


def _parts(value: Any, line: str) -> Iterator[str]:
    """An object has a line for each key, a list is on one line."""
    if isinstance(value, dict) and value:
        for i, (key, item) in enumerate(getattr(value, "pairs", value.items())):  # jsontensor.DuplicateKeys
            yield f"{',' if i else '{'}{line}{_INDENT}{json.dumps(key)}: "
            yield from _parts(item, line + _INDENT)
        yield line + "}"
    elif isinstance(value, list):
        yield "["
        for i, item in enumerate(value):
            yield ", " if i else ""
            yield from _parts(item, line + _INDENT)
        yield "]"
    else:
        yield json.dumps(value)


def json_type(value: Any) -> str:
    """The JSON type's name in TensorFlow Serving's errors."""
    if isinstance(value, bool):
        return str(value)
    if isinstance(value, dict):
        return "Object"
    return {type(None): "Null", str: "String", list: "Array"}.get(type(value), "Number")
