import base64
import json
import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from seaway.errors import InvalidInput, SeawayError, Unsupported
from seaway.protocols import jsontensor, tensors
from seaway.protocols.tensors import strings

INF, NAN = float("inf"), float("nan")


@pytest.mark.parametrize(
    "body, value",
    [
        (b'{"a": [1, 2.5]}', {"a": [1, 2.5]}),
        (b' \n{"a": 1} and more', {"a": 1}),  # trailing bytes are ignored
        ('\ufeff{"a": 1}'.encode(), {"a": 1}),
        (b"[NaN, Infinity, -Infinity]", [NAN, INF, -INF]),
        (b'{"a": 1, "a": 2}', {"a": 1}),  # the first counts
        (b'{"a": "x", "b": "a"}', {"a": "x", "b": "a"}),
        (b'["\xff"]', ["\udcff"]),  # bytes that are not UTF-8 pass through
        (b"18446744073709551615", 2**64 - 1),
        (b"[18446744073709551616, NaN]", [float(2**64), NAN]),  # an integer beyond 64 bits becomes a double
        (b"[-9223372036854775808, -9223372036854775809, NaN]", [-(2**63), float(-(2**63)), NAN]),
        (b'[Inf, -Inf, -NaN, "Inf -NaN", Infinity]', [INF, -INF, NAN, "Inf -NaN", INF]),
        (b'{"inputs": {"x": 1, "x": 2}}', {"inputs": {"x": 1}}),
        (b'{"instances": [{"x": 1}, {"x": 2, "x": 3}]}', {"instances": [{"x": 1}, {"x": 2}]}),
        (b'{"instances": [{"x": 1}, {"x": 2}], "b": "x"}', {"instances": [{"x": 1}, {"x": 2}], "b": "x"}),
        (b'["\\ud83d\\ude00 \\\\ud800"]', ["\U0001f600 \\ud800"]),
        (b'["\\u0041"] "\\ud800"', ["A"]),
    ],
)
def test_parse(body, value):
    assert str(jsontensor.parse(body)) == str(value)


@pytest.mark.parametrize(
    "body",
    [
        *(b"", b" \n ", b"hello", b"{'a': 1}", b'{"a": [1', b"[1,]", b"[" * 100_000, b"9" * 5000, b'{"a" 1}', b"\xff"),
        *(b"1e999", b"-1e999", b'["\\ud800"]', b'["\\ude00\\ud83d"]', b'["\\udcff"]', b"[Inf", b'[Inf, "a]', b"+Inf"),
    ],
)
def test_invalid_json(body):
    """Including half a surrogate pair, and numbers beyond a double's range."""
    with pytest.raises(InvalidInput, match="JSON Parse error"):
        jsontensor.parse(body)


@pytest.mark.parametrize(
    "value, dtype, expected",
    [
        ([[1, 2], [3, 4.5]], "float32", np.float32([[1, 2], [3, 4.5]])),
        (7, "float64", np.float64(7)),
        ([0.1], "float64", np.float64([0.1])),
        ([1e300, -1e300], "float32", np.float32([INF, -INF])),
        ([1e-60], "float32", np.float32([0])),
        ([NAN, INF], "float32", np.float32([NAN, INF])),
        ([], "float32", np.zeros(0, np.float32)),
        ([[], []], "int64", np.zeros((2, 0), np.int64)),
        ([2**63 - 1, -(2**63)], "int64", np.int64([2**63 - 1, -(2**63)])),
        ([2**64 - 1], "uint64", np.uint64([2**64 - 1])),
        ([2**32 - 1], "uint32", np.uint32([2**32 - 1])),
        ([-128, 127], "int8", np.int8([-128, 127])),
        ([True, False], "bool", np.array([True, False])),
    ],
)
@pytest.mark.parametrize("no_bools", [False, True])
def test_numbers(value, dtype, expected, no_bools):
    array = jsontensor.to_array(value, dtype, no_bools=no_bools and dtype != "bool")
    assert array.dtype == expected.dtype
    np.testing.assert_array_equal(array, expected)


def test_strings_are_bytes():
    array = jsontensor.to_array([["ü", {"b64": "AP/+"}], ["", "\udcff"]], "str")
    assert array.tolist() == [["ü".encode(), b"\0\xff\xfe"], [b"", b"\xff"]]


