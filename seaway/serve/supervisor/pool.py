"""The workers together: gives them jobs, loads versions into all of them, replaces the dead.

Jobs wait in one queue a version. Whenever a worker is idle it is given its share of what waits, so nobody waits for a
batch to fill while there is someone idle, and batches grow by themselves under load. Jobs on which a process ended are
run again one by one: only the one that ends it once more, by itself, fails.
"""

import asyncio
import logging
import math
import time
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from seaway.errors import SeawayError, Unavailable
from seaway.protocols.calls import Reply
from seaway.serve import wire
from seaway.serve.supervisor.jobs import Job
from seaway.serve.supervisor.processes import Nursery
from seaway.serve.supervisor.watch import LOG_SECONDS
from seaway.serve.supervisor.workers import Worker, WorkerDied

log = logging.getLogger("seaway.serve")

MAX_FRAME = 1 << 20  # bytes of bodies that are given to a worker at once, where there is more than one
MAX_DEATHS = 3  # a version that ends this many workers while they load it is taken out
MAX_REFUSED = 64  # shapes that a version remembers
BACK_OFF = (0.1, 10.0)  # seconds before a worker that died unasked is replaced: the first time, and at most
STUCK_SECONDS = 5.0  # after the deadline of all that a worker is computing, it is ended
SWEEP_SECONDS = 0.05
RESTORE = (1.0, 60.0)  # seconds before a worker tries again to load what others go on serving: at first, and at most


@dataclass(slots=True)
class Held:
    """A version that every worker is to hold."""

    name: str
    version: int
    path: Path
    digest: str = ""  # once it is known and proven; only files that have it are loaded
    fingerprint: str = ""  # of the files that were proven
    refused: set[str] = field(default_factory=set)
    deaths: int = 0
    logged: float = -math.inf  # when it was last said that a worker cannot load it


@dataclass(slots=True)
class Later:
    """When one worker tries again to load a version."""

    delay: float = 0.0
    due: float = 0.0

    def put_off(self) -> None:
        self.delay = min(max(2 * self.delay, RESTORE[0]), RESTORE[1])
        self.due = time.monotonic() + self.delay


