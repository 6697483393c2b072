"""The supervisor's side of the nursery: asks it for worker processes and learns how they ended."""

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

START_SECONDS = 180.0  # importing TensorFlow on a crowded machine
END_SECONDS = 5.0
SEND_BYTES = 1 << 20  # that a socket may hold, so that most bodies go over in one piece


@dataclass(slots=True)
class Process:
    """A worker's process. `ended` gives its exit status, a signal's as negative; None where nobody can know it."""

    pid: int
    ended: "asyncio.Future[int | None]"

    def kill(self) -> None:
        if not self.ended.done():  # until the nursery has told its end, the pid is its own
            with suppress(ProcessLookupError):
                os.kill(self.pid, signal.SIGKILL)


@dataclass(slots=True)
class Nursery:
    """Starts its process when the first worker is asked for, and again should it have died."""

    backend: str
    _process: asyncio.subprocess.Process | None = None
    _channel: socket.socket | None = None
    _listener: "asyncio.Task[None] | None" = None
    _ready: asyncio.Event = field(default_factory=asyncio.Event)
    _asked: "deque[asyncio.Future[Process]]" = field(default_factory=deque)
    _children: dict[int, Process] = field(default_factory=dict)
    _starting: asyncio.Lock = field(default_factory=asyncio.Lock)

    async def fork(self, settings: dict[str, Any]) -> tuple[socket.socket, Process]:
        """A new worker's process and our end of its socket pair. Raises Unavailable."""
        async with self._starting:
            if self._listener is None or self._listener.done():
                await self._start()
        assert self._channel
        ours, theirs = sockets.stream_pair(SEND_BYTES)
        asked: asyncio.Future[Process] = asyncio.get_running_loop().create_future()
        try:
            with theirs:
                sockets.send_message(self._channel, json.dumps(settings).encode(), [theirs.fileno()])
                self._asked.append(asked)
                return ours, await asked
        except OSError as error:
            ours.close()
            raise Unavailable(f"a worker cannot be started: {error}") from None
        except BaseException:
            ours.close()
            raise

    async def end(self) -> None:
        """Closes the channel, at which it ends; workers end when theirs are closed."""
        if self._process and self._channel and self._listener:
            self._listener.cancel()
            await asyncio.gather(self._listener, return_exceptions=True)
            self._channel.close()
            try:
                async with asyncio.timeout(END_SECONDS):
                    await self._process.wait()
            except TimeoutError:
                self._process.kill()
                await self._process.wait()

    async def _start(self) -> None:
        self._channel, theirs = sockets.message_pair()
        self._channel.setblocking(False)
        with theirs:
            processes.adopt_orphans()  # workers whose nursery has died
            self._process = await asyncio.create_subprocess_exec(
                *(sys.executable, "-m", "seaway.serve.worker.nursery", str(theirs.fileno()), self.backend),
                pass_fds=[theirs.fileno()],
                stdin=asyncio.subprocess.DEVNULL,
            )
        self._ready.clear()
        self._listener = asyncio.create_task(self._listen(self._channel))
        ready = asyncio.create_task(self._ready.wait())
        done, _ = await asyncio.wait(
            {ready, self._listener}, timeout=START_SECONDS, return_when=asyncio.FIRST_COMPLETED
        )
        if ready not in done:
            ready.cancel()
            await self.end()
            raise Unavailable(
                f"no worker could be started (exit status {self._process.returncode}): what it said is above; "
                "`seaway doctor` tells what is missing"
            )

    async def _listen(self, channel: socket.socket) -> None:
        """Until the nursery is gone."""
        assert self._process
        try:
            with suppress(ConnectionResetError):
                async for message in sockets.messages(channel):
                    self._hear(json.loads(message))
            await self._process.wait()  # from then on the workers that it leaves are ours
        finally:
            for future in self._asked:
                if not future.done():
                    future.set_exception(Unavailable("the process that starts workers ended"))
            self._asked.clear()
            for child in self._children.values():
                _adopt(child)
            self._children.clear()

    def _hear(self, message: dict[str, int]) -> None:
        if "forked" in message:
            process = Process(message["forked"], asyncio.get_running_loop().create_future())
            self._children[process.pid] = process
            asked = self._asked.popleft()
            if not asked.done():  # else its channel is closed already, at which it ends
                asked.set_result(process)
        elif "ended" in message:
            child = self._children.pop(message["ended"])
            child.ended.set_result(message["status"])
        else:
            self._ready.set()


def _adopt(child: Process) -> None:
    """Waits for it in the nursery's place, so that it leaves no zombie and its status is known."""
    processes.watch_end(child.pid, child.ended.set_result)
