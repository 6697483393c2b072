"""Load and verify against recorded responses of TensorFlow Serving: JSON layout, errors, no identity headers."""

import json
import os
import subprocess
import sys
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread

import numpy as np
import pytest

from seaway.errors import NotFound
from seaway.load.config import LoadConfig
from seaway.load.run import run
from seaway.load.supported_protocols import preferred_protocol, supported_protocols
from seaway.load.verify import problems, replicas, store_evidence, verify

sys.path.append(str(Path(__file__).resolve().parents[2] / "fixtures"))
from recordings import parsed, tfserving

ROOT = Path(__file__).resolve().parents[3]


class _Replay(BaseHTTPRequestHandler):
    """Responds with the recorded bytes for the path and body."""

    protocol_version = "HTTP/1.1"
    table: dict  # (path, body as JSON) → (status, type, body)
    paths: list

    def log_message(self, *_):
        pass

    def do_POST(self):
        body = self.rfile.read(int(self.headers["Content-Length"]))
        try:
            key = self.path, json.dumps(json.loads(body), sort_keys=True)
        except ValueError:
            key = self.path, ""
        status, content_type, content = self.table.get(key) or self.table[self.path.startswith("/v1/")]
        self.paths.append(self.path)
        self.send_response(status)
        self.send_header("Content-Type", content_type)
        self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        self.wfile.write(content)


@pytest.fixture(scope="module")
def recorded():
    table, by_id = {}, {}
    for recording in tfserving():
        response = by_id[recording.id] = recording.status, recording.content_type, recording.text.encode()
        if (body := parsed(recording.body.decode("utf-8", "replace"))) is not None:
            table.setdefault((recording.path, json.dumps(body, sort_keys=True)), response)
    table[True] = next(r for r in by_id.values() if r[0] == 404 and b"Servable not found" in r[2])
    table[False] = by_id["root"]  # TensorFlow Serving 2.20.0's HTML page for all paths that are not below /v1/
    paths.clear()
    with _serving(table) as url:
        yield url


@contextmanager
def _serving(table):
    handler = type("Replay", (_Replay,), {"table": table, "paths": paths})
    with ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        server.daemon_threads = True
        Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True).start()
        try:
            yield f"http://127.0.0.1:{server.server_address[1]}"
        finally:
            server.shutdown()


@pytest.fixture
def half(tmp_path):
    """An example of x / 2 + 3, which version 2 of the recorded model computes."""
    np.savez(tmp_path / "half.npz", x=np.array([1.0], np.float32), **{"output:y": np.array([3.5], np.float32)})
    return tmp_path / "half.npz"


paths = []
CONFIG = LoadConfig(users=2, duration_s=1, warmup_s=0, model="half")


def test_its_responses_are_correct_without_identity_headers(recorded, half, tmp_path):
    assert supported_protocols(recorded, half, CONFIG) == ["tfs"]
    results = verify(recorded, half, CONFIG)
    assert problems(results) == []
    [replica] = replicas(results)
    assert (replica.pod, replica.model, replica.wrong) == ("", "", 0)
    assert replica.responses == results[0].requests > 0
    assert store_evidence(half, results) is None, "a file of examples is no version to bind evidence to"


@pytest.mark.parametrize("verb", [["load"], ["load", "capacity", "--limit", "p50_ms=0.001", "--rate", "5"]])
def test_a_verb_without_a_protocol_uses_the_supported_one(recorded, half, verb):
    paths.clear()
    options = ["--golden", half, "--name", "half", "--time", "1", "--warmup", "0"]
    command = [sys.executable, "-m", "seaway.cli.main", *verb, recorded, *options]
    completed = subprocess.run(
        list(map(str, command)), env=os.environ | {"PYTHONPATH": str(ROOT), "NO_COLOR": "1"},
        capture_output=True, text=True, timeout=200,
    )  # fmt: skip
    output = completed.stdout + completed.stderr
    assert "REST" in completed.stdout, output
    assert "GraphPipe" not in output
    assert set(paths) == {"/v1/models/half:predict"}


def test_rest_is_the_preferred_protocol(recorded, half):
    assert preferred_protocol(recorded, half, CONFIG) == "tfs"
    with pytest.raises(NotFound, match="Servable not found for request"):
        preferred_protocol(recorded, half, LoadConfig(model="absent"))


def test_the_version_in_the_path_selects_the_model(recorded, half, tmp_path):
    """Version 1 of the recorded model computes x / 2 + 2, so its outputs are wrong."""
    [result] = verify(recorded, half, LoadConfig(users=2, duration_s=1, warmup_s=0, model="half", version=1), ["tfs"])
    assert result.wrong == result.requests > 0
    replica, kind = problems([result])
    assert replica.startswith("REST, a replica without a name: ")
    assert kind.startswith("REST: wrong response: output 'y' differs from the file's by more than the tolerance (")


def test_an_unknown_model_is_reported_with_the_server_s_message(recorded, half):
    with pytest.raises(NotFound, match="404 Not Found: Servable not found for request"):
        run(recorded, half, LoadConfig(model="absent", duration_s=1))
