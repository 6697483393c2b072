"""The gRPC client written in Go, against servers whose latency and errors are known. Skipped without Go."""

import shutil
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from typing import Any

import grpc
import numpy as np
import pytest

from benchmarks.serving import grpc_client
from benchmarks.serving.cases import Case

CASE = Case("echo", "/bench.Echo/Call", 1, [b"request"], [np.zeros(1)], lambda body, headers: np.zeros(1))
SERVICE_S = 0.02


@pytest.fixture(scope="module", autouse=True)
def _built() -> None:
    if not shutil.which("go"):
        pytest.skip("Go is not installed")
    try:
        grpc_client.program()
    except SystemExit as error:
        if "dial tcp" in str(error):
            pytest.skip("Go's modules cannot be fetched here")
        raise AssertionError(error) from None


@contextmanager
def server(respond: Callable[[bytes, Any], bytes], threads: int = 8) -> Iterator[int]:
    """A gRPC server with one method; yields its port."""
    served = grpc.server(ThreadPoolExecutor(threads))
    handler = grpc.unary_unary_rpc_method_handler(respond)
    served.add_generic_rpc_handlers((grpc.method_handlers_generic_handler("bench.Echo", {"Call": handler}),))
    port = served.add_insecure_port("127.0.0.1:0")
    served.start()
    try:
        yield port
    finally:
        served.stop(None).wait()


def one_at_a_time(_: bytes, context: Any) -> bytes:
    time.sleep(SERVICE_S)
    context.set_trailing_metadata((("seaway-model", "half/1@aa"),))
    return b"response"


def test_a_closed_loop_has_one_call_in_flight_on_each_connection():
    running, most, lock = 0, 0, threading.Lock()

    def respond(request: bytes, context: Any) -> bytes:
        nonlocal running, most
        with lock:
            running += 1
            most = max(most, running)
        try:
            assert request == b"request"
            return one_at_a_time(request, context)
        finally:
            with lock:
                running -= 1

    with server(respond) as port:
        run = grpc_client.run(port, CASE, 3, 1.0)
    assert most <= 3 and run.bad == 0
    assert 1e3 * SERVICE_S <= run.p50_ms <= run.p99_ms
    assert run.requests <= 3 / SERVICE_S + 3
    assert run.models == {"half/1@aa": run.requests}


def test_in_an_open_loop_latencies_count_from_when_a_call_was_due():
    """100 calls/s at a server that finishes 50: the last one waits for about half of the run's time."""
    with server(one_at_a_time, threads=1) as port:
        run = grpc_client.run(port, CASE, 2, 2.0, rate=2 / SERVICE_S)
    assert run.requests == pytest.approx(200, abs=60), "four standard deviations of the arrivals"
    waited_s = run.requests * SERVICE_S - 2.0
    assert run.p99_ms > 0.8e3 * waited_s


def test_calls_that_fail_are_counted_and_have_no_latency():
    calls = iter(range(1000))

    def respond(request: bytes, context: Any) -> bytes:
        if next(calls):  # the first call is the client's connection
            context.abort(grpc.StatusCode.UNAVAILABLE, "full")
        return b""

    with server(respond) as port:
        run = grpc_client.run(port, CASE, 1, 0.2)
    assert run.requests == 0 and run.bad > 0 and run.p99_ms == 0
    assert "full" in run.error
