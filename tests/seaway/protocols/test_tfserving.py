import json
import sys
from pathlib import Path

import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from seaway.artifacts.artifact_metadata import Tensor
from seaway.errors import InvalidInput, NotFound, SeawayError, Unsupported
from seaway.protocols import client_codecs, tfserving
from seaway.protocols.calls import Call, ModelVersionInfo, RawRequest, Signature
from seaway.protocols.tensors import strings
from seaway.protocols.tfserving import Route, VersionStatus

sys.path.append(str(Path(__file__).resolve().parents[2] / "fixtures"))
from recordings import OWN_MESSAGES, check_message, parameters, parsed, same
from recordings import tfserving as recordings

X = (Tensor("x", "float32", (None,)),)
AB = (Tensor("a", "float32", (None, 2)), Tensor("b", "int32", (None,)))
WORDS = (Tensor("s", "str", (None,)),)
HALF = (Tensor("x", "float16", (None,)),)


def model_info(inputs, signature="serving_default"):
    return ModelVersionInfo("m", 1, "m/1@0", {signature: Signature(tuple(inputs), ())})


def read(body, inputs=X):
    """The input arrays, and whether they were in row format."""
    call = tfserving.read(RawRequest("predict", body), model_info(inputs))
    assert call.outputs is None
    return call.inputs, call.response_format == "row"


def write(outputs, row):
    call = Call("serving_default", {}, None, "row" if row else "column")
    reply = tfserving.write(call, outputs, model_info(X))
    assert reply.status == 200
    return reply.body


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
    "method, target, message",
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
        ("GET", "/v1/models/m/versions/" + "0" * 20 + "9" * 20, "Failed to convert version"),
    ],
)
def test_invalid_paths(method, target, message):
    with pytest.raises(InvalidInput, match=message):
        tfserving.read_path(method, target)


@pytest.mark.parametrize("zeros", [1, 20, 5000])
def test_leading_zeros_of_a_version_are_ignored(zeros):
    assert tfserving.read_path("GET", f"/v1/models/m/versions/{'0' * zeros}").version == 0
    assert tfserving.read_path("GET", f"/v1/models/m/versions/{'0' * zeros}12").version == 12


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
    "body, inputs, message",
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
def test_invalid_bodies(body, inputs, message):
    with pytest.raises(InvalidInput, match=message):
        read(body, inputs)


def test_a_column_of_a_type_that_json_cannot_carry_is_unimplemented():
    with pytest.raises(Unsupported):
        read(b'{"inputs": [1.0]}', HALF)


def test_the_signature_is_the_named_one_or_the_default():
    half = model_info(X, "half")
    for body in (b'{"signature_name": "half", "instances": [1]}', b'{"signature_name": "half", "inputs": {"x": 1}}'):
        assert tfserving.read(RawRequest("predict", body), half).signature == "half"
    for body in (b'{"instances": [1]}', b'{"instances": [1], "signature_name": ""}', b'{"inputs": {"x": 1}}'):
        assert tfserving.read(RawRequest("predict", body), model_info(X)).signature == "serving_default"
        with pytest.raises(InvalidInput, match='signature name: "serving_default" not found in signature def'):
            tfserving.read(RawRequest("predict", body), half)


@pytest.mark.parametrize(
    "body, message", [(b"x", "JSON Parse"), (b"[]", "object"), (b'{"signature_name": 1}', "string")]
)
def test_a_body_is_checked_before_its_model_is_looked_up(body, message):
    tfserving.check(b'{"instances": 3}')
    with pytest.raises(InvalidInput, match=message):
        tfserving.check(body)


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
def test_responses(outputs, row, document):
    assert json.loads(write(outputs, row)) == document


@pytest.mark.parametrize(
    "outputs, message",
    [
        ({"y": np.asarray(np.float32(3))}, "no shape information"),
        ({"y": np.zeros(2), "z": np.zeros(3)}, "inconsistent batch size"),
    ],
)
def test_outputs_that_do_not_fit_rows(outputs, message):
    with pytest.raises(InvalidInput, match=message):
        write(outputs, True)


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
def test_the_server_reads_client_requests(inputs, row):
    declared = [Tensor(name, "str" if a.dtype.kind in "OU" else a.dtype.name, a.shape) for name, a in inputs.items()]
    body = tfserving.write_predict_request(inputs, "sig", row)
    call = tfserving.read(RawRequest("predict", body), model_info(declared, "sig"))
    assert (call.signature, call.response_format) == ("sig", "row" if row else "column")
    arrays = call.inputs
    for name, array in inputs.items():
        expected = np.char.encode(array, "utf-8") if array.dtype.kind == "U" else array
        np.testing.assert_array_equal(arrays[name], expected.astype(object) if array.dtype.kind == "U" else expected)