@pytest.mark.parametrize(
    "value, dtype, message",
    [
        (["1"], "float32", "String is not of expected type: float"),
        ([None], "float32", "Null"),
        ([True, 1.5], "float32", "True"),
        ([[1, True]], "int64", "True"),
        ([1], "bool", "Number is not of expected type: bool"),
        ([1], "str", "Number is not of expected type: string"),
        ([1.0], "int32", "1.0 Type: Number is not of expected type: int32"),
        ([2**31], "int32", "int32"),
        ([256], "uint8", "uint8"),
        ([-1], "uint8", "uint8"),
        ([2**63], "int64", "int64"),
        ([10**400], "float64", "too big"),
        ([[1, 2], [3]], "float32", "unexpected size: 1 at level: 1 expected size: 2"),
        ([[1], 2], "float32", "found at incorrect level"),
        ([1, [2]], "float32", "unexpected level"),
        ([[], [1]], "float32", "unexpected size"),
        ([{"a": 1}], "float32", "Object"),
        ({"b64": "AAAA"}, "float32", "Object"),
        ({"b64": "###"}, "str", "Unable to base64 decode"),
        (
            jsontensor.parse(b'{"inputs": {"b64": "YQ==", "b64": "Yg=="}}')["inputs"],
            "str",
            "(?s)YQ==.*Yg==.*base64",
        ),
        ({"a": 1}, "str", "Object is not of expected type: string"),
        (["\ud800"], "str", "surrogate"),
    ],
)
def test_values_that_cannot_be_read(value, dtype, message):
    with pytest.raises(InvalidInput, match=message):
        jsontensor.to_array(value, dtype, no_bools=jsontensor.has_no_bools(json.dumps(value).encode()))


def test_a_list_nested_too_deeply():
    value = 1
    for _ in range(255):
        value = [value]
    with pytest.raises(InvalidInput, match="255 lists deep; at most 254"):
        jsontensor.to_array(value, "float32", no_bools=True)


@pytest.mark.parametrize(
    "text, value",
    [
        ("", b""),
        (" \n", b""),
        ("YQ==", b"a"),
        ("YQ", b"a"),
        ("YQ..", b"a"),
        ("YR==", b"a"),  # bits left over
        ("YWI", b"ab"),
        ("YW Jj", b"abc"),
        ("Y\tWJ\r\nj\f\v", b"abc"),
        ("YQ =\n= ", b"a"),
        ("AP/+", b"\0\xff\xfe"),
        (base64.encodebytes(b"x" * 200).decode(), b"x" * 200),
        (base64.encodebytes(b"x" * 200).decode().replace("=", "").replace("\n", "\r\n"), b"x" * 200),
        *(
            (text, None)
            for text in ("Y", "YWJjY", "YQ=", "YWI==", "YWJj=", "YWJj====", "=", "Y=Q=", "YQ==YQ==", "YQ==Y")
        ),
        *((text, None) for text in ("_-8=", "Y\0Q=", "YQ\xa0", "ü", "YQ=\0")),
    ],
)
def test_base64_as_tensorflow_serving_reads_it(text, value):
    if value is None:
        with pytest.raises(InvalidInput, match="Unable to base64 decode"):
            jsontensor.to_array({"b64": text}, "str")
    else:
        assert jsontensor.to_array({"b64": text}, "str").item() == value


@pytest.mark.parametrize("depth", [32, 33, 64, 65, 254])
@pytest.mark.parametrize("dtype", ["float32", "int64", "bool", "str"])
def test_more_dimensions_than_numpy_supports(depth, dtype):
    leaf = {"float32": [0.1, math.nan], "int64": [2**62, -1], "bool": [True, False], "str": ["ü", "b"]}[dtype]
    value = [leaf, leaf]
    for _ in range(depth - 2):
        value = [value]
    text = jsontensor.dump({"outputs": value})
    array = jsontensor.to_array(jsontensor.parse(text)["outputs"], dtype, no_bools=dtype != "bool")
    assert (array.shape, array.ndim, len(array), array.size) == ((*(1,) * (depth - 2), 2, 2), depth, 1, 4)
    assert tensors.dtype_name(array) == dtype
    assert json.loads(jsontensor.dump({"outputs": jsontensor.from_array(array)}).replace(b"NaN", b'"NaN"')) == (
        json.loads(text.replace(b"NaN", b'"NaN"'))
    )


def test_an_empty_array_of_more_dimensions_than_numpy_supports():
    value = []
    for _ in range(99):
        value = [value]
    array = jsontensor.to_array(value, "float32")
    assert (array.shape, array.size) == ((*(1,) * 99, 0), 0)
    assert jsontensor.from_array(array) == value


