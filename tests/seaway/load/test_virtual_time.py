"""Latencies that the load generator reports of a queue, request by request, against Lindley's recursion on the same
arrivals. In virtual time, so that every difference is an error of the generator.
"""

import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from benchmarks.loadgen.queueing import lindley
from seaway.artifacts import model_repository
from seaway.load.config import LoadConfig
from seaway.load.counters import Counters
from seaway.load.progress import Progress
from seaway.load.result import summarize
from seaway.load.schedule import Schedule

ROOT = Path(__file__).resolve().parents[3]
SERVICE_S = 0.01
DURATION_S, SEED = 60, 7
CASES = [
    (50, 64),
    (80, 64),
    (95, 64),
    (95, 2),
    (120, 1),
]  # (requests per second, of the 100 that the server can handle; users)
SLOW_START = (50, 64, 0.5)  # with users that start after half a second


@pytest.fixture(scope="module")
def simulated(repository):
    """(rate, users, start) → latencies and counters."""
    cases = [*((*case, 0) for case in CASES), SLOW_START]
    arguments = [
        model_repository.path(repository, "toy", 1),
        SERVICE_S,
        DURATION_S,
        SEED,
        *(f"{rate}:{users}:{start}" for rate, users, start in cases),
    ]
    command = [sys.executable, Path(__file__).with_name("virtual_time.py"), *arguments]
    environment = os.environ | {"PYTHONPATH": str(ROOT)}
    completed = subprocess.run(list(map(str, command)), env=environment, capture_output=True, text=True, timeout=200)
    assert completed.returncode == 0, completed.stderr
    return dict(zip(cases, json.loads(completed.stdout), strict=True))


@pytest.mark.parametrize(("rate", "users"), CASES)
def test_each_latency_equals_lindleys_recursion_on_the_same_arrivals(simulated, rate, users):
    """Even with too few users, or a server that is too slow: latency counts from when a request was due."""
    run = simulated[rate, users, 0]
    config = LoadConfig(rate=rate, duration_s=DURATION_S, warmup_s=0, seed=SEED)
    result = summarize(Progress(DURATION_S, total=Counters.from_json(run["counters"])), "", config)
    due = np.concatenate(list(Schedule(rate, DURATION_S, seed=SEED).due_times()))
    expected = lindley(due, SERVICE_S) * 1000
    assert len(run["latencies_ms"]) == len(due) == result.requests == round(result.due_per_second * DURATION_S)
    np.testing.assert_allclose(run["latencies_ms"], expected, atol=1e-3)
    for percent, reported in ((50, result.p50_ms), (99, result.p99_ms)):
        assert reported == pytest.approx(np.percentile(expected, percent), rel=0.02)  # bins are 1 % wide
    assert (result.wrong, result.failed) == (0, 0)


def test_what_is_due_while_the_users_start_is_the_generator_s_lag_not_the_server_s_backlog(simulated):
    """Its latency counts from when it was due all the same."""
    rate, _, start_s = SLOW_START
    run = simulated[SLOW_START]
    due = np.concatenate(list(Schedule(rate, DURATION_S, seed=SEED).due_times()))
    early = int(np.searchsorted(due, start_s))
    assert early > 10
    counters = Counters.from_json(run["counters"])
    assert counters.backlog == 0
    assert sum(histogram.total() for histogram in counters.lag.values()) == len(due)
    waits_ms = 1000 * (start_s - due[:early])
    assert sorted(run["latencies_ms"])[-1] > waits_ms[0]
    result = summarize(
        Progress(DURATION_S, total=counters), "", LoadConfig(rate=rate, duration_s=1, warmup_s=0, seed=SEED)
    )
    assert (result.generator.starved, result.generator.busy) == (True, False)
    assert "add a warm-up, in which its users start" in result.generator.bottleneck


def test_evenly_spaced_arrivals_would_hide_the_queue():
    """At 80 % load their p99 is the service time; independent callers wait several times that."""
    rate = 0.8 / SERVICE_S
    p99 = {}
    for arrivals in ("uniform", "poisson"):
        due = np.concatenate(list(Schedule(rate, DURATION_S, arrivals=arrivals, seed=SEED).due_times()))
        p99[arrivals] = np.percentile(lindley(due, SERVICE_S), 99)
    assert p99["uniform"] == pytest.approx(SERVICE_S)
    assert p99["poisson"] > 4 * SERVICE_S
