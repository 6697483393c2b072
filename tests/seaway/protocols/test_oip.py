import contextlib
import json
import tracemalloc

import numpy as np
import pytest
import tritonclient.http as triton
from hypothesis import given, settings
from hypothesis import strategies as st
from tritonclient.http._utils import _get_inference_request

from seaway.artifacts.artifact_metadata import Tensor
from seaway.errors import InvalidInput, NotFound, SeawayError, Unsupported
from seaway.protocols import oip
from seaway.protocols.calls import BINARY, JSON, Call, ModelVersionInfo, RawRequest, Reply, Signature
from seaway.protocols.oip import Route
from seaway.protocols.oiptensors import DATATYPE_BY_NAME
from seaway.protocols.tensors import DTYPES, strings

NUMBERS = [name for name in DATATYPE_BY_NAME if name != "str"]
WORDS = strings([b"", b"a\0b", "ü€".encode(), b"x"], (2, 2))
BYTES = strings([b"\xff\xfe", b"a"], (2,))
X, Y = Tensor("x", "float32", (None,)), Tensor("y", "float32", (None,))
MODEL = ModelVersionInfo(
    "half",
    2,
    "half/2@abc",
    {
        "another": Signature((X,), (Tensor("double", "float32", (None,)), Y)),
        "serving_default": Signature((X,), (Y,)),
        "pair": Signature((Tensor("a", "float32", (None, 2)), Tensor("b", "str", (None,))), (Y,)),
    },
    platform="tensorflow_savedmodel",
)


def echo_model(dtype, shape=None, labels=()):
    """A model that echoes x, of any rank without a shape."""
    unranked = frozenset("xy") if shape is None else frozenset()
    signature = Signature((Tensor("x", dtype, shape or ()),), (Tensor("y", dtype, shape or ()),), unranked=unranked)
    return ModelVersionInfo("echo", 1, "echo/1@abc", {"serving_default": signature}, labels=labels)


def read(document, model=MODEL, binary=b"", headers=None):
    body = document if isinstance(document, bytes) else json.dumps(document).encode()
    if binary:
        headers = {oip.HEADER_LENGTH: str(len(body))}
    return oip.read(RawRequest("infer", body + binary, headers or {}), model)


def infer(data, datatype="FP32", shape=None, name="x", **more):
    tensor = {"name": name, "datatype": datatype, "shape": [len(data)] if shape is None else shape, "data": data}
    return {"inputs": [tensor], **more}


def body_of(reply: Reply) -> bytes:
    return reply.body if isinstance(reply.body, bytes) else b"".join(reply.body)


def same(a, b):
    return a.dtype == b.dtype and a.shape == b.shape and a.tobytes() == b.tobytes()


def values(dtype, shape):
    return (np.arange(np.prod(shape, dtype=int)) % 3).astype(dtype).reshape(shape)


# ---- paths


@pytest.mark.parametrize(
    "method, target, route",
    [
        ("GET", "/v2", Route("server")),
        ("GET", "/v2/", Route("server")),
        ("GET", "/v2/health/live", Route("live")),
        ("HEAD", "/v2/health/ready", Route("ready")),
        ("GET", "/v2/models/a%2Fb", Route("metadata", "a/b")),
        ("GET", "/v2/models/m/ready?x=1", Route("ready", "m")),
        ("GET", "/v2/models/m/versions/12/ready", Route("ready", "m", 12)),
        ("GET", "/v2/models/m/labels/stable", Route("metadata", "m", None, "stable")),
        ("POST", "/v2/models/m/infer", Route("infer", "m")),
        ("POST", "/v2/models/m/versions/3/infer", Route("infer", "m", 3)),
        ("POST", "/v2/models/labels/labels/infer/infer", Route("infer", "labels", None, "infer")),
    ],
)
def test_paths(method, target, route):
    assert oip.read_path(method, target) == route


