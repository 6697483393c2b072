"""Outliers of their class, by distance from its mean: stray marks, wrong crops, wrong labels."""

from dataclasses import dataclass

import numpy as np

from seaway.data.datasets import ProgressCallback
from seaway.explore.chunks import chunks
from seaway.explore.statistics import ClassStatistics

MIN_IMAGES = 10  # for training; a smaller class has no meaningful mean
_MIN_DEVIATION = 32  # grey levels, so that a pixel that is always black does not dominate


@dataclass(frozen=True, slots=True)
class Distances:
    """Distances of N images from the classes' means: sqrt of the mean over pixels of (pixel - mean)² / variance.

    own       float32 [N]: from the mean of the image's own class
    other     int64 [N]: the nearest other class with at least MIN_IMAGES training images
    nearest   float32 [N]: from the mean of that class; inf if there is none
    """

    own: np.ndarray
    other: np.ndarray
    nearest: np.ndarray


def measure(
    images: np.ndarray, labels: np.ndarray, statistics: ClassStatistics, counts: np.ndarray, progress: ProgressCallback
) -> Distances:
    """Distances of images uint8 [N, H, W], labels [N]; `statistics` and `counts` int64 [K] are of the training set."""
    classes = len(statistics.mean)
    mean, deviation = statistics.mean.reshape(classes, -1), statistics.deviation.reshape(classes, -1)
    weight = (1 / (deviation**2 + _MIN_DEVIATION**2) / mean.shape[1]).T
    slope = weight * mean.T
    constant = (slope * mean.T).sum(axis=0)
    own, nearest = np.zeros(len(images), np.float32), np.zeros(len(images), np.float32)
    other = np.zeros(len(images), np.int64)
    for part, chunk in chunks(images):
        pixels = chunk.reshape(len(chunk), -1).astype(np.float32)
        distance = np.sqrt(np.maximum((pixels * pixels) @ weight - 2 * (pixels @ slope) + constant, 0))
        rows = np.arange(len(chunk))
        own[part] = distance[rows, labels[part]]
        distance[:, counts < MIN_IMAGES] = np.inf
        distance[rows, labels[part]] = np.inf
        other[part], nearest[part] = distance.argmin(axis=1), distance.min(axis=1)
        progress(part.stop, len(images))
    return Distances(own, other, nearest)


def typical(distances: Distances, labels: np.ndarray, counts: np.ndarray) -> np.ndarray:
    """float32 [K]: the median distance of each class's training images; inf if a class has too few."""
    medians = np.full(len(counts), np.inf, np.float32)
    for label in np.flatnonzero(counts >= MIN_IMAGES):
        medians[label] = max(float(np.median(distances.own[labels == label])), 1e-3)
    return medians


def highest(scores: np.ndarray, groups: np.ndarray, limit: int, limit_per_group: int) -> np.ndarray:
    """Indices of the highest scores above 0, highest first: at most `limit`, and `limit_per_group` of a group."""
    order = np.argsort(-scores, kind="stable")
    order = order[scores[order] > 0]
    by_group = order[np.argsort(groups[order], kind="stable")]
    rank = np.zeros(len(scores), np.int64)
    rank[by_group] = np.arange(len(by_group)) - np.searchsorted(groups[by_group], groups[by_group])
    return order[rank[order] < limit_per_group][:limit]
