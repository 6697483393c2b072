"""Supervisor and worker return the memory of large bodies to the system."""

import re
import socket
import subprocess
import sys
import threading
import time
import tracemalloc
from pathlib import Path

import numpy as np
import pytest

from seaway.protocols import oip, tfserving
from seaway.serve import ipc
from seaway.serve.worker.worker_main import RETAINED_BYTES

EXAMPLES = Path(__file__).resolve().parents[3] / "seaway" / "example"
SLACK = 16 << 20


def resident(pid: int) -> int:
    """Bytes of a process that are in memory."""
    lines = Path(f"/proc/{pid}/status").read_text().splitlines()
    return next(int(line.split()[1]) << 10 for line in lines if line.startswith("VmRSS"))


def test_a_frame_is_freed_before_the_next_one_arrives():
    ours, theirs = socket.socketpair()
    taken = []

    def work():
        for header, payload in ipc.receive(theirs):
            taken.append((header["n"], len(payload)))
            del header, payload

    tracemalloc.start()
    try:
        worker = threading.Thread(target=work)
        worker.start()
        for n in range(2):
            ours.sendall(b"".join(ipc.pack({"n": n}, [bytes(1 << 24)])))
        deadline = time.monotonic() + 60
        while len(taken) < 2 or tracemalloc.get_traced_memory()[0] > 1 << 20:
            assert time.monotonic() < deadline, (taken, tracemalloc.get_traced_memory())
            time.sleep(0.01)
        assert taken == [(0, 1 << 24), (1, 1 << 24)]
    finally:
        tracemalloc.stop()
        ours.close()
        worker.join()
        theirs.close()


@pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="only Linux has /proc")
def test_after_large_bodies_both_processes_shrink_again(start):
    server = start(EXAMPLES, "--backend", "onnx", "--threads", "1")
    server.wait_ready()

    def infer(count: int, paths: int) -> int:
        """Sends floats of a shape that the model rejects: all are parsed, but the model does not run."""
        body, headers = oip.write_infer_request({"image": np.zeros((1, count), np.float32)}, binary=True)
        statuses = []

        def send() -> None:
            statuses.append(server.request("POST", "/v2/models/characters/infer", body, headers).status)

        threads = [threading.Thread(target=send) for _ in range(paths)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        return max(statuses)

    assert infer(10, 1) == 400
    pids = [server.process.pid, server.worker()]
    before = [resident(pid) for pid in pids]
    for count in (1_000_000, 7_000_000, 15_000_000):
        assert infer(count, 4) == 400
    small = [before[0] + SLACK, before[1] + RETAINED_BYTES + SLACK]
    server.wait(lambda: all(resident(pid) <= most for pid, most in zip(pids, small, strict=True)), 30)
    assert re.search(r"^seaway_body_bytes_held 0(\.0)?$", server.metrics(), re.MULTILINE)


MAKE = """
import sys
import tensorflow as tf

class Net(tf.Module):
    def __init__(self, width):
        self.weights = tf.Variable(tf.random.normal([4, width]))

    @tf.function(input_signature=[tf.TensorSpec([None, 4], name="x")])
    def __call__(self, x):
        return {"y": tf.reduce_sum(x @ self.weights, 1)}

net = Net(int(sys.argv[2]))
tf.saved_model.save(net, sys.argv[1], {"serving_default": net.__call__})
"""
WIDTH = 8 << 20  # 128 MB of weights


@pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="only Linux has /proc")
def test_an_unloaded_version_gives_its_memory_back(start, tmp_path):
    def publish(number: int, width: int) -> None:
        command = [sys.executable, "-c", MAKE, str(tmp_path / "made"), str(width)]
        subprocess.run(command, check=True, capture_output=True)
        (tmp_path / "models" / "net").mkdir(parents=True, exist_ok=True)
        (tmp_path / "made").rename(tmp_path / "models" / "net" / str(number))

    publish(1, WIDTH)
    server = start(tmp_path / "models", "--backend", "savedmodel", "--workers", "1")
    server.wait_ready()
    body = tfserving.write_predict_request({"x": np.ones((2, 4), np.float32)})
    assert server.request("POST", "/v1/models/net/versions/1:predict", body).status == 200
    loaded = resident(server.worker())
    publish(2, 4)
    server.wait(lambda: server.request("POST", "/v1/models/net/versions/2:predict", body).status == 200, 60)
    server.wait(lambda: resident(server.worker()) <= loaded - 100 * (1 << 20), 60)