@pytest.mark.parametrize("dtype", ["float16", "uint16", "complex64", "bfloat16"])
def test_types_that_json_cannot_carry(dtype):
    with pytest.raises(Unsupported):
        jsontensor.to_array([1.0], dtype)


def test_an_error_never_quotes_a_whole_value():
    with pytest.raises(InvalidInput) as raised:
        jsontensor.to_array([["x" * 10_000]], "float32")
    assert len(str(raised.value)) < 300


@pytest.mark.parametrize(
    "array, text",
    [
        (np.float32([0.1, 3]), "[0.1,3.0]"),
        (np.float32(0.1), "0.1"),
        (np.float64(0.1), "0.1"),
        (np.int64(7), "7"),
        (np.zeros((2, 0), np.float32), "[[],[]]"),
        (np.int64([2**63 - 1]), "[9223372036854775807]"),
        (np.array([True]), "[true]"),
        (strings([b"a", b'"\n'], (2,)), '["a","\\"\\n"]'),
        (np.float32([[1, 2], [3, 4]]).T, "[[1.0,3.0],[2.0,4.0]]"),
    ],
)
def test_dump(array, text):
    assert jsontensor.dump(jsontensor.from_array(np.asarray(array))).decode() == text


def test_non_finite_numbers_are_bare_tokens_and_the_others_keep_their_digits():
    body = jsontensor.dump(jsontensor.from_array(np.float32([[NAN, INF], [-INF, 0.99999994]])))
    assert body == b"[[NaN, Infinity], [-Infinity, 0.99999994]]"


def test_a_scalar_that_is_not_finite():
    assert jsontensor.dump({"y": jsontensor.from_array(np.asarray(np.float32(NAN)))}) == b'{"y": NaN}'


def test_text_that_is_not_utf8_is_written_unchanged():
    assert jsontensor.dump(jsontensor.from_array(strings([b"\xff", b"\0"], (2,)))) == b'["\xff", "\\u0000"]'


def test_a_dtype_that_json_cannot_carry():
    with pytest.raises(InvalidInput, match="half"):
        jsontensor.from_array(np.float16([1]))


@settings(deadline=None)
@given(st.recursive(st.none() | st.booleans() | st.integers() | st.floats() | st.text(), st.lists, max_leaves=12))
def test_numpy_and_the_general_reader_agree(value):
    body = json.dumps(value).encode()
    for dtype in ("float32", "int64", "uint8"):
        outcomes = []
        for no_bools in (jsontensor.has_no_bools(body), False):
            try:
                array = jsontensor.to_array(value, dtype, no_bools=no_bools)
                outcomes.append((array.shape, array.dtype, [v if v == v else None for v in array.ravel().tolist()]))
            except SeawayError as error:
                outcomes.append(str(error))
        assert outcomes[0] == outcomes[1]


@settings(deadline=None)
@given(st.binary(max_size=100))
def test_random_bytes_are_refused_or_read(body):
    try:
        jsontensor.parse(body)
    except InvalidInput:
        return


@settings(deadline=None)
@given(st.lists(st.floats(width=32), max_size=20))
def test_floats_round_trip(values):
    array = np.float32(values)
    again = jsontensor.to_array(jsontensor.parse(jsontensor.dump(jsontensor.from_array(array))), "float32")
    assert all(a == b or (math.isnan(a) and math.isnan(b)) for a, b in zip(array.tolist(), again.tolist(), strict=True))


def test_many_names_take_linear_time():
    """20,000 names in a megabyte: a search of the whole body for each would take minutes."""
    body = json.dumps({f"{'name' * 10}{i}": 1 for i in range(20_000)}).encode()
    assert len(jsontensor.parse(body)) == 20_000


def test_tokens_take_linear_time():
    """The same for a text of quotes, where a pattern could start to match anywhere."""
    with pytest.raises(InvalidInput, match="JSON Parse error"):
        jsontensor.parse(b'[Inf, "' + b'\\"' * 500_000)


def test_integers_become_floats_by_way_of_double():
    """So that all readers return the same number."""
    twice_rounded = 2**60 + 2**36 + 1  # to float32 at once: 2**60 + 2**37
    for no_bools in (True, False):
        assert jsontensor.to_array([twice_rounded], "float32", no_bools=no_bools).tolist() == [2.0**60]
