"""The supervisor's side of the forkserver: requests worker processes from it and receives their exit statuses."""

import asyncio
import json
import os
import signal
import socket
import sys
from collections import deque
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Any

from seaway.errors import Unavailable
from seaway.platform import processes, sockets

START_TIMEOUT_S = 180.0  # importing TensorFlow on a busy machine
EXIT_TIMEOUT_S = 5.0
SEND_BUFFER_BYTES = 1 << 20  # so that most bodies fit into the socket's buffer


@dataclass(slots=True)
class Process:
    """A worker's process. `exit_status` resolves to its exit status, negative for a signal, None if it is unknown."""

    pid: int
    exit_status: "asyncio.Future[int | None]"

    def kill(self) -> None:
        if not self.exit_status.done():  # until the forkserver reports its exit, the PID is not reused
            with suppress(ProcessLookupError):
                os.kill(self.pid, signal.SIGKILL)


@dataclass(slots=True)
class ForkserverClient:
    """Starts the forkserver for the first worker, and again if it has died."""

    backend: str
    _process: asyncio.subprocess.Process | None = None
    _channel: socket.socket | None = None
    _listener: "asyncio.Task[None] | None" = None
    _ready: asyncio.Event = field(default_factory=asyncio.Event)
    _pending_forks: "deque[asyncio.Future[Process]]" = field(default_factory=deque)
    _children: dict[int, Process] = field(default_factory=dict)
    _starting: asyncio.Lock = field(default_factory=asyncio.Lock)

    async def fork(self, settings: dict[str, Any]) -> tuple[socket.socket, Process]:
        """Forks a worker; returns our end of its socket pair, and its process. Raises Unavailable."""
        async with self._starting:
            if self._listener is None or self._listener.done():
                await self._start()
        assert self._channel
        ours, theirs = sockets.stream_pair(SEND_BUFFER_BYTES)
        forked: asyncio.Future[Process] = asyncio.get_running_loop().create_future()
        try:
            with theirs:
                sockets.send_message(self._channel, json.dumps(settings).encode(), [theirs.fileno()])
                self._pending_forks.append(forked)
                return ours, await forked
        except OSError as error:
            ours.close()
            raise Unavailable(f"a worker cannot be started: {error}") from None
        except BaseException:
            ours.close()
            raise

    async def stop(self) -> None:
        """Closes the channel, so that the forkserver exits; workers exit when theirs are closed."""
        if self._process and self._channel and self._listener:
            self._listener.cancel()
            await asyncio.gather(self._listener, return_exceptions=True)
            self._channel.close()
            try:
                async with asyncio.timeout(EXIT_TIMEOUT_S):
                    await self._process.wait()
            except TimeoutError:
                self._process.kill()
                await self._process.wait()

    async def _start(self) -> None:
        self._channel, theirs = sockets.message_pair()
        self._channel.setblocking(False)
        with theirs:
            processes.adopt_orphans()  # workers whose forkserver has died
            self._process = await asyncio.create_subprocess_exec(
                *(sys.executable, "-m", "seaway.serve.worker.forkserver", str(theirs.fileno()), self.backend),
                pass_fds=[theirs.fileno()],
                stdin=asyncio.subprocess.DEVNULL,
            )
        self._ready.clear()
        self._listener = asyncio.create_task(self._listen(self._channel))
        ready = asyncio.create_task(self._ready.wait())
        done, _ = await asyncio.wait(
            {ready, self._listener}, timeout=START_TIMEOUT_S, return_when=asyncio.FIRST_COMPLETED
        )
        if ready not in done:
            ready.cancel()
            await self.stop()
            if not done:
                raise Unavailable(
                    f"no worker could be started: importing the backend took longer than {START_TIMEOUT_S:g} s"
                )
            raise Unavailable(
                f"no worker could be started (exit status {self._process.returncode}): see its output above; "
                "`seaway doctor` lists what is missing"
            )

    async def _listen(self, channel: socket.socket) -> None:
        """Handles messages until the forkserver exits."""
        assert self._process
        try:
            with suppress(ConnectionResetError):
                async for message in sockets.messages(channel):
                    self._on_message(json.loads(message))
            await self._process.wait()  # from here on its workers are our children
        finally:
            for future in self._pending_forks:
                if not future.done():
                    future.set_exception(Unavailable("the process that starts workers exited"))
            self._pending_forks.clear()
            for child in self._children.values():
                _adopt(child)
            self._children.clear()

    def _on_message(self, message: dict[str, int]) -> None:
        if "forked" in message:
            process = Process(message["forked"], asyncio.get_running_loop().create_future())
            self._children[process.pid] = process
            forked = self._pending_forks.popleft()
            if not forked.done():  # else its channel is already closed, and it exits
                forked.set_result(process)
        elif "ended" in message:
            child = self._children.pop(message["ended"])
            child.exit_status.set_result(message["status"])
        else:
            self._ready.set()


def _adopt(child: Process) -> None:
    """Waits for the worker in place of the forkserver, to reap it and learn its exit status."""
    processes.watch_exit(child.pid, child.exit_status.set_result)
