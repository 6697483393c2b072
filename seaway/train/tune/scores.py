"""How good a trial is on the validation pictures, and how far that is from another trial by more than their chance.

All trials are judged on the same pictures. So the error of a difference is that of the differences picture by picture,
which is smaller than two errors taken together: most pictures are easy, or hard, for both.
"""

import math
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from seaway.artifacts import atomic

# metric → whether more of it is better
METRICS = {"accuracy": True, "balanced_accuracy": True, "loss": False}
TOLD_APART = 2.0  # standard errors of the difference


@dataclass(frozen=True, slots=True)
class Outcome:
    """For each validation picture the class that it was taken for, uint8 [N], and its loss, float32 [N]."""

    taken: np.ndarray
    losses: np.ndarray

    def write(self, path: Path) -> None:
        with atomic.file(path) as part, part.open("wb") as opened:
            np.savez(opened, taken=self.taken, losses=self.losses)


def read(path: Path) -> Outcome:
    with np.load(path, allow_pickle=False) as held:
        return Outcome(held["taken"], held["losses"])


def figure(outcome: Outcome, labels: np.ndarray, metric: str) -> tuple[float, float]:
    """The metric over the pictures with these `labels`, uint8 [N], and its standard error."""
    return _mean(_points(outcome, labels, metric), _groups(labels, metric))


def difference(outcome: Outcome, other: Outcome, labels: np.ndarray, metric: str) -> tuple[float, float]:
    """`outcome`'s metric less the other's, and the standard error of that."""
    points = _points(outcome, labels, metric) - _points(other, labels, metric)
    return _mean(points, _groups(labels, metric))


def alike(distance: float, error: float) -> bool:
    return abs(distance) <= TOLD_APART * error


def _points(outcome: Outcome, labels: np.ndarray, metric: str) -> np.ndarray:
    return (outcome.losses if metric == "loss" else outcome.taken == labels).astype(np.float64)


def _groups(labels: np.ndarray, metric: str) -> np.ndarray:
    return labels if metric == "balanced_accuracy" else np.zeros(len(labels), np.uint8)


def _mean(points: np.ndarray, groups: np.ndarray) -> tuple[float, float]:
    """The mean of the groups' means, and its standard error; a group of one picture counts as if without chance."""
    parts = [points[groups == group] for group in np.unique(groups)]
    variances = [part.var(ddof=1) / len(part) for part in parts if len(part) > 1]
    return float(np.mean([part.mean() for part in parts])), math.sqrt(math.fsum(variances)) / len(parts)