@dataclass(slots=True)
class Pool:
    """`settings` are what each worker is told. `on_lost(key, message)` is told when a held version had to be taken out,
    `on_death(cause)` of every worker's end, and `on_answers(jobs, header, began)` of every frame answered, with
    the answer's header (`wire`) and when the worker was given it.
    """

    size: int
    backend: str
    settings: dict[str, Any]
    max_waiting: int
    max_batch: int  # requests in one frame
    batch_delay: float  # seconds that a job may wait for company though a worker is idle
    timeout: float
    allowed_ops: tuple[str, ...] = ()
    on_lost: Callable[[str, str], None] = lambda key, message: None
    on_death: Callable[[str], None] = lambda cause: None
    on_answers: Callable[[Sequence[Job], dict[str, Any], float], None] = lambda jobs, header, began: None
    workers: list[Worker] = field(default_factory=list)
    waiting: int = 0
    _stuck: str = ""  # why no worker can be started
    _queues: dict[str, deque[Job]] = field(default_factory=dict)  # the one whose turn it is first; none is empty
    _held: dict[str, Held] = field(default_factory=dict)
    _nursery: Nursery = field(init=False)
    _tasks: list[asyncio.Task[None]] = field(default_factory=list)
    _trials: asyncio.Lock = field(default_factory=asyncio.Lock)  # one more process at a time: each has its memory
    _pumping: bool = False
    _timer: asyncio.TimerHandle | None = None

    def __post_init__(self) -> None:
        self._nursery = Nursery(self.backend)

    async def start(self) -> None:
        """All workers, or Unavailable."""
        self.workers = list(await asyncio.gather(*(self._new_worker() for _ in range(self.size))))
        self._tasks = [asyncio.create_task(self._keep(worker)) for worker in self.workers]
        self._tasks.append(asyncio.create_task(self._watch_deadlines()))

    async def end(self) -> None:
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        await asyncio.gather(*(worker.end() for worker in self.workers))
        await self._nursery.end()

    @property
    def alive(self) -> bool:
        return any(not worker.gone.is_set() for worker in self.workers)

    def holds(self, key: str) -> bool:
        """Whether a worker has the version in memory."""
        return any(key in worker.loaded and not worker.gone.is_set() for worker in self.workers)

    # ---- jobs

    def ask(self, job: Job) -> None:
        """Queues a job; it is answered in any case. Raises Unavailable where too many wait already, or all in vain."""
        if self._stuck and not self.alive:
            raise Unavailable(self._stuck)
        if self.waiting >= self.max_waiting:
            raise Unavailable(f"{self.waiting} requests wait already: try again shortly")
        job.deadline = job.queued + self.timeout
        job.version.active += 1
        self.waiting += 1
        self._queue(job.key).append(job)
        self._pump_soon()

    def _queue(self, key: str) -> deque[Job]:
        queue = self._queues.get(key)
        if queue is None:
            queue = self._queues[key] = deque()
        return queue

    def _pump_soon(self) -> None:
        """Once a turn of the event loop, so that what arrives together goes together."""
        if not self._pumping:
            self._pumping = True
            asyncio.get_running_loop().call_soon(self._pump)

    def _pump_later(self, seconds: float) -> None:
        if self._timer is None:
            self._timer = asyncio.get_running_loop().call_later(seconds, self._pump)

    def _pump(self) -> None:
        """Gives idle workers what waits, one version after another."""
        self._pumping = False
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        idle = [worker for worker in self.workers if worker.idle]
        for key in list(self._queues):
            while idle and key in self._queues:
                able = [worker for worker in idle if key in worker.loaded]
                if not able:
                    break
                if wait := self._wait(self._queues[key]):
                    self._pump_later(wait)
                    break
                if jobs := self._take(key, len(able)):
                    able[0].answer(jobs)
                    idle.remove(able[0])

    def _wait(self, queue: deque[Job]) -> float:
        """Seconds that these jobs should still wait for company."""
        if not self.batch_delay or len(queue) >= self.max_batch or queue[0].alone:
            return 0.0
        return max(0.0, queue[0].queued + self.batch_delay - time.perf_counter())

    def _take(self, key: str, workers: int) -> list[Job]:
        """The next jobs of a version for one of so many idle workers; its queue goes to the end of the line."""
        queue = self._queues.pop(key)
        share = min(-(-len(queue) // workers), self.max_batch)
        taken: list[Job] = []
        size = 0
        while queue and len(taken) < share:
            job = queue[0]
            if job.done or job.request.gone:
                self._drop(queue.popleft())
                continue
            size += len(job.request.body)
            if taken and (size > MAX_FRAME or job.alone):
                break
            taken.append(queue.popleft())
            self.waiting -= 1
            if job.alone:
                break
        if queue:
            self._queues[key] = queue
        return taken

    def _drop(self, job: Job) -> None:
        self.waiting -= 1
        if not job.done:
            job.done = True
            job.version.active -= 1

    def _answered(self, worker: Worker, message: wire.Message) -> None:
        header, payload = message
        jobs, began = worker.running, worker.began
        worker.running = worker.suspects = []
        worker.answered += 1
        self._pump()
        self.on_answers(jobs, header, began)
        at = 0
        for job, (status, kind, headers, size, _) in zip(jobs, header["replies"], strict=True):
            body = bytes(payload[at : at + size])
            at += size
            if not job.done:
                if status < 300:
                    headers["Seaway-Model"] = job.version.header
                job.answer(Reply(status, body, kind, headers))
        self._pump_soon()

    def _gone(self, worker: Worker) -> None:
        """Fails the job that the worker died on, where that is known; the others are asked again."""
        suspects, others = worker.suspects, [job for job in worker.running if job not in worker.suspects]
        worker.running = worker.suspects = []
        if suspects and worker.shapes:
            self._refuse(suspects[0].key, worker.shapes)
        if len(suspects) == 1 or worker.killed:
            why = worker.killed or "the process that worked on this request ended; the server goes on"
            for job in suspects:
                job.fail(WorkerDied(why))
        else:
            for job in suspects:
                job.alone = True
            others += suspects
        for job in reversed(others):
            if not job.done:
                self.waiting += 1
                self._queue(job.key).appendleft(job)
        self._pump_soon()

    def _refuse(self, key: str, shapes: str) -> None:
        held = self._held.get(key)
        if held and len(held.refused) < MAX_REFUSED:
            log.error("%s: inputs of the shapes %s ended a process; they are refused from now on", key, shapes)
            held.refused.add(shapes)
            for worker in self.workers:
                if not worker.gone.is_set() and key in worker.loaded:
                    worker.send({"op": "refuse", "key": key, "shapes": shapes})

    async def _watch_deadlines(self) -> None:
        error = SeawayError(f"no answer within {self.timeout:g} s: deadline exceeded", status=504)
        while True:
            await asyncio.sleep(SWEEP_SECONDS)
            now = time.perf_counter()
            for key, queue in list(self._queues.items()):
                while queue and queue[0].deadline < now:
                    job = queue.popleft()
                    self.waiting -= 1
                    job.fail(error)
                if not queue:
                    del self._queues[key]
            for worker in self.workers:
                for job in worker.running:
                    if job.deadline < now:
                        job.fail(error)
                stuck = worker.running and worker.began + self.timeout + STUCK_SECONDS < now
                if stuck and not worker.killed and all(job.done for job in worker.running):
                    worker.kill("it computed what nobody waits for any more")

    # ---- versions

    async def load(self, key: str, held: Held, trial: bool = False) -> dict[str, Any]:
        """Loads a version into every worker; from then on new workers load it too. Returns `version.describe`'s answer.

        With `trial`, or where others are being served, a process of its own tries it first: a version that ends its
        process on loading takes nothing else with it. Raises what the backend or the check says, WorkerDied.
        """
        if trial or self._held:
            async with self._trials:
                tried = await self._new_worker()
                try:
                    await self._load_into(tried, key, held)
                finally:
                    await tried.end()
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
        self._fail_waiting(key, Unavailable(f"{key} was taken out while the request waited: try again"))
        for worker in self.workers:
            if key in worker.loaded and not worker.gone.is_set():
                try:
                    await worker.unload(key)
                except WorkerDied:
                    continue

    def _fail_waiting(self, key: str, error: SeawayError) -> None:
        for job in self._queues.pop(key, ()):
            self.waiting -= 1
            job.fail(error)

    async def _load_into(self, worker: Worker, key: str, held: Held) -> dict[str, Any]:
        described = await worker.call(
            "load",
            key,
            name=held.name,
            version=held.version,
            path=str(held.path.absolute()),
            digest=held.digest,
            fingerprint=held.fingerprint,
            refused=sorted(held.refused),
            allowed_ops=self.allowed_ops,
        )
        held.digest = described["served"]["identity"].rpartition("@")[2]
        held.fingerprint = described["fingerprint"]
        worker.loaded.add(key)
        return described

    # ---- workers

    async def _new_worker(self) -> Worker:
        return await Worker.start(self._nursery, {**self.settings, "backend": self.backend}, self._answered, self._gone)

    async def _keep(self, worker: Worker) -> None:
        """Keeps one place filled: waits for its worker's death, replaces it, and sees that it holds what it should."""
        delay = 0.0
        slot = self.workers.index(worker)
        later: dict[str, Later] = {}
        while True:
            await self._hold_until_gone(worker, later)
            await asyncio.wait([worker.process.ended])  # by itself it would be cancelled with this task
            cause = worker.killed or _cause(worker)
            log.warning("worker %d ended (%s); starting another", worker.pid, cause)
            self.on_death(cause)
            # One that has answered did not die of starting: a hostile input must not make everyone wait longer.
            delay = 0.0 if worker.answered else min(max(delay * 2, BACK_OFF[0]), BACK_OFF[1])
            worker = self.workers[slot] = await self._replacement(delay)

    async def _replacement(self, delay: float) -> Worker:
        """A new worker, however long that takes; whoever waits for one meanwhile, and there is none, is told so."""
        logged = -math.inf
        while True:
            await asyncio.sleep(delay)
            try:
                worker = await self._new_worker()
            except SeawayError as error:
                if logged + LOG_SECONDS < time.monotonic():
                    log.error("%s", error)
                    logged = time.monotonic()
                self._stuck = f"no worker can be started: {error}"
                if not self.alive:
                    for key in list(self._queues):
                        self._fail_waiting(key, Unavailable(self._stuck))
                delay = min(max(delay * 2, BACK_OFF[0]), BACK_OFF[1])
            else:
                self._stuck = ""
                return worker

    async def _hold_until_gone(self, worker: Worker, later: dict[str, Later]) -> None:
        """Loads what the worker should hold and does not: all of it after a start, or what could not be read then."""
        while not worker.gone.is_set():
            for key, held in list(self._held.items()):
                if key not in worker.loaded and later.setdefault(key, Later()).due <= time.monotonic():
                    await self._restore(worker, key, held, later)
            for key in later.keys() - self._held.keys():
                del later[key]
            try:
                async with asyncio.timeout(1.0):
                    await worker.gone.wait()
            except TimeoutError:
                continue

    async def _restore(self, worker: Worker, key: str, held: Held, later: dict[str, Later]) -> None:
        """Loads a held version into one worker. Where that fails, other workers go on serving it; where no worker has
        it any more it is taken out, so that nobody waits for it."""
        try:
            await self._load_into(worker, key, held)
            held.deaths = 0
            later.pop(key, None)
            self._pump_soon()
            return
        except WorkerDied:
            held.deaths += 1
            if held.deaths < MAX_DEATHS:
                return
            why = f"it ended {held.deaths} workers while they loaded it"
        except Exception as error:  # whatever it is, the other versions are to be loaded
            why = str(error) or type(error).__name__
        if self._held.get(key) is not held:
            return
        if self.holds(key):
            later.setdefault(key, Later()).put_off()
            if held.logged + LOG_SECONDS < time.monotonic():
                held.logged = time.monotonic()
                log.warning("worker %d cannot load %s, which others go on serving: %s", worker.pid, key, why)
            return
        del self._held[key]
        self._fail_waiting(key, Unavailable(f"{key} cannot be served any more: {why}"))
        self.on_lost(key, why)


def _cause(worker: Worker) -> str:
    status = worker.process.ended.result()
    if status is None:
        return "with the process that had started it"
    return f"signal {-status}" if status < 0 else f"exit status {status}"
