"""Pictures that look unlike their class: stray marks, wrong crops, wrong labels."""

from dataclasses import dataclass

import numpy as np

from seaway.data.data import Progress
from seaway.explore.chunks import chunks
from seaway.explore.pictures import Looks

FEW = 10  # a class with fewer training pictures has no mean to be far from
_FLOOR = 32  # grey levels: the least spread of a pixel, so that one that is always black does not decide alone


@dataclass(frozen=True, slots=True)
class Away:
    """Distances of N pictures from the classes' means: sqrt of the mean over pixels of (pixel - mean)² / variance.

    own       float32 [N]: from its own class's
    other     int64 [N]: the nearest other class of at least FEW training pictures
    nearest   float32 [N]: from that one's; inf where there is none
    """

    own: np.ndarray
    other: np.ndarray
    nearest: np.ndarray


def measure(images: np.ndarray, labels: np.ndarray, seen: Looks, counts: np.ndarray, progress: Progress) -> Away:
    """Of uint8 [N, H, W] and [N]; `counts` int64 [K] are those of the training set, as `seen` is."""
    classes = len(seen.mean)
    mean, deviation = seen.mean.reshape(classes, -1), seen.deviation.reshape(classes, -1)
    weight = (1 / (deviation**2 + _FLOOR**2) / mean.shape[1]).T
    slope = weight * mean.T
    constant = (slope * mean.T).sum(axis=0)
    own, nearest = np.zeros(len(images), np.float32), np.zeros(len(images), np.float32)
    other = np.zeros(len(images), np.int64)
    for part, pictures in chunks(images):
        pixels = pictures.reshape(len(pictures), -1).astype(np.float32)
        away = np.sqrt(np.maximum((pixels * pixels) @ weight - 2 * (pixels @ slope) + constant, 0))
        rows = np.arange(len(pictures))
        own[part] = away[rows, labels[part]]
        away[:, counts < FEW] = np.inf
        away[rows, labels[part]] = np.inf
        other[part], nearest[part] = away.argmin(axis=1), away.min(axis=1)
        progress(part.stop, len(images))
    return Away(own, other, nearest)


def typical(away: Away, labels: np.ndarray, counts: np.ndarray) -> np.ndarray:
    """float32 [K]: the median distance of each class's training pictures; inf where a class has too few to tell."""
    found = np.full(len(counts), np.inf, np.float32)
    for label in np.flatnonzero(counts >= FEW):
        found[label] = max(float(np.median(away.own[labels == label])), 1e-3)
    return found


def highest(scores: np.ndarray, groups: np.ndarray, most: int, each: int) -> np.ndarray:
    """Indices of the `most` highest scores above 0, highest first, at most `each` of a group (integers [N])."""
    order = np.argsort(-scores, kind="stable")
    order = order[scores[order] > 0]
    by_group = order[np.argsort(groups[order], kind="stable")]
    place = np.zeros(len(scores), np.int64)
    place[by_group] = np.arange(len(by_group)) - np.searchsorted(groups[by_group], groups[by_group])
    return order[place[order] < each][:most]
