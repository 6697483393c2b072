"""Which deaths of a worker quarantine the shapes that it was computing."""

import asyncio
import signal
from pathlib import Path
from types import SimpleNamespace

import pytest

from seaway.serve.supervisor.pool import Pool, VersionSpec

KEY, SHAPES = "m/1", "x: (1,)"


class Job:
    key = KEY

    def __init__(self):
        self.done = self.run_alone = False
        self.error = None

    def fail(self, error):
        self.done, self.error = True, error


def new_pool():
    pool = Pool(1, "onnx")
    pool._specs[KEY] = VersionSpec("m", 1, Path("x"))
    return pool


async def die(pool, jobs, status, kill_reason=""):
    """Lets a worker exit with this status while it computes these jobs, whose shapes are not declared."""
    exit_status = asyncio.get_running_loop().create_future()
    pool._on_exit(
        SimpleNamespace(
            suspects=jobs,
            running=jobs,
            shapes=SHAPES,
            kill_reason=kill_reason,
            process=SimpleNamespace(exit_status=exit_status),
        )
    )
    exit_status.set_result(status)
    await asyncio.sleep(0.01)
    return pool._specs[KEY].quarantined


@pytest.mark.parametrize("status", [-signal.SIGABRT, -signal.SIGSEGV, 1])
def test_a_shape_that_kills_its_worker_is_quarantined_at_once(status):
    async def work():
        job = Job()
        assert await die(new_pool(), [job], status) == {SHAPES}
        assert "died" in str(job.error)

    asyncio.run(work())


@pytest.mark.parametrize("status", [-signal.SIGKILL, None])
def test_a_worker_killed_from_outside_quarantines_only_the_second_time(status):
    async def work():
        pool, job = new_pool(), Job()
        assert await die(pool, [job], status) == set()
        assert "died" in str(job.error)
        assert await die(pool, [Job()], status) == {SHAPES}

    asyncio.run(work())


def test_a_worker_that_the_supervisor_kills_quarantines_nothing():
    async def work():
        pool = new_pool()
        for _ in range(3):
            job = Job()
            assert await die(pool, [job], -signal.SIGKILL, "it was still running") == set()
            assert "still running" in str(job.error)

    asyncio.run(work())


def test_several_suspects_are_tried_one_by_one_before_anything_is_quarantined():
    async def work():
        pool, jobs = new_pool(), [Job(), Job()]
        assert await die(pool, jobs, -signal.SIGABRT) == set()
        assert list(pool.scheduler.queues[KEY]) == jobs
        assert all(job.run_alone and not job.done for job in jobs)

    asyncio.run(work())


def test_shapes_quarantined_while_a_worker_loads_the_version_are_sent_to_it():
    pool, sent = new_pool(), []
    spec = pool._specs[KEY]

    async def call(op, key, **fields):
        spec.quarantined.add(SHAPES)
        return {"served": {"identity": "m/1@0"}, "fingerprint": ""}

    asyncio.run(pool._load_into(SimpleNamespace(call=call, loaded=set(), send=sent.append), KEY, spec))
    assert sent == [{"op": "quarantine", "key": KEY, "shapes": SHAPES}]
