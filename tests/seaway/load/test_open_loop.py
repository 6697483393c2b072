"""Open loops against closed ones: the latencies that they report of a server that pauses, and of busy users."""

import itertools
import time

import pytest

from seaway.artifacts import model_repository
from seaway.load import result
from seaway.load.config import LoadConfig
from seaway.load.run import run


@pytest.fixture(autouse=True)
def allow_lag(monkeypatch):
    """Other tests run at the same time, so the load generator may be late."""
    monkeypatch.setattr(result, "MAX_LAG_MS", 1000.0)


def load(server, **config):
    return run(server.url, model_repository.path(server.repository, "toy", 1), LoadConfig(**{"warmup_s": 0, **config}))


def test_requests_are_sent_at_the_rate(server):
    measured = load(server, rate=50, duration_s=3, users=20)
    assert measured.requests == next(server.counter) - 1
    assert measured.requests == pytest.approx(150, rel=0.2)  # less if other tests take the cores
    assert (measured.wrong, measured.failed) == (0, 0)


def test_an_open_loop_sees_a_pause_that_a_closed_one_hides(server):
    """The server pauses for 0.8 of 4 seconds; a fifth of an open loop's requests are due in that time."""
    infer = type(server).version

    def version_that_pauses(number):
        """Pauses for 0.8 seconds at the fortieth request."""
        if next(requests) == 40:
            until[0] = time.monotonic() + 0.8
        time.sleep(max(0.0, until[0] - time.monotonic()))
        return infer(server, number)

    server.version, server.delay_s = version_that_pauses, 0.01
    p90 = {}
    for name, config in (("closed", {"users": 1}), ("open", {"rate": 50, "users": 60})):
        requests, until = itertools.count(), [0.0]
        p90[name] = load(server, duration_s=4, **config).p90_ms
    assert p90["open"] > 3 * p90["closed"]


def test_the_result_reports_that_all_users_were_busy(server):
    server.delay_s = 0.2
    measured = load(server, rate=50, duration_s=2, users=2)
    assert measured.generator.backlog + measured.generator.unsent > 60  # two users can send 10 a second
    assert "were scheduled while all 2 users were waiting" in measured.generator.bottleneck
    assert measured.p99_ms > 500  # counted from when they were due


def test_a_shape_changes_the_rate_over_time(server):
    measured = load(server, rate=60, duration_s=4, shape="step", users=20)
    counts = [second.correct for second in measured.over_time]
    assert sum(counts) == pytest.approx(150, rel=0.3)
    assert counts[0] < counts[3]


def test_a_shape_changes_the_users_over_time(server):
    server.delay_s = 0.02
    measured = load(server, users=8, duration_s=6, shape="ramp")
    first, last = (sum(s.correct for s in part) for part in (measured.over_time[:2], measured.over_time[4:6]))
    assert last > 1.5 * first


def test_processes_share_the_rate(server):
    measured = load(server, rate=60, duration_s=3, users=20, processes=2)
    assert measured.generator.processes == 2
    assert measured.requests == next(server.counter) - 1
    assert measured.requests == pytest.approx(180, rel=0.3)
    assert measured.wrong == measured.failed == 0


@pytest.mark.parametrize("new", [False, True])
def test_new_connections(server, new):
    opened = []
    accept = server.get_request
    server.get_request = lambda: opened.append(1) or accept()
    measured = load(server, users=2, duration_s=1, new_connections=new)
    assert measured.failed == 0
    assert (len(opened) > measured.requests) if new else (len(opened) <= 4)
