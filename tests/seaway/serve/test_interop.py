"""Third-party clients with a running server: tritonclient, GraphPipe's Go reference, PyPI's graphpipe."""

import base64
import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import tritonclient.http as triton
from tritonclient.utils import InferenceServerException, np_to_triton_dtype

from seaway.protocols import graphpipe
from seaway.protocols.tensors import strings

# Inputs of the model `every`, which returns in_T as out_T for each of GraphPipe's twelve types
LIMITS = {
    name: np.array([[np.iinfo(name).min, np.iinfo(name).max], [0, 7]], name)
    for name in ("uint8", "int8", "uint16", "int16", "uint32", "int32", "uint64", "int64")
}
FRACTIONS = {name: np.array([[0.1, -2.5], [np.inf, 0]], name) for name in ("float16", "float32", "float64")}
EVERY = LIMITS | FRACTIONS | {"string": strings([b"", b"a\0b", "ü€".encode(), b"x"], (2, 2))}


def type_code(name):
    return graphpipe.CODE_BY_NAME["str" if name == "string" else name]


# ---- tritonclient


@pytest.fixture
def client(server):
    made = triton.InferenceServerClient(f"127.0.0.1:{server.port}", network_timeout=60.0)
    yield made
    made.close()


def triton_input(name, array, binary):
    tensor = triton.InferInput(name, list(array.shape), np_to_triton_dtype(array.dtype))
    return tensor.set_data_from_numpy(array, binary_data=binary)


def test_triton_health_and_metadata(client):
    assert client.is_server_live()
    assert client.is_server_ready()
    assert client.is_model_ready("half")
    assert client.is_model_ready("half", "1")
    assert not client.is_model_ready("nope")
    assert not client.is_model_ready("half", "9")
    assert "binary_tensor_data" in client.get_server_metadata()["extensions"]
    metadata = client.get_model_metadata("multi", "7")
    assert (metadata["name"], metadata["versions"]) == ("multi", ["7"])
    assert metadata["inputs"] == [
        {"name": "a", "datatype": "FP32", "shape": [-1, 2]},
        {"name": "b", "datatype": "INT32", "shape": [-1]},
    ]
    assert sorted(client.get_model_metadata("half")["versions"]) == ["1", "2"]


@pytest.mark.parametrize("binary", [False, True])
def test_triton_infer(client, binary):
    x = np.float32([1, 2])
    outputs = [triton.InferRequestedOutput("y", binary_data=binary)]
    for version, y in (("", [3.5, 4]), ("1", [2.5, 3])):
        result = client.infer("half", [triton_input("x", x, binary)], version, outputs, request_id="a7")
        assert result.as_numpy("y").tolist() == y
        assert result.get_response()["id"] == "a7"
        assert result.get_response()["model_version"] == (version or "2")
    outputs = [triton.InferRequestedOutput("double", binary_data=binary)]
    doubled = client.infer("half", [triton_input("x", x, binary)], outputs=outputs).as_numpy("double")
    assert doubled.tolist() == [2, 4]


@pytest.mark.parametrize("binary", [False, True])
def test_triton_every_type(client, binary):
    inputs = [triton_input(f"in_{name}", array, binary) for name, array in EVERY.items()]
    outputs = [triton.InferRequestedOutput(f"out_{name}", binary_data=binary) for name in reversed(EVERY)]
    result = client.infer("every", inputs, outputs=outputs)
    assert [output["name"] for output in result.get_response()["outputs"]] == [f"out_{n}" for n in reversed(EVERY)]
    for name, array in EVERY.items():
        output = result.as_numpy(f"out_{name}")
        assert output.dtype == array.dtype
        expected = array.tolist() if binary or name != "string" else [[v.decode() for v in row] for row in array]
        assert output.tolist() == expected


@pytest.mark.parametrize("binary", [False, True])
def test_triton_bools_of_a_signature_by_name(client, binary):
    given = triton_input("x", np.array([True, False]), binary)
    result = client.infer("types", [given], parameters={"signature_name": "bool"})
    assert result.as_numpy("y").tolist() == [False, True]


def test_triton_classes(client):
    outputs = [triton.InferRequestedOutput("y", class_count=2)]
    result = client.infer("half", [triton_input("x", np.float32([1, 5, 3]), True)], outputs=outputs)
    assert result.as_numpy("y").tolist() == [b"5.5:1", b"4.5:2"]


def test_triton_compressed_requests(client):
    given = triton_input("x", np.arange(1000, dtype=np.float32), True)
    result = client.infer("half", [given], request_compression_algorithm="gzip")
    assert result.as_numpy("y").tolist() == (np.arange(1000) / 2 + 3).tolist()


