"""The recursion that the load generator is measured against: equal to the loop that it vectorises, and to theory."""

import numpy as np
import pytest

from benchmarks.loadgen.queueing import lindley, mean_wait, simulate_mean_wait


def test_the_vectorised_recursion_equals_the_loop():
    arrivals = np.cumsum(np.random.default_rng(0).exponential(1.1, 1000))
    departure, sojourn = 0.0, []
    for arrival in arrivals:
        departure = max(arrival, departure) + 1.0
        sojourn.append(departure - arrival)
    np.testing.assert_allclose(lindley(arrivals, 1.0), sojourn, atol=1e-9)


@pytest.mark.parametrize("load", [0.5, 0.8, 0.95])
def test_ten_million_poisson_arrivals_wait_as_pollaczek_khinchine_predicts(load):
    """Within four standard errors, about 4 % of the mean at 95 % load; the share that finds the server idle as well."""
    mean, error, idle = simulate_mean_wait(load, 10_000_000, seed=1)
    theory = mean_wait(load, 1.0)
    assert error < 0.02 * theory, "too imprecise to prove anything"
    assert mean == pytest.approx(theory, abs=4 * error)
    assert idle == pytest.approx(1 - load, rel=0.02)


def test_evenly_spaced_arrivals_never_wait():
    """Below its capacity a server is always idle again before the next arrival."""
    assert lindley(np.arange(1000) / 0.95, 1.0) == pytest.approx(1.0)
