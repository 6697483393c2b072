"""Locust's own master and workers as processes on loopback; workers get no option but the master's address."""

import contextlib
import json
import os
import socket
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from certificates import Authority
from tls_servers import https

from seaway.artifacts import model_repository
from seaway.load.counters import Counters
from seaway.load.payloads import Payload, encode, read_model
from seaway.load.run import LOCUSTFILE
from seaway.load.schedule import Schedule
from seaway.protocols import client_codecs

ROOT = Path(__file__).resolve().parents[3]


def start_locust(folder, *arguments, file=LOCUSTFILE):
    command = [sys.executable, "-m", "locust", "-f", file, "--headless", *arguments]
    return subprocess.Popen(
        list(map(str, command)), cwd=folder, env=os.environ | {"PYTHONPATH": str(ROOT)},
        stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True,
    )  # fmt: skip


def free_port():
    with socket.socket() as unused:
        unused.bind(("127.0.0.1", 0))
        return unused.getsockname()[1]


def wait_for(processes, timeout_s=100):
    """(exit status of the first process, output of all) once all have ended."""
    with contextlib.ExitStack() as stack:
        for process in processes:
            stack.enter_context(process)
            stack.callback(process.kill)
        outputs = [process.communicate(timeout=timeout_s)[0] for process in processes]
    return processes[0].returncode, "\n".join(outputs)


def run_distributed(folder, *options, workers=2):
    """Runs a master with `options` and workers without: (the master's exit status, output, counters by protocol)."""
    port = free_port()
    master = ["--master", "--master-bind-port", port, "--expect-workers", workers, "--expect-workers-max-wait", 60]
    master += ["--counts", folder / "counts", "--stop-timeout", 9]
    commands = [[*master, *options], *[["--worker", "--master-port", port]] * workers]
    status, output = wait_for([start_locust(folder, *arguments) for arguments in commands])
    counted = {}
    for line in (folder / "counts").read_text().splitlines():
        for key, counters in json.loads(line)["counters"].items():
            counted.setdefault(key, Counters()).merge(Counters.from_json(counters))
    return status, output, counted


def test_workers_send_what_the_master_s_options_say(server, tmp_path):
    """Protocol, version, examples and batch: every response is correct."""
    golden = model_repository.path(server.repository, "toy", 1)
    options = ["--host", server.url, "--golden", golden, "--protocol", "oip", "--model-version", 1, "--batch", 3]
    status, output, counted = run_distributed(tmp_path, *options, "--users", 4, "--spawn-rate", 4, "--run-time", "3s")
    assert status == 0, output
    assert "Traceback" not in output
    assert set(counted) == {"oip"}
    assert counted["oip"].requests == next(server.counter) > 0
    assert (counted["oip"].failed, counted["oip"].wrong) == (0, 0)


def test_workers_share_the_arrivals_of_their_master_s_rate_shape_and_seed(server, tmp_path):
    golden = model_repository.path(server.repository, "toy", 1)
    options = ["--host", server.url, "--golden", golden, "--protocol", "tfs", "--rate", 30, "--shape", "step"]
    options += ["--seed", 4, "--users", 20, "--spawn-rate", 20, "--run-time", "4s"]
    status, output, counted = run_distributed(tmp_path, *options)
    assert status == 0, output
    sent = sum(histogram.total() for histogram in counted["tfs"].lag.values()) + counted["tfs"].backlog
    due = Schedule(30, 4, "step", seed=4).count_due(0, 4)
    assert due - 30 <= sent <= due  # fewer if other tests take the cores; twice as many if each worker sent all
    assert counted["tfs"].requests == next(server.counter)


def test_workers_use_the_files_that_the_master_s_options_name(repository, tmp_path):
    """A worker that has none of them ends with a message."""
    ca = Authority(tmp_path)
    ca.issue("client")
    golden = model_repository.path(repository, "toy", 1)
    with https(repository, ca.issue("server"), client_ca=ca.ca) as server:
        options = [
            "--host",
            server.url,
            "--golden",
            golden,
            "--protocol",
            "tfs",
            "--run-time",
            "2s",
            "--tls-ca",
            "ca.pem",
        ]
        options += ["--tls-client-cert", "client.crt", "--tls-client-key", "client.key"]
        status, output, counted = run_distributed(tmp_path, *options, "--users", 2, "--spawn-rate", 2)
        assert (status, counted["tfs"].failed, counted["tfs"].wrong) == (0, 0, 0), output
        assert counted["tfs"].requests == next(server.counter) > 0
        (elsewhere := tmp_path / "elsewhere").mkdir()
        port = free_port()
        master = start_locust(tmp_path, "--master", "--master-bind-port", port, "--expect-workers", 1, *options)
        worker = start_locust(elsewhere, "--worker", "--master-port", port)
        output = worker.communicate(timeout=100)[0]
        assert (worker.returncode, "locust: --tls-ca ca.pem: it does not exist" in output) == (1, True), output
        assert wait_for([master])[0] == 1
        assert next(server.counter) == counted["tfs"].requests + 1, "it sent nothing"


def test_a_run_that_measured_nothing_fails(server, tmp_path):
    """A worker with another locustfile has none of the users, so it sends nothing."""
    other = tmp_path / "other.py"
    other.write_text("from locust import User\n\n\nclass Other(User):\n    def run(self):\n        pass\n")
    golden, port = model_repository.path(server.repository, "toy", 1), free_port()
    target = ["--host", server.url, "--golden", golden, "--protocol", "tfs", "--run-time", "1s"]
    master = start_locust(tmp_path, "--master", "--master-bind-port", port, "--expect-workers-max-wait", 60, *target)
    worker = start_locust(tmp_path, "--worker", "--master-port", port, file=other)
    status, output = wait_for([master, worker])
    assert status == 1, output
    assert "nothing was measured: no request ended during the run; check the workers' output" in output


def test_the_default_protocol_is_found_by_probing(server, tmp_path):
    golden = model_repository.path(server.repository, "toy", 1)
    options = ["--golden", golden, "--users", 1, "--run-time", "1s"]
    for host, status, text in (
        (["--host", server.url], 0, "REST predict"),
        ([], 1, "--host is missing: give a server's URL, or name a --protocol"),
        (["--host", "http://127.0.0.1:9"], 1, "is the server running"),
    ):
        exit_status, output = wait_for([start_locust(tmp_path, *options, *host)])
        assert (exit_status, text in output, "Traceback" in output) == (status, True, False), output


@pytest.mark.parametrize("known", [True, False])
def test_a_request_as_a_message_and_back(repository, tmp_path, known):
    np.savez(tmp_path / "x.npz", image=np.ones((4, 4, 4, 1), np.float32))
    source = model_repository.path(repository, "toy", 1) if known else tmp_path / "x.npz"
    payload = encode(read_model(source), client_codecs.OIP_BINARY, 2)[0]
    again = Payload.from_message(payload.to_message())
    assert (again.body, again.headers, again.outputs, again.rows) == (
        payload.body, payload.headers, payload.outputs, payload.rows,
    )  # fmt: skip
    assert again.reference == payload.reference
    assert len(again.expected) == len(payload.expected) == int(known)
    for one, other in zip(again.expected, payload.expected, strict=True):
        assert (one.name, one.tolerance) == (other.name, other.tolerance)
        np.testing.assert_array_equal(one.values, other.values)
        np.testing.assert_array_equal(one.allowed, other.allowed)
