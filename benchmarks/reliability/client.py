"""Clients that know the right answer to each of their requests: raw HTTP/1.1 over asyncio, and a tally of what came."""

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

PATIENCE_SECONDS = 60.0  # an answer that takes longer is counted as lost
REFUSED = (429, 503)
LARGEST_ID = 1 << 22  # below this, id/2 + 3 is exact in float32


class Lost(Exception):
    """The connection ended before the answer was complete."""


@dataclass(frozen=True)
class Answer:
    status: int
    headers: Mapping[str, str]
    body: bytes


class Connection:
    """One connection; requests one after the other."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.reader, self.writer = reader, writer

    @classmethod
    async def open(cls, port: int) -> Self:
        return cls(*await asyncio.open_connection("127.0.0.1", port, limit=1 << 22))

    async def ask(self, path: str, body: bytes, kind: str = "application/json") -> Answer:
        """Raises Lost."""
        self.writer.write(request(path, body, kind))
        try:
            async with asyncio.timeout(PATIENCE_SECONDS):
                head = (await self.reader.readuntil(b"\r\n\r\n")).decode("latin-1").split("\r\n")
                headers = {name.lower(): value.strip() for name, _, value in (line.partition(":") for line in head[1:])}
                said = await self.reader.readexactly(int(headers["content-length"]))
        except (asyncio.IncompleteReadError, ConnectionError, TimeoutError) as error:
            raise Lost(f"{type(error).__name__}: {error}") from None
        return Answer(int(head[0].split()[1]), headers, said)

    def close(self) -> None:
        self.writer.transport.abort()

    @property
    def ended(self) -> bool:
        return self.reader.at_eof() or self.writer.is_closing()


def request(path: str, body: bytes, kind: str = "application/json") -> bytes:
    head = f"POST {path} HTTP/1.1\r\nHost: bench\r\nContent-Type: {kind}\r\nContent-Length: {len(body)}\r\n\r\n"
    return head.encode() + body


@dataclass
class Tally:
    right: int = 0
    wrong: int = 0
    lost: int = 0
    refused: int = 0  # 429 and 503 with Retry-After
    failed: Counter[int] = field(default_factory=Counter)  # any other status than 200, and refusals without Retry-After
    versions: Counter[str] = field(default_factory=Counter)
    problems: list[str] = field(default_factory=list)

    @property
    def asked(self) -> int:
        return self.right + self.wrong + self.lost + self.refused + self.failed.total()

    def problem(self, text: str) -> None:
        if len(self.problems) < 5:
            self.problems.append(text)


class Load:
    """So many connections that ask without a pause while the `with` lasts, each request with a number of its own.

    The model answers x/2 + the version's offset, so an answer meant for another request is wrong. TensorFlow Serving's
    protocol, OIP and GraphPipe in turn. A connection that cannot be had ends its client where `ending` was set.
    """

    numbers = itertools.count()

    def __init__(self, port: int, connections: int, offsets: Mapping[str, float], model: str = "half") -> None:
        self.tally, self.ending = Tally(), False
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
                if self.ending:
                    return
                self.tally.lost += 1
                self.tally.problem(f"no connection: {error}")
                await asyncio.sleep(0.1)
                continue
            try:
                close = await self._one(connection)
            except Lost as error:
                self.tally.lost += 1
                self.tally.problem(str(error))
                close = True
            if close:
                connection.close()
                connection = None
        if connection is not None:
            connection.close()

    async def _one(self, connection: Connection) -> bool:
        """One request; whether the connection is to be closed."""
        x = float(next(self.numbers) % LARGEST_ID)
        path, body, kind = self.request(x)
        answer = await connection.ask(path, body, kind)
        if answer.status == 200:
            self._check(x, path, answer)
        elif answer.status in REFUSED and "retry-after" in answer.headers:
            self.tally.refused += 1
            await asyncio.sleep(0.05)
        else:
            self.tally.failed[answer.status] += 1
            self.tally.problem(f"{answer.status}: {answer.body[:200]!r}")
        return answer.headers.get("connection") == "close"

    def request(self, x: float) -> tuple[str, bytes, str]:
        kind = random.randrange(3)
        if kind == 0:
            return f"/v1/models/{self._model}:predict", json.dumps({"instances": [x]}).encode(), "application/json"
        if kind == 1:
            given = {"name": "x", "shape": [1], "datatype": "FP32", "data": [x]}
            return f"/v2/models/{self._model}/infer", json.dumps({"inputs": [given]}).encode(), "application/json"
        body = graphpipe.write_infer_request([("", np.array([x], np.float32))])
        return f"/graphpipe/{self._model}", body, "application/octet-stream"

    def _check(self, x: float, path: str, answer: Answer) -> None:
        version = answer.headers.get("seaway-model", "").partition("@")[0]
        got = None
        with contextlib.suppress(ValueError, KeyError, IndexError, TypeError, InvalidInput):
            if path.startswith("/v1"):
                [got] = json.loads(answer.body)["predictions"]
            elif path.startswith("/v2"):
                [got] = json.loads(answer.body)["outputs"][0]["data"]
            else:
                [got] = graphpipe.read_infer_response(answer.body)[0].tolist()
        if version in self._offsets and got == x / 2 + self._offsets[version]:
            self.tally.right += 1
            self.tally.versions[version] += 1
        else:
            self.tally.wrong += 1
            self.tally.problem(f"{path} of {x}: {answer.body[:120]!r} from {version!r}")
