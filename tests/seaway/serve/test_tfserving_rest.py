"""TensorFlow Serving REST at a running server, compared with TensorFlow Serving's own recorded answers."""

import gzip
import http.client
import json
import math
import sys
from pathlib import Path

import pytest

sys.path.append(str(Path(__file__).resolve().parents[2] / "fixtures"))
from recordings import check_message, parameters, parsed, same

DEVIATIONS = {  # of ours, deliberate → the status that is right
    **dict.fromkeys(["uint8-overflow", "int8-overflow", "uint8-negative", "i8-below"], 400),  # silently wrong there
    "esc-lone-low": 400,  # half a surrogate pair
    "gzip-caps": 200,  # names of codings are of any case (RFC 9110, 8.4.1)
}
SIGNATURES = {  # the recorded cases' names of signatures → make_models.py's
    "bools": "bool", "int64s": "int64", "uint8s": "uint8", "int8s": "int8", "uint32s": "uint32", "doubles": "float64",
    "floats": "float32", "halves": "float16", "scalar": "total", "special": "log",
}  # fmt: skip


@pytest.mark.parametrize("recording", parameters())
def test_it_answers_as_tensorflow_serving(server, recording):
    body = recording.body
    for theirs, ours in SIGNATURES.items():
        renamed = f'"signature_name":{" " * (1 + len(theirs) - len(ours))}"{ours}"'  # all else stays where it is
        body = body.replace(f'"signature_name": "{theirs}"'.encode(), renamed.encode())
    body = body.replace(b'"inputs": {"s"', b'"inputs": {"x"')
    connection = http.client.HTTPConnection("127.0.0.1", server.port, timeout=60)
    connection.putrequest(recording.method, recording.path, skip_accept_encoding=True)
    for name, value in recording.headers.items():
        connection.putheader(name, value)
    if recording.method != "GET" or body:
        connection.putheader("Content-Length", str(len(body)))
    connection.endheaders(body or None)
    reply = connection.getresponse()
    text = reply.read().decode("utf-8", "backslashreplace")
    connection.close()
    if recording.id in DEVIATIONS:
        assert reply.status == DEVIATIONS[recording.id]
        return
    assert reply.status == recording.status, text
    document = parsed(recording.text)
    if recording.path.endswith("/metadata") and reply.status == 200:
        assert json.loads(text)["model_spec"] == document["model_spec"]  # test_metadata has the rest: our own models
    elif reply.status == 200 and document is not None:
        assert same(document, parsed(text)), text
    elif isinstance(document, dict):
        check_message(recording, json.loads(text)["error"])


def test_rows_and_columns(server):
    reply = server.predict("half", {"instances": [1, 2.0]})
    assert (reply.status, reply.json()) == (200, {"predictions": [3.5, 4.0]})
    assert reply.headers["Content-Type"] == "application/json"
    assert server.predict("half", {"inputs": {"x": [1, 2.0]}}).json() == {"outputs": [3.5, 4.0]}


def test_version_label_and_default(server):
    for target, y in (
        ("half/versions/1", 2.5),
        ("half/labels/stable", 2.5),
        ("half/labels/canary", 3.5),
        ("half", 3.5),
    ):
        assert server.predict(target, {"instances": [1]}).json() == {"predictions": [y]}


def test_every_response_names_the_version_and_its_digest(server):
    reply = server.predict("half/labels/stable", {"instances": [1]})
    identity = reply.headers["Seaway-Model"]
    assert reply.headers["Seaway-Backend"] == "savedmodel"
    model, _, digest = identity.partition("@")
    assert model == "half/1"
    assert len(bytes.fromhex(digest)) == 32
    assert server.get("/v1/models/half/labels/stable/metadata").headers["Seaway-Model"] == identity


def test_several_inputs_and_outputs(server):
    reply = server.predict("multi", {"instances": [{"a": [1, 2], "b": 3}, {"a": [4.5, 0.25], "b": -1}]})
    assert reply.json() == {
        "predictions": [
            {"sum": 6.0, "label": "3", "pair": [6.0, -6.0]},
            {"sum": 3.75, "label": "-1", "pair": [3.75, -3.75]},
        ]
    }


@pytest.mark.parametrize(
    "signature, inputs, outputs",
    [
        ("int64", [2**63 - 1, -5], [2**63 - 1, -5]),
        ("uint32", [2**32 - 1], [2**32 - 1]),
        ("float64", [0.1, 1e300], [0.1, 1e300]),
        ("bool", [True, False], [False, True]),
        ("total", [[1, 2], [3, 4]], 10.0),
        ("log", [0.0, 1.0], [-math.inf, 0.0]),
        ("strings", ["ü", {"b64": "eA=="}], {"out": ["ü", "x"], "out_bytes": [{"b64": "w7w="}, {"b64": "eA=="}]}),
    ],
)
def test_types(server, signature, inputs, outputs):
    reply = server.predict("types", {"signature_name": signature, "inputs": inputs})
    assert (reply.status, json.loads(reply.body)) == (200, {"outputs": outputs})


