"""What was held for large bodies is given back, by supervisor and worker."""

import re
import socket
import threading
import time
import tracemalloc
from pathlib import Path

import numpy as np
import pytest

from seaway.protocols import oip
from seaway.serve import wire
from seaway.serve.worker.worker import KEPT_BYTES

EXAMPLES = Path(__file__).resolve().parents[3] / "seaway" / "example"
SLACK = 16 << 20


def resident(pid: int) -> int:
    """Bytes of a process that are in memory."""
    lines = Path(f"/proc/{pid}/status").read_text().splitlines()
    return next(int(line.split()[1]) << 10 for line in lines if line.startswith("VmRSS"))


def test_a_frame_is_not_held_while_the_next_is_waited_for():
    ours, theirs = socket.socketpair()
    taken = []

    def work():
        for header, payload in wire.receive(theirs):
            taken.append((header["n"], len(payload)))
            del header, payload

    tracemalloc.start()
    try:
        worker = threading.Thread(target=work)
        worker.start()
        for n in range(2):
            ours.sendall(b"".join(wire.pack({"n": n}, [bytes(1 << 24)])))
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


@pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="only Linux tells a process's memory so")
def test_after_large_bodies_both_processes_are_as_small_as_before(start):
    server = start(EXAMPLES, "--backend", "onnx", "--threads", "1")
    server.wait_ready()

    def ask(count: int, paths: int) -> int:
        """Floats of a shape that the model does not take: all of them are read, none is computed with."""
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

    assert ask(10, 1) == 400
    pids = [server.process.pid, server.worker()]
    before = [resident(pid) for pid in pids]
    for count in (1_000_000, 7_000_000, 15_000_000):
        assert ask(count, 4) == 400
    small = [before[0] + SLACK, before[1] + KEPT_BYTES + SLACK]
    server.wait(lambda: all(resident(pid) <= most for pid, most in zip(pids, small, strict=True)), 30)
    assert re.search(r"^seaway_body_bytes_held 0(\.0)?$", server.metrics(), re.MULTILINE)