@pytest.mark.parametrize(
    "model, version, name, array, status, said",
    [
        ("nope", "", "x", np.float32([1]), "404", "nope"),
        ("half", "9", "x", np.float32([1]), "404", "9"),
        ("half", "", "z", np.float32([1]), "400", "'z'"),
        ("half", "", "x", np.float64([1]), "400", "FP64"),
        ("half", "", "x", np.array([b"a"], object), "400", "BYTES"),
    ],
)
def test_triton_errors(client, model, version, name, array, status, said):
    with pytest.raises(InferenceServerException) as raised:
        client.infer(model, [triton_input(name, array, True)], version)
    assert raised.value.status() == status
    assert said in raised.value.message()


# ---- GraphPipe's Go reference


def as_go(name, array):
    tensor = {"name": f"in_{name}", "type": type_code(name), "shape": list(array.shape)}
    if name == "string":
        return tensor | {"strings": [value.decode() for value in array.ravel()]}
    return tensor | {"data": base64.b64encode(array.tobytes()).decode()}


@pytest.mark.slow
def test_go_every_type(server, go):
    request = {"inputs": [as_go(*item) for item in EVERY.items()], "outputs": [f"out_{name}" for name in EVERY]}
    done = subprocess.run(
        [go, "call", f"{server.url}/graphpipe/every"],
        input=json.dumps(request),
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert done.returncode == 0, done.stdout
    answers = json.loads(done.stdout)
    for (name, array), answer in zip(EVERY.items(), answers, strict=True):
        expected = as_go(name, array)
        assert (answer["type"], answer["shape"]) == (expected["type"], expected["shape"])
        assert (answer.get("data"), answer.get("strings")) == (expected.get("data"), expected.get("strings"))


# ---- PyPI's graphpipe, in a separate environment because of its pins


@pytest.fixture(scope="module")
def graphpipe_py(tmp_path_factory) -> Path:
    """The interpreter of an environment with graphpipe."""
    folder = tmp_path_factory.mktemp("graphpipe_py")
    uv, interpreter = Path(sys.executable).with_name("uv"), folder / "bin" / "python"
    subprocess.run([uv, "venv", "--quiet", "--python", sys.executable, folder], check=True, timeout=60)
    packages = ["graphpipe==1.0.4", "flatbuffers==25.12.19", "numpy==2.4.6"]
    packages += ["requests==2.33.0", "urllib3==2.7.0", "idna", "certifi", "charset-normalizer"]
    install = [uv, "pip", "install", "--quiet", "--no-deps", "--python", interpreter, *packages]
    done = subprocess.run(install, capture_output=True, text=True, timeout=240)
    if done.returncode:
        pytest.skip(f"PyPI's graphpipe cannot be installed here: {done.stderr[-300:]}")
    return interpreter


PROGRAM = r"""
import sys
import numpy as np
import requests
from graphpipe import remote

url, values = sys.argv[1], dict(np.load(sys.argv[2]))
assert remote.execute(url + "/graphpipe/half", np.float32([1, 2])).tolist() == [3.5, 4]
assert remote.execute(url + "/graphpipe/half/versions/1", np.float32([1]), "x", "double").tolist() == [2]
values["string"] = np.array([[b"", b"a\0b"], ["ü€".encode(), b"x"]], object)
names = list(values)
sent = [values[name] for name in names]
inputs, outputs = [["in_" + name for name in names], ["out_" + name for name in names]]
answers = remote.execute_multi(url + "/graphpipe/every", sent, inputs, outputs, '{"signature_name": "serving_default"}')
for name, array, answer in zip(names, sent, answers, strict=True):
    assert answer.shape == array.shape and answer.tolist() == array.tolist(), (name, answer)
    assert name == "string" or answer.dtype == array.dtype, (name, answer.dtype)
every = url + "/graphpipe/every"
assert sorted(remote.get_input_names(every)) == sorted(inputs), remote.get_input_names(every)
assert sorted(remote.get_output_names(every)) == sorted(outputs)
assert {tuple(shape) for shape in remote.get_input_shapes(every)} == {(None, 2)}
try:
    remote.execute(url + "/graphpipe/half", np.float64([1]))
except requests.HTTPError as error:
    assert error.response.status_code == 400
else:
    raise AssertionError("float64 went through")
print("right")
"""


@pytest.mark.slow
def test_graphpipe_py_every_type(server, graphpipe_py, tmp_path):
    np.savez(tmp_path / "values.npz", **{name: array for name, array in EVERY.items() if name != "string"})
    program = [graphpipe_py, "-W", "ignore::DeprecationWarning", "-c", PROGRAM, server.url, tmp_path / "values.npz"]
    done = subprocess.run(program, capture_output=True, text=True, timeout=120)
    assert (done.returncode, done.stdout) == (0, "right\n"), done.stderr