@pytest.mark.parametrize("row", [True, False])
def test_a_client_reads_server_responses(row):
    arrays = tfserving.read_predict_response(write(OUTPUTS, row))
    assert arrays.keys() == OUTPUTS.keys()
    for name, array in OUTPUTS.items():
        np.testing.assert_array_equal(arrays[name], array)
    sole = tfserving.read_predict_response(write({"y": np.float32([[1, np.nan]])}, row))
    np.testing.assert_array_equal(sole[""], [[1, np.nan]])


@pytest.mark.parametrize(
    "body, message", [(b'{"error": "no model"}', "no model"), (b"[]", "not a predict"), (b"<html>", "JSON")]
)
def test_invalid_responses(body, message):
    with pytest.raises(InvalidInput, match=message):
        tfserving.read_predict_response(body)


def test_inputs_of_unequal_length_do_not_fit_rows():
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
    reply = tfserving.error(NotFound('bad \udcff "x"'))
    assert reply.status == 404
    assert json.loads(reply.body)["error"] == 'bad ? "x"'


@pytest.mark.parametrize(
    "array, text",
    [
        (np.float32([[0.1, 3], [1e-9, 2**24]]), b"[[0.1,3.0],[1e-9,16777216.0]]"),
        (np.float32([[1, 2], [3, 4]]).T, b"[[1.0,3.0],[2.0,4.0]]"),
        (np.float32([[np.nan, np.inf], [-np.inf, 0.1]]), b"[[NaN, Infinity], [-Infinity, 0.1]]"),
        (np.float64([0.1]), b"[0.1]"),
        (np.array([np.iinfo(np.int64).min]), b"[-9223372036854775808]"),
        (np.zeros((0, 3), np.float32), b"[]"),
        (np.array([True]), b"[true]"),
    ],
)
def test_numbers_have_their_shortest_digits(array, text):
    for row, key in ((True, b"predictions"), (False, b"outputs")):
        written = write({"y": array}, row)
        assert written.replace(b'": ', b'":') == b'{"%s":%s}' % (key, text)


# ---- the shortcut to numbers, and the general reader


def outcome(reader, body, inputs):
    """Everything about a call or an error, arrays bit for bit."""
    try:
        call = reader(RawRequest("predict", body), model_info(inputs))
    except SeawayError as error:
        return type(error), str(error)
    return call.signature, call.outputs, call.response_format, {
        name: (a.dtype, a.shape, a.tolist() if a.dtype == object else a.tobytes()) for name, a in call.inputs.items()
    }  # fmt: skip


def read_without_shortcut(raw_request, model_info):
    request = tfserving.read_predict(raw_request.body)
    signature = model_info.signatures.get(request.signature)
    if signature is None:
        raise InvalidInput(f'Serving signature name: "{request.signature}" not found in signature def')
    inputs, row = tfserving.read_inputs(request, signature.inputs)
    return Call(request.signature, inputs, None, "row" if row else "column")


def takes_shortcut(body, inputs):
    return tfserving._read_regular(body, model_info(inputs)) is not None


DTYPES = ["float32", "float64", "int8", "int64", "uint32", "uint64"]
NUMERALS = st.one_of(
    st.integers(-300, 300).map(str),
    st.integers(-(2**63), 2**64 - 1).map(str),
    st.floats(allow_nan=False, allow_infinity=False).map(repr),
    st.decimals(-1000, 1000, places=6).map(str),
    st.sampled_from(["-0", "-0.0", "1E5", "1e-400", "0e0", "9007199254740993", "1152921573326323713", "1e38", "4e38"]),
)


def lists(draw, numerals, shape, comma):
    if not shape:
        return draw(numerals)
    return "[" + comma.join(lists(draw, numerals, shape[1:], comma) for _ in range(shape[0])) + "]"


@st.composite
def regular_bodies(draw, numerals=NUMERALS):
    comma, colon = draw(st.sampled_from([(",", ":"), (", ", ": "), (" ,\n\t", " :\r ")]))
    shape = draw(st.lists(st.integers(1, 3), min_size=1, max_size=4))
    pairs = [f'"{draw(st.sampled_from(["instances", "inputs"]))}"{colon}{lists(draw, numerals, shape, comma)}']
    if draw(st.booleans()):
        pairs.append(f'"signature_name"{colon}"serving_default"')
    body = "{" + comma.join(draw(st.permutations(pairs))) + "}"
    return draw(st.sampled_from(["", "\n "])).encode() + body.encode() + draw(st.sampled_from([b"", b" \r\n"]))