@pytest.mark.parametrize(
    "method, target, status",
    [
        ("GET", "/v2/models", 404),
        ("GET", "/v2/models//ready", 404),
        ("GET", "/v3", 404),
        ("GET", "/v2/health", 404),
        ("POST", "/v2/models/m/generate", 404),
        ("POST", "/v2/models/m/versions/infer", 400),
        ("POST", "/v2/models/m/versions/-1/infer", 400),
        ("POST", "/v2/models/m/versions/²/infer", 400),
        ("POST", "/v2/models/m/versions/9999999999999999999/infer", 400),
        ("POST", "/v2/models/m/versions/" + "9" * 5000 + "/infer", 400),
        ("POST", "/v2/models/m/versions/" + "0" * 40 + "9" * 20 + "/infer", 400),
        ("GET", "/v2/models/m/infer", 405),
        ("POST", "/v2/health/live", 405),
        ("DELETE", "/v2/models/m", 405),
    ],
)
def test_invalid_paths(method, target, status):
    with pytest.raises(SeawayError) as raised:
        oip.read_path(method, target)
    assert raised.value.status == status


def test_leading_zeros_of_a_version_are_ignored():
    assert oip.read_path("GET", f"/v2/models/m/versions/{'0' * 5000}").version == 0
    assert oip.read_path("GET", f"/v2/models/m/versions/{'0' * 5000}12").version == 12


# ---- reading


@pytest.mark.parametrize("dtype", NUMBERS)
@pytest.mark.parametrize("shape", [(), (0, 3), (2, 3), (1, 2, 1, 2)])
@pytest.mark.parametrize("binary", [False, True])
def test_numbers_both_ways(dtype, shape, binary):
    array = values(dtype, shape)
    body, headers = oip.write_infer_request({"x": array}, ["y"], binary, id="7")
    call = oip.read(RawRequest("infer", body, {k.lower(): v for k, v in headers.items()}), echo_model(dtype))
    assert same(call.inputs["x"], array)
    assert call.outputs == ["y"]
    reply = oip.write(call, {"y": array}, echo_model(dtype))
    assert reply.type == (BINARY if binary else JSON)
    assert same(oip.read_infer_response(body_of(reply), reply.headers)["y"], array)


@pytest.mark.parametrize("binary", [False, True])
def test_strings_both_ways(binary):
    body, headers = oip.write_infer_request({"x": WORDS}, binary=binary)
    call = oip.read(RawRequest("infer", body, {k.lower(): v for k, v in headers.items()}), echo_model("str"))
    assert same(call.inputs["x"], WORDS) or call.inputs["x"].tolist() == WORDS.tolist()
    reply = oip.write(call, {"y": WORDS}, echo_model("str"))
    assert oip.read_infer_response(body_of(reply), reply.headers)["y"].tolist() == WORDS.tolist()


@pytest.mark.parametrize("dtype, low, high", [(d, np.iinfo(d).min, np.iinfo(d).max) for d in NUMBERS if "int" in d])
def test_integers_have_their_ranges(dtype, low, high):
    model = echo_model(dtype)
    assert read(infer([low, high], DATATYPE_BY_NAME[dtype]), model).inputs["x"].tolist() == [low, high]
    for value in (low - 1, high + 1):
        with pytest.raises(InvalidInput, match=f"input 'x'.*{DATATYPE_BY_NAME[dtype]}"):
            read(infer([value], DATATYPE_BY_NAME[dtype]), model)


def test_data_may_be_nested_or_flat():
    model = echo_model("float32")
    flat = read(infer([1, 2, 3.5, 4], shape=[2, 2]), model).inputs["x"]
    nested = read(infer([[1, 2], [3.5, 4]], shape=[2, 2]), model).inputs["x"]
    assert same(flat, np.float32([[1, 2], [3.5, 4]]))
    assert same(nested, flat)
    mixed = read(infer([[1, 2, 3.5, 4]], shape=[2, 2]), model).inputs["x"]
    assert same(mixed, flat)  # as in Triton, which ignores nesting
    words = read(infer([["a"], ["b", ["c"]]], "BYTES", [3]), echo_model("str")).inputs["x"]
    assert words.tolist() == [b"a", b"b", b"c"]


def test_nan_and_infinity_are_bare_tokens():
    call = read(b'{"inputs": [{"name": "x", "datatype": "FP32", "shape": [3], "data": [NaN, -Infinity, 1e39]}]}')
    assert np.array_equal(call.inputs["x"], np.float32([np.nan, -np.inf, np.inf]), equal_nan=True)
    reply = oip.write(call, {"y": np.float32([np.nan, -np.inf, 0.1])}, MODEL)
    assert b"[NaN,-Infinity,0.1]" in reply.body
    assert oip.read_infer_response(reply.body, {})["y"][2] == np.float32(0.1)


