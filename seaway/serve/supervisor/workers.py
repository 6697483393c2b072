"""One worker as the supervisor sees it: a process, its end of the socket pair, and what it was asked.

It works on one frame at a time, of one job or many. When its process ends, the jobs of that frame are suspects, or
those that it had said it was about to run.
"""

import asyncio
import itertools
import time
from collections.abc import Callable, Sequence
from typing import Any, cast

from seaway.errors import SeawayError
from seaway.serve import wire
from seaway.serve.supervisor.jobs import Job
from seaway.serve.supervisor.processes import END_SECONDS, Nursery, Process

_ids = itertools.count(1)


class WorkerDied(SeawayError):
    """The process that worked on it is gone: what it was asked is lost, the server goes on."""


class Worker(asyncio.Protocol):
    """`loaded` names the versions it holds; `running` are the jobs it works on, since `began`."""

    def __init__(self) -> None:
        self.process: Process
        self.loaded: set[str] = set()
        self.running: list[Job] = []
        self.suspects: list[Job] = []  # of `running`, those that are being computed now
        self.shapes = ""  # theirs, where they are not what the signature declares
        self.began = 0.0
        self.answered = 0  # frames
        self.killed = ""  # why we ended it, where we did
        self.gone = asyncio.Event()
        self._transport: asyncio.Transport
        self._frames = wire.Frames()
        self._calls: dict[int, asyncio.Future[dict[str, Any]]] = {}
        self._on_answer: Callable[[Worker, wire.Message], None]
        self._on_gone: Callable[[Worker], None]

    @classmethod
    async def start(
        cls,
        nursery: Nursery,
        settings: dict[str, Any],
        on_answer: Callable[["Worker", wire.Message], None],
        on_gone: Callable[["Worker"], None],
    ) -> "Worker":
        """A new process, ready to load. Raises Unavailable where it does not come up."""
        ours, process = await nursery.fork(settings)
        ours.setblocking(False)
        _, worker = await asyncio.get_running_loop().create_unix_connection(cls, sock=ours)
        worker.process, worker._on_answer, worker._on_gone = process, on_answer, on_gone
        return worker

    @property
    def pid(self) -> int:
        return self.process.pid

    @property
    def idle(self) -> bool:
        return not self.running and not self.gone.is_set()

    def answer(self, jobs: Sequence[Job]) -> None:
        """Sends jobs of one version; the caller knows that the worker is idle."""
        self.running = self.suspects = list(jobs)
        self.shapes, self.began = "", time.perf_counter()
        requests = [(job.protocol, job.verb, job.headers, len(job.request.body)) for job in jobs]
        header = {"op": "answer", "key": jobs[0].key, "requests": requests}
        self._transport.writelines(wire.pack(header, [job.request.body for job in jobs]))

    async def call(self, op: str, key: str, **fields: Any) -> dict[str, Any]:
        """Loads or unloads. Raises what the worker answers, WorkerDied where it does not."""
        number, future = next(_ids), asyncio.get_running_loop().create_future()
        self._calls[number] = future
        try:
            self.send({"id": number, "op": op, "key": key, **fields})
            answer: dict[str, Any] = await future
        finally:
            self._calls.pop(number, None)
        if "error" in answer:
            raise SeawayError(answer["error"], status=answer["status"])
        return answer

    def send(self, header: dict[str, Any]) -> None:
        """Raises WorkerDied where there is nobody to send to."""
        if self.gone.is_set():
            raise WorkerDied("the worker ended before it was asked")
        self._transport.writelines(wire.pack(header))

    async def unload(self, key: str) -> None:
        self.loaded.discard(key)
        await self.call("unload", key)

    def kill(self, why: str) -> None:
        self.killed = why
        self.process.kill()

    async def end(self) -> None:
        """Closes the channel, at which a worker ends itself, and makes sure of it."""
        self._transport.close()
        await asyncio.wait([self.process.ended], timeout=END_SECONDS)
        self.process.kill()
        await asyncio.wait([self.process.ended])  # by itself it would be cancelled with who waits

    # asyncio.Protocol

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.Transport, transport)

    def data_received(self, data: bytes) -> None:
        for header, payload in self._frames.feed(data):
            if "replies" in header:
                self._on_answer(self, (header, payload))
            elif "running" in header:
                self.suspects, self.shapes = [self.running[i] for i in header["running"]], header["shapes"]
            elif header["id"] in self._calls:
                self._calls[header["id"]].set_result(header)

    def connection_lost(self, error: Exception | None) -> None:
        self.gone.set()
        for future in self._calls.values():
            if not future.done():
                future.set_exception(WorkerDied("the worker's process ended"))
        self._on_gone(self)
