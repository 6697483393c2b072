"""SavedModels of many makers and eras answer as TensorFlow itself does; see make_foreign_models.py."""

import json
import os
import pickle
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import grpc
import numpy as np
import pytest

from seaway.protocols.client_codecs import TFS, TFS_GRPC, Protocol
from seaway.protocols.jsontensor import READABLE
from seaway.protocols.tensors import dtype_name

HERE = Path(__file__).parent
ROOT = HERE.parents[2]
NAMES = (
    *("keras_functional", "keras_subclassed", "keras_signatures", "keras_endpoints", "keras_text", "keras_features"),
    *("tf_keras_2", "module_defaults", "tables", "ragged", "types", "control_flow", "big_constant"),
    *("v1_simple_save", "v1_sharded", "v1_names", "estimator", "v1_control_flow", "text_form"),
)
TOLERANCE = 1e-5  # of float32, with other threads and kernels
pytestmark = pytest.mark.slow

Arrays = dict[str, np.ndarray]
Case = tuple[str, Arrays, Arrays]  # signature, inputs, outputs


@pytest.fixture(scope="module")
def made(tmp_path_factory) -> Path:
    out = tmp_path_factory.mktemp("foreign")
    environ = os.environ | {"KERAS_HOME": str(out / "keras")}
    program = [sys.executable, str(HERE / "make_foreign_models.py"), str(out)]
    done = subprocess.run(program, capture_output=True, text=True, timeout=240, env=environ)
    assert done.returncode == 0, done.stderr
    return out


class Client:
    """A model server's two ports."""

    def __init__(self, server, port: int) -> None:
        self.server = server
        self.channel = grpc.insecure_channel(f"127.0.0.1:{port}")

    def rest(self, model: str, signature: str, inputs: Arrays, outputs: Arrays, whole: bool) -> tuple[int, bytes]:
        if in_json(inputs):
            body, headers = TFS.write(inputs, list(outputs), signature, whole)
        else:
            numbers = {name: array.real.tolist() for name, array in inputs.items()}
            body, headers = json.dumps({"signature_name": signature, "inputs": numbers}).encode(), {}
        reply = self.server.request("POST", TFS.path(model, None), body, headers)
        return reply.status, reply.body

    def predict(self, model: str, signature: str, inputs: Arrays, outputs: list[str]) -> Arrays:
        """Over gRPC."""
        protocol: Protocol = TFS_GRPC
        body, _ = protocol.write(inputs, outputs, signature)
        call = self.channel.unary_unary(protocol.path(model, None))
        return dict(protocol.read(call(protocol.name_model(model, None) + body, timeout=60), {}, outputs))


@pytest.fixture(scope="module")
def client(made, drop_in_class, tmp_path_factory) -> Iterator[Client]:
    """`tensorflow_model_server` of all models."""
    file = tmp_path_factory.mktemp("config") / "models.config"
    configs = [
        f"config {{ name: '{folder.name}' base_path: '{folder}' model_platform: 'tensorflow' }}"
        for folder in sorted((made / "models").iterdir())
    ]
    file.write_text(f"model_config_list {{ {' '.join(configs)} }}")
    port = drop_in_class.free_port()
    server = drop_in_class("main", [f"--model_config_file={file}"], grpc_port=port)
    server.wait_ready()
    yield Client(server, port)
    server.stop()


def cases(made: Path, name: str) -> list[Case]:
    return pickle.loads((made / "cases" / f"{name}.pickle").read_bytes())


def assert_equal(actual: Arrays, expected: Arrays, json_types: bool = False) -> None:
    """`json_types`: the actual arrays have the types that JSON has."""
    assert actual.keys() == expected.keys()
    for name, array in expected.items():
        got = actual[name]
        assert got.shape == array.shape, name
        if json_types and array.dtype != object:
            assert got.dtype.kind in ("b" if array.dtype == bool else "iuf"), name
        else:
            assert dtype_name(got) == dtype_name(array), name
        if array.dtype.kind in "fc":
            assert np.allclose(got, array, rtol=TOLERANCE, atol=TOLERANCE), name
        else:
            assert [as_bytes(v) for v in got.reshape(-1).tolist()] == array.reshape(-1).tolist(), name


def as_bytes(value: object) -> object:
    return value.encode("utf-8", "surrogateescape") if isinstance(value, str) else value


def in_json(arrays: Arrays) -> bool:
    return all(dtype_name(array) in READABLE for array in arrays.values())


def in_rows(inputs: Arrays, outputs: Arrays) -> bool:
    lengths = {array.shape[:1] for array in (*inputs.values(), *outputs.values())}
    return bool(inputs) and len(lengths) == 1 and lengths != {()}


@pytest.mark.parametrize("name", NAMES)
def test_it_answers_as_tensorflow_does(made, client, name):
    found = cases(made, name)
    assert found
    for signature, inputs, outputs in found:
        assert_equal(client.predict(name, signature, inputs, []), outputs)
        last = max(outputs)
        assert_equal(client.predict(name, signature, inputs, [last]), {last: outputs[last]})


