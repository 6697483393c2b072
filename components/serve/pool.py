"""The workers together: starts them, gives them predictions, loads versions into all, replaces the dead.

Predictions wait in one queue; each worker has at most two at a time, so that it never idles and a death costs one.
"""

import asyncio
import logging
from collections import deque
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from components.serve import wire
from components.serve.processes import Nursery
from components.serve.workers import Worker, WorkerDied, raise_error
from seaway.errors import SeawayError, Unavailable

log = logging.getLogger("seaway.serve")

DEPTH = 2  # one that is computed and one that waits in the socket, so that the worker need not wait for us
MAX_DEATHS = 3  # a version that ends this many workers while they load it is taken out
BACK_OFF = (0.1, 10.0)  # seconds before a dead worker is replaced: the first time, and at most
SETTLED = 30.0  # a worker that lived this long did not die of starting

Arrays = dict[str, np.ndarray]
Predict = Callable[[str, Arrays], Awaitable[Arrays]]  # (signature, inputs) → outputs, in one certain worker
Warm = Callable[[dict[str, Any], Predict], Awaitable[None]]  # given the description; raises where answers are wrong


@dataclass(slots=True, eq=False)
class Job:
    key: str
    header: dict[str, Any]
    inputs: Arrays
    future: asyncio.Future[Arrays]


@dataclass(slots=True)
class Held:
    """A version that every worker is to hold."""

    path: Path
    warm: Warm
    deaths: int = 0