def test_binary_tensors_are_views_of_the_body():
    array = np.arange(1000, dtype=np.float32)
    body, headers = oip.write_infer_request({"x": array}, binary=True)
    call = oip.read(RawRequest("infer", body, {oip.HEADER_LENGTH: headers["Inference-Header-Content-Length"]}), MODEL)
    assert np.shares_memory(call.inputs["x"], np.frombuffer(body, np.uint8))
    reply = oip.write(call, {"y": np.zeros(10_000, np.float32)}, MODEL)
    assert isinstance(reply.body, list)
    assert reply.headers == {"Inference-Header-Content-Length": str(len(reply.body[0]))}


def test_json_and_binary_tensors_may_be_mixed():
    document = {
        "inputs": [
            {"name": "b", "datatype": "BYTES", "shape": [1], "parameters": {"binary_data_size": 7}},
            {"name": "a", "datatype": "FP32", "shape": [1, 2], "data": [1, 2]},
        ],
        "outputs": [{"name": "y", "parameters": {"binary_data": True}}],
    }
    call = read(document, binary=b"\x03\0\0\0a\xff\0")
    assert call.signature == "pair"
    assert call.inputs["b"].tolist() == [b"a\xff\0"]
    assert call.inputs["a"].tolist() == [[1, 2]]


def test_any_byte_but_zero_is_true():
    document = {"inputs": [{"name": "x", "datatype": "BOOL", "shape": [3], "parameters": {"binary_data_size": 3}}]}
    assert same(read(document, echo_model("bool"), b"\0\x02\xff").inputs["x"], np.array([False, True, True]))


@pytest.mark.parametrize(
    "document, signature, outputs",
    [
        (infer([1]), "serving_default", None),
        (infer([1], outputs=[]), "serving_default", None),
        (infer([1], outputs=[{"name": "double"}]), "another", ["double"]),
        (infer([1], parameters={"signature_name": "another"}), "another", None),
        (infer([1], parameters=None, timeout=3), "serving_default", None),
    ],
)
def test_the_signature_that_a_request_calls(document, signature, outputs):
    call = read(document)
    assert (call.signature, call.outputs) == (signature, outputs)


def entry(**changes):
    tensor = {"name": "x", "datatype": "FP32", "shape": [2], "data": [1, 2]} | changes
    return {"inputs": [{key: value for key, value in tensor.items() if value is not ...}]}


@pytest.mark.parametrize(
    "document, message",
    [
        (b"", "not JSON"),
        (b"[1]", "not an object"),
        (b"{}", "inputs is not a list"),
        (b"[" * 100_000, "nested too deeply|not JSON"),
        (b'{"inputs": ' + b"1" * 5000 + b"}", "not JSON"),
        (b'\xff{"inputs": []}', "not JSON"),
        ({"inputs": {}}, "inputs is not a list"),
        ({"inputs": [1]}, "an object with a name"),
        ({"inputs": [{"name": 1}]}, "an object with a name"),
        ({"inputs": []}, "takes 0 inputs"),
        ({"inputs": entry()["inputs"] * 2}, "takes 2 inputs"),
        (entry(name="z"), r"takes 1 inputs \['z'\].*serving_default\(x\) -> \(y\)"),
        (entry() | {"outputs": [{"name": "z"}]}, r"returns \['z'\]"),
        (entry() | {"outputs": [{"name": "y"}] * 2}, "requested twice"),
        (entry() | {"outputs": [{"name": "y", "parameters": {"binary_data": 1}}]}, "binary_data is '1'"),
        (entry() | {"outputs": [{"name": "y", "parameters": {"classification": -1}}]}, "classification"),
        (entry() | {"parameters": {"signature_name": "nope"}}, "called 'nope'"),
        (entry() | {"parameters": {"signature_name": 3}}, "not a string"),
        (entry() | {"parameters": 3}, "not an object"),
        (entry() | {"id": 3}, "id is not a string"),
        (entry(datatype="FP64"), "input 'x' is FP64, but serving_default takes FP32"),
        (entry(datatype="BF16"), "'BF16' is not supported"),
        (entry(datatype=["FP32"]), "is not supported"),
        (entry(shape=...), "shape is None"),
        (entry(shape=[-1, 2]), "negative"),
        (entry(shape=[True, 2]), "shape is"),
        (entry(shape=[2.0]), "shape is"),
        (entry(shape=2), "shape is"),
        (entry(shape=[1] * 33), "33 dimensions"),
        (entry(shape=[3]), "needs 3 elements of data, but got 2"),
        (entry(shape=[2**62, 2**62]), "but got 2"),
        (entry(shape=[0, 2**62], data=[]), "cannot be used"),
        (entry(data=...), "neither data nor binary_data_size"),
        (entry(data="ab"), "data is not a list"),
        (entry(data=[1, "2"]), "'2' is not FP32"),
        (entry(data=[1, True]), "True is not FP32"),
        (entry(data=[1, None]), "None is not FP32"),
        (entry(data=[[1, 2], [3]]), "needs 2 elements of data, but got 3"),
        (entry(data=[[1, 2], [float("nan")]]), "needs 2 elements of data, but got 3"),
        (entry(data={"a": 1}), "data is not a list"),
        (entry(data=[10**400, 1]), "not JSON|outside the range"),
        (entry(parameters={"binary_data_size": 8}), "data and binary_data_size"),
        (entry(data=..., parameters={"binary_data_size": 8}), "binary_data_size is 8, but 0 bytes are left"),
        (entry(data=..., parameters={"binary_data_size": -8}), "binary_data_size is -8"),
        (entry(parameters={"shared_memory_region": "r"}), "shared memory is not supported"),
    ],
)
def test_invalid_requests(document, message):
    with pytest.raises(SeawayError, match=message) as raised:
        read(document)
    assert raised.value.status == 400


