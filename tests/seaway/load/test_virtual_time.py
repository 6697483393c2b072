"""What the load generator reports of a queue, request by request, against Lindley's recursion on the same arrivals.

In virtual time: no clock of this machine decides, so what differs is a fault of the generator.
"""

import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from benchmarks.loadgen.queueing import lindley
from seaway.artifacts import store
from seaway.load.run import Plan, Progress, result
from seaway.load.schedule import Schedule
from seaway.load.tally import Tally

ROOT = Path(__file__).resolve().parents[3]
SERVICE = 0.01
SECONDS, SEED = 60, 7
CASES = [(50, 64), (80, 64), (95, 64), (95, 2), (120, 1)]  # requests a second, of the 100 that it can serve; users


@pytest.fixture(scope="module")
def simulated(volume):
    """(rate, users) → what was counted of it."""
    arguments = [store.path(volume, "toy", 1), SERVICE, SECONDS, SEED, *(f"{rate}:{users}" for rate, users in CASES)]
    command = [sys.executable, Path(__file__).with_name("virtual_time.py"), *arguments]
    environment = os.environ | {"PYTHONPATH": str(ROOT)}
    done = subprocess.run(list(map(str, command)), env=environment, capture_output=True, text=True, timeout=200)
    assert done.returncode == 0, done.stderr
    return dict(zip(CASES, json.loads(done.stdout), strict=True))


@pytest.mark.parametrize(("rate", "users"), CASES)
def test_each_latency_is_lindley_s_on_the_same_arrivals(simulated, rate, users):
    """As well where users are too few, or the server too slow: latency counts from when a request was due."""
    found = simulated[rate, users]
    plan = Plan(rate=rate, seconds=SECONDS, warmup=0, seed=SEED)
    got = result(Progress(SECONDS, total=Tally.from_json(found["tally"])), "", plan)
    due = np.concatenate(list(Schedule(rate, SECONDS, seed=SEED).due()))
    expected = lindley(due, SERVICE) * 1000
    assert len(found["took"]) == len(due) == got.requests == round(got.due_per_second * SECONDS)
    np.testing.assert_allclose(found["took"], expected, atol=1e-3)
    for share, reported in ((50, got.p50_ms), (99, got.p99_ms)):
        assert reported == pytest.approx(np.percentile(expected, share), rel=0.02)  # bins are 1 % wide
    assert (got.wrong, got.failed) == (0, 0)


def test_evenly_spaced_arrivals_would_have_hidden_it():
    """At 80 % load p99 would be what one answer takes, where independent callers wait several times that."""
    rate = 0.8 / SERVICE
    p99 = {}
    for arrivals in ("uniform", "poisson"):
        due = np.concatenate(list(Schedule(rate, SECONDS, arrivals=arrivals, seed=SEED).due()))
        p99[arrivals] = np.percentile(lindley(due, SERVICE), 99)
    assert p99["uniform"] == pytest.approx(SERVICE)
    assert p99["poisson"] > 4 * SERVICE
