"""Locust's own master and workers as processes on loopback: workers are given nothing but where their master is."""

import contextlib
import json
import os
import socket
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from seaway.artifacts import store
from seaway.load.payloads import Payload, encode, read_model
from seaway.load.run import LOCUSTFILE
from seaway.load.schedule import Schedule
from seaway.load.tally import Tally
from seaway.protocols import wire

ROOT = Path(__file__).resolve().parents[3]


def locust(folder, *arguments, file=LOCUSTFILE):
    command = [sys.executable, "-m", "locust", "-f", file, "--headless", *arguments]
    return subprocess.Popen(
        list(map(str, command)), cwd=folder, env=os.environ | {"PYTHONPATH": str(ROOT)},
        stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True,
    )  # fmt: skip


def free_port():
    with socket.socket() as held:
        held.bind(("127.0.0.1", 0))
        return held.getsockname()[1]


def ended(processes, timeout=100):
    """(the first one's exit status, what all said) once all have ended."""
    with contextlib.ExitStack() as held:
        for process in processes:
            held.enter_context(process)
            held.callback(process.kill)
        said = [process.communicate(timeout=timeout)[0] for process in processes]
    return processes[0].returncode, "\n".join(said)


def distributed(folder, *options, workers=2):
    """(the master's exit status, what all said, what was counted): a master with `options`, workers without any."""
    port = free_port()
    own = ["--master", "--master-bind-port", port, "--expect-workers", workers, "--expect-workers-max-wait", 60]
    own += ["--counts", folder / "counts", "--stop-timeout", 9]
    each = [[*own, *options], *[["--worker", "--master-port", port]] * workers]
    status, said = ended([locust(folder, *arguments) for arguments in each])
    counted = {}
    for line in (folder / "counts").read_text().splitlines():
        for key, tally in json.loads(line)["tallies"].items():
            counted.setdefault(key, Tally()).merge(Tally.from_json(tally))
    return status, said, counted


def test_workers_send_what_their_master_was_given(server, tmp_path):
    """A protocol that is not the default, a version, examples, a batch: every answer is right, and of that version."""
    golden = store.path(server.volume, "toy", 1)
    options = ["--host", server.url, "--golden", golden, "--protocol", "oip", "--model-version", 1, "--batch", 3]
    status, said, counted = distributed(tmp_path, *options, "--users", 4, "--spawn-rate", 4, "--run-time", "3s")
    assert status == 0, said
    assert "Traceback" not in said
    assert set(counted) == {"oip"}
    assert counted["oip"].requests == next(server.counter) > 0
    assert (counted["oip"].failed, counted["oip"].wrong) == (0, 0)


def test_workers_share_the_arrivals_of_their_master_s_rate_shape_and_seed(server, tmp_path):
    golden = store.path(server.volume, "toy", 1)
    options = ["--host", server.url, "--golden", golden, "--protocol", "tfs", "--rate", 30, "--shape", "step"]
    options += ["--seed", 4, "--users", 20, "--spawn-rate", 20, "--run-time", "4s"]
    status, said, counted = distributed(tmp_path, *options)
    assert status == 0, said
    asked = sum(bins.total() for bins in counted["tfs"].late.values()) + counted["tfs"].unready
    due = Schedule(30, 4, "step", seed=4).count(0, 4)
    assert due - 30 <= asked <= due  # less where other tests take the cores; twice as many if each sent all
    assert counted["tfs"].requests == next(server.counter)


def test_a_run_in_which_nothing_was_measured_has_failed(server, tmp_path):
    """A worker that was started with another locustfile knows none of the users: zero requests are no success."""
    other = tmp_path / "other.py"
    other.write_text("from locust import User\n\n\nclass Other(User):\n    def run(self):\n        pass\n")
    golden, port = store.path(server.volume, "toy", 1), free_port()
    own = ["--host", server.url, "--golden", golden, "--protocol", "tfs", "--run-time", "1s"]
    master = locust(tmp_path, "--master", "--master-bind-port", port, "--expect-workers-max-wait", 60, *own)
    worker = locust(tmp_path, "--worker", "--master-port", port, file=other)
    status, said = ended([master, worker])
    assert status == 1, said
    assert "nothing was measured: no request ended in this time; see what the workers said" in said


def test_the_protocol_is_found_by_asking(server, tmp_path):
    golden = store.path(server.volume, "toy", 1)
    own = ["--golden", golden, "--users", 1, "--run-time", "1s"]
    for host, status, text in (
        (["--host", server.url], 0, "REST predict"),
        ([], 1, "--host is missing: give a server's address, or name a --protocol"),
        (["--host", "http://127.0.0.1:9"], 1, "is the server running"),
    ):
        got, said = ended([locust(tmp_path, *own, *host)])
        assert (got, text in said, "Traceback" in said) == (status, True, False), said


@pytest.mark.parametrize("known", [True, False])
def test_a_request_as_a_message_and_back(volume, tmp_path, known):
    np.savez(tmp_path / "x.npz", image=np.ones((4, 4, 4, 1), np.float32))
    source = store.path(volume, "toy", 1) if known else tmp_path / "x.npz"
    payload = encode(read_model(source), wire.OIP_BINARY, 2)[0]
    again = Payload.from_message(payload.to_message())
    assert (again.body, again.headers, again.output, again.rows) == (
        payload.body, payload.headers, payload.output, payload.rows,
    )  # fmt: skip
    assert (again.tolerance, again.reference) == (payload.tolerance, payload.reference)
    if known:
        np.testing.assert_array_equal(again.expected, payload.expected)
        np.testing.assert_array_equal(again.allowed, payload.allowed)
    else:
        assert again.expected is again.allowed is None
