"""The supervisor's handle of one worker: its process, the socket pair, and the jobs that it is running.

A worker processes one frame at a time, of one or more jobs. When its process exits, the suspects are the jobs that it
had announced as running, or else all jobs of the frame.
"""

import asyncio
import itertools
import time
from collections.abc import Callable, Sequence
from typing import Any, cast

from seaway.errors import SeawayError
from seaway.serve import ipc
from seaway.serve.supervisor.forkserver_client import EXIT_TIMEOUT_S, ForkserverClient, Process
from seaway.serve.supervisor.jobs import Job

_ids = itertools.count(1)


class WorkerDied(SeawayError):
    """The worker's process exited and its work is lost; the server continues."""


class WorkerHandle(asyncio.Protocol):
    """`loaded` are the keys of its versions; `running` are the jobs of its current frame, sent at `began`."""

    def __init__(self) -> None:
        self.process: Process
        self.loaded: set[str] = set()
        self.running: list[Job] = []
        self.suspects: list[Job] = []  # the jobs of `running` that it is computing now
        self.shapes = ""  # the suspects' input shapes, if they differ from the signature's
        self.began = 0.0
        self.responses = 0  # of frames
        self.kill_reason = ""  # set if the supervisor killed it
        self.exited = asyncio.Event()
        self._transport: asyncio.Transport
        self._frames = ipc.Frames()
        self._calls: dict[int, asyncio.Future[dict[str, Any]]] = {}
        self._on_response: Callable[[WorkerHandle, ipc.Message], None]
        self._on_exit: Callable[[WorkerHandle], None]

    @classmethod
    async def start(
        cls,
        forkserver: ForkserverClient,
        settings: dict[str, Any],
        on_response: Callable[["WorkerHandle", ipc.Message], None],
        on_exit: Callable[["WorkerHandle"], None],
    ) -> "WorkerHandle":
        """Starts a worker process, ready to load versions. Raises Unavailable if it does not start."""
        ours, process = await forkserver.fork(settings)
        ours.setblocking(False)
        _, worker = await asyncio.get_running_loop().create_unix_connection(cls, sock=ours)
        worker.process, worker._on_response, worker._on_exit = process, on_response, on_exit
        return worker

    @property
    def pid(self) -> int:
        return self.process.pid

    @property
    def idle(self) -> bool:
        return not self.running and not self.exited.is_set()

    def dispatch(self, jobs: Sequence[Job]) -> None:
        """Sends jobs of one version. The worker must be idle."""
        self.running = self.suspects = list(jobs)
        self.shapes, self.began = "", time.perf_counter()
        requests = [(job.protocol, job.verb, job.headers, len(job.request.body)) for job in jobs]
        header = {"op": "predict", "key": jobs[0].key, "requests": requests}
        self._transport.writelines(ipc.pack(header, [job.request.body for job in jobs]))

    async def call(self, op: str, key: str, **fields: Any) -> dict[str, Any]:
        """Loads or unloads a version. Raises the worker's error, or WorkerDied if it exits."""
        number, future = next(_ids), asyncio.get_running_loop().create_future()
        self._calls[number] = future
        try:
            self.send({"id": number, "op": op, "key": key, **fields})
            response: dict[str, Any] = await future
        finally:
            self._calls.pop(number, None)
        if "error" in response:
            raise SeawayError(response["error"], status=response["status"])
        return response

    def send(self, header: dict[str, Any]) -> None:
        """Raises WorkerDied if the worker has exited."""
        if self.exited.is_set():
            raise WorkerDied("the worker exited before it received the command")
        self._transport.writelines(ipc.pack(header))

    async def unload(self, key: str) -> None:
        self.loaded.discard(key)
        await self.call("unload", key)

    def kill(self, reason: str) -> None:
        self.kill_reason = reason
        self.process.kill()

    async def stop(self) -> None:
        """Closes the channel, so that the worker exits, and kills it if it does not."""
        self._transport.close()
        await asyncio.wait([self.process.exit_status], timeout=EXIT_TIMEOUT_S)
        self.process.kill()
        await asyncio.wait([self.process.exit_status])  # a plain await would cancel the future with the caller

    # asyncio.Protocol

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.Transport, transport)

    def data_received(self, data: bytes) -> None:
        for header, payload in self._frames.feed(data):
            if "replies" in header:
                self._on_response(self, (header, payload))
            elif "running" in header:
                self.suspects, self.shapes = [self.running[i] for i in header["running"]], header["shapes"]
            elif header["id"] in self._calls:
                self._calls[header["id"]].set_result(header)

    def connection_lost(self, error: Exception | None) -> None:
        self.exited.set()
        for future in self._calls.values():
            if not future.done():
                future.set_exception(WorkerDied("the worker's process exited"))
        self._on_exit(self)
