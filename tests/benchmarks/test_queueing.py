"""The recursion that the load generator is measured by: against the loop that it stands for, and against theory."""

import numpy as np
import pytest

from benchmarks.loadgen.queueing import averaged, lindley, mean_wait


def test_all_at_once_is_one_after_the_other():
    arrived = np.cumsum(np.random.default_rng(0).exponential(1.1, 1000))
    departed, took = 0.0, []
    for at in arrived:
        departed = max(at, departed) + 1.0
        took.append(departed - at)
    np.testing.assert_allclose(lindley(arrived, 1.0), took, atol=1e-9)


@pytest.mark.parametrize("load", [0.5, 0.8, 0.95])
def test_ten_million_poisson_arrivals_wait_as_pollaczek_and_khinchine_say(load):
    """Within four standard errors, which at 95 % load are some 4 % of the mean; and as many as find the server idle."""
    waited, error, idle = averaged(load, 10_000_000, seed=1)
    theory = mean_wait(load, 1.0)
    assert error < 0.02 * theory, "an error that would prove nothing"
    assert waited == pytest.approx(theory, abs=4 * error)
    assert idle == pytest.approx(1 - load, rel=0.02)


def test_evenly_spaced_arrivals_never_wait():
    """Why they are kinder than life: below its capacity a server is always idle again before the next one."""
    assert lindley(np.arange(1000) / 0.95, 1.0) == pytest.approx(1.0)