def test_nothing_is_cast_in_json():
    for dtype, data in (("int32", [True]), ("int32", [1.0]), ("bool", [1]), ("str", [1]), ("str", [["a"], ["b"], [1]])):
        with pytest.raises(InvalidInput, match="is not"):
            read(infer(data, DATATYPE_BY_NAME[dtype]), echo_model(dtype))
    with pytest.raises(InvalidInput, match="surrogate"):
        read(infer(["\ud800"], "BYTES"), echo_model("str"))


@pytest.mark.parametrize(
    "shape, size, data, message",
    [
        ([2], 8, bytes(8) + b"!", "1 bytes follow"),
        ([2], 9, bytes(9), "needs 8 bytes, but binary_data_size is 9"),
        ([2], 8, bytes(7), "7 bytes are left"),
        ([2], 8.0, bytes(8), "binary_data_size is 8.0"),
        ([2**62, 2**62], 8, bytes(8), "needs"),
        ([0, 2**62], 0, b"", "cannot be used"),
    ],
)
def test_binary_tensors_that_do_not_fit(shape, size, data, message):
    document = entry(shape=shape, data=..., parameters={"binary_data_size": size})
    length = str(len(json.dumps(document)))
    with pytest.raises(InvalidInput, match=message):
        read(json.dumps(document).encode() + data, headers={oip.HEADER_LENGTH: length})


@pytest.mark.parametrize(
    "shape, data, message",
    [
        ([3], bytes(8), "needs 3 strings"),
        ([2**62], bytes(8), "strings"),
        ([2], b"\x05\0\0\0abcd", "past the end"),
        ([1], b"\x05\0\0\0abcd", "past the end"),
        ([1], b"\x03\0\0\0abcd", "1 bytes follow the last"),
    ],
)
def test_binary_strings_that_do_not_fit(shape, data, message):
    document = entry(datatype="BYTES", shape=shape, data=..., parameters={"binary_data_size": len(data)})
    with pytest.raises(InvalidInput, match=message):
        read(document, echo_model("str"), data)


@pytest.mark.parametrize("length", ["-1", "x", "99", "", "1" * 30, "²"])
def test_invalid_header_lengths(length):
    with pytest.raises(InvalidInput, match="Inference-Header-Content-Length"):
        read(b"{}", headers={oip.HEADER_LENGTH: length})


# ---- raw data


def raw(body, dtype, shape):
    return read(body, echo_model(dtype, shape), headers={oip.HEADER_LENGTH: "0"})