@settings(deadline=None)
@given(regular_bodies(), st.sampled_from(DTYPES))
def test_the_shortcut_reads_the_same(body, dtype):
    inputs = (Tensor("x", dtype, (None,)),)
    assert outcome(tfserving.read, body, inputs) == outcome(read_without_shortcut, body, inputs)


@settings(deadline=None)
@given(regular_bodies(st.floats(-9, 9).map(repr)), st.sampled_from(["float32", "float64"]))
def test_regular_bodies_take_the_shortcut(body, dtype):
    assert takes_shortcut(body, (Tensor("x", dtype, (None,)),))


@st.composite
def mutated_bodies(draw):
    body = bytearray(draw(regular_bodies()))
    for _ in range(draw(st.integers(1, 3))):
        at = draw(st.integers(0, len(body) - 1))
        byte = draw(st.sampled_from(b'[]{},:"0123456789.eE+- \n\\ntfIN\0\xff'))
        match draw(st.sampled_from(["drop", "insert", "replace", "swap"])):
            case "drop":
                del body[at]
            case "insert":
                body.insert(at, byte)
            case "replace":
                body[at] = byte
            case "swap":
                body[at - 1], body[at] = body[at], body[at - 1]
    return bytes(body)


@settings(deadline=None, max_examples=400)
@given(mutated_bodies(), st.sampled_from([X, (Tensor("x", "int64", (None,)),)]))
def test_the_shortcut_gives_the_same_errors_for_nearly_regular_bodies(body, inputs):
    assert outcome(tfserving.read, body, inputs) == outcome(read_without_shortcut, body, inputs)


@pytest.mark.parametrize(
    "value",
    [
        *("[NaN]", "[Infinity]", "[-Infinity]", "[Inf]", "[-Inf]", "[-NaN]", "[nan]", '["1"]', "[null]", "[true]"),
        *('[{"b64": "AA=="}]', '[{"x": 1}]', '{"x": [1]}', "[[1, 2], [3]]", "[[1], 2]", "[1, [2]]", "[]", "[[]]"),
        *("[[], []]", "[[], [1]]", "[[1], []]", "[[], [1, 2]]", "[[1, 2], []]", "[[[1]], [[2, 3]]]", "[1,]", "[,1]"),
        *("[[1][2]]", "[[1]2,[3]]", "[[]1,[2]]", "[1[],2]", "[1 2]", "[1,,2]", "[[1],[2]", "[[1],[2]]]", "[01]"),
        *("[+1]", "[1.]", "[.5]", "[-]", "[1e]", "[1e999]", "[-1e999]", "[- 1]", "[1 .5]", "1", '"[1]"', "[0x1]"),
        *("[1] x", '[1], "x": [2]', '[1], "instances": [2]', '[1], "signature_name": "[2]"', "[[1], [2]] , 3"),
        *('[1], "signature_name": "serving_defaul\\u0074"', '[1], "signature_name": ["serving_default"]'),
        *("[18446744073709551615]", "[18446744073709551616]", "[-9223372036854775809]", "[9007199254740993]"),
        *("[" * 40 + "1" + "]" * 40, "[" * 2000 + "1" + "]" * 2000, "9" * 5000, f"[{'9' * 400}]", f"[{'9' * 300}]"),
    ],
)
def test_the_shortcut_agrees_on_edge_cases(value):
    for key in ("instances", "inputs"):
        for body in (f'{{"{key}": {value}}}', f'{{"signature_name": "serving_default", "{key}": {value}}}'):
            for dtype in (*DTYPES, "bool", "str", "float16"):
                inputs = (Tensor("x", dtype, (None,)),)
                expected = outcome(read_without_shortcut, body.encode(), inputs)
                assert outcome(tfserving.read, body.encode(), inputs) == expected


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
    for document in (value, {"instances": value}, {"inputs": value}, {"examples": value}, {"context": value}):
        refused_or_read(json.dumps(document).encode())


@settings(deadline=None)
@given(st.binary(max_size=60) | mutated_bodies())
@example(b'{"instances": "\\ud800"}')
def test_any_bytes_are_refused_or_read(body):
    refused_or_read(body)


def refused_or_read(body):
    for verb in ("predict", "classify", "regress"):
        for inputs in (X, AB, WORDS, HALF):
            try:
                tfserving.read(RawRequest(verb, body), model_info(inputs))
            except SeawayError:
                continue


# ---- recorded responses of TensorFlow Serving; test_example has those of classify and regress


def identity(x):
    return {"y": x}


def signature(dtype, *outputs, name="x"):
    return Signature((Tensor(name, dtype, ()),), tuple(Tensor(output, dtype, ()) for output in outputs or ("y",)))


