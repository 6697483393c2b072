"""Servers that die and return, present a certificate that nobody knows, or were never what they seemed; a cut run."""

import json
import os
import re
import signal
import ssl
import subprocess
import sys
import threading
import time
from pathlib import Path

import numpy as np
import pytest
from responder import serving

from seaway.artifacts import store
from seaway.errors import DataError, InvalidInput, Unavailable
from seaway.load import gate, report, results
from seaway.load.client import Client
from seaway.load.run import Plan, run
from seaway.protocols import wire

ROOT = Path(__file__).resolve().parents[3]


@pytest.fixture
def certificate(tmp_path):
    """A certificate of 127.0.0.1 that signs itself."""
    key, own = tmp_path / "key.pem", tmp_path / "own.pem"
    command = ["openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "2", "-subj", "/CN=seaway"]
    subprocess.run(
        [*command, "-keyout", key, "-out", own, "-addext", "subjectAltName=IP:127.0.0.1"],
        check=True, capture_output=True,
    )  # fmt: skip
    return own, key


def test_a_certificate_that_nobody_knows(volume, certificate, monkeypatch):
    own, key = certificate
    source, plan = store.path(volume, "toy", 1), Plan(users=2, seconds=1, warmup=0)
    with serving(volume) as server:
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(own, key)
        server.socket = context.wrap_socket(server.socket, server_side=True)
        url = server.url.replace("http:", "https:")
        with pytest.raises(Unavailable, match=r"certificate is not trusted here .*SSL_CERT_FILE, or give --insecure"):
            run(url, source, plan)
        got = run(url, source, Plan(users=2, seconds=1, warmup=0, insecure=True))
        assert (got.failed, got.wrong) == (0, 0) and got.requests > 0
        monkeypatch.setenv("SSL_CERT_FILE", str(own))
        got = run(url, source, plan)
        assert (got.failed, got.wrong) == (0, 0) and got.requests > 0


def test_a_server_that_dies_and_returns(volume):
    """Its requests fail while it is away, are told by kind and second, and the rest are right."""
    source = store.path(volume, "toy", 1)
    with serving(volume) as first:
        port = first.server_address[1]
        away = threading.Event()

        def die(progress):
            if progress.elapsed > 1.5 and not away.is_set():
                away.set()
                first.shutdown()
                first.server_close()
                threading.Timer(2.0, back.start).start()

        back = _Later(volume, port)
        with back:
            got = run(first.url, source, Plan(rate=40, users=8, seconds=7, warmup=0, new_connections=True), die)
    assert away.is_set()
    assert got.failed > 0 == got.wrong
    assert any("refused" in kind.lower() for kind in got.errors), got.errors
    assert sum(got.errors.values()) == got.failed == sum(t for points in got.faults.values() for _, t in points)
    assert got.over_time[0].right > 0 < got.over_time[-1].right
    assert max(second.faults for second in got.over_time) > 10


class _Later:
    """A server that comes up at a port when it is told to; it ends with the block."""

    def __init__(self, volume, port):
        self.volume, self.port, self.server = volume, port, None

    def start(self):
        self.context = serving(self.volume, self.port)
        self.server = self.context.__enter__()

    def __enter__(self):
        return self

    def __exit__(self, *_):
        if self.server is not None:
            self.context.__exit__(None, None, None)


def test_an_interrupted_run_keeps_what_it_measured(volume, tmp_path):
    with serving(volume) as server:
        asked, version = [], server.version
        server.version = lambda number: asked.append(number) or version(number)
        command = [sys.executable, "-m", "seaway.cli.main", "load", server.url, "--volume", volume, "--name", "toy"]
        command += ["--protocol", "tfs", "--time", "120", "--users", "2", "--report", tmp_path / "out"]
        environment = os.environ | {"PYTHONPATH": str(ROOT), "NO_COLOR": "1"}
        process = subprocess.Popen(
            list(map(str, command)), cwd=tmp_path, env=environment, start_new_session=True,
            stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True,
        )  # fmt: skip
        try:
            deadline = time.monotonic() + 100
            while len(asked) < 50 and time.monotonic() < deadline:
                time.sleep(0.2)
            time.sleep(2.5)  # what was counted is told once a second
            os.killpg(process.pid, signal.SIGINT)
            said, _ = process.communicate(timeout=60)
        finally:
            process.kill()
    assert process.returncode == 3, said
    assert "the run was ended before its time" in said
    found = json.loads((tmp_path / "out" / "load.json").read_text())
    assert found["verdict"] == "inconclusive"
    assert found["runs"][0]["partial"] is True
    assert found["runs"][0]["requests"] > 0


@pytest.fixture(scope="module")
def silent(volume):
    """(a run of only wrong answers, one of only failures), each of a second."""
    found = []
    for fault in ("off", "error"):
        with serving(volume) as server:
            server.fault = fault
            found.append(run(server.url, store.path(volume, "toy", 1), Plan(users=2, seconds=1, warmup=0)))
    return found


def test_without_a_right_answer_no_latency_is_told(silent, tmp_path):
    """Neither in JSON nor in Markdown nor on the page; nor a distance, where no answer was compared."""
    wrong, failed = silent
    assert wrong.requests == wrong.wrong > 0 < failed.failed == failed.requests
    lines = gate.judge(wrong, gate.Limits(p99_ms=50))
    results.write_json(tmp_path / "load.json", silent, lines)
    for one in json.loads((tmp_path / "load.json").read_text())["runs"]:
        assert [one[name] for name in ("p50_ms", "p90_ms", "p95_ms", "p99_ms")] == [None] * 4
        assert set(one["percentiles"].values()) == {None}
    assert [row.p99_ms for row in results.read_json(tmp_path / "load.json")] == [None, None]
    first, second = results.markdown("bad", silent, lines).splitlines()[4:6]
    assert first.split(" | ")[3:] == ["0", "n/a", "n/a", "n/a", "0.001", f"{wrong.requests:,}", "0 |"]
    assert second.split(" | ")[3:] == ["0", "n/a", "n/a", "n/a", "n/a", "0", f"{failed.requests:,} |"]
    page = report.load_page("bad", silent, lines)
    assert page.count(">n/a<") >= 7
    assert "Latency by percentile" not in page
    assert "no right answer, so no p99_ms" in page
    assert "inf" not in re.sub(r"<(svg|style).*?</\1>", "", page, flags=re.DOTALL)
    assert "n/a" in results.compare(silent, silent)


def test_what_answers_were_compared_with_is_told(server, volume, silent, tmp_path):
    """PyTorch's outputs, the file's, or a request's first answer: each by its name, and none where nothing answered."""
    images = np.random.default_rng(0).normal(size=(4, 4, 4, 1)).astype(np.float32)
    np.savez(tmp_path / "bare.npz", image=images)
    np.savez(tmp_path / "known.npz", image=images, **{"output:scores": np.full((4, 3), 2, np.float32)})
    plan = Plan(users=1, seconds=1, warmup=0, model="toy")
    bare, known = (run(server.url, tmp_path / name, plan) for name in ("bare.npz", "known.npz"))
    page, markdown = report.load_page("bare", [bare], []), results.markdown("bare", [bare])
    assert "Every answer was compared with the first answer to the same request, because the examples hold no" in page
    assert "a server whose answers to a request are always wrong alike would pass" in page
    assert "the first answer to the same request" in markdown
    assert "PyTorch" not in page + markdown
    assert bare.wrong == 0 < bare.requests
    page = report.load_page("known", [known], [])
    assert "the output that the file of examples holds for the same input" in page
    assert set(known.errors) == {"WrongAnswer: differs from the file's output by more than the tolerance"}
    assert "PyTorch" not in page
    wrong, failed = silent
    assert results.compared([wrong]) == ["Every answer was compared with PyTorch's recorded output for the same input."]
    assert results.compared([failed]) == []


def test_no_example_is_told(server, tmp_path):
    np.savez(tmp_path / "none.npz", x=np.empty((0, 4), np.float32))
    with pytest.raises((DataError, InvalidInput), match="there is no example to send"):
        run(server.url, tmp_path / "none.npz", Plan(model="toy", seconds=1))


def test_metrics_that_are_not_there_are_told_before_the_load(server, volume):
    source = store.path(volume, "toy", 1)
    for address, said in (
        (f"{server.url}/", "no metrics for Prometheus there"),
        ("admin:8502", "give an address like"),
    ):
        with pytest.raises((Unavailable, InvalidInput), match=said):
            run(server.url, source, Plan(seconds=1, metrics=address))
    assert next(server.counter) <= 2, "nothing but the probes"


def test_answers_that_are_no_answers_are_one_line(server):
    server.fault = "garbage"
    with Client(server.url) as client, pytest.raises(Unavailable, match="what came is no REST answer"):
        client.predict(wire.TFS, "toy", {"image": np.zeros((1, 4, 4, 1), np.float32)}, "scores")
        client.predict(wire.TFS, "toy", {"image": np.zeros((1, 4, 4, 1), np.float32)}, "scores")