def test_raw_data():
    array = np.arange(12, dtype=np.float32)
    assert raw(array.tobytes(), "float32", (None, 2, 3)).inputs["x"].shape == (2, 2, 3)
    assert raw(array.tobytes(), "float32", (12,)).inputs["x"].shape == (12,)
    assert raw(array.tobytes(), "float32", (None, None, 3)).inputs["x"].shape == (1, 4, 3)
    assert raw(b"", "float32", (None, 3)).inputs["x"].shape == (0, 3)
    assert raw(b"a\0b", "str", (None, 1)).inputs["x"].tolist() == [[b"a\0b"]]
    call = raw(array.tobytes(), "float32", (None,))
    reply = oip.write(call, {"y": array}, echo_model("float32"))
    assert same(oip.read_infer_response(body_of(reply), reply.headers)["y"], array)


@pytest.mark.parametrize(
    "body, dtype, shape, message",
    [
        (bytes(13), "float32", (None,), "needs 12 bytes"),
        (bytes(12), "float32", (2,), "needs 8 bytes"),
        (bytes(12), "float32", (None, None, None), "does not follow"),
        (bytes(12), "float32", (3, None, None), "does not follow"),
        (b"a", "str", (2,), "raw data is one string"),
        (b"a", "float32", (None, 0), "needs 0 bytes"),
    ],
)
def test_raw_data_that_does_not_fit(body, dtype, shape, message):
    with pytest.raises(InvalidInput, match=message):
        raw(body, dtype, shape)


def test_raw_data_needs_one_input():
    only = ModelVersionInfo("pair", 1, "pair/1@abc", {"pair": MODEL.signatures["pair"]})
    with pytest.raises(InvalidInput, match="takes 1 inputs"):
        read(b"1234", only, headers={oip.HEADER_LENGTH: "0"})


# ---- writing


def test_a_response_names_model_version_and_id():
    reply = oip.write(read(infer([1], id="a-7")), {"y": np.float32([2.5])}, MODEL)
    assert json.loads(reply.body) == {
        "model_name": "half",
        "model_version": "2",
        "id": "a-7",
        "outputs": [{"name": "y", "datatype": "FP32", "shape": [1], "data": [2.5]}],
    }
    assert (reply.status, reply.type, reply.headers) == (200, JSON, {})


@pytest.mark.parametrize(
    "parameters, each, binary",
    [({}, {}, False), ({"binary_data_output": True}, {}, True), ({}, {"binary_data": True}, True),
     ({"binary_data_output": True}, {"binary_data": False}, False)],
)  # fmt: skip
def test_an_outputs_own_parameter_wins(parameters, each, binary):
    document = infer([1], parameters=parameters, outputs=[{"name": "y", "parameters": each}])
    assert oip.write(read(document), {"y": np.float32([1])}, MODEL).type == (BINARY if binary else JSON)


def test_outputs_come_in_the_requested_order():
    outputs = [{"name": "y", "parameters": {"binary_data": True}}, {"name": "double"}]
    call = read(infer([1], outputs=outputs))
    reply = oip.write(call, {"double": np.float32([2]), "y": np.float32([1])}, MODEL)
    outputs = oip.read_infer_response(body_of(reply), reply.headers)
    assert [(name, float(array[0])) for name, array in outputs.items()] == [("y", 1), ("double", 2)]


def classes(array, count, labels=(), binary=False):
    model = echo_model(array.dtype.name, labels=labels)
    parameters = {"classification": count, "binary_data": binary}
    document = infer([1], DATATYPE_BY_NAME[array.dtype.name], outputs=[{"name": "y", "parameters": parameters}])
    reply = oip.write(read(document, model), {"y": array}, model)
    return oip.read_infer_response(body_of(reply), reply.headers)["y"]


@pytest.mark.parametrize("binary", [False, True])
def test_classification(binary):
    array = np.float32([[1.1, 3.3, 0.5, 2.4], [1, 1, 1, 0]])
    assert classes(array, 2, binary=binary).tolist() == [[b"3.3:1", b"2.4:3"], [b"1.0:0", b"1.0:1"]]
    assert classes(array, 1, ("a", "ü", "c", "d")).tolist() == [["3.3:1:ü".encode()], [b"1.0:0:a"]]
    assert classes(array[0], 9).tolist() == [b"3.3:1", b"2.4:3", b"1.1:0", b"0.5:2"]
    assert classes(np.uint8([[0, 255]]), 2).tolist() == [[b"255:1", b"0:0"]]
    assert classes(array[:0], 2).shape == (0, 0)
    assert classes(np.float32(7), 1).tolist() == [b"7.0:0"]


