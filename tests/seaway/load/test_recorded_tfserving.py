"""Load and verify against TensorFlow Serving as it was recorded: its layout of JSON, its errors, its lack of a name."""

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
from seaway.load.run import Plan, run
from seaway.load.spoken import first, spoken
from seaway.load.verify import faults, keep, replicas, verify

sys.path.append(str(Path(__file__).resolve().parents[2] / "fixtures"))
from recordings import parsed, tfserving

ROOT = Path(__file__).resolve().parents[3]
ONE = "content-type-text"  # half: 1.0 → 3.5, as rows


class _Replay(BaseHTTPRequestHandler):
    """Answers with the recorded bytes, found by path and by what the body says."""

    protocol_version = "HTTP/1.1"
    table: dict  # (path, body as JSON) → (status, type, body)
    asked: list  # paths

    def log_message(self, *_):
        pass

    def do_POST(self):
        body = self.rfile.read(int(self.headers["Content-Length"]))
        try:
            key = self.path, json.dumps(json.loads(body), sort_keys=True)
        except ValueError:
            key = self.path, ""
        status, kind, answer = self.table.get(key) or self.table[self.path.startswith("/v1/")]
        self.asked.append(self.path)
        self.send_response(status)
        self.send_header("Content-Type", kind)
        self.send_header("Content-Length", str(len(answer)))
        self.end_headers()
        self.wfile.write(answer)


@pytest.fixture(scope="module")
def recorded():
    table, by_id = {}, {}
    for recording in tfserving():
        said = by_id[recording.id] = recording.status, recording.content_type, recording.text.encode()
        if (body := parsed(recording.body.decode("utf-8", "replace"))) is not None:
            table.setdefault((recording.path, json.dumps(body, sort_keys=True)), said)
    table[True] = next(said for said in by_id.values() if said[0] == 404 and b"Servable not found" in said[2])
    table[False] = by_id["root"]  # the HTML page of TensorFlow Serving 2.20.0 for all that is not below /v1/
    asked.clear()
    with _serving(table) as url:
        yield url


@contextmanager
def _serving(table):
    handler = type("Replay", (_Replay,), {"table": table, "asked": asked})
    with ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        server.daemon_threads = True
        Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True).start()
        try:
            yield f"http://127.0.0.1:{server.server_address[1]}"
        finally:
            server.shutdown()


@pytest.fixture
def half(tmp_path):
    """x / 2 + 3, of which version 2 of the recorded model is one."""
    np.savez(tmp_path / "half.npz", x=np.array([1.0], np.float32), **{"output:y": np.array([3.5], np.float32)})
    return tmp_path / "half.npz"


asked = []
PLAN = Plan(users=2, seconds=1, warmup=0, model="half")


def test_its_answers_are_right_and_nothing_is_expected_of_their_headers(recorded, half, tmp_path):
    assert spoken(recorded, half, PLAN) == ["tfs"]
    got = verify(recorded, half, PLAN)
    assert faults(got) == []
    [replica] = replicas(got)
    assert (replica.pod, replica.model, replica.wrong) == ("", "", 0)
    assert replica.answers == got[0].requests > 0
    assert keep(half, got) is None, "a file of examples is no version, so there is nothing to bind evidence to"


@pytest.mark.parametrize("verb", [["load"], ["load", "capacity", "--limit", "p50_ms=0.001", "--rate", "5"]])
def test_a_verb_without_a_protocol_asks_over_the_one_that_it_speaks(recorded, half, verb):
    asked.clear()
    options = ["--golden", half, "--name", "half", "--time", "1", "--warmup", "0"]
    command = [sys.executable, "-m", "seaway.cli.main", *verb, recorded, *options]
    done = subprocess.run(
        list(map(str, command)), env=os.environ | {"PYTHONPATH": str(ROOT), "NO_COLOR": "1"},
        capture_output=True, text=True, timeout=200,
    )  # fmt: skip
    said = done.stdout + done.stderr
    assert "REST" in done.stdout, said
    assert "GraphPipe" not in said
    assert set(asked) == {"/v1/models/half:predict"}


def test_it_is_asked_over_rest_where_one_protocol_is_enough(recorded, half):
    assert first(recorded, half, PLAN) == "tfs"
    with pytest.raises(NotFound, match="Servable not found for request"):
        first(recorded, half, Plan(model="absent"))


def test_the_version_in_the_address_decides(recorded, half, tmp_path):
    """Version 1 of the recorded model is x / 2 + 2: as PyTorch's it would be wrong."""
    [got] = verify(recorded, half, Plan(users=2, seconds=1, warmup=0, model="half", version=1), ["tfs"])
    assert got.wrong == got.requests > 0
    [said] = faults([got])
    assert said.startswith("a replica without a name answered ")


def test_a_model_that_it_does_not_serve_is_its_own_message(recorded, half):
    with pytest.raises(NotFound, match="404 Not Found: Servable not found for request"):
        run(recorded, half, Plan(model="absent", seconds=1))
