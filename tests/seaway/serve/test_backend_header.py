"""Every response of a model names its engine, and no process of the server holds the other one."""

import subprocess
from pathlib import Path

import grpc
import pytest

from seaway.load import grpc_client
from seaway.protocols import oip_grpc, tfs_grpc

EXAMPLES = Path(__file__).parents[3] / "seaway" / "example"


@pytest.fixture(scope="module")
def onnx_server(server_class):
    running = server_class(EXAMPLES, "--backend", "onnx", "--grpc-port", "0")
    running.wait_ready()
    yield running
    assert running.stop() == 0


def test_responses_over_http_name_the_engine(onnx_server):
    row = [[[0.0]] * 28] * 28
    assert onnx_server.predict("characters", {"instances": [row]}).headers["Seaway-Backend"] == "onnx"
    for path in ("/v1/models/characters/metadata", "/v2/models/characters", "/v2/models/characters/ready"):
        reply = onnx_server.get(path)
        assert reply.status == 200
        assert (reply.headers["Seaway-Backend"], reply.headers["Seaway-Model"][:13]) == ("onnx", "characters/1@")
    assert "Seaway-Backend" not in onnx_server.get("/readyz").headers
    assert "Seaway-Backend" not in onnx_server.predict("missing", {"instances": [row]}).headers


def test_responses_over_grpc_name_the_engine(onnx_server):
    channel = grpc_client.open_channel(f"grpc://{onnx_server.grpc}")
    try:
        metadata = grpc_client.method(channel, f"/{tfs_grpc.PREDICTION}/GetModelMetadata")
        request = tfs_grpc.name_model("characters", None) + b"\x12\x0dsignature_def"  # field 2
        _, headers = grpc_client.call(metadata, request, 30)
        assert headers["Seaway-Backend"] == "onnx"
        with pytest.raises(grpc.RpcError) as failed:
            grpc_client.method(channel, f"/{oip_grpc.SERVICE}/ModelInfer")(oip_grpc.name_model("missing", None))
        assert "seaway-backend" not in dict(failed.value.trailing_metadata())
    finally:
        channel.close()


@pytest.mark.skipif(not Path("/proc/self/maps").exists(), reason="only Linux has /proc")
def test_a_server_with_onnx_runtime_holds_no_tensorflow(onnx_server):
    listed = subprocess.run(["ps", "-A", "-o", "pid=,ppid="], capture_output=True, text=True, check=True).stdout
    parents = {int(pid): int(parent) for pid, parent in map(str.split, listed.splitlines())}
    processes = [onnx_server.process.pid]
    for pid in processes:  # grows while it is read
        processes += [child for child, parent in parents.items() if parent == pid]
    assert onnx_server.worker() in processes
    maps = {pid: Path(f"/proc/{pid}/maps").read_text() for pid in processes}
    assert "onnxruntime" in maps[onnx_server.worker()]
    assert [pid for pid, text in maps.items() if "/tensorflow/" in text] == []