def test_strings_have_no_best_classes():
    document = infer(["a"], "BYTES", outputs=[{"name": "y", "parameters": {"classification": 1}}])
    with pytest.raises(InvalidInput, match="no best classes"):
        oip.write(read(document, echo_model("str")), {"y": WORDS}, echo_model("str"))


def test_outputs_that_a_response_cannot_carry():
    call = read(infer(["a"], "BYTES"), echo_model("str"))
    with pytest.raises(InvalidInput, match="not UTF-8; request it with binary_data"):
        oip.write(call, {"y": BYTES}, echo_model("str"))
    with pytest.raises(Unsupported, match="complex64"):
        oip.write(call, {"y": np.zeros(2, np.complex64)}, echo_model("str"))


def test_strided_and_big_endian_arrays_travel_by_value():
    array = np.arange(12, dtype=">f4").reshape(3, 4)[:, ::2]
    for binary in (False, True):
        body, headers = oip.write_infer_request({"x": array}, binary=binary)
        call = oip.read(RawRequest("infer", body, {k.lower(): v for k, v in headers.items()}), echo_model("float32"))
        assert call.inputs["x"].tolist() == array.tolist()


def test_errors():
    reply = oip.error(NotFound("no model \udcff"))
    assert (reply.status, reply.type, json.loads(reply.body)) == (404, JSON, {"error": "no model ?"})
    with pytest.raises(InvalidInput, match="the server responded: no model"):
        oip.read_infer_response(reply.body, {})


@pytest.mark.parametrize(
    "shape, sent, message",
    [
        ((None, 6), (1, 3), r'input "x": expected \[-1, 6\], got \[1, 3\]'),
        ((None, 6), (1, 0), r"expected \[-1, 6\], got \[1, 0\]"),
        ((None, 6), (6,), r"expected \[-1, 6\], got \[6\]"),
        ((None, 6), (1, 6, 1), r"got \[1, 6, 1\]"),
        ((2, None), (1, 6), r"expected \[2, -1\], got \[1, 6\]"),
        ((None,), (), r"expected \[-1\], got \[\]"),
        ((), (1,), r"expected \[\], got \[1\]"),
    ],
)
@pytest.mark.parametrize("binary", [False, True])
def test_shapes_must_match_the_declared_ones(shape, sent, message, binary):
    body, headers = oip.write_infer_request({"x": np.zeros(sent, np.float32)}, binary=binary)
    raw_request = RawRequest("infer", body, {k.lower(): v for k, v in headers.items()})
    with pytest.raises(InvalidInput, match=message):
        oip.read(raw_request, echo_model("float32", shape))
    assert oip.read(raw_request, echo_model("float32", tuple(None for _ in sent))).inputs["x"].shape == sent


# ---- metadata


def test_metadata():
    assert json.loads(oip.server_metadata("seaway", "0.1.0")) == {
        "name": "seaway",
        "version": "0.1.0",
        "extensions": ["binary_tensor_data", "classification"],
    }
    document = json.loads(oip.model_metadata(MODEL, ["1", "2"]))
    assert (document["name"], document["versions"], document["platform"]) == (
        "half",
        ["1", "2"],
        "tensorflow_savedmodel",
    )
    assert document["inputs"] == [{"name": "x", "datatype": "FP32", "shape": [-1]}]
    assert document["outputs"] == [{"name": "y", "datatype": "FP32", "shape": [-1]}]
    assert document["parameters"]["signature_name"] == "serving_default"
    assert document["parameters"]["signatures"]["pair"]["inputs"][1] == {
        "name": "b",
        "datatype": "BYTES",
        "shape": [-1],
    }


def test_an_unknown_rank_in_metadata():
    signature = Signature((Tensor("x", "bool", ()),), (Tensor("y", "bfloat16", ()),), unranked=frozenset("x"))
    document = json.loads(oip.model_metadata(ModelVersionInfo("m", 1, "", {"s": signature}), []))
    assert document["inputs"][0]["shape"] == [-1]
    assert document["outputs"][0] == {"name": "y", "datatype": "BFLOAT16", "shape": []}