@dataclass(slots=True)
class Pool:
    """`on_lost(key, message)` is told when a held version had to be taken out."""

    size: int
    threads: int
    max_waiting: int
    on_lost: Callable[[str, str], None] = lambda key, message: None
    workers: list[Worker] = field(default_factory=list)
    _held: dict[str, Held] = field(default_factory=dict)
    _waiting: deque[Job] = field(default_factory=deque)
    _nursery: Nursery = field(default_factory=Nursery)
    _tasks: list[asyncio.Task[None]] = field(default_factory=list)
    _trials: asyncio.Lock = field(default_factory=asyncio.Lock)  # one more process at a time: each has its memory
    _numbers: int = 0

    async def start(self) -> None:
        """All workers, or Unavailable."""
        self.workers = list(await asyncio.gather(*(self._new_worker() for _ in range(self.size))))
        self._tasks = [asyncio.create_task(self._keep(worker)) for worker in self.workers]

    async def end(self) -> None:
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        await asyncio.gather(*(worker.end() for worker in self.workers))
        await self._nursery.end()

    @property
    def alive(self) -> bool:
        return any(not worker.gone.is_set() for worker in self.workers)

    async def predict(self, key: str, signature: str, inputs: Arrays, outputs: Sequence[str] | None) -> Arrays:
        """Raises Unavailable where too many wait already, and what the worker answers."""
        if len(self._waiting) >= self.max_waiting:
            raise Unavailable(f"{len(self._waiting)} requests wait for a worker already: try again shortly")
        job = self._job(key, signature, inputs, outputs)
        self._waiting.append(job)
        self._pump()
        return await job.future

    async def load(self, key: str, path: Path, warm: Warm, trial: bool = False) -> dict[str, Any]:
        """Loads and warms a version in every worker; from then on new workers load it too. Returns its description.

        With `trial`, or where others are being served, a process of its own tries it first: a version that ends its
        process on loading takes nothing else with it. Raises what the backend or `warm` says, WorkerDied.
        """
        if trial or self._held:
            async with self._trials:
                tried = await self._new_worker()
                try:
                    await self._load_into(tried, key, Held(path, warm))
                finally:
                    await tried.end()
        held = Held(path, warm)
        while not self.alive:
            await asyncio.sleep(BACK_OFF[0])
        live = [worker for worker in self.workers if not worker.gone.is_set()]
        results = await asyncio.gather(*(self._load_into(w, key, held) for w in live), return_exceptions=True)
        for result in results:
            if isinstance(result, BaseException):
                await self.unload(key)
                raise result
            described = result
        self._held[key] = held
        return described

    async def unload(self, key: str) -> None:
        """Takes a version out of every worker; who still waits for it is told at once."""
        self._held.pop(key, None)
        for job in [job for job in self._waiting if job.key == key]:
            self._waiting.remove(job)
            if not job.future.done():
                job.future.set_exception(Unavailable(f"{key} was taken out while the request waited: try again"))
        for worker in self.workers:
            if key in worker.loaded and not worker.gone.is_set():
                try:
                    await worker.unload(key)
                except WorkerDied:
                    continue

    # ---- predictions

    def _job(self, key: str, signature: str, inputs: Arrays, outputs: Sequence[str] | None) -> Job:
        self._numbers += 1
        header = {"id": -self._numbers, "op": "predict", "key": key, "signature": signature, "outputs": outputs}
        return Job(key, header, inputs, asyncio.get_running_loop().create_future())

    def _pump(self) -> None:
        """Gives waiting jobs to workers that have room, the least busy first."""
        aside: list[Job] = []
        while self._waiting:
            free = [w for w in self.workers if len(w.running) < DEPTH and not w.gone.is_set()]
            if not free:
                break
            job = self._waiting.popleft()
            if job.future.done():  # its deadline passed
                continue
            able = [w for w in free if job.key in w.loaded]
            if able:
                self._send(min(able, key=lambda w: len(w.running)), job)
            else:
                aside.append(job)
        self._waiting.extendleft(reversed(aside))

    def _send(self, worker: Worker, job: Job) -> None:
        try:
            worker.send(job.header, job.inputs)
            worker.running[job.header["id"]] = job
        except SeawayError as error:
            job.future.set_exception(error)

    def _answered(self, worker: Worker, number: int, message: wire.Message) -> None:
        job = worker.running.pop(number)
        self._pump()
        if job.future.done():
            return
        header, arrays = message
        try:
            raise_error(header)
            job.future.set_result(arrays)
        except SeawayError as error:
            job.future.set_exception(error)

    def _gone(self, worker: Worker) -> None:
        """Fails the prediction that the worker died on; those behind it were not begun and go back to the front."""
        jobs = list(worker.running.values())
        worker.running.clear()
        if jobs and not jobs[0].future.done():
            jobs[0].future.set_exception(
                WorkerDied("the process that worked on this request ended; the server goes on")
            )
        self._waiting.extendleft(reversed(jobs[1:]))
        self._pump()

    # ---- workers

    async def _new_worker(self) -> Worker:
        return await Worker.start(self._nursery, self.threads, self._answered, self._gone)

    async def _load_into(self, worker: Worker, key: str, held: Held) -> dict[str, Any]:
        described = await worker.load(key, held.path)

        async def predict(signature: str, inputs: Arrays) -> Arrays:
            job = self._job(key, signature, inputs, None)
            self._send(worker, job)
            return await job.future

        try:
            await held.warm(described, predict)
        except SeawayError:
            if not worker.gone.is_set():
                await worker.unload(key)
            raise
        worker.loaded.add(key)
        return described

    async def _keep(self, worker: Worker) -> None:
        """Keeps one place filled: waits for its worker's death, replaces it, and sees that it holds what it should."""
        loop, delay = asyncio.get_running_loop(), BACK_OFF[0]
        slot = self.workers.index(worker)
        while True:
            began = loop.time()
            await self._hold_until_gone(worker)
            await worker.process.ended
            log.warning("worker %d ended (%s); starting another", worker.pid, _cause(worker))
            delay = BACK_OFF[0] if loop.time() - began > SETTLED else min(delay * 2, BACK_OFF[1])
            await asyncio.sleep(delay)
            try:
                worker = self.workers[slot] = await self._new_worker()
            except SeawayError as error:
                log.error("%s", error)

    async def _hold_until_gone(self, worker: Worker) -> None:
        """Loads what the worker should hold and does not: all of it after a start, or what could not be read then."""
        while not worker.gone.is_set():
            for key, held in list(self._held.items()):
                if key not in worker.loaded:
                    await self._restore(worker, key, held)
            try:
                async with asyncio.timeout(1.0):
                    await worker.gone.wait()
            except TimeoutError:
                continue

    async def _restore(self, worker: Worker, key: str, held: Held) -> None:
        try:
            await self._load_into(worker, key, held)
            held.deaths = 0
            self._pump()
        except WorkerDied:
            held.deaths += 1
            if held.deaths >= MAX_DEATHS and key in self._held:
                del self._held[key]
                self.on_lost(key, f"it ended {held.deaths} workers while they loaded it")
        except Exception as error:  # whatever it is, the other versions are to be loaded
            log.warning("worker %d cannot load %s yet: %s: %s", worker.pid, key, type(error).__name__, error)


def _cause(worker: Worker) -> str:
    status = worker.process.ended.result()
    if status is None:
        return "with the process that had started it"
    return f"signal {-status}" if status < 0 else f"exit status {status}"
