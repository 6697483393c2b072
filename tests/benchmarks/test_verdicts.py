"""Ratios of medians: exact without noise, an interval that holds the true ratio as often as it says, verdicts."""

import math

import numpy as np
import pytest

from benchmarks import verdicts


def test_without_noise_the_interval_is_the_ratio():
    assert verdicts.ratio([3.0] * 7, [2.0] * 7) == (1.5, 1.5, 1.5)


def test_what_slows_a_whole_round_does_not_widen_the_interval():
    speeds = np.array([1.0, 0.2, 0.7, 0.9, 0.5, 0.8, 0.3])
    value, low, high = verdicts.ratio(list(3 * speeds), list(2 * speeds))
    assert (value, low, high) == pytest.approx((1.5, 1.5, 1.5))


def test_one_bad_round_of_seven_does_not_move_the_ratio():
    ratio = verdicts.ratio([3, 3, 3, 3, 3, 3, 0.1], [2] * 7)
    assert ratio.value == 1.5
    assert ratio.low <= ratio.value <= ratio.high


def test_the_interval_holds_the_true_ratio_about_as_often_as_it_says():
    """Of seven rounds a bootstrap of medians promises 95 %; less than 88 % or all of 200 would be an error in it."""
    random, inside = np.random.default_rng(1), 0
    for _ in range(200):
        ratio = verdicts.ratio(list(random.lognormal(0.4, 0.1, 7)), list(random.lognormal(0, 0.1, 7)))
        inside += ratio.low <= math.exp(0.4) <= ratio.high
    assert 0.88 * 200 <= inside < 200


def test_ratios_are_of_pairs():
    with pytest.raises(ValueError, match="not in pairs"):
        verdicts.ratio([1, 2], [1])
    assert math.isnan(verdicts.ratio([], []).value)


@pytest.mark.parametrize(
    ("value", "text"),
    [(0.59, "minimum 0.6 MISSED, target 0.75"), (0.6, "minimum 0.6 met, target 0.75"), (0.75, "target 0.75 met")],
)
def test_a_value_that_should_be_high(value, text):
    assert verdicts.at_least(value, (0.6, 0.75)) == text


@pytest.mark.parametrize(
    ("value", "text"),
    [(1.51, "maximum 1.5 MISSED, target 1.2"), (1.5, "maximum 1.5 met, target 1.2"), (1.2, "target 1.2 met")],
)
def test_a_value_that_should_be_low(value, text):
    assert verdicts.at_most(value, (1.5, 1.2)) == text


def test_nothing_is_met_by_a_ratio_that_was_not_measured():
    nan = float("nan")
    assert "MISSED" in verdicts.at_least(nan, (1.0, 2.0)) and "MISSED" in verdicts.at_most(nan, (2.0, 1.0))
    assert verdicts.at_least(1.0, None) == ""
