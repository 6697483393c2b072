"""The pool of worker processes: loads versions into all of them, and replaces those that die.

scheduler.py decides which jobs a worker gets. Jobs that were running when a process died are retried one by one: only a
job that kills its process again, alone, fails.
"""

import asyncio
import logging
import math
import signal
import time
from collections.abc import Callable, Sequence
from dataclasses import InitVar, dataclass, field
from pathlib import Path
from typing import Any

from seaway.errors import SeawayError, Unavailable
from seaway.protocols.calls import Reply
from seaway.serve import ipc
from seaway.serve.supervisor.forkserver_client import ForkserverClient
from seaway.serve.supervisor.jobs import Job
from seaway.serve.supervisor.scheduler import Limits, Scheduler
from seaway.serve.supervisor.watch import LOG_INTERVAL_S
from seaway.serve.supervisor.worker_handle import WorkerDied, WorkerHandle

log = logging.getLogger("seaway.serve")

MAX_DEATHS = 3  # a version that kills this many workers while they load it is removed
MAX_QUARANTINED = 64  # shapes per version
RESTART_BACKOFF_S = (0.1, 10.0)  # delay before replacing a worker that died while starting: first, and largest
WORKER_DIED = "the process that worked on this request died; the server continues"
SWEEP_INTERVAL_S = 0.05
# Delay before a worker retries loading a version that others serve: first, and largest
RELOAD_BACKOFF_S = (1.0, 60.0)


@dataclass(slots=True)
class VersionSpec:
    """A version that every worker should have loaded."""

    name: str
    version: int
    path: Path
    digest: str = ""  # once verified; only files with this digest are loaded
    fingerprint: str = ""  # of the verified files
    quarantined: set[str] = field(default_factory=set)
    killed_once: set[str] = field(default_factory=set)  # shapes with which a worker was killed from outside
    deaths: int = 0
    logged: float = -math.inf  # when a failure to load it was last logged


@dataclass(slots=True)
class Retry:
    """When one worker retries loading a version."""

    delay_s: float = 0.0
    due: float = 0.0

    def postpone(self) -> None:
        self.delay_s = min(max(2 * self.delay_s, RELOAD_BACKOFF_S[0]), RELOAD_BACKOFF_S[1])
        self.due = time.monotonic() + self.delay_s


