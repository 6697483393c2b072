import math
from itertools import pairwise

import numpy as np
import pytest

from seaway.errors import InvalidInput
from seaway.load.schedule import SHAPES, Schedule, level, points

MILLION = 1_000_000
RATE = 1000.0


def all_due(schedule):
    return list(iter(schedule.next_due, math.inf))


def uniform(rate, duration_s, shape="constant", index=0, processes=1):
    return Schedule(rate, duration_s, shape, index, processes, "uniform")


def test_uniform_arrivals_of_a_constant_rate_are_evenly_spaced():
    assert all_due(uniform(4, 2)) == pytest.approx([0, 0.25, 0.5, 0.75, 1, 1.25, 1.5, 1.75])


@pytest.mark.parametrize("arrivals", ["uniform", "poisson"])
@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("processes", [1, 3])
def test_processes_share_the_arrivals(arrivals, shape, processes):
    """Together they send the same arrivals as one process: only the seed decides."""
    alone = all_due(Schedule(50, 10, shape, arrivals=arrivals, seed=5))
    shared = [all_due(Schedule(50, 10, shape, index, processes, arrivals, 5)) for index in range(processes)]
    assert sorted(due for part in shared for due in part) == pytest.approx(alone)
    assert min(map(len, shared)) > 0.15 * len(alone)


@pytest.mark.parametrize("shape", SHAPES)
def test_uniform_arrivals_follow_the_shape(shape):
    """In each tenth of the time the number of arrivals is the area under the shape, within one or two."""
    rate, seconds = 200, 10
    due = all_due(uniform(rate, seconds, shape))
    assert due == sorted(due)
    assert due[-1] < seconds
    for tenth in range(10):
        steps = [level(shape, (tenth + (i + 0.5) / 100) / 10) for i in range(100)]
        expected = rate * seconds / 10 * sum(steps) / 100
        count = sum(tenth <= at * 10 / seconds < tenth + 1 for at in due)
        assert count == pytest.approx(expected, abs=2.5)


def test_the_seed_decides():
    first, again, other = (all_due(Schedule(50, 10, seed=seed)) for seed in (1, 1, 2))
    assert first == again
    assert first[:5] != other[:5]


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("arrivals", ["uniform", "poisson"])
def test_counts_of_a_span_and_their_expected_values(arrivals, shape):
    due = np.array(all_due(Schedule(500, 20, shape, arrivals=arrivals)))
    for start, end in ((0, 20), (2, 7.5), (7.9, 8.1), (19, 40)):
        schedule = Schedule(500, 20, shape, index=None, arrivals=arrivals)
        assert schedule.count_due(start, end) == ((due >= start) & (due < end)).sum()
        assert schedule.expected(start, end) == pytest.approx(
            float(np.diff(expected_until(shape, 500, 20, (start, end)))[0])
        )
    assert schedule.next_due() == math.inf, "a process without an index sends nothing"


# ---- Poisson, tested on the schedule alone: a million arrivals in virtual time


def expected_until(shape, rate, seconds, times):
    """Expected arrivals until `times`: the area under the shape's points, summed trapezoid by trapezoid."""
    total = np.zeros(len(times))
    for (start, low), (end, high) in pairwise(points(shape)):
        if end > start:
            span = (end - start) * seconds
            elapsed = np.clip(np.asarray(times) - start * seconds, 0, span)
            total += rate * elapsed * (low + (high - low) * elapsed / span / 2)
    return total


def assert_exponential(gaps, mean):
    """`gaps` are independent draws of an exponential distribution: mean, variance, Kolmogorov-Smirnov, lag 1.

    The bounds are four standard errors, and 2 / √n for the Kolmogorov-Smirnov distance, which chance exceeds in
    less than one of a thousand tests.
    """
    count = len(gaps)
    assert gaps.mean() == pytest.approx(mean, rel=4 / math.sqrt(count))
    assert gaps.var() == pytest.approx(mean**2, rel=4 * math.sqrt(8 / count))  # an exponential's kurtosis is 9
    share = 1 - np.exp(-np.sort(gaps) / mean)
    steps = np.arange(count + 1) / count
    assert max((steps[1:] - share).max(), (share - steps[:-1]).max()) < 2 / math.sqrt(count)
    assert abs(np.corrcoef(gaps[:-1], gaps[1:])[0, 1]) < 4 / math.sqrt(count)


