"""Scores on the validation images with their standard errors, and the difference between two trials with its own.

All trials predict the same images, so the standard error of a difference is that of the image-by-image differences. It
is smaller than the two errors combined, because most images are easy for both trials or hard for both.
"""

import math
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from seaway.artifacts import atomic

# metric → whether higher is better
METRICS = {"accuracy": True, "balanced_accuracy": True, "loss": False}
SIGNIFICANT_SE = 2.0  # standard errors


@dataclass(frozen=True, slots=True)
class Predictions:
    """The predicted class, uint8 [N], and the loss, float32 [N], of each validation image."""

    predicted: np.ndarray
    losses: np.ndarray

    def write(self, path: Path) -> None:
        with atomic.file(path) as part, part.open("wb") as stream:
            np.savez(stream, taken=self.predicted, losses=self.losses)


def read(path: Path) -> Predictions:
    with np.load(path, allow_pickle=False) as arrays:
        return Predictions(arrays["taken"], arrays["losses"])


def score(predictions: Predictions, labels: np.ndarray, metric: str) -> tuple[float, float]:
    """The metric over the images with these `labels`, uint8 [N], and its standard error."""
    return _mean(_points(predictions, labels, metric), _groups(labels, metric))


def difference(predictions: Predictions, other: Predictions, labels: np.ndarray, metric: str) -> tuple[float, float]:
    """The metric of `predictions` minus that of `other`, and the standard error of the difference."""
    points = _points(predictions, labels, metric) - _points(other, labels, metric)
    return _mean(points, _groups(labels, metric))


def within_2se(distance: float, error: float) -> bool:
    return abs(distance) <= SIGNIFICANT_SE * error


def _points(predictions: Predictions, labels: np.ndarray, metric: str) -> np.ndarray:
    return (predictions.losses if metric == "loss" else predictions.predicted == labels).astype(np.float64)


def _groups(labels: np.ndarray, metric: str) -> np.ndarray:
    return labels if metric == "balanced_accuracy" else np.zeros(len(labels), np.uint8)


def _mean(points: np.ndarray, groups: np.ndarray) -> tuple[float, float]:
    """The mean of the groups' means, and its standard error; a group of one image adds no variance."""
    parts = [points[groups == group] for group in np.unique(groups)]
    variances = [part.var(ddof=1) / len(part) for part in parts if len(part) > 1]
    return float(np.mean([part.mean() for part in parts])), math.sqrt(math.fsum(variances)) / len(parts)
