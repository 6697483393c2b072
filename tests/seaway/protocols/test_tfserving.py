import json

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from seaway.card import Tensor
from seaway.errors import InvalidInput, SeawayError, Unsupported
from seaway.protocols import tfserving
from seaway.protocols.tensors import strings
from seaway.protocols.tfserving import Route, VersionStatus

X = (Tensor("x", "float32", (None,)),)
AB = (Tensor("a", "float32", (None, 2)), Tensor("b", "int32", (None,)))
WORDS = (Tensor("s", "str", (None,)),)
HALF = (Tensor("x", "float16", (None,)),)


def read(body, inputs=X):
    return tfserving.read_inputs(tfserving.read_predict(body), inputs)


@pytest.mark.parametrize(
    "method, target, route",
    [
        ("POST", "/v1/models/m:predict", Route("predict", "m", None, None)),
        ("POST", "/v1/models/m/versions/12:predict", Route("predict", "m", 12, None)),
        ("POST", "/v1/models/m/labels/stable:classify", Route("classify", "m", None, "stable")),
        ("POST", "/V1/Models/h%61lf%2F%3A:regress", Route("regress", "half/:", None, None)),
        ("GET", "/v1/models/m", Route("status", "m", None, None)),
        ("GET", "/v1/models/m?x=1", Route("status", "m?x=1", None, None)),
        ("GET", "/v1/models/m/versions/3/metadata", Route("metadata", "m", 3, None)),
        ("GET", "/v1/models/m/labels/l/metadata", Route("metadata", "m", None, "l")),
    ],
)
def test_paths(method, target, route):
    assert tfserving.read_path(method, target) == route


@pytest.mark.parametrize(
    "method, target, said",
    [
        ("GET", "/v1/models", "Missing model name"),
        ("GET", "/v1/models/m:predict", "Malformed request: GET /v1/models/m:predict"),
        ("POST", "/v1/models/m", "Malformed"),
        ("POST", "/v1/models/m/metadata", "Malformed"),
        ("POST", "/v1/models/m:predict?x=1", "Malformed"),
        ("POST", "/v1/models/m:Predict", "Malformed"),
        ("POST", "/v1/models/m/versions/1/labels/l:predict", "Malformed"),
        ("PUT", "/v1/models/m:predict", "Malformed"),
        ("GET", "/v1/models/m/version/1", "Malformed"),
        ("GET", "/v1/models/m/versions/9223372036854775808", "Failed to convert version"),
        ("GET", "/v1/models/m/versions/" + "9" * 5000, "Failed to convert version"),
    ],
)
def test_paths_that_are_none(method, target, said):
    with pytest.raises(InvalidInput, match=said):
        tfserving.read_path(method, target)


ROWS = [
    (b'{"instances": [1, 2.5]}', X, {"x": np.float32([1, 2.5])}),
    (b'{"instances": [{"x": 1}, {"x": 2}]}', X, {"x": np.float32([1, 2])}),
    (b'{"instances": [[[1], [2]]], "other": 1}', X, {"x": np.float32([[[1], [2]]])}),
    (b'{"instances": [{"a": [1, 2], "b": 3}]}', AB, {"a": np.float32([[1, 2]]), "b": np.int32([3])}),
    (b'{"instances": [{"b64": "AA=="}, "b"]}', WORDS, {"s": strings([b"\0", b"b"], (2,))}),
    (b'{"instances": [{"s": {"b64": "AA=="}}]}', WORDS, {"s": strings([b"\0"], (1,))}),
]
COLUMNS = [
    (b'{"inputs": [1, 2]}', X, {"x": np.float32([1, 2])}),
    (b'{"inputs": 2.5}', X, {"x": np.float32(2.5)}),
    (b'{"inputs": {"x": [1], "more": 3}}', X, {"x": np.float32([1])}),
    (b'{"inputs": {"a": [[1, 2]], "b": [3]}}', AB, {"a": np.float32([[1, 2]]), "b": np.int32([3])}),
    (b'{"inputs": {"b64": "AA=="}}', WORDS, {"s": strings([b"\0"], ())}),
]


