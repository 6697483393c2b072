"""Which job a worker gets next, in what batches, and what happens at deadlines: without a server or a process."""

import asyncio
from types import SimpleNamespace

import pytest

from seaway.errors import Unavailable
from seaway.serve.supervisor import scheduler
from seaway.serve.supervisor.jobs import Job
from seaway.serve.supervisor.scheduler import Limits, Scheduler


class Clock:
    def __init__(self):
        self.now = 100.0

    def __call__(self):
        return self.now


class Worker:
    """Records what it gets; `finish` makes it idle again."""

    def __init__(self, *loaded):
        self.loaded, self.running, self.began, self.kill_reason = set(loaded), [], 0.0, ""
        self.frames = []

    @property
    def idle(self):
        return not self.running

    def dispatch(self, jobs):
        assert self.idle
        self.running = list(jobs)
        self.frames.append([job.number for job in jobs])

    def kill(self, reason):
        self.kill_reason = reason

    def finish(self):
        for job in self.running:
            job.respond("reply")
        self.running = []


class Setup:
    def __init__(self, *workers, **limits):
        self.clock, self.workers, self.jobs = Clock(), list(workers), []
        self.scheduler = Scheduler(Limits(**limits), self.workers, self.clock)

    def submit(self, key="m/1", body=b"x"):
        version = SimpleNamespace(key=key, active=0, headers={})
        replies = []
        request = SimpleNamespace(body=body, abandoned=False, respond=replies.append, key="", replies=replies)
        job = NumberedJob(request, version, "rest", "predict", {}, self.clock.now)
        job.number = len(self.jobs)
        self.jobs.append(job)
        self.scheduler.submit(job)
        return job


class NumberedJob(Job):
    __slots__ = ("error", "number")

    def fail(self, error):
        self.error = error
        self.respond(error)


def run(work):
    asyncio.run(work())


def test_an_idle_worker_gets_its_share_of_the_queue_at_once():
    async def work():
        setup = Setup(Worker("m/1"), Worker("m/1"))
        for _ in range(5):
            setup.submit()
        setup.scheduler.dispatch()
        assert [worker.frames for worker in setup.workers] == [[[0, 1, 2]], [[3, 4]]]
        assert setup.scheduler.waiting == 0

    run(work)


def test_jobs_that_arrive_together_are_one_batch():
    async def work():
        setup = Setup(Worker("m/1"))
        for _ in range(3):
            setup.submit()
        assert setup.workers[0].frames == []
        await asyncio.sleep(0)
        assert setup.workers[0].frames == [[0, 1, 2]]

    run(work)


def test_versions_take_turns():
    async def work():
        setup = Setup(Worker("a/1", "b/1"), max_frame_jobs=2)
        for key in ("a/1",) * 5 + ("b/1",):
            setup.submit(key)
        for _ in range(4):
            setup.scheduler.dispatch()
            setup.workers[0].finish()
        assert setup.workers[0].frames == [[0, 1], [5], [2, 3], [4]]

    run(work)


def test_a_job_waits_for_a_worker_that_has_its_version():
    async def work():
        setup = Setup(Worker("a/1"))
        setup.submit("b/1")
        setup.submit("a/1")
        setup.scheduler.dispatch()
        assert setup.workers[0].frames == [[1]]
        assert setup.scheduler.waiting == 1
        setup.workers[0].finish()
        setup.workers[0].loaded.add("b/1")
        setup.scheduler.dispatch()
        assert setup.workers[0].frames == [[1], [0]]

    run(work)


@pytest.mark.parametrize("limit", ["jobs", "bytes"])
def test_a_frame_is_limited(limit, monkeypatch):
    async def work():
        monkeypatch.setattr(scheduler, "MAX_FRAME_BYTES", 10)
        setup = Setup(Worker("m/1"), max_frame_jobs=2 if limit == "jobs" else 64)
        for _ in range(3):
            setup.submit(body=b"x" if limit == "jobs" else b"xxxxx")
        setup.scheduler.dispatch()
        assert setup.workers[0].frames == [[0, 1]]
        setup.workers[0].finish()
        setup.submit(body=b"x" * 100)  # larger than the limit, and alone
        setup.scheduler.dispatch()
        setup.workers[0].finish()
        setup.scheduler.dispatch()
        assert setup.workers[0].frames == [[0, 1], [2], [3]]

    run(work)


