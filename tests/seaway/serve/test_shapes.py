"""Inputs whose shape does not match the signature are rejected before the model runs, by both backends."""

import json
from pathlib import Path

import numpy as np
import pytest

from seaway.protocols import graphpipe, oip

EXAMPLES = Path(__file__).resolve().parents[3] / "seaway" / "example"


def infer(server, protocol, model, inputs):
    if protocol == "graphpipe":
        return server.request("POST", f"/graphpipe/{model}", graphpipe.write_infer_request(inputs))
    body, headers = oip.write_infer_request(inputs, binary=protocol == "oip-binary")
    return server.request("POST", f"/v2/models/{model}/infer", body, headers)


PROTOCOLS = ["oip", "oip-binary", "graphpipe"]


@pytest.mark.parametrize("protocol", PROTOCOLS)
def test_savedmodel(server, protocol):
    b = np.int32([1])
    assert infer(server, protocol, "multi", {"a": np.float32([[1, 2]]), "b": b}).status == 200
    for shape in ((1, 3), (1, 0), (2,), (), (1, 2, 1)):
        reply = infer(server, protocol, "multi", {"a": np.zeros(shape, np.float32), "b": b})
        said = f'input "a": expected [-1, 2], got {list(shape)}'
        assert (reply.status, said in reply.body.decode().replace('\\"', '"')) == (400, True), reply.body


@pytest.mark.parametrize("key", ["instances", "inputs"])
def test_rest_names_the_input_before_the_graph_s_reason(server, onnx_server, key):
    wrong = {key: [[1.0, 2.0, 3.0]]}
    for reply, said in (
        (server.predict("types", {"signature_name": "shaped"} | wrong), 'input "x": expected [-1, 2, 3], got [1, 3]'),
        (onnx_server.predict("characters", wrong), 'input "image": expected [-1, 28, 28, 1], got [1, 3]'),
    ):
        assert reply.status == 400
        assert reply.json()["error"].startswith(said), reply.body
        assert "{{" not in reply.json()["error"]


@pytest.mark.parametrize("protocol", PROTOCOLS)
def test_onnx(onnx_server, protocol):
    assert infer(onnx_server, protocol, "characters", {"image": np.zeros((2, 28, 28, 1), np.float32)}).status == 200
    for shape in ((1, 28, 28), (1, 28, 28, 3), (1, 0, 28, 1), (784,), ()):
        reply = infer(onnx_server, protocol, "characters", {"image": np.zeros(shape, np.float32)})
        said = f'input "image": expected [-1, 28, 28, 1], got {list(shape)}'
        assert (reply.status, said in reply.body.decode().replace('\\"', '"')) == (400, True), reply.body


def test_rest_leaves_shapes_to_the_graph_as_tensorflow_serving_does(server, onnx_server):
    reply = server.predict("multi", {"inputs": {"a": [[1, 2, 3]], "b": [1]}})
    assert (reply.status, reply.json()["outputs"]["sum"]) == (200, [7.0])
    deep = 1.0
    for _ in range(40):
        deep = [deep]
    for wrong in ([[1, 2, 3]], [[]], [deep]):
        reply = onnx_server.predict("characters", {"instances": wrong})
        assert reply.status == 400, reply.body
        assert json.loads(reply.body)["error"]


@pytest.fixture(scope="module")
def onnx_server(server_class):
    running = server_class(EXAMPLES, "--backend", "onnx", "--threads", "1")
    try:
        running.wait_ready()
        yield running
    finally:
        assert running.stop() == 0