@pytest.mark.parametrize("row, cases", [(True, ROWS), (False, COLUMNS)])
def test_inputs(row, cases):
    for body, inputs, expected in cases:
        arrays, was_row = read(body, inputs)
        assert was_row is row
        assert arrays.keys() == expected.keys()
        for name, array in expected.items():
            assert arrays[name].dtype == array.dtype
            np.testing.assert_array_equal(arrays[name], array)


@pytest.mark.parametrize(
    "body, inputs, said",
    [
        (b"[1]", X, r"\[1\] Is not object"),
        (b'{"signature_name": 1}', X, "'signature_name' key must be a string"),
        (b"{}", X, "Missing 'inputs' or 'instances'"),
        (b'{"instances": [1], "inputs": [1]}', X, "expecting only one of"),
        (b'{"instances": 1}', X, "to be an list/array"),
        (b'{"instances": []}', X, "No values in 'instances'"),
        (b'{"instances": ["a"]}', X, "element: 0 of 'instances' list. Error: INVALID_ARGUMENT.*String"),
        (b'{"instances": [[1, 2], [3]]}', X, "element: 1 .*Expecting tensor size: 2 but got: 1"),
        (b'{"instances": [[1, 2], [[3, 4]]]}', X, r"element: 1 .*Expecting shape \[2\] but got: \[1, 2\]"),
        (b'{"instances": [1, {"x": 2}]}', X, "Expecting value/list but got object"),
        (b'{"instances": [{"x": 1}, 2]}', X, "Expecting object but got list"),
        (b'{"instances": [{"z": 1}]}', X, "does not have named input: z"),
        (b'{"instances": [1]}', AB, "instances is a plain list"),
        (b'{"instances": [{"a": [1, 2]}]}', AB, "keys must be equal to: a,b"),
        (b'{"instances": [{"a": [1, 2], "b": 1.0}]}', AB, "element: 0 key: b .*int32"),
        (b'{"inputs": [1]}', AB, "inputs is a plain value/list"),
        (b'{"inputs": {"a": [[1, 2]]}}', AB, "Missing named input: b"),
        (b'{"inputs": null}', X, "Null"),
        (b'{"instances": [1.0]}', HALF, "UNIMPLEMENTED"),
    ],
)
def test_bodies_that_cannot_be_used(body, inputs, said):
    with pytest.raises(InvalidInput, match=said):
        read(body, inputs)


def test_a_column_of_a_type_that_json_does_not_carry_is_unimplemented():
    with pytest.raises(Unsupported):
        read(b'{"inputs": [1.0]}', HALF)


def test_an_empty_signature_name_is_the_default():
    assert tfserving.read_predict(b'{"signature_name": ""}').signature == "serving_default"


OUTPUTS = {"y": np.float32([1, 2]), "name_bytes": strings([b"\xff", b"b"], (2,)), "n": np.int64([[1], [2]])}


@pytest.mark.parametrize(
    "outputs, row, document",
    [
        ({"y": np.float32([1, 2])}, True, {"predictions": [1.0, 2.0]}),
        ({"y": np.float32([1, 2])}, False, {"outputs": [1.0, 2.0]}),
        ({"y": np.asarray(np.float32(3))}, False, {"outputs": 3.0}),
        ({"y": np.zeros((0, 2), np.float32)}, True, {"predictions": []}),
        (
            OUTPUTS,
            True,
            {
                "predictions": [
                    {"y": 1.0, "name_bytes": {"b64": "/w=="}, "n": [1]},
                    {"y": 2.0, "name_bytes": {"b64": "Yg=="}, "n": [2]},
                ]
            },
        ),
        (
            OUTPUTS,
            False,
            {"outputs": {"y": [1.0, 2.0], "name_bytes": [{"b64": "/w=="}, {"b64": "Yg=="}], "n": [[1], [2]]}},
        ),
    ],
)
def test_answers(outputs, row, document):
    assert json.loads(tfserving.write_predict(outputs, row)) == document


