import math

import pytest

from loadtest.schedule import SHAPES, Schedule, level
from seaway.errors import InvalidInput


def all_due(schedule):
    return list(iter(schedule.take, math.inf))


def test_a_constant_rate_is_evenly_spaced():
    assert all_due(Schedule(4, 2)) == pytest.approx([0, 0.25, 0.5, 0.75, 1, 1.25, 1.5, 1.75])


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("of", [1, 3])
def test_processes_share_the_arrivals(shape, of):
    alone = all_due(Schedule(50, 10, shape))
    shared = [all_due(Schedule(50, 10, shape, index, of)) for index in range(of)]
    assert sorted(due for part in shared for due in part) == pytest.approx(alone)
    assert max(map(len, shared)) - min(map(len, shared)) <= 1


@pytest.mark.parametrize("shape", SHAPES)
def test_arrivals_follow_the_shape(shape):
    """In each tenth of the time there are as many arrivals as the level's area says, within one or two."""
    rate, seconds = 200, 10
    due = all_due(Schedule(rate, seconds, shape))
    assert due == sorted(due)
    assert due[-1] < seconds
    for tenth in range(10):
        steps = [level(shape, (tenth + (i + 0.5) / 100) / 10) for i in range(100)]
        expected = rate * seconds / 10 * sum(steps) / 100
        found = sum(tenth <= at * 10 / seconds < tenth + 1 for at in due)
        assert found == pytest.approx(expected, abs=2.5)


def test_levels_jump_where_the_shape_does():
    assert [level("step", share) for share in (0, 0.249, 0.25, 0.5, 0.75, 1)] == [0.25, 0.25, 0.5, 0.75, 1, 1]
    assert level("spike", 0.5) == 1
    assert level("spike", 0.39) == level("spike", 0.61) == 0.2


@pytest.mark.parametrize("rate", [0, -1, math.inf, math.nan])
def test_rates_that_are_none(rate):
    with pytest.raises(InvalidInput, match="above 0"):
        Schedule(rate, 1)


def test_a_shape_that_there_is_not():
    with pytest.raises(InvalidInput, match="choose one of"):
        Schedule(1, 1, "square")
