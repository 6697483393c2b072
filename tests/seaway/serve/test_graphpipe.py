"""GraphPipe with a running server: our client codec, and the Go reference as client and as server."""

import base64
import json
import socket
import subprocess
import time
import urllib.request

import numpy as np
import pytest

from seaway.protocols import graphpipe
from seaway.protocols.tensors import strings


def infer(server, path, inputs, outputs=(), config=""):
    reply = server.request("POST", path, graphpipe.write_infer_request(inputs, outputs, config))
    assert reply.status == 200, reply.body
    assert reply.headers["Content-Type"] == "application/octet-stream"
    return graphpipe.read_infer_response(reply.body)


def test_infer_by_path(server):
    x = np.float32([1, 2])
    for path, y in (
        ("", [3.5, 4]),
        ("/versions/1", [2.5, 3]),
        ("/labels/stable", [2.5, 3]),
        ("/labels/canary", [3.5, 4]),
    ):
        [answer] = infer(server, f"/graphpipe/half{path}", {"": x})
        assert answer.dtype == np.float32
        assert answer.tolist() == y


def test_every_response_names_the_version(server):
    reply = server.request("POST", "/graphpipe/half", graphpipe.write_infer_request({"x": np.float32([1])}))
    assert reply.headers["Seaway-Model"].startswith("half/2@")


def test_several_inputs_and_outputs_in_the_requested_order(server):
    inputs = {"b": np.int32([3]), "a": np.float32([[1, 2]])}
    pair, label = infer(server, "/graphpipe/multi", inputs, ["pair", "label"])
    assert pair.tolist() == [[6, -6]]
    assert label.tolist() == [b"3"]
    assert len(infer(server, "/graphpipe/multi", [("", inputs["a"]), ("", inputs["b"])])) == 3


@pytest.mark.parametrize("dtype", ["int8", "uint8", "uint16", "uint32", "int64", "float16", "float32", "float64"])
def test_types(server, dtype):
    array = np.array([[1, 2], [3, 4]], dtype)
    [answer] = infer(server, "/graphpipe/types", {"x": array}, config=json.dumps({"signature_name": dtype}))
    assert answer.dtype == array.dtype
    assert answer.tolist() == array.tolist()


def test_strings(server):
    words = strings([b"a\0", b"\xff"], (2,))
    answers = infer(server, "/graphpipe/types", {"": words}, ["out_bytes", "out"])
    assert [a.tolist() for a in answers] == [words.tolist()] * 2


def test_an_output_of_another_signature_selects_that_signature(server):
    [doubled] = infer(server, "/graphpipe/half", {"x": np.float32([4])}, ["double"])
    assert doubled.tolist() == [8]


def test_metadata(server):
    reply = server.request("POST", "/graphpipe/multi", graphpipe.write_metadata_request())
    metadata = graphpipe.read_metadata_response(reply.body)
    assert (metadata.name, metadata.version) == ("multi", "7")
    assert [(t.name, t.dtype, t.shape) for t in metadata.inputs] == [
        ("a", "float32", (None, 2)),
        ("b", "int32", (None,)),
    ]
    document = server.get("/graphpipe/multi").json()
    assert [output["Name"] for output in document["Outputs"]] == ["label", "pair", "sum"]


@pytest.mark.parametrize(
    "path, inputs, outputs, config, status, said",
    [
        ("/graphpipe/nope", {"x": np.float32([1])}, (), "", 404, "nope"),
        ("/graphpipe/half/versions/9", {"x": np.float32([1])}, (), "", 404, "Specific(half, 9)"),
        ("/graphpipe/half/labels/nope", {"x": np.float32([1])}, (), "", 400, "label: nope"),
        ("/graphpipe/half/more", {"x": np.float32([1])}, (), "", 404, "/graphpipe/<model>"),
        ("/graphpipe/half", {"z": np.float32([1])}, (), "", 400, "no signature of half/2"),
        ("/graphpipe/half", {"x": np.float32([1])}, ["z"], "", 400, "['z']"),
        ("/graphpipe/half", {"x": np.float64([1])}, (), "", 400, "is float64, but"),
        ("/graphpipe/half", {"x": np.float32([1])}, (), "fast", 400, "signature_name"),
        ("/graphpipe/types", {"x": np.float32([1])}, (), '{"signature_name": "nope"}', 400, "called 'nope'"),
        ("/graphpipe/types", {"x": np.float32([1])}, ["y"], '{"signature_name": "bool"}', 400, "takes bool"),
    ],
)
def test_errors_are_text(server, path, inputs, outputs, config, status, said):
    reply = server.request("POST", path, graphpipe.write_infer_request(inputs, outputs, config))
    assert reply.status == status
    assert reply.headers["Content-Type"] == "text/plain; charset=utf-8"
    assert said in reply.body.decode()


def test_the_root_path_requires_a_single_model(server):
    assert "several models" in server.get("/").body.decode()
    assert server.get("/").status == 404


def test_other_methods(server):
    assert server.request("PUT", "/graphpipe/half", b"x").status == 405
    assert server.request("HEAD", "/graphpipe/half").status == 200


def go_call(go, url, inputs, outputs):
    done = subprocess.run(
        [go, "call", url],
        input=json.dumps({"inputs": inputs, "outputs": outputs}),
        capture_output=True,
        text=True,
        timeout=60,
    )
    return done.returncode, json.loads(done.stdout)


@pytest.mark.slow
def test_the_go_client_with_our_server(server, go):
    x = {"name": "x", "type": 10, "shape": [2], "data": base64.b64encode(np.float32([1, 2]).tobytes()).decode()}
    status, [answer] = go_call(go, f"{server.url}/graphpipe/half", [x], ["y"])
    assert status == 0
    assert (answer["type"], answer["shape"]) == (10, [2])
    assert np.frombuffer(base64.b64decode(answer["data"]), "<f4").tolist() == [3.5, 4]
    words = {"name": "", "type": 12, "shape": [2], "strings": ["a", "ü"]}
    status, [answer] = go_call(go, f"{server.url}/graphpipe/types", [words], ["out"])
    assert (status, answer["strings"]) == (0, ["a", "ü"])
    status, answer = go_call(go, f"{server.url}/graphpipe/half", [x], ["nope"])
    assert status == 1
    assert "nope" in answer["error"]


@pytest.mark.slow
def test_our_client_with_the_go_server(go):
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    running = subprocess.Popen([go, "serve", f"127.0.0.1:{port}"], stderr=subprocess.DEVNULL)
    try:
        wait_for_port(port)
        body = graphpipe.write_infer_request({"": np.float32([[1, 2]])})
        request = urllib.request.Request(f"http://127.0.0.1:{port}/", body)
        with urllib.request.urlopen(request, timeout=30) as reply:
            [answer] = graphpipe.read_infer_response(reply.read())
        assert answer.tolist() == [[1, 2]]
    finally:
        running.kill()
        running.wait()


def wait_for_port(port):
    deadline = time.monotonic() + 30
    while time.monotonic() < deadline:
        with socket.socket() as probe:
            if probe.connect_ex(("127.0.0.1", port)) == 0:
                return
        time.sleep(0.05)
    raise AssertionError(f"nothing listens on {port}")