@pytest.mark.parametrize(
    "outputs, said",
    [
        ({"y": np.asarray(np.float32(3))}, "no shape information"),
        ({"y": np.zeros(2), "z": np.zeros(3)}, "inconsistent batch size"),
    ],
)
def test_outputs_that_are_no_rows(outputs, said):
    with pytest.raises(InvalidInput, match=said):
        tfserving.write_predict(outputs, True)


@pytest.mark.parametrize("row", [True, False])
@pytest.mark.parametrize(
    "inputs",
    [
        {"x": np.float32([[0.1, np.nan], [np.inf, 3]])},
        {"a": np.float32([[1, 2]]), "b": np.int32([7])},
        {"s": strings([b"\x89PNG\r\n", b""], (2,))},
        {"s": np.array(["ü", "b"])},
    ],
)
def test_what_a_client_writes_the_server_reads(inputs, row):
    declared = [Tensor(name, "str" if a.dtype.kind in "OU" else a.dtype.name, a.shape) for name, a in inputs.items()]
    request = tfserving.read_predict(tfserving.write_predict_request(inputs, "sig", row))
    assert request.signature == "sig"
    arrays, was_row = tfserving.read_inputs(request, declared)
    assert was_row is row
    for name, array in inputs.items():
        expected = np.char.encode(array, "utf-8") if array.dtype.kind == "U" else array
        np.testing.assert_array_equal(arrays[name], expected.astype(object) if array.dtype.kind == "U" else expected)


@pytest.mark.parametrize("row", [True, False])
def test_what_the_server_answers_a_client_reads(row):
    answer = tfserving.read_predict_answer(tfserving.write_predict(OUTPUTS, row))
    assert answer.keys() == OUTPUTS.keys()
    for name, array in OUTPUTS.items():
        np.testing.assert_array_equal(answer[name], array)
    sole = tfserving.read_predict_answer(tfserving.write_predict({"y": np.float32([[1, np.nan]])}, row))
    np.testing.assert_array_equal(sole[""], [[1, np.nan]])


@pytest.mark.parametrize(
    "body, said", [(b'{"error": "no model"}', "no model"), (b"[]", "not a predict"), (b"<html>", "JSON")]
)
def test_answers_that_are_none(body, said):
    with pytest.raises(InvalidInput, match=said):
        tfserving.read_predict_answer(body)


def test_inputs_of_unequal_length_are_no_rows():
    with pytest.raises(InvalidInput, match="equal length"):
        tfserving.write_predict_request({"a": np.zeros(2), "b": np.zeros(3)})


def test_status_both_ways_newest_first():
    listed = [VersionStatus(1, "AVAILABLE"), VersionStatus(2, "END", "it does not load")]
    body = tfserving.write_status(listed)
    assert tfserving.read_status(body) == listed[::-1]
    assert json.loads(body)["model_version_status"][1] == {
        "version": "1", "state": "AVAILABLE", "status": {"error_code": "OK", "error_message": ""}
    }  # fmt: skip
    with pytest.raises(InvalidInput):
        tfserving.read_status(b'{"error": "x"}')


def test_an_error_is_json_whatever_it_quotes():
    assert json.loads(tfserving.write_error('bad \udcff "x"'))["error"]


@settings(deadline=None)
@given(
    st.recursive(
        st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5),
        lambda v: (
            st.lists(v, max_size=4)
            | st.dictionaries(st.sampled_from(["x", "a", "b", "b64", "instances", "inputs"]), v, max_size=3)
        ),
    )
)
def test_any_document_is_refused_or_read(value):
    for document in (value, {"instances": value}, {"inputs": value}):
        for inputs in (X, AB, WORDS):
            try:
                read(json.dumps(document).encode(), inputs)
            except SeawayError:
                continue
