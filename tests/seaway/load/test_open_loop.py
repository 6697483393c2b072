"""Open loops against closed ones: what a server that pauses does to users, and what is reported of it."""

import itertools
import time

import pytest

from seaway.artifacts import store
from seaway.load import run as runs
from seaway.load.run import Plan, run


@pytest.fixture(autouse=True)
def crowded(monkeypatch):
    """Other tests run beside these, so the load generator may be late."""
    monkeypatch.setattr(runs, "LATE_MS", 1000.0)


def load(server, **plan):
    return run(server.url, store.path(server.volume, "toy", 1), Plan(**{"warmup": 0, **plan}))


def test_the_rate_is_held_and_counted(server):
    got = load(server, rate=50, seconds=3, users=20)
    assert got.requests == next(server.counter) - 1
    assert got.requests == pytest.approx(150, rel=0.2)  # less where other tests take the cores
    assert (got.wrong, got.failed) == (0, 0)


def test_an_open_loop_sees_a_pause_that_a_closed_one_hides(server):
    """The server stands still for 0.8 of 4 seconds: at an even rate a fifth of the requests are due in that time."""
    infer = type(server).version

    def version_that_pauses(number):
        """From the fortieth request on nothing is answered for 0.8 seconds."""
        if next(asked) == 40:
            until[0] = time.monotonic() + 0.8
        time.sleep(max(0.0, until[0] - time.monotonic()))
        return infer(server, number)

    server.version, server.delay = version_that_pauses, 0.01
    p90 = {}
    for name, plan in (("closed", {"users": 1}), ("open", {"rate": 50, "users": 60})):
        asked, until = itertools.count(), [0.0]
        p90[name] = load(server, seconds=4, **plan).p90_ms
    assert p90["open"] > 3 * p90["closed"]


def test_users_who_are_all_busy_are_told_of(server):
    server.delay = 0.2
    got = load(server, rate=50, seconds=2, users=2)
    assert got.generator.unready + got.generator.unsent > 60  # two users can send 10 a second
    assert "were due while all 2 users waited" in got.generator.bottleneck
    assert got.p99_ms > 500  # counted from when they were due


def test_a_shape_over_the_time(server):
    got = load(server, rate=60, seconds=4, shape="step", users=20)
    counts = [second.right for second in got.over_time]
    assert sum(counts) == pytest.approx(150, rel=0.3)
    assert counts[0] < counts[3]


def test_users_over_the_time(server):
    server.delay = 0.02
    got = load(server, users=8, seconds=6, shape="ramp")
    first, last = (sum(s.right for s in part) for part in (got.over_time[:2], got.over_time[4:6]))
    assert last > 1.5 * first


def test_processes_share_the_rate(server):
    got = load(server, rate=60, seconds=3, users=20, processes=2)
    assert got.generator.processes == 2
    assert got.requests == next(server.counter) - 1
    assert got.requests == pytest.approx(180, rel=0.3)
    assert got.wrong == got.failed == 0


@pytest.mark.parametrize("new", [False, True])
def test_connections_are_kept_or_not(server, new):
    opened = []
    accept = server.get_request
    server.get_request = lambda: opened.append(1) or accept()
    got = load(server, users=2, seconds=1, new_connections=new)
    assert got.failed == 0
    assert (len(opened) > got.requests) if new else (len(opened) <= 4)
