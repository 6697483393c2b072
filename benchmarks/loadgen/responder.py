"""A trivial responder on loopback in a process of its own: one fixed response, at once or after a known latency.

    python -m benchmarks.loadgen.responder MEDIAN_MS SIGMA
    python -m benchmarks.loadgen.responder SERVICE_MS queue

`GET /recorded` returns and clears the milliseconds between each request and its response, by the responder's own clock.
With `queue` it serves one request at a time, each until departure = max(arrival, previous departure) + SERVICE_MS: a
deadline, so that a late timer delays one response and none behind it. `GET /recorded` then returns the arrivals, ms.
"""

import asyncio
import json
import random
import selectors
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager

import httptools
import uvloop

BODY = b'{"predictions":[[%s]]}' % b",".join(b"0.016129" for _ in range(62))
CORE = 1


def _response(body: bytes) -> bytes:
    return b"HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-length: %d\r\n\r\n%b" % (len(body), body)


RESPONSE = _response(BODY)


class _Connection(asyncio.Protocol):
    median_s, sigma, queue = 0.0, 0.0, False
    departure_s = 0.0  # of the queue's last request, by perf_counter
    recorded: list[float] = []  # noqa: RUF012  shared by all connections

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport, self.parser, self.url = transport, httptools.HttpRequestParser(self), b""

    def data_received(self, data: bytes) -> None:
        self.parser.feed_data(data)

    def on_url(self, url: bytes) -> None:
        self.url = url

    def on_message_complete(self) -> None:
        if self.url == b"/recorded":
            body, self.recorded[:] = json.dumps(self.recorded).encode(), []
            self.transport.write(_response(body))  # type: ignore[attr-defined]
        elif not self.median_s:
            self.transport.write(RESPONSE)  # type: ignore[attr-defined]
        elif self.queue:
            arrival_s = time.perf_counter()
            self.recorded.append(arrival_s * 1000)
            _Connection.departure_s = max(arrival_s, _Connection.departure_s) + self.median_s
            asyncio.get_running_loop().call_later(_Connection.departure_s - arrival_s, self.transport.write, RESPONSE)  # type: ignore[attr-defined]
        else:
            delay_s = self.median_s * random.lognormvariate(0, self.sigma)
            asyncio.get_running_loop().call_later(delay_s, self.respond, time.perf_counter())

    def respond(self, arrival_s: float) -> None:
        self.recorded.append((time.perf_counter() - arrival_s) * 1000)
        self.transport.write(RESPONSE)  # type: ignore[attr-defined]


async def _serve() -> None:
    server = await asyncio.get_running_loop().create_server(_Connection, "127.0.0.1", 0)
    print(server.sockets[0].getsockname()[1], flush=True)
    await server.serve_forever()


def _select_loop() -> asyncio.AbstractEventLoop:
    """A loop with precise timers: uvloop and epoll round every timer up to a millisecond; select does not."""
    return asyncio.SelectorEventLoop(selectors.SelectSelector())


@contextmanager
def serving(median_ms: float = 0.0, sigma: float | str = 0.0) -> Iterator[str]:
    """Runs a responder; yields its address. `sigma` may be "queue"."""
    arguments = ["-m", "benchmarks.loadgen.responder", str(median_ms), str(sigma)]
    command = ["taskset", "-c", str(CORE), sys.executable, *arguments]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        try:
            assert process.stdout
            yield f"http://127.0.0.1:{int(process.stdout.readline())}"
        finally:
            process.terminate()


def take_recorded(url: str) -> list[float]:
    with urllib.request.urlopen(f"{url}/recorded", timeout=30) as response:
        recorded: list[float] = json.load(response)
    return recorded


if __name__ == "__main__":
    _Connection.median_s, _Connection.queue = float(sys.argv[1]) / 1000, sys.argv[2] == "queue"
    if _Connection.queue:
        with asyncio.Runner(loop_factory=_select_loop) as runner:
            runner.run(_serve())
    _Connection.sigma = float(sys.argv[2])
    uvloop.run(_serve())