@pytest.mark.parametrize(
    "target, body, status, said",
    [
        ("half", b"hello", 400, "JSON Parse error"),
        ("nope", b'{"instances": [1]}', 404, "Servable not found for request: Latest(nope)"),
        ("half/versions/99", b'{"instances": [1]}', 404, "Specific(half, 99)"),
        ("half/labels/nope", b'{"instances": [1]}', 400, "Unrecognized servable version label: nope"),
        ("half", b'{"signature_name": "nope", "instances": [1]}', 400, "not found in signature def"),
        ("types", b'{"signature_name": "shaped", "inputs": [1]}', 400, "Invalid reduction dimension"),
        ("types", b'{"signature_name": "uint16", "inputs": [1]}', 501, "uint16"),
    ],
)
def test_errors_are_json_with_their_status(server, target, body, status, said):
    reply = server.request("POST", f"/v1/models/{target}:predict", body)
    assert reply.status == status
    assert said in reply.json()["error"]


def test_regress_and_classify(server):
    examples = {"context": {"x": 2.0}, "examples": [{"x": 80.0}, {}]}
    body = json.dumps({"signature_name": "regress_x_to_y", **examples})
    assert server.request("POST", "/v1/models/half/versions/1:regress", body).json() == {"results": [42.0, 3.0]}
    body = json.dumps({"signature_name": "classify_x_to_y", **examples})
    reply = server.request("POST", "/v1/models/half/versions/1:classify", body)
    assert reply.json() == {"results": [[["", 42.0]], [["", 3.0]]]}
    reply = server.request("POST", "/v1/models/half:classify", b'{"examples": [{"x": 1.0}]}')
    assert reply.status == 400
    assert ":predict" in reply.json()["error"]


def test_more_dimensions_than_numpy_supports(server):
    deep = [0.5, float("nan"), 1e39]
    for _ in range(253):
        deep = [deep]
    expected = json.dumps(deep).replace("1e+39", "Infinity")
    for signature in ("float32", "total"):
        reply = server.predict("types", {"signature_name": signature, "inputs": deep})
        assert reply.status == 200, reply.body
        text = json.dumps(reply.json()["outputs"])
        assert text == (expected if signature == "float32" else "NaN")
    assert server.predict("types", {"signature_name": "float32", "instances": [deep]}).status == 400  # one too many
    words = {"b64": "AGE"}
    for _ in range(99):
        words = [words]
    outputs = server.predict("types", {"signature_name": "strings", "inputs": words}).json()["outputs"]
    assert json.dumps(outputs["out_bytes"]) == json.dumps(words).replace("AGE", "AGE=")


def test_an_absolute_target(server):
    reply = server.request("POST", "http://elsewhere:1/v1/models/half:predict", b'{"instances": [1]}')
    assert reply.json() == {"predictions": [3.5]}
    assert server.request("GET", "HTTP://elsewhere/readyz").body == b"ready\n"


def test_status(server):
    rows = server.get("/v1/models/half").json()["model_version_status"]
    ok = {"error_code": "OK", "error_message": ""}
    assert rows == [{"version": v, "state": "AVAILABLE", "status": ok} for v in ("2", "1")]
    assert [row["version"] for row in server.get("/v1/models/half/versions/1").json()["model_version_status"]] == ["1"]
    assert server.get("/v1/models/half/versions/9").status == 404


def test_metadata(server):
    document = server.get("/v1/models/half/labels/canary/metadata").json()
    assert document["model_spec"] == {"name": "half", "signature_name": "", "version": "2"}
    definition = document["metadata"]["signature_def"]["signature_def"]["serving_default"]
    assert definition["method_name"] == "tensorflow/serving/predict"
    assert definition["inputs"]["x"] == {
        "dtype": "DT_FLOAT",
        "tensor_shape": {"dim": [{"size": "-1", "name": ""}], "unknown_rank": False},
        "name": "serving_default_x:0",
    }


def test_a_gzip_body(server):
    body = gzip.compress(b'{"instances": [1]}')
    reply = server.request("POST", "/v1/models/half:predict", body, {"Content-Encoding": "gzip"})
    assert reply.json() == {"predictions": [3.5]}


@pytest.mark.parametrize("encode", [bytes, gzip.compress])
def test_a_body_that_is_too_large(server, encode):
    body = encode(b" " * 1_000_001 + b"{}")
    headers = {"Content-Encoding": "gzip"} if encode is gzip.compress else {}
    try:
        reply = server.request("POST", "/v1/models/half:predict", body, headers)
    except (BrokenPipeError, ConnectionResetError):
        return  # the server responded and closed before the whole body was sent
    assert reply.status == 413
    assert "--max-body-bytes" in reply.json()["error"]


def test_a_chunked_body_is_counted_too(server):
    connection = http.client.HTTPConnection("127.0.0.1", server.port, timeout=60)
    try:
        connection.request("POST", "/v1/models/half:predict", iter([b" " * 100_000] * 11), encode_chunked=True,
                           headers={"Transfer-Encoding": "chunked"})  # fmt: skip
        assert connection.getresponse().status == 413
    except (BrokenPipeError, ConnectionResetError):
        pass
    finally:
        connection.close()
