"""A trivial responder on loopback in a process of its own: one fixed right answer, at once or after a known latency.

    python -m benchmarks.loadgen.responder MEDIAN_MS SIGMA
    python -m benchmarks.loadgen.responder SERVICE_MS queue

`GET /seen` gives, once, the milliseconds between each request and its answer, as the responder's own clock had them.
With `queue` it serves one after the other, each at departure = max(arrival, the departure before) + SERVICE_MS: a
deadline, so that a late timer delays one answer and none of those behind it. `GET /seen` then gives when each came, ms.
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


def _answer(body: bytes) -> bytes:
    return b"HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-length: %d\r\n\r\n%b" % (len(body), body)


ANSWER = _answer(BODY)


class _Connection(asyncio.Protocol):
    median_s, sigma, queue = 0.0, 0.0, False
    departed = 0.0  # of the queue, by perf_counter
    seen: list[float] = []  # noqa: RUF012  of the process

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport, self.parser, self.url = transport, httptools.HttpRequestParser(self), b""

    def data_received(self, data: bytes) -> None:
        self.parser.feed_data(data)

    def on_url(self, url: bytes) -> None:
        self.url = url

    def on_message_complete(self) -> None:
        if self.url == b"/seen":
            told, self.seen[:] = json.dumps(self.seen).encode(), []
            self.transport.write(_answer(told))  # type: ignore[attr-defined]
        elif not self.median_s:
            self.transport.write(ANSWER)  # type: ignore[attr-defined]
        elif self.queue:
            came = time.perf_counter()
            self.seen.append(came * 1000)
            _Connection.departed = max(came, _Connection.departed) + self.median_s
            asyncio.get_running_loop().call_later(_Connection.departed - came, self.transport.write, ANSWER)  # type: ignore[attr-defined]
        else:
            delay = self.median_s * random.lognormvariate(0, self.sigma)
            asyncio.get_running_loop().call_later(delay, self.later, time.perf_counter())

    def later(self, began: float) -> None:
        self.seen.append((time.perf_counter() - began) * 1000)
        self.transport.write(ANSWER)  # type: ignore[attr-defined]


async def _serve() -> None:
    server = await asyncio.get_running_loop().create_server(_Connection, "127.0.0.1", 0)
    print(server.sockets[0].getsockname()[1], flush=True)
    await server.serve_forever()


def _precise() -> asyncio.AbstractEventLoop:
    """uvloop and epoll round every timer up to a millisecond; select does not."""
    return asyncio.SelectorEventLoop(selectors.SelectSelector())


@contextmanager
def serving(median_ms: float = 0.0, sigma: float | str = 0.0) -> Iterator[str]:
    """Its address; `sigma` may be "queue"."""
    own = ["-m", "benchmarks.loadgen.responder", str(median_ms), str(sigma)]
    command = ["taskset", "-c", str(CORE), sys.executable, *own]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        try:
            assert process.stdout
            yield f"http://127.0.0.1:{int(process.stdout.readline())}"
        finally:
            process.terminate()


def seen(url: str) -> list[float]:
    with urllib.request.urlopen(f"{url}/seen", timeout=30) as answer:
        found: list[float] = json.load(answer)
    return found


if __name__ == "__main__":
    _Connection.median_s, _Connection.queue = float(sys.argv[1]) / 1000, sys.argv[2] == "queue"
    if _Connection.queue:
        with asyncio.Runner(loop_factory=_precise) as runner:
            runner.run(_serve())
    _Connection.sigma = float(sys.argv[2])
    uvloop.run(_serve())