def multi(a, b):
    total = a.sum(1, dtype=np.float32) + b.astype(np.float32)
    label = strings([str(v).encode() for v in b.tolist()], b.shape)
    return {"sum": total, "label": label, "pair": np.stack([total, -total], 1)}


def logarithm(x):
    with np.errstate(all="ignore"):
        return {"y": np.log(x)}


TYPES = {
    "strings": (signature("str", "out", "out_bytes", name="s"), lambda s: {"out": s, "out_bytes": s}),
    "bools": (signature("bool"), lambda x: {"y": ~x}),
    "int64s": (signature("int64"), identity),
    "uint8s": (signature("uint8"), identity),
    "int8s": (signature("int8"), identity),
    "uint32s": (signature("uint32"), identity),
    "doubles": (signature("float64"), identity),
    "floats": (signature("float32"), identity),
    "halves": (signature("float16"), identity),
    "scalar": (signature("float32"), lambda x: {"y": np.asarray(x.sum())}),
    "special": (signature("float32"), logarithm),
    "shaped": (signature("float32"), lambda x: {"y": x.sum((1, 2))}),
}
MODELS = {  # (model, version) → signature → (Signature, the model in NumPy)
    ("half", 1): {"serving_default": (Signature(X, ()), lambda x: {"y": x / 2 + 2})},
    ("half", 2): {"serving_default": (Signature(X, ()), lambda x: {"y": x / 2 + 3})},
    ("multi", 7): {"serving_default": (Signature(AB, ()), multi)},
    ("types", 1): TYPES,
}
LATEST = {"half": 2, "multi": 7, "types": 1}
LABELS = {"stable": 1, "canary": 2}
# TensorFlow Serving is silently wrong, or accepts half a surrogate pair; 400 is right
DEVIATIONS = {"uint8-overflow", "int8-overflow", "uint8-negative", "i8-below", "esc-lone-low"}
# Errors of TensorFlow's graph, or a result of another rank; not of the protocol
RAISED_BY_THE_GRAPH = {"shaped-wrong-rank-col", "shaped-empty", "multi-col-scalar-b"}
# Errors of a server: unknown paths and models
RAISED_BY_THE_SERVER = {"path-absolute", "unknown-model", "unknown-version", "unknown-label", "path-name-long"}


def is_predict(recording):
    return (
        recording.method == "POST"
        and recording.verb not in ("classify", "regress")
        and recording.id not in RAISED_BY_THE_GRAPH | RAISED_BY_THE_SERVER
        and "Content-Encoding" not in recording.headers
    )


def respond(recording):
    """(status, body) of a server with MODELS."""
    try:
        route = tfserving.read_path(recording.method, recording.path)
        version = LABELS.get(route.label) if route.label else route.version or LATEST.get(route.model)
        model = MODELS.get((route.model, version))
        if model is None:
            tfserving.check(recording.body)
            raise NotFound(f"Servable not found for request: Latest({route.model})")
        info = ModelVersionInfo(route.model, version, "", {name: signature for name, (signature, _) in model.items()})
        call = tfserving.read(RawRequest(route.verb, recording.body), info)
        reply = tfserving.write(call, model[call.signature][1](**call.inputs), info)
    except SeawayError as error:
        reply = tfserving.error(error)
    return reply.status, reply.body.decode("utf-8", "backslashreplace")


@pytest.mark.parametrize("recording", parameters(is_predict))
def test_responses_match_tensorflow_serving(recording):
    status, body = respond(recording)
    if recording.id in DEVIATIONS:
        assert status == 400
        return
    assert status == recording.status, body
    if status == 200:
        assert same(parsed(recording.text), parsed(body)), body
    else:
        check_message(recording, json.loads(body)["error"])


def test_own_messages_belong_to_recorded_errors():
    own = [name for ours in OWN_MESSAGES.values() for name in ours]
    assert len(own) == len(set(own))
    assert set(own) <= {recording.id for recording in recordings() if "error" in (parsed(recording.text) or {})}


@pytest.mark.parametrize(
    ("shapes", "rows"),
    [([(3, 2)], True), ([(3, 2), (3,)], True), ([(3, 2), (2,)], False), ([(3, 2), ()], False), ([()], False)],
)
def test_a_client_sends_rows_if_all_inputs_have_as_many(shapes, rows):
    inputs = {f"x{n}": np.ones(shape, np.float32) for n, shape in enumerate(shapes)}
    body, _ = client_codecs.TFS.write(inputs, ["y"], "", False)
    assert json.loads(body).keys() == {"instances" if rows else "inputs"}
