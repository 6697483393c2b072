"""Clients that know the correct response to each request, over raw HTTP/1.1 with asyncio, and counters of responses."""

import asyncio
import contextlib
import itertools
import json
import random
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Self

import numpy as np

from seaway.errors import InvalidInput
from seaway.protocols import graphpipe

RESPONSE_TIMEOUT_S = 60.0  # a response that takes longer counts as lost
RETRY_STATUSES = (429, 503)
MAX_ID = 1 << 22  # below this, id/2 + 3 is exact in float32


class Lost(Exception):
    """The connection closed before the response was complete."""


@dataclass(frozen=True)
class Response:
    status: int
    headers: Mapping[str, str]
    body: bytes


class Connection:
    """One connection for sequential requests."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.reader, self.writer = reader, writer

    @classmethod
    async def open(cls, port: int) -> Self:
        return cls(*await asyncio.open_connection("127.0.0.1", port, limit=1 << 22))

    async def send(self, path: str, body: bytes, kind: str = "application/json") -> Response:
        """Raises Lost."""
        self.writer.write(request(path, body, kind))
        try:
            async with asyncio.timeout(RESPONSE_TIMEOUT_S):
                head = (await self.reader.readuntil(b"\r\n\r\n")).decode("latin-1").split("\r\n")
                headers = {name.lower(): value.strip() for name, _, value in (line.partition(":") for line in head[1:])}
                content = await self.reader.readexactly(int(headers["content-length"]))
        except (asyncio.IncompleteReadError, ConnectionError, TimeoutError) as error:
            raise Lost(f"{type(error).__name__}: {error}") from None
        return Response(int(head[0].split()[1]), headers, content)

    def close(self) -> None:
        self.writer.transport.abort()

    @property
    def ended(self) -> bool:
        return self.reader.at_eof() or self.writer.is_closing()


def request(path: str, body: bytes, kind: str = "application/json") -> bytes:
    head = f"POST {path} HTTP/1.1\r\nHost: bench\r\nContent-Type: {kind}\r\nContent-Length: {len(body)}\r\n\r\n"
    return head.encode() + body


@dataclass
class Counters:
    correct: int = 0
    wrong: int = 0
    lost: int = 0
    rejected: int = 0  # 429 and 503 with Retry-After
    failed: Counter[int] = field(default_factory=Counter)  # other statuses than 200, and 429 or 503 without Retry-After
    versions: Counter[str] = field(default_factory=Counter)
    problems: list[str] = field(default_factory=list)

    @property
    def total(self) -> int:
        return self.correct + self.wrong + self.lost + self.rejected + self.failed.total()

    def problem(self, text: str) -> None:
        if len(self.problems) < 5:
            self.problems.append(text)


class Load:
    """Connections that send requests without a pause during the `with` block, each request with a unique number.

    The model returns x/2 + the version's offset, so the response to another request is wrong. Each request uses
    TensorFlow Serving's protocol, OIP or GraphPipe at random. If `server_stopping` is set, a refused connection ends
    its client.
    """

    numbers = itertools.count()

    def __init__(self, port: int, connections: int, offsets: Mapping[str, float], model: str = "half") -> None:
        self.counters, self.server_stopping = Counters(), False
        self._port, self._count, self._offsets, self._model = port, connections, offsets, model
        self._stop = False
        self._tasks: list[asyncio.Task[None]] = []

    async def __aenter__(self) -> Self:
        self._tasks = [asyncio.create_task(self._client()) for _ in range(self._count)]
        return self

    async def __aexit__(self, *_: object) -> None:
        self._stop = True
        await asyncio.gather(*self._tasks)

    async def _client(self) -> None:
        connection = None
        while not self._stop:
            try:
                if connection is None or connection.ended:
                    connection = await Connection.open(self._port)
            except OSError as error:
                if self.server_stopping:
                    return
                self.counters.lost += 1
                self.counters.problem(f"no connection: {error}")
                await asyncio.sleep(0.1)
                continue
            try:
                close = await self._send_one(connection)
            except Lost as error:
                self.counters.lost += 1
                self.counters.problem(str(error))
                close = True
            if close:
                connection.close()
                connection = None
        if connection is not None:
            connection.close()

    async def _send_one(self, connection: Connection) -> bool:
        """Sends one request. Returns whether to close the connection."""
        x = float(next(self.numbers) % MAX_ID)
        path, body, kind = self.request(x)
        response = await connection.send(path, body, kind)
        if response.status == 200:
            self._check(x, path, response)
        elif response.status in RETRY_STATUSES and "retry-after" in response.headers:
            self.counters.rejected += 1
            await asyncio.sleep(0.05)
        else:
            self.counters.failed[response.status] += 1
            self.counters.problem(f"{response.status}: {response.body[:200]!r}")
        return response.headers.get("connection") == "close"

    def request(self, x: float) -> tuple[str, bytes, str]:
        kind = random.randrange(3)
        if kind == 0:
            return f"/v1/models/{self._model}:predict", json.dumps({"instances": [x]}).encode(), "application/json"
        if kind == 1:
            tensor = {"name": "x", "shape": [1], "datatype": "FP32", "data": [x]}
            return f"/v2/models/{self._model}/infer", json.dumps({"inputs": [tensor]}).encode(), "application/json"
        body = graphpipe.write_infer_request([("", np.array([x], np.float32))])
        return f"/graphpipe/{self._model}", body, "application/octet-stream"

    def _check(self, x: float, path: str, response: Response) -> None:
        version = response.headers.get("seaway-model", "").partition("@")[0]
        value = None
        with contextlib.suppress(ValueError, KeyError, IndexError, TypeError, InvalidInput):
            if path.startswith("/v1"):
                [value] = json.loads(response.body)["predictions"]
            elif path.startswith("/v2"):
                [value] = json.loads(response.body)["outputs"][0]["data"]
            else:
                [value] = graphpipe.read_infer_response(response.body)[0].tolist()
        if version in self._offsets and value == x / 2 + self._offsets[version]:
            self.counters.correct += 1
            self.counters.versions[version] += 1
        else:
            self.counters.wrong += 1
            self.counters.problem(f"{path} of {x}: {response.body[:120]!r} from {version!r}")
