"""Servers that die and return, present a certificate that nobody knows, or were never what they seemed; a cut run."""

import json
import os
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

from loadtest.client import Client
from loadtest.run import Plan, run
from seaway import store
from seaway.errors import DataError, InvalidInput, Unavailable
from seaway.protocols import wire

ROOT = Path(__file__).resolve().parents[2]


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
        command = [sys.executable, "-m", "cli.main", "load", server.url, "--volume", volume, "--name", "toy"]
        command += ["--protocol", "tfs", "--time", "120", "--users", "2", "--report", tmp_path / "out"]
        environment = os.environ | {"PYTHONPATH": str(ROOT), "NO_COLOR": "1"}
        process = subprocess.Popen(
            list(map(str, command)), cwd=tmp_path, env=environment, start_new_session=True,
            stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True,
        )  # fmt: skip
        try:
            deadline = time.monotonic() + 100
            while next(server.counter) < 50 and time.monotonic() < deadline:
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