# ---- tritonclient writes, we read; we write, tritonclient reads


def triton_request(inputs, outputs=None, id=""):
    body, length = _get_inference_request(inputs, id, outputs, 0, False, False, 0, None, None)
    return RawRequest("infer", body, {} if length is None else {oip.HEADER_LENGTH: str(length)})


def triton_reads(reply):
    length = reply.headers.get("Inference-Header-Content-Length")
    return triton.InferResult.from_response_body(body_of(reply), header_length=length)


@pytest.mark.parametrize("dtype", [*NUMBERS, "str"])
@pytest.mark.parametrize("binary", [False, True])
def test_tritonclient(dtype, binary):
    array = WORDS if dtype == "str" else values(dtype, (2, 3))
    tensor = triton.InferInput("x", list(array.shape), DATATYPE_BY_NAME[dtype]).set_data_from_numpy(
        array, binary_data=binary
    )
    wanted = triton.InferRequestedOutput("y", binary_data=binary)
    for raw_request in (triton_request([tensor], id="5"), triton_request([tensor], [wanted], id="5")):
        call = oip.read(raw_request, echo_model(dtype))
        assert call.inputs["x"].dtype == DTYPES[dtype]
        assert call.inputs["x"].tolist() == array.tolist()
        result = triton_reads(oip.write(call, {"y": array}, echo_model(dtype)))
        assert result.get_response()["id"] == "5"
        output = result.as_numpy("y")
        if dtype == "str" and isinstance(output.item(0), str):
            output = strings([text.encode() for text in output.reshape(-1)], output.shape)  # JSON's text comes as str
        assert output.dtype == array.dtype
        assert output.tolist() == array.tolist()


def test_tritonclient_and_nan():
    array = np.float32([np.nan, np.inf, -np.inf, 0.1])
    tensor = triton.InferInput("x", [4], "FP32").set_data_from_numpy(array, binary_data=False)
    call = oip.read(triton_request([tensor], [triton.InferRequestedOutput("y", binary_data=False)]), MODEL)
    assert same(call.inputs["x"], array)
    assert same(triton_reads(oip.write(call, {"y": array}, MODEL)).as_numpy("y"), array)


def test_tritonclient_and_classes():
    tensor = triton.InferInput("x", [1], "FP32").set_data_from_numpy(np.float32([1]))
    call = oip.read(triton_request([tensor], [triton.InferRequestedOutput("y", class_count=1)]), MODEL)
    assert triton_reads(oip.write(call, {"y": np.float32([[1, 3]])}, MODEL)).as_numpy("y").tolist() == [[b"3.0:1"]]


# ---- malformed bodies

PAIR = {"a": np.float32([[1, 2]]), "b": WORDS}
MESSAGES = [
    oip.write_infer_request(inputs, outputs, binary, "7", signature)
    for inputs, outputs, signature in (
        ({"x": np.float32([1, 2.5])}, ["y"], ""),
        ({"x": np.float32([[1, 2], [np.nan, 4]])}, [], "another"),
        (PAIR, ["y"], "pair"),
    )
    for binary in (False, True)
]
CHANGES = st.lists(
    st.tuples(st.integers(0, 2**31), st.sampled_from(["byte", "token", "cut", "repeat"]), st.integers(0, 2**32 - 1)),
    min_size=1,
    max_size=6,
)
TOKENS = b'{ } [ ] , : " -1 1e999 null true "x" "data" [] {} NaN 99999999999999999999 "\\ud800" [[[[ \xff'.split(b" ")


def mutate(body: bytes, changes) -> bytes:
    mutated = bytearray(body)
    for where, how, value in changes:
        at = where % (len(mutated) + 1)
        if how == "byte":
            mutated[at : at + 1] = [value % 256]
        elif how == "token":
            mutated[at : at + value % 3] = TOKENS[value % len(TOKENS)]
        elif how == "cut":
            del mutated[at : at + value % 16]
        else:
            mutated[at:at] = mutated[at : at + value % 64]
    return bytes(mutated)