def assert_poisson(counts):
    """The variance of the counts in equal spans is their mean, so bursts and lulls across many gaps are Poisson too."""
    assert counts.var() / counts.mean() == pytest.approx(1, abs=4 * math.sqrt(2 / len(counts)))


def test_a_million_arrivals_are_a_poisson_process():
    due = np.concatenate(list(Schedule(RATE, 1.02 * MILLION / RATE, seed=1).due_times()))[:MILLION]
    assert len(due) == MILLION
    assert_exponential(np.diff(due, prepend=0), 1 / RATE)
    for span in (0.01, 0.1, 1.0):
        assert_poisson(np.bincount((due / span).astype(int))[:-1])


def test_uniform_arrivals_are_not_poisson():
    due = np.concatenate(list(uniform(RATE, 10).due_times()))
    with pytest.raises(AssertionError):
        assert_exponential(np.diff(due), 1 / RATE)


@pytest.mark.parametrize("shape", [shape for shape in SHAPES if shape != "constant"])
def test_a_million_arrivals_under_a_shape_are_a_poisson_process_in_the_shape_s_own_time(shape):
    """By the time change: the expected arrivals between neighbours are exponential with mean 1."""
    seconds = 1.02 * MILLION / RATE / float(expected_until(shape, 1, 1, [1])[0])
    due = np.concatenate(list(Schedule(RATE, seconds, shape, seed=2).due_times()))[:MILLION]
    assert len(due) == MILLION
    assert due[-1] < seconds
    assert_exponential(np.diff(expected_until(shape, RATE, seconds, due), prepend=0), 1.0)


@pytest.mark.parametrize("processes", [2, 5])
def test_a_million_arrivals_summed_over_processes_that_do_not_start_together(processes):
    """Each process's arrivals are Poisson and independent of the others', so the sum is, whatever their delays."""
    seconds = 1.02 * MILLION / RATE
    own = [
        np.array(all_due(Schedule(RATE, seconds, index=index, processes=processes, seed=3)))
        for index in range(processes)
    ]
    for part in own:
        assert_exponential(np.diff(part), processes / RATE)
    per_second = [np.bincount(part.astype(int), minlength=int(seconds) + 1)[: int(seconds)] for part in own]
    correlation = np.corrcoef(per_second) - np.eye(processes)
    assert np.abs(correlation).max() < 4 / math.sqrt(int(seconds))
    late = np.sort(np.concatenate([part + 0.0037 * index for index, part in enumerate(own)]))[:MILLION]
    assert_exponential(np.diff(late), 1 / RATE)
    assert_poisson(np.bincount((late / 0.01).astype(int))[:-1])


def test_levels_jump_where_the_shape_does():
    assert [level("step", share) for share in (0, 0.249, 0.25, 0.5, 0.75, 1)] == [0.25, 0.25, 0.5, 0.75, 1, 1]
    assert level("spike", 0.5) == 1
    assert level("spike", 0.39) == level("spike", 0.61) == 0.2


@pytest.mark.parametrize("rate", [0, -1, math.inf, math.nan])
def test_invalid_rates(rate):
    with pytest.raises(InvalidInput, match="must be greater than 0"):
        Schedule(rate, 1)


def test_invalid_shapes_arrivals_and_seeds():
    with pytest.raises(InvalidInput, match="choose from"):
        Schedule(1, 1, "square")
    with pytest.raises(InvalidInput, match="--arrivals pareto: choose from poisson, uniform"):
        Schedule(1, 1, arrivals="pareto")
    with pytest.raises(InvalidInput, match="--seed -1: must not be negative"):
        Schedule(1, 1, seed=-1)