@dataclass(slots=True)
class Pool:
    """`settings` are passed to each worker. `on_lost(key, message)` is called when a version had to be removed,
    `on_death(cause)` when a worker died, and `on_responses(jobs, header, began)` for every response, with its header
    (`ipc`) and the time when the worker got the frame.
    """

    size: int
    backend: str
    settings: dict[str, Any] = field(default_factory=dict)
    limits: InitVar[Limits] = Limits()  # noqa: RUF009 - it is frozen
    allowed_ops: tuple[str, ...] = ()
    on_lost: Callable[[str, str], None] = lambda key, message: None
    on_death: Callable[[str], None] = lambda cause: None
    on_responses: Callable[[Sequence[Job], dict[str, Any], float], None] = lambda jobs, header, began: None
    workers: list[WorkerHandle] = field(default_factory=list)
    scheduler: Scheduler = field(init=False)
    _start_error: str = ""  # why workers cannot be started
    _specs: dict[str, VersionSpec] = field(default_factory=dict)
    _forkserver: ForkserverClient = field(init=False)
    _tasks: list[asyncio.Task[None]] = field(default_factory=list)
    _trial_lock: asyncio.Lock = field(default_factory=asyncio.Lock)  # one trial at a time, to save memory

    def __post_init__(self, limits: Limits) -> None:
        self._forkserver = ForkserverClient(self.backend)
        self.scheduler = Scheduler(limits, self.workers)

    async def start(self) -> None:
        """Starts all workers. Raises Unavailable."""
        self.workers += await asyncio.gather(*(self._new_worker() for _ in range(self.size)))
        self._tasks = [asyncio.create_task(self._supervise(worker)) for worker in self.workers]
        self._tasks.append(asyncio.create_task(self._enforce_deadlines()))

    async def stop(self) -> None:
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        await asyncio.gather(*(worker.stop() for worker in self.workers))
        await self._forkserver.stop()

    @property
    def alive(self) -> bool:
        return any(not worker.exited.is_set() for worker in self.workers)

    def is_loaded(self, key: str) -> bool:
        """Whether any worker has loaded the version."""
        return any(key in worker.loaded and not worker.exited.is_set() for worker in self.workers)

    # ---- jobs

    def submit(self, job: Job) -> None:
        """Queues a job, which always gets a response. Raises Unavailable if the queue is full or no worker starts."""
        if self._start_error and not self.alive:
            raise Unavailable(self._start_error)
        self.scheduler.submit(job)

    def _on_response(self, worker: WorkerHandle, message: ipc.Message) -> None:
        header, payload = message
        jobs, began = worker.running, worker.began
        worker.running = worker.suspects = []
        worker.responses += 1
        self.scheduler.dispatch()
        self.on_responses(jobs, header, began)
        offset = 0
        for job, (status, content_type, headers, size, _) in zip(jobs, header["replies"], strict=True):
            body = bytes(payload[offset : offset + size])
            offset += size
            if not job.done:
                if status < 300:
                    headers |= job.version.headers
                job.respond(Reply(status, body, content_type, headers))
        self.scheduler.dispatch_soon()

    def _on_exit(self, worker: WorkerHandle) -> None:
        """Fails the job that killed the worker, if that is known, and queues the others again."""
        suspects, others = worker.suspects, [job for job in worker.running if job not in worker.suspects]
        worker.running = worker.suspects = []
        if len(suspects) == 1 and worker.shapes and not worker.kill_reason:
            job, shapes = suspects[0], worker.shapes
            worker.process.exit_status.add_done_callback(lambda status: self._on_fatal(job, shapes, status.result()))
        elif len(suspects) == 1 or worker.kill_reason:
            reason = worker.kill_reason or WORKER_DIED
            for job in suspects:
                job.fail(WorkerDied(reason))
        else:
            for job in suspects:
                job.run_alone = True
            others += suspects
        self.scheduler.requeue(others)

    def _on_fatal(self, job: Job, shapes: str, exit_status: int | None) -> None:
        """Quarantines the undeclared shapes of a job on which a worker died, and fails the job.

        SIGKILL comes from outside, for example because memory is short: only the second quarantines the shapes.
        """
        spec = self._specs.get(job.key)
        if spec and exit_status in (None, -signal.SIGKILL) and shapes not in spec.killed_once:
            if len(spec.killed_once) < MAX_QUARANTINED:
                spec.killed_once.add(shapes)
        elif spec:
            self._quarantine(job.key, spec, shapes)
        job.fail(WorkerDied(WORKER_DIED))

    def _quarantine(self, key: str, spec: VersionSpec, shapes: str) -> None:
        if len(spec.quarantined) < MAX_QUARANTINED:
            log.error("%s: inputs of the shapes %s killed a process; they are quarantined", key, shapes)
            spec.quarantined.add(shapes)
            for worker in self.workers:
                if not worker.exited.is_set() and key in worker.loaded:
                    worker.send({"op": "quarantine", "key": key, "shapes": shapes})

    async def _enforce_deadlines(self) -> None:
        while True:
            await asyncio.sleep(SWEEP_INTERVAL_S)
            self.scheduler.expire()

    # ---- versions

    async def load(self, key: str, spec: VersionSpec, isolated: bool = False) -> dict[str, Any]:
        """Loads a version into every worker, present and future. Returns the result of `version.describe`.

        If `isolated`, or if other versions are being served, an extra process loads it first, so that a version that
        kills its process does no harm to the others. Raises the backend's or the check's error, or WorkerDied.
        """
        if isolated or self._specs:
            async with self._trial_lock:
                trial = await self._new_worker()
                try:
                    await self._load_into(trial, key, spec)
                finally:
                    await trial.stop()
        while not self.alive:
            await asyncio.sleep(RESTART_BACKOFF_S[0])
        live = [worker for worker in self.workers if not worker.exited.is_set()]
        results = await asyncio.gather(*(self._load_into(w, key, spec) for w in live), return_exceptions=True)
        for result in results:
            if isinstance(result, BaseException):
                await self.unload(key)
                raise result
            description = result
        self._specs[key] = spec
        return description

    async def unload(self, key: str) -> None:
        """Removes a version from every worker; requests that still wait for it fail at once."""
        self._specs.pop(key, None)
        self.scheduler.fail(key, Unavailable(f"{key} was unloaded while the request waited: try again"))
        for worker in self.workers:
            if key in worker.loaded and not worker.exited.is_set():
                try:
                    await worker.unload(key)
                except WorkerDied:
                    continue

    async def _load_into(self, worker: WorkerHandle, key: str, spec: VersionSpec) -> dict[str, Any]:
        quarantined = sorted(spec.quarantined)
        description = await worker.call(
            "load",
            key,
            name=spec.name,
            version=spec.version,
            path=str(spec.path.absolute()),
            digest=spec.digest,
            fingerprint=spec.fingerprint,
            quarantined=quarantined,
            allowed_ops=self.allowed_ops,
        )
        spec.digest = description["served"]["identity"].rpartition("@")[2]
        spec.fingerprint = description["fingerprint"]
        worker.loaded.add(key)
        for shapes in spec.quarantined.difference(quarantined):  # since the load began
            worker.send({"op": "quarantine", "key": key, "shapes": shapes})
        return description

    # ---- workers

    async def _new_worker(self) -> WorkerHandle:
        return await WorkerHandle.start(
            self._forkserver, {**self.settings, "backend": self.backend}, self._on_response, self._on_exit
        )

    async def _supervise(self, worker: WorkerHandle) -> None:
        """Supervises one worker slot: keeps its versions loaded, and replaces the worker when it dies."""
        delay_s = 0.0
        slot = self.workers.index(worker)
        retries: dict[str, Retry] = {}
        while True:
            await self._keep_loaded(worker, retries)
            await asyncio.wait([worker.process.exit_status])  # a plain await would cancel the future with this task
            cause = worker.kill_reason or _cause(worker)
            log.warning("worker %d exited (%s); starting another", worker.pid, cause)
            self.on_death(cause)
            # A worker that has responded did not die of starting: hostile input must not delay everyone's restart.
            delay_s = 0.0 if worker.responses else min(max(delay_s * 2, RESTART_BACKOFF_S[0]), RESTART_BACKOFF_S[1])
            worker = self.workers[slot] = await self._start_replacement(delay_s)

    async def _start_replacement(self, delay_s: float) -> WorkerHandle:
        """Starts a worker, however long that takes; meanwhile, if no worker is alive, queued requests fail."""
        logged = -math.inf
        while True:
            await asyncio.sleep(delay_s)
            try:
                worker = await self._new_worker()
            except SeawayError as error:
                if logged + LOG_INTERVAL_S < time.monotonic():
                    log.error("%s", error)
                    logged = time.monotonic()
                self._start_error = f"no worker can be started: {error}"
                if not self.alive:
                    self.scheduler.fail_all(Unavailable(self._start_error))
                delay_s = min(max(delay_s * 2, RESTART_BACKOFF_S[0]), RESTART_BACKOFF_S[1])
            else:
                self._start_error = ""
                return worker

    async def _keep_loaded(self, worker: WorkerHandle, retries: dict[str, Retry]) -> None:
        """Loads all missing versions into the worker, and retries failed ones, until the worker exits."""
        while not worker.exited.is_set():
            for key, spec in list(self._specs.items()):
                if key not in worker.loaded and retries.setdefault(key, Retry()).due <= time.monotonic():
                    await self._reload(worker, key, spec, retries)
            for key in retries.keys() - self._specs.keys():
                del retries[key]
            try:
                async with asyncio.timeout(1.0):
                    await worker.exited.wait()
            except TimeoutError:
                continue

    async def _reload(self, worker: WorkerHandle, key: str, spec: VersionSpec, retries: dict[str, Retry]) -> None:
        """Loads a version into one worker. If that fails, other workers continue serving it; if no worker has it any
        more, it is removed, so that no request waits for it."""
        try:
            await self._load_into(worker, key, spec)
            spec.deaths = 0
            retries.pop(key, None)
            self.scheduler.dispatch_soon()
            return
        except WorkerDied:
            spec.deaths += 1
            if spec.deaths < MAX_DEATHS:
                return
            reason = f"it killed {spec.deaths} workers while they loaded it"
        except Exception as error:  # of any kind, because the other versions must still be loaded
            reason = str(error) or type(error).__name__
        if self._specs.get(key) is not spec:
            return
        if self.is_loaded(key):
            retries.setdefault(key, Retry()).postpone()
            if spec.logged + LOG_INTERVAL_S < time.monotonic():
                spec.logged = time.monotonic()
                log.warning("worker %d cannot load %s, which others continue to serve: %s", worker.pid, key, reason)
            return
        del self._specs[key]
        self.scheduler.fail(key, Unavailable(f"{key} cannot be served any more: {reason}"))
        self.on_lost(key, reason)


def _cause(worker: WorkerHandle) -> str:
    status = worker.process.exit_status.result()
    if status is None:
        return "together with the forkserver"
    return f"signal {-status}" if status < 0 else f"exit status {status}"