@pytest.mark.parametrize("name", NAMES)
def test_rest_answers_the_same_in_columns_and_rows(made, client, name):
    rows = 0
    for signature, inputs, outputs in cases(made, name):
        for whole in (True, False):
            if not whole and not in_rows(inputs, outputs):
                continue
            status, body = client.rest(name, signature, inputs, outputs, whole)
            if not in_json(inputs) or not in_json(outputs):  # as in TensorFlow Serving
                assert status in (400, 501), body
            elif inputs.keys() < optional(name):
                assert (status, b"ultiple input tensors" in body or b"named input" in body) == (400, True), body
            else:
                assert status == 200, body
                assert (b'"predictions"' in body, b'"outputs"' in body) == (not whole, whole)
                assert_equal(dict(TFS.read(body, {}, list(outputs))), outputs, json_types=True)
                rows += not whole
    assert rows or name in ("module_defaults", "types", "v1_control_flow")  # with scalars beside rows


@pytest.mark.parametrize("name", NAMES)
def test_its_metadata_is_described(made, client, name):
    signatures = {signature for signature, _, _ in cases(made, name)}
    described = client.server.get(f"/v1/models/{name}/metadata").json()["metadata"]["signature_def"]["signature_def"]
    assert signatures <= described.keys()
    assert all(one["defaults"] == {} for one in described.values())
    assert client.server.get(f"/v2/models/{name}").status == 200


def test_an_input_without_a_default_is_required(client):
    with pytest.raises(grpc.RpcError, match=r"Missing but required: \{x\}") as error:
        client.predict("module_defaults", "serving_default", {"scale": np.float32(2)}, [])
    assert error.value.code() is grpc.StatusCode.INVALID_ARGUMENT


def optional(name: str) -> set[str]:
    """Inputs of which gRPC requests may leave out some, but REST requests none."""
    return {"x", "add", "scale"} if name == "module_defaults" else set()


def test_warm_up_requests_are_replayed(client):
    status, body = client.rest("warm", "count", {}, {"count": np.int32(0)}, True)
    assert (status, json.loads(body)) == (200, {"outputs": 3})


@pytest.mark.parametrize(
    "name, said",
    [
        ("python_code", "signature 'serving_default' reaches operator EagerPyFunc"),
        ("keras_unrestored", "save a model of Keras 3 with model.export(…), not with tf.saved_model.save"),
    ],
)
def test_a_model_that_cannot_be_served_is_refused_with_the_reason(client, name, said):
    assert said in client.server.error_of(name, 1)


def test_an_estimator_classifies_and_regresses(made, client):
    found = {signature: (inputs, outputs) for signature, inputs, outputs in cases(made, "estimator")}
    examples = [{"age": 30.0, "name": "Ada", "tags": [3, 4]}, {"age": 7.0, "name": "Bob"}]
    examples.append({"age": -1.0, "name": "?", "tags": 9})
    body = json.dumps({"examples": examples})
    reply = client.server.request("POST", "/v1/models/estimator:classify", body)
    _, outputs = found["serving_default"]
    rows = zip(outputs["classes"], outputs["scores"], strict=True)
    expected = [[[label.decode(), pytest.approx(score)] for label, score in zip(*row, strict=True)] for row in rows]
    assert reply.json() == {"results": expected}
    reply = client.server.request(
        "POST", "/v1/models/estimator:regress", json.dumps({"signature_name": "regression", "examples": examples})
    )
    assert reply.json() == {"results": pytest.approx(found["regression"][1]["outputs"].reshape(-1))}


@pytest.mark.parametrize("folder, source", [("direct", "keras_functional"), ("direct_text", "text_form")])
def test_a_model_without_a_version_folder(made, drop_in_class, folder, source):
    server = drop_in_class("main", ["--model_name=m", f"--model_base_path={made / folder}"])
    try:
        server.wait_ready()
        assert server.states("m") == {1: "AVAILABLE"}
        for signature, inputs, outputs in cases(made, source):
            body, headers = TFS.write(inputs, list(outputs), signature)
            reply = server.request("POST", TFS.path("m", 1), body, headers)
            assert_equal(dict(TFS.read(reply.body, {}, list(outputs))), outputs, json_types=True)
    finally:
        server.stop()


def test_seaway_serve_takes_them_as_they_are(made, start, tmp_path):
    """A repository of models, and a folder that is one model."""
    for name in ("estimator", "keras_text"):
        shutil.copytree(made / "models" / name, tmp_path / name)
    repository, direct = start(tmp_path), start(made / "direct_text", "--model", "text_form")
    for server, names in ((repository, ("estimator", "keras_text")), (direct, ("text_form",))):
        server.wait_ready()
        for name in names:
            for signature, inputs, outputs in cases(made, name):
                body, headers = TFS.write(inputs, list(outputs), signature)
                reply = server.request("POST", TFS.path(name, None), body, headers)
                assert_equal(dict(TFS.read(reply.body, {}, list(outputs))), outputs, json_types=True)
