"""Networks with any outputs and open sizes, shipped and served: every protocol returns what PyTorch does."""

import subprocess
import sys
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from seaway.artifacts import golden as goldens
from seaway.artifacts import interface, model_repository
from seaway.artifacts.artifact_metadata import ArtifactMetadata, Tolerance
from seaway.export.export import export_model
from seaway.load import expected as expected_outputs
from seaway.load import payloads
from seaway.protocols import client_codecs, graphpipe, oip, tfserving

FIXTURES = Path(__file__).resolve().parents[2] / "fixtures"
Shipped = tuple[dict[str, ArtifactMetadata], Path]
PROTOCOLS = ("rest", "graphpipe", "oip", "oip-binary")

# As in the product, no process holds both torch and TensorFlow.
REST_OF_THE_PIPELINE = """
import sys
from pathlib import Path
from seaway.convert.convert import convert_artifact
from seaway.publish.publish import publish
from seaway.validate.validate import validate

for folder in map(Path, sys.argv[2:]):
    onnx, saved_model, parity = folder / "onnx", folder / "saved_model", folder / "parity"
    convert_artifact(onnx, saved_model)
    validate(onnx, saved_model, None, parity, folder / "report.html")
    publish(onnx, saved_model, parity, Path(sys.argv[1]))
"""


def nets() -> dict[str, tuple[list[str], list[str], dict[str, Any]]]:
    sys.path.insert(0, str(FIXTURES))
    import kinds_of_nets

    return kinds_of_nets.NETS


NETS = nets()


