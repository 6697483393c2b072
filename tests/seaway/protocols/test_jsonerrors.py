"""Messages and offsets beyond those of the recordings of TensorFlow Serving, which test_tfserving has."""

import json

import pytest

from seaway.errors import InvalidInput
from seaway.protocols import jsonerrors, jsontensor

COLON = "Missing a colon after a name of object member."
IN_ARRAY, IN_OBJECT = "a comma or ']' after an array element.", "a comma or '}' after an object member."
NAME, VALUE = "Missing a name for object member.", "Invalid value."
QUOTE, ESCAPE = "Missing a closing quotation mark in string.", "Invalid escape character in string."
HEX, LARGE = "Incorrect hex digit after \\u escape in string.", "Number too big to be stored in double."


@pytest.mark.parametrize(
    "text, message, offset",
    [
        ('{"a" 1}', COLON, 5),
        ('{"a": 1, }', NAME, 9),
        ('{"a": 1,\n"b" 2}', COLON, 13),
        ("[1, ]", VALUE, 4),
        ("[1,]", VALUE, 3),
        ("[-]", VALUE, 2),
        ('{"a": [1, {"b": 2} 3]}', f"Missing {IN_ARRAY}", 19),
        ('{"a": [1, {"b": [2] 3}]}', f"Missing {IN_OBJECT}", 20),
        ('  {"a": "]" 3}', f"Missing {IN_OBJECT}", 12),
        ('["a', QUOTE, 3),
        (r'["a\x"]', ESCAPE, 3),
        (r'["\\\x"]', ESCAPE, 4),
        (r'["\u12"]', HEX, 2),
        ('["ü", x]', VALUE, 7),  # bytes, not characters
        ("[Inf, -Inf, -NaN, x]", VALUE, 18),
        ('["Inf", Infinity, x]', VALUE, 18),
        ("[Inf, 1e400]", LARGE, 6),
        ('["1e400", 1, -1e400]', LARGE, 13),
        ('["1e400", 1e400]', LARGE, 10),
        ("[11e400, 1e400]", LARGE, 1),
        (f"[1, {'9' * 400}]", LARGE, 4),
    ],
)
def test_messages_and_offsets(text, message, offset):
    with pytest.raises(InvalidInput) as caught:
        jsontensor.parse(text.encode())
    assert str(caught.value) == f"JSON Parse error: {message} at offset: {offset}"


@pytest.mark.parametrize(
    "text, python_message, at, expected",
    [
        ("[1 , ]", "Illegal trailing comma before end of array", 3, (VALUE, 5)),
        ('{"a": 1,}', "Illegal trailing comma before end of object", 7, (NAME, 8)),
    ],
)
def test_messages_of_newer_pythons(text, python_message, at, expected):
    assert jsonerrors.parse_error(json.JSONDecodeError(python_message, text, at), text) == expected


@pytest.mark.parametrize(
    "value, text",
    [
        ({}, "{}"),
        ([], "[]"),
        ([1, [2.0, None], True], "[1, [2.0, null], true]"),
        ({"a": {"b": [1, 2]}, "c": "ü"}, '{\n    "a": {\n        "b": [1, 2]\n    },\n    "c": "\\u00fc"\n}'),
        ([{"a": 1}], '[{\n        "a": 1\n    }]'),
        ("x" * 118, '"' + "x" * 118 + '"'),
        ("x" * 119, '"' + "x" * 119 + "…"),
        ([1] * 10**6, "[" + "1, " * 39 + "1,…"),
    ],
)
def test_excerpt(value, text):
    assert jsonerrors.excerpt(value) == text


def test_excerpt_of_lists_deeper_than_the_recursion_limit():
    deep = []
    for _ in range(100_000):
        deep = [deep]
    assert jsonerrors.excerpt(deep) == "[" * 120 + "…"