@settings(deadline=None, max_examples=500)
@given(st.sampled_from(MESSAGES), CHANGES, st.integers(-3, 3))
def test_mutated_bodies_never_crash_a_reader(message, changes, shift):
    body, headers = mutate(message[0], changes), {}
    if "Inference-Header-Content-Length" in message[1]:
        shifted = int(message[1]["Inference-Header-Content-Length"]) + len(body) - len(message[0]) + shift
        headers = {oip.HEADER_LENGTH: str(shifted)}
    try:
        call = oip.read(RawRequest("infer", body, headers), MODEL)
        assert isinstance(call, Call)
        assert set(call.inputs) == {tensor.name for tensor in MODEL.signatures[call.signature].inputs}
    except SeawayError as error:
        assert error.status == 400
    with contextlib.suppress(SeawayError):
        oip.read_infer_response(body, headers)


def outcome(body):
    try:
        call = read(body)
    except SeawayError as error:
        return str(error)
    return call.signature, call.response_format, [(n, a.dtype, a.shape, a.tolist()) for n, a in call.inputs.items()]


@settings(deadline=None, max_examples=300)
@given(st.sampled_from([message for message, headers in MESSAGES if len(headers) == 1]), CHANGES)
def test_both_parsers_read_the_same(body, changes):
    """Trailing blanks make a text long enough for the other parser."""
    changed = mutate(body, changes)
    short, long = outcome(changed), outcome(changed + b" " * 1_000)
    assert short == long or "not JSON" in short or "nan" in str(short) or repeated_keys(changed)


def repeated_keys(body):
    pairs = []
    json.loads(body.decode(), object_pairs_hook=lambda members: pairs.append([key for key, _ in members]))
    return any(len(set(keys)) < len(keys) for keys in pairs)


@pytest.mark.parametrize("dtype", NUMBERS)
def test_long_lists(dtype):
    array = values(dtype, (20, 30))
    call = read(infer(array.tolist(), DATATYPE_BY_NAME[dtype], [20, 30]), echo_model(dtype))
    assert same(call.inputs["x"], array)
    for wrong in ("1", None, [[{}]], 1 if dtype == "bool" else True, 10**30, "\ud800"):
        if wrong == 10**30 and "float" in dtype:
            continue
        with pytest.raises(InvalidInput, match="input 'x'"):
            read(infer([*array.ravel().tolist(), wrong], DATATYPE_BY_NAME[dtype], [601]), echo_model(dtype))


KEYS = st.sampled_from(["name", "shape", "datatype", "data", "parameters", "x"])
SCALARS = st.none() | st.booleans() | st.floats() | st.integers() | st.text(max_size=4)
JSONS = st.recursive(SCALARS, lambda j: st.lists(j, max_size=4) | st.dictionaries(KEYS, j, max_size=4))


@settings(deadline=None)
@given(JSONS)
def test_any_json_anywhere(value):
    for key in ("name", "shape", "datatype", "data", "parameters"):
        for document in (
            entry(**{key: value}),
            entry() | {"outputs": value},
            entry() | {key: value},
            {"inputs": value},
        ):
            try:
                read(document)
            except SeawayError as error:
                assert error.status == 400


@pytest.mark.parametrize(
    "body",
    [
        json.dumps(infer([0.5] * 100_000)).encode(),
        json.dumps(infer([[[]]] * 100_000, shape=[100_000, 1, 0])).encode(),
        json.dumps(infer([], shape=[2**40, 2**40])).encode(),
        b'{"inputs":' + b"[" * 200_000,
        json.dumps({"inputs": [{"name": "x"}] * 50_000}).encode(),
        json.dumps(entry(datatype="BYTES", shape=[2**40], data=[])).encode(),
    ],
    ids=range(6),
)
def test_no_body_expands_to_much_more_than_its_size(body):
    tracemalloc.start()
    try:
        read(body)
    except SeawayError:
        pass
    finally:
        peak = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
    assert peak < 60 * len(body) + 100_000


@pytest.mark.parametrize("number", [float("nan"), 0.5])
def test_an_id_that_no_response_can_repeat(number):
    tensor = {"name": "image", "shape": [1], "datatype": "FP32", "data": [number]}
    document = json.dumps({"inputs": [tensor], "id": "\ud16d\ude00\ude00"})
    with pytest.raises(InvalidInput, match=r"surrogate|not JSON"):
        oip.read(RawRequest("infer", document.encode()), MODEL)