@pytest.fixture(scope="module")
def shipped(tmp_path_factory: pytest.TempPathFactory) -> Shipped:
    """Each net's metadata, and the repository."""
    folder = tmp_path_factory.mktemp("kinds")
    (folder / "models").mkdir()
    metadata = {
        name: export_model(
            f"python:kinds_of_nets:{name}", folder / name / "onnx", weights=None, inputs=inputs, sizes=sizes, **options
        )
        for name, (inputs, sizes, options) in NETS.items()
        if (folder / name).mkdir() is None
    }
    command = [sys.executable, "-c", REST_OF_THE_PIPELINE, str(folder / "models"), *(str(folder / n) for n in NETS)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return metadata, folder / "models"


@pytest.fixture(scope="module", params=["onnx", "savedmodel"])
def served(request: pytest.FixtureRequest, server_class: Any, shipped: Shipped) -> Iterator[Any]:
    server = server_class(shipped[1], "--backend", request.param)
    try:
        server.wait_ready()
        yield server
    finally:
        server.stop()


def expected(name: str, metadata: ArtifactMetadata, inputs: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
    """PyTorch's outputs, in the order of the metadata's."""
    import kinds_of_nets

    net, tensors = getattr(kinds_of_nets, name)().eval(), {n: torch.from_numpy(a) for n, a in inputs.items()}
    with torch.no_grad():
        returned = net(**tensors)
    named = dict(zip((tensor.name for tensor in metadata.outputs), leaves(returned), strict=True))
    return {key: value.numpy() for key, value in named.items()}


def leaves(value: Any) -> list[torch.Tensor]:
    """The tensors of a value, in order."""
    if isinstance(value, torch.Tensor):
        return [value]
    inner = value.values() if isinstance(value, dict) else value if isinstance(value, tuple | list) else None
    if inner is None:
        inner = vars(value).values() if hasattr(value, "__dict__") else ()
    return [leaf for item in inner for leaf in leaves(item)]


def call(
    server: Any, protocol: str, name: str, inputs: dict[str, np.ndarray]
) -> tuple[Any, Callable[[], dict[str, np.ndarray]]]:
    """The reply over one protocol, and what reads all outputs from it."""
    if protocol == "rest":
        reply = server.request("POST", f"/v1/models/{name}:predict", tfserving.write_predict_request(inputs, row=False))
        return reply, lambda: tfserving.read_predict_response(reply.body)
    if protocol == "graphpipe":
        reply = server.request("POST", f"/graphpipe/{name}", graphpipe.write_infer_request(inputs))
        return reply, lambda: {str(i): array for i, array in enumerate(graphpipe.read_infer_response(reply.body))}
    body, headers = oip.write_infer_request(inputs, binary=protocol == "oip-binary")
    reply = server.request("POST", f"/v2/models/{name}/infer", body, headers)
    return reply, lambda: dict(oip.read_infer_response(reply.body, reply.headers))


def calls(shipped: Shipped, name: str) -> list[dict[str, np.ndarray]]:
    """Golden inputs of every size, in another order than the gate saw them, so that no response can be remembered."""
    golden = goldens.read(model_repository.path(shipped[1], name, 1) / model_repository.EXTRA / goldens.GOLDEN)
    rows = [{n: array[3:1:-1].copy() for n, array in golden.inputs.items()}] if golden.inputs else []
    return rows + [call.inputs for call in golden.calls]


NO_REQUEST = {("graphpipe", "masked"), ("graphpipe", "attends"), ("rest", "half")}
# What a protocol has no type for
LIMITS = {
    ("graphpipe", "nested"): "GraphPipe has no type for bool",
}


@pytest.mark.parametrize("name", NETS)
@pytest.mark.parametrize("protocol", PROTOCOLS)
def test_every_protocol_returns_all_outputs(served: Any, shipped: Shipped, protocol: str, name: str) -> None:
    metadata = shipped[0][name]
    if (protocol, name) in NO_REQUEST:
        pytest.skip("GraphPipe has no type for bool, and TensorFlow Serving's JSON none for half: not even the request")
    for inputs in calls(shipped, name):
        wanted = expected(name, metadata, inputs)
        reply, read = call(served, protocol, name, inputs)
        if (protocol, name) in LIMITS:
            assert reply.status == 501
            assert LIMITS[protocol, name] in reply.body.decode()
            continue
        assert reply.status == 200, reply.body
        returned = read()
        assert len(returned) == len(wanted)
        for position, (output, array) in enumerate(wanted.items()):
            got = returned.get(output, returned.get(str(position), returned.get("")))
            assert got is not None
            assert got.shape == array.shape
            comparison = goldens.compare(np.asarray(got, np.float64), array, metadata.tolerances[output])
            assert comparison.wrong == 0, (output, comparison.max_abs)


def test_open_sizes_are_open_in_the_signature(served: Any) -> None:
    described = served.get("/v1/models/tags/metadata").json()["metadata"]["signature_def"]["signature_def"]
    inputs = described["serving_default"]["inputs"]
    assert [axis["size"] for axis in inputs["ids"]["tensor_shape"]["dim"]] == ["-1", "-1"]
    described = served.get("/v2/models/graph").json()
    assert {tensor["name"]: tensor["shape"] for tensor in described["inputs"]} == {"nodes": [-1, 4], "edges": [2, -1]}


def test_requests_are_batched_only_where_the_batch_is_the_first_axis_of_all_outputs(served: Any) -> None:
    log = "".join(served.log)
    for name, batched in (
        ("sentence", True),
        ("nested", True),
        ("tags", False),
        ("pairs", False),
        ("over_time", False),
    ):
        [line] = [line for line in log.splitlines() if f"{name}/1@" in line and "batched" in line]
        assert ("batched: serving_default" in line) is batched, line


@pytest.mark.parametrize("name", NETS)
@pytest.mark.parametrize("protocol", PROTOCOLS)
def test_a_load_test_compares_all_outputs(served: Any, shipped: Shipped, protocol: str, name: str) -> None:
    """The requests of `seaway load` for the golden examples; their responses, and those with one output changed."""
    if (protocol, name) in NO_REQUEST:
        pytest.skip("the protocol has no type for the inputs")
    codec = client_codecs.named("tfs" if protocol == "rest" else protocol)
    model = payloads.read_model(model_repository.path(shipped[1], name, 1))
    carried = {t.name for t in interface.default_outputs(shipped[0][name].outputs) if t.dtype in codec.dtypes}
    for payload in payloads.encode(model, codec, 1):
        assert {one.name for one in payload.expected} == carried
        reply = served.request("POST", codec.path(name, 1), payload.body, payload.headers)
        assert reply.status == 200, reply.body
        payloads.check(reply.body, reply.headers, payload, codec)
        for number, one in enumerate(payload.expected):
            if one.values.size:
                finite = np.nan_to_num(one.values)
                others = np.where(np.abs(finite) < 1e6, finite + 1, finite / 2)
                other = expected_outputs.expect(one.name, others, Tolerance(0, 0))
                changed = (*payload.expected[:number], other, *payload.expected[number + 1 :])
                with pytest.raises(payloads.WrongResponse, match=f"^output '{one.name}' differs from PyTorch's"):
                    payloads.check(reply.body, reply.headers, replace(payload, expected=changed, verified={}), codec)
