"""Ratios of medians with their uncertainty, and whether they meet what was asked for."""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

LEVEL, RESAMPLES = 0.95, 10_000


class Ratio(NamedTuple):
    """A ratio of medians, and the ends of its interval."""

    value: float
    low: float
    high: float

    def __str__(self) -> str:
        return f"{self.value:.2f} ({self.low:.2f} to {self.high:.2f})"


def ratio(numerators: Sequence[float], denominators: Sequence[float]) -> Ratio:
    """Median ÷ median, of values that were measured in pairs, a pair a round. The interval, of 95 %, is that of a
    bootstrap over rounds: what slows a whole round slows both, so pairs stay together. NaN without any round."""
    if len(numerators) != len(denominators):
        raise ValueError(f"{len(numerators)} values and {len(denominators)}: not in pairs")
    if not numerators:
        return Ratio(*[float("nan")] * 3)
    pairs = np.array([numerators, denominators], float)
    chosen = np.random.default_rng(0).integers(pairs.shape[1], size=(RESAMPLES, pairs.shape[1]))
    above, below = np.median(pairs[:, chosen], axis=2)
    low, high = np.quantile(above / below, [(1 - LEVEL) / 2, (1 + LEVEL) / 2])
    above, below = np.median(pairs, axis=1)
    return Ratio(float(above / below), float(low), float(high))


def at_least(value: float, limits: tuple[float, float] | None) -> str:
    """Whether a value that should be high meets (minimum, target); "" without limits."""
    if limits is None:
        return ""
    minimum, target = limits
    if value >= target:
        return f"target {target} met"
    return f"minimum {minimum} {'met' if value >= minimum else 'MISSED'}, target {target}"


def at_most(value: float, limits: tuple[float, float]) -> str:
    """Whether a value that should be low meets (maximum, target)."""
    maximum, target = limits
    if value <= target:
        return f"target {target} met"
    return f"maximum {maximum} {'met' if value <= maximum else 'MISSED'}, target {target}"
