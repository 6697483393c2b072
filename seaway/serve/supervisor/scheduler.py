"""Decides which jobs a worker gets next: one queue for each version, batches, and deadlines.

An idle worker gets its share of the queue at once, so no job waits for a batch to fill while a worker is idle, and
batches grow by themselves under load. The scheduler knows nothing of processes: pool.py starts them and tells it when
one has responded or died.
"""

import asyncio
import time
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Protocol

from seaway.errors import SeawayError, Unavailable
from seaway.serve.supervisor.jobs import Job

MAX_FRAME_BYTES = 1 << 20  # bytes of bodies in one frame, unless it has just one job
STUCK_TIMEOUT_S = 5.0  # a worker is killed this long after the deadline of all its jobs


class Worker(Protocol):
    """What the scheduler needs of a `WorkerHandle`."""

    loaded: set[str]
    running: list[Job]
    began: float
    kill_reason: str

    @property
    def idle(self) -> bool: ...
    def dispatch(self, jobs: Sequence[Job]) -> None: ...
    def kill(self, reason: str) -> None: ...


@dataclass(frozen=True, slots=True)
class Limits:
    """`batch_delay_s`: how long a job may wait for others while a worker is idle; `timeout_s`: a job's whole time."""

    max_waiting: int = 1000
    max_frame_jobs: int = 64
    batch_delay_s: float = 0.0
    timeout_s: float = 30.0


@dataclass(slots=True)
class Scheduler:
    """`workers` is the pool's own list. `clock`: seconds, as those in jobs."""

    limits: Limits
    workers: Sequence[Worker]
    clock: Callable[[], float] = time.perf_counter
    waiting: int = 0  # jobs in all queues
    queues: dict[str, deque[Job]] = field(default_factory=dict)  # in the order of their turns; none is empty
    _scheduled: bool = False
    _timer: asyncio.TimerHandle | None = None

    def submit(self, job: Job) -> None:
        """Queues a job, which always gets a response. Raises Unavailable if the queue is full."""
        if self.waiting >= self.limits.max_waiting:
            raise Unavailable(f"{self.waiting} requests are waiting already: try again shortly")
        job.deadline = job.queued + self.limits.timeout_s
        job.version.active += 1
        self.waiting += 1
        self._queue(job.key).append(job)
        self.dispatch_soon()

    def requeue(self, jobs: Sequence[Job]) -> None:
        """Queues jobs of a worker that died, before all others of their version."""
        for job in reversed(jobs):
            if not job.done:
                self.waiting += 1
                self._queue(job.key).appendleft(job)
        self.dispatch_soon()

    def fail(self, key: str, error: SeawayError) -> None:
        """Fails all jobs that wait for a version."""
        for job in self.queues.pop(key, ()):
            self.waiting -= 1
            job.fail(error)

    def fail_all(self, error: SeawayError) -> None:
        for key in list(self.queues):
            self.fail(key, error)

    def dispatch_soon(self) -> None:
        """Dispatches once per iteration of the event loop, so that requests that arrive together are batched."""
        if not self._scheduled:
            self._scheduled = True
            asyncio.get_running_loop().call_soon(self.dispatch)

    def dispatch(self) -> None:
        """Gives queued jobs to idle workers, one version after another."""
        self._scheduled = False
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        idle = [worker for worker in self.workers if worker.idle]
        for key in list(self.queues):
            while idle and key in self.queues:
                ready = [worker for worker in idle if key in worker.loaded]
                if not ready:
                    break
                if wait_s := self._batch_wait_s(self.queues[key]):
                    self._dispatch_later(wait_s)
                    break
                if jobs := self._take(key, len(ready)):
                    ready[0].dispatch(jobs)
                    idle.remove(ready[0])

    def expire(self) -> None:
        """Fails jobs past their deadline, and kills workers that run nothing else for too long."""
        now, timeout_s = self.clock(), self.limits.timeout_s
        error = SeawayError(f"no response within {timeout_s:g} s: deadline exceeded", status=504)
        for key, queue in list(self.queues.items()):
            while queue and queue[0].deadline < now:
                job = queue.popleft()
                self.waiting -= 1
                job.fail(error)
            if not queue:
                del self.queues[key]
        for worker in self.workers:
            for job in worker.running:
                if job.deadline < now:
                    job.fail(error)
            stuck = worker.running and worker.began + timeout_s + STUCK_TIMEOUT_S < now
            if stuck and not worker.kill_reason and all(job.done for job in worker.running):
                worker.kill("it was still running after the deadline of all its requests")

    def _queue(self, key: str) -> deque[Job]:
        queue = self.queues.get(key)
        if queue is None:
            queue = self.queues[key] = deque()
        return queue

    def _dispatch_later(self, delay_s: float) -> None:
        if self._timer is None:
            self._timer = asyncio.get_running_loop().call_later(delay_s, self.dispatch)

    def _batch_wait_s(self, queue: deque[Job]) -> float:
        """Seconds that these jobs should still wait for others."""
        limits = self.limits
        if not limits.batch_delay_s or len(queue) >= limits.max_frame_jobs or queue[0].run_alone:
            return 0.0
        return max(0.0, queue[0].queued + limits.batch_delay_s - self.clock())

    def _take(self, key: str, workers: int) -> list[Job]:
        """Takes the next jobs of a version for one of `workers` idle workers; its queue goes to the end of the line."""
        queue = self.queues.pop(key)
        share = min(-(-len(queue) // workers), self.limits.max_frame_jobs)
        taken: list[Job] = []
        size = 0
        while queue and len(taken) < share:
            job = queue[0]
            if job.done or job.request.abandoned:
                self._drop(queue.popleft())
                continue
            size += len(job.request.body)
            if taken and (size > MAX_FRAME_BYTES or job.run_alone):
                break
            taken.append(queue.popleft())
            self.waiting -= 1
            if job.run_alone:
                break
        if queue:
            self.queues[key] = queue
        return taken

    def _drop(self, job: Job) -> None:
        self.waiting -= 1
        if not job.done:
            job.done = True
            job.version.active -= 1
