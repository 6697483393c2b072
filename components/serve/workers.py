"""One worker as the supervisor sees it: a process, its end of the socket pair, and what it was asked.

A worker answers predictions in the order in which they were sent, so `running` lists them with the one that is being
computed first. When the process dies, that one is lost; the others were never begun and can go to another worker.
"""

import asyncio
import itertools
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, cast

import numpy as np

from components.serve import wire
from components.serve.processes import END_SECONDS, Nursery, Process
from seaway.errors import SeawayError

_ids = itertools.count(1)


class WorkerDied(SeawayError):
    """The process that worked on it is gone: what it was asked is lost, the server goes on."""


class Worker(asyncio.Protocol):
    """`loaded` names the versions it holds; `running` are the predictions sent to it and not answered yet."""

    def __init__(self) -> None:
        self.process: Process
        self.loaded: set[str] = set()
        self.running: dict[int, Any] = {}
        self.gone = asyncio.Event()
        self._transport: asyncio.Transport
        self._frames = wire.Frames()
        self._calls: dict[int, asyncio.Future[wire.Message]] = {}
        self._on_answer: Callable[[Worker, int, wire.Message], None]
        self._on_gone: Callable[[Worker], None]

    @classmethod
    async def start(
        cls,
        nursery: Nursery,
        threads: int,
        on_answer: Callable[["Worker", int, wire.Message], None],
        on_gone: Callable[["Worker"], None],
    ) -> "Worker":
        """A new process, ready to load. Raises Unavailable where it does not come up."""
        ours, process = await nursery.fork(threads)
        ours.setblocking(False)
        _, worker = await asyncio.get_running_loop().create_unix_connection(cls, sock=ours)
        worker.process, worker._on_answer, worker._on_gone = process, on_answer, on_gone
        return worker

    @property
    def pid(self) -> int:
        return self.process.pid

    async def call(self, op: str, key: str, **fields: Any) -> dict[str, Any]:
        """Loads or unloads. Raises what the worker answers, WorkerDied where it does not."""
        number, future = next(_ids), asyncio.get_running_loop().create_future()
        self._calls[number] = future
        try:
            self.send({"id": number, "op": op, "key": key, **fields}, {})
            answer: dict[str, Any] = (await future)[0]
        finally:
            self._calls.pop(number, None)
        raise_error(answer)
        return answer

    async def load(self, key: str, path: Path) -> dict[str, Any]:
        """The version's description (SavedModel.describe); the caller adds it to `loaded` once it may be used."""
        return await self.call("load", key, path=str(path.absolute()))

    async def unload(self, key: str) -> None:
        self.loaded.discard(key)
        await self.call("unload", key)

    def send(self, header: Mapping[str, Any], arrays: Mapping[str, np.ndarray]) -> None:
        """Raises WorkerDied where there is nobody to send to."""
        if self.gone.is_set():
            raise WorkerDied("the worker ended before it was asked")
        self._transport.writelines(wire.pack(header, arrays))

    async def end(self) -> None:
        """Closes the channel, at which a worker ends itself, and makes sure of it."""
        self._transport.close()
        await asyncio.wait([self.process.ended], timeout=END_SECONDS)
        self.process.kill()
        await self.process.ended

    # asyncio.Protocol

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.Transport, transport)

    def data_received(self, data: bytes) -> None:
        for header, arrays in self._frames.feed(data):
            number = header.get("id", 0)
            if number in self._calls:
                self._calls[number].set_result((header, arrays))
            else:
                self._on_answer(self, number, (header, arrays))

    def connection_lost(self, error: Exception | None) -> None:
        self.gone.set()
        for future in self._calls.values():
            if not future.done():
                future.set_exception(WorkerDied("the worker's process ended"))
        self._on_gone(self)


def raise_error(header: Mapping[str, Any]) -> None:
    """A worker's error answer as the exception it was."""
    if "error" in header:
        raise SeawayError(header["error"], status=header["status"])