def test_a_batch_is_awaited_for_the_delay_unless_it_is_full():
    async def work():
        setup = Setup(Worker("m/1"), batch_delay_s=0.5, max_frame_jobs=3)
        setup.submit()
        setup.scheduler.dispatch()
        assert setup.workers[0].frames == []
        setup.submit()
        setup.submit()
        setup.scheduler.dispatch()
        assert setup.workers[0].frames == [[0, 1, 2]]
        setup.workers[0].finish()
        setup.submit()
        setup.clock.now += 0.5
        setup.scheduler.dispatch()
        assert setup.workers[0].frames[1:] == [[3]]

    run(work)


def test_a_job_that_must_run_alone_does():
    async def work():
        setup = Setup(Worker("m/1"))
        for _ in range(4):
            setup.submit()
        setup.jobs[1].run_alone = setup.jobs[2].run_alone = True
        for _ in range(4):
            setup.scheduler.dispatch()
            setup.workers[0].finish()
        assert setup.workers[0].frames == [[0], [1], [2], [3]]

    run(work)


def test_abandoned_and_finished_jobs_are_dropped():
    async def work():
        setup = Setup(Worker("m/1"))
        first, second, third = (setup.submit() for _ in range(3))
        first.request.abandoned = True
        second.respond("early")
        setup.scheduler.dispatch()
        assert setup.workers[0].frames == [[2]]
        assert [job.version.active for job in (first, second, third)] == [0, 0, 1]
        assert setup.scheduler.waiting == 0

    run(work)


def test_requeued_jobs_come_first_and_in_order():
    async def work():
        setup = Setup(Worker("m/1"), max_frame_jobs=2)
        for _ in range(3):
            setup.submit()
        setup.scheduler.dispatch()
        lost, setup.workers[0].running = setup.workers[0].running, []
        setup.scheduler.requeue(lost)
        assert setup.scheduler.waiting == 3
        for _ in range(2):
            setup.scheduler.dispatch()
            setup.workers[0].finish()
        assert setup.workers[0].frames == [[0, 1], [0, 1], [2]]

    run(work)


def test_a_full_queue_refuses_and_counts_right():
    async def work():
        setup = Setup(max_waiting=2)
        setup.submit()
        setup.submit()
        with pytest.raises(Unavailable, match="2 requests are waiting already"):
            setup.submit()
        assert [job.version.active for job in setup.jobs] == [1, 1, 0]
        setup.scheduler.fail("m/1", Unavailable("unloaded"))
        assert setup.scheduler.waiting == 0
        assert [len(job.request.replies) for job in setup.jobs] == [1, 1, 0]
        setup.submit()
        setup.submit("other/1")
        setup.scheduler.fail_all(Unavailable("no worker"))
        assert setup.scheduler.waiting == 0
        assert not setup.scheduler.queues

    run(work)


def test_deadlines_of_waiting_and_running_jobs():
    async def work():
        setup = Setup(Worker("m/1"), timeout_s=2, max_frame_jobs=1)
        running, waiting = setup.submit(), setup.submit()
        setup.scheduler.dispatch()
        setup.workers[0].began = setup.clock.now
        setup.clock.now += 1
        setup.scheduler.expire()
        assert not running.done
        assert not waiting.done
        setup.clock.now += 1.1
        setup.scheduler.expire()
        assert [job.error.status for job in (running, waiting)] == [504, 504]
        assert "no response within 2 s" in str(running.error)
        assert setup.scheduler.waiting == 0
        assert not setup.scheduler.queues
        assert setup.workers[0].kill_reason == ""
        setup.clock.now += scheduler.STUCK_TIMEOUT_S
        setup.scheduler.expire()
        assert "after the deadline of all its requests" in setup.workers[0].kill_reason

    run(work)


def test_a_worker_with_a_job_that_still_has_time_is_not_killed():
    async def work():
        setup = Setup(Worker("m/1"), timeout_s=1)
        late, fresh = setup.submit(), setup.submit()
        setup.scheduler.dispatch()
        setup.workers[0].began = setup.clock.now
        setup.clock.now += 1 + scheduler.STUCK_TIMEOUT_S + 0.1
        fresh.deadline = setup.clock.now + 5
        setup.scheduler.expire()
        assert late.done
        assert not fresh.done
        assert setup.workers[0].kill_reason == ""

    run(work)
