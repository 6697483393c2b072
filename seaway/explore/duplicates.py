"""Duplicates: images with the same bytes, and near duplicates across training and test set (leakage).

The distance between two images is a share of their ink: the sum of |a - b| over all pixels, divided by the mean of
their sums. 0 is the same image; two unrelated images of one class have a distance of about 0.4 to 1.

Near duplicates are found without comparing all images in full. Sums over blocks of pixels are a lower bound of the
distance (the sums' L2 distance is at most the pixels' L1 distance), so one matrix product over a few dozen sums rules
out almost all pairs and no duplicate; images whose ink differs too much need no product.
"""

import hashlib
from dataclasses import dataclass

import numpy as np

from seaway.data.datasets import Dataset, ProgressCallback
from seaway.explore.chunks import release_pages

MAX_DISTANCE = 0.06  # of near duplicates; unrelated images come this close by chance if a character is a line or ring
BLOCKS = 7  # blocks of pixels down and across
MAX_CANDIDATES = 128  # training images compared in full with a test image: the nearest by their blocks
_MAX_HITS = 1024  # for each row of a matrix product, on average; if there are more, only so many are considered
_ROWS, _COLUMNS = 64, 1 << 16  # of a matrix product: 16 MB


@dataclass(frozen=True, slots=True)
class Pair:
    """Two images by row and label; `distance` as a share of their ink, `levels` in grey levels (of 255) per pixel."""

    row: int
    label: int
    other_row: int
    other_label: int
    distance: float
    levels: float


@dataclass(frozen=True, slots=True)
class Duplicates:
    """The duplicates of a dataset.

    leaked              a Pair (test, training) for each test image with a duplicate in training; nearest pairs first
    repeated            the number of training images whose bytes occurred earlier in the training set
    conflicting_labels  a Pair (training, training) for each of those whose label differs from the first occurrence's
    """

    leaked: tuple[Pair, ...]
    repeated: int
    conflicting_labels: tuple[Pair, ...]

    @property
    def exact(self) -> int:
        """The number of test images whose exact bytes are in the training set."""
        return sum(pair.distance == 0 for pair in self.leaked)


@dataclass(frozen=True, slots=True)
class Fingerprints:
    """Data to find duplicates among N images: `hashes` uint64 [N], `blocks` float32 [N, B], `inked` bool [N]."""

    hashes: np.ndarray
    blocks: np.ndarray
    inked: np.ndarray


def hashes(images: np.ndarray) -> np.ndarray:
    """uint64 [N] of uint8 [N, H, W]: two of a million images collide by accident once in 10⁷ datasets."""
    digests = b"".join(hashlib.blake2b(image.tobytes(), digest_size=8).digest() for image in images)
    return np.frombuffer(digests, np.uint64)


def block_matrix(height: int, width: int) -> np.ndarray:
    """float32 [H · W, B]: 1 where a pixel is in a block, for `images @ matrix`."""
    rows, columns = (np.arange(side) * min(BLOCKS, side) // side for side in (height, width))
    block = rows[:, np.newaxis] * (columns.max() + 1) + columns
    return np.asarray(block.reshape(-1, 1) == np.arange(block.max() + 1), np.float32)


def find(dataset: Dataset, train: Fingerprints, test: Fingerprints, progress: ProgressCallback) -> Duplicates:
    """All duplicates; images without ink are left out, because all blanks are alike."""
    inked = np.flatnonzero(train.inked)
    repeated, conflicting_labels = _repeats(train.hashes, dataset.train_labels, inked)
    rows = np.flatnonzero(test.inked)
    original = _first_with_same_hash(test.hashes, train.hashes, rows, inked)
    copied = original >= 0
    exact = [rows[copied], original[copied], np.zeros((copied.sum(), 2))]
    distinct = inked[np.unique(train.hashes[inked], return_index=True)[1]]
    rows = rows[~copied]
    a, b = candidates(test.blocks[rows], train.blocks[distinct], MAX_DISTANCE, progress)
    a, b = rows[a], distinct[b]
    measured = distances(dataset.test_images, dataset.train_images, a, b)
    nearest = np.lexsort((measured[:, 0], a))
    nearest = nearest[measured[nearest, 0] <= MAX_DISTANCE]
    nearest = nearest[np.unique(a[nearest], return_index=True)[1]]
    near = [a[nearest], b[nearest], measured[nearest]]
    a, b, measured = (np.concatenate(parts) for parts in zip(exact, near, strict=True))
    order = np.argsort(measured[:, 0], kind="stable")
    leaked = _pairs(a[order], b[order], dataset.test_labels, dataset.train_labels, measured[order])
    return Duplicates(leaked, repeated, conflicting_labels)


def candidates(
    blocks: np.ndarray, others: np.ndarray, max_distance: float, progress: ProgressCallback
) -> tuple[np.ndarray, np.ndarray]:
    """Pairs (row of `blocks`, row of `others`), float32 [N, B] and [M, B], that may be closer than `max_distance`.

    A row with more than MAX_CANDIDATES keeps those whose blocks are nearest by their L1 distance.
    """
    ink, other_ink = blocks.sum(axis=1), others.sum(axis=1)
    order, other_order = np.argsort(ink), np.argsort(other_ink)
    sorted_ink = other_ink[other_order]
    right = _lifted(others, other_ink, max_distance, left=False)[other_order]
    max_ratio = (1 + max_distance / 2) / (1 - max_distance / 2)  # of the ink of two near duplicates
    pairs = [(np.zeros(0, np.int64), np.zeros(0, np.int64))]
    for start in range(0, len(order), _ROWS):
        rows = order[start : start + _ROWS]
        left = _lifted(blocks[rows], ink[rows], max_distance, left=True)
        low, high = np.searchsorted(sorted_ink, (ink[rows[0]] / max_ratio * 0.999, ink[rows[-1]] * max_ratio * 1.001))
        hits = [(np.zeros(0, np.int64), np.zeros(0, np.int64), np.zeros(0, np.float32))]
        for start_column in range(low, high, _COLUMNS):
            row, column = _nonpositive(left @ right[start_column : min(start_column + _COLUMNS, high)].T)
            a, b = rows[row], other_order[start_column + column]
            bound = np.abs(blocks[a] - others[b]).sum(axis=1) / ((ink[a] + other_ink[b]) / 2)
            inside = bound <= max_distance * 1.001
            hits.append((a[inside], b[inside], bound[inside]))
        a, b, bound = (np.concatenate(parts) for parts in zip(*hits, strict=True))
        lowest = _lowest(a, bound)
        pairs.append((a[lowest], b[lowest]))
        progress(start + len(rows), len(order))
    a, b = (np.concatenate(parts) for parts in zip(*pairs, strict=True))
    return a, b


def distances(images: np.ndarray, others: np.ndarray, rows: np.ndarray, other_rows: np.ndarray) -> np.ndarray:
    """float64 [P, 2] for pairs of rows of uint8 [N, H, W] and [M, H, W]: share of the ink, grey levels per pixel."""
    measured = np.zeros((len(rows), 2))
    for start in range(0, len(rows), 1024):
        part = slice(start, start + 1024)
        a, b = images[rows[part]].astype(np.int32), others[other_rows[part]].astype(np.int32)
        difference = np.abs(a - b).sum(axis=(1, 2))
        measured[part, 0] = difference / np.maximum((a.sum(axis=(1, 2)) + b.sum(axis=(1, 2))) / 2, 1)
        measured[part, 1] = difference / a[0].size
        release_pages(images)
        release_pages(others)
    return measured


def _lifted(blocks: np.ndarray, ink: np.ndarray, max_distance: float, left: bool) -> np.ndarray:
    """Vectors whose products are |a - b|² - (max_distance · mean ink)²: positive if they cannot be near."""
    scale = (max_distance / 2) ** 2
    own = ((blocks**2).sum(axis=1) - scale * ink**2)[:, np.newaxis]
    one, ink = np.ones_like(own), ink[:, np.newaxis]
    parts = [-2 * blocks, own, one, -2 * scale * ink] if left else [blocks, one, own, ink]
    return np.concatenate(parts, axis=1, dtype=np.float32)


def _nonpositive(excess: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Rows and columns of values <= 0; if there are too many, each row's lowest in every 1/_MAX_HITS of the columns."""
    rows, columns = excess.shape
    if np.count_nonzero(excess <= 0) <= _MAX_HITS * rows:
        row, column = np.nonzero(excess <= 0)
        return row, column
    padded = np.pad(excess, ((0, 0), (0, -columns % _MAX_HITS)), constant_values=np.inf)
    parts = padded.reshape(rows, _MAX_HITS, -1)
    column = (parts.argmin(axis=2) + np.arange(_MAX_HITS) * parts.shape[2]).ravel()
    row = np.repeat(np.arange(rows), _MAX_HITS)
    inside = padded[row, column] <= 0
    return row[inside], column[inside]


def _lowest(rows: np.ndarray, values: np.ndarray) -> np.ndarray:
    """Indices of the MAX_CANDIDATES lowest values of each row."""
    order = np.lexsort((values, rows))
    ordered = rows[order]
    return order[np.arange(len(order)) - np.searchsorted(ordered, ordered) < MAX_CANDIDATES]


def _repeats(hashes: np.ndarray, labels: np.ndarray, rows: np.ndarray) -> tuple[int, tuple[Pair, ...]]:
    """How many of the images `rows` repeat an earlier one, and which of them have another label."""
    _, first, inverse = np.unique(hashes[rows], return_index=True, return_inverse=True)
    earlier = rows[first[inverse]]
    differ = labels[rows] != labels[earlier]
    distances = np.zeros((np.count_nonzero(differ), 2))
    return len(rows) - len(first), _pairs(rows[differ], earlier[differ], labels, labels, distances)


def _first_with_same_hash(
    hashes: np.ndarray, others: np.ndarray, rows: np.ndarray, other_rows: np.ndarray
) -> np.ndarray:
    """int64 [len(rows)]: for each of `rows` the first of `other_rows` with the same hash, or -1."""
    if not len(other_rows):
        return np.full(len(rows), -1)
    order = other_rows[np.argsort(others[other_rows], kind="stable")]
    place = np.searchsorted(others[order], hashes[rows])
    match = order[np.minimum(place, len(order) - 1)]
    return np.where(others[match] == hashes[rows], match, -1)


def _pairs(
    rows: np.ndarray, other_rows: np.ndarray, labels: np.ndarray, other_labels: np.ndarray, distances: np.ndarray
) -> tuple[Pair, ...]:
    columns = (rows, labels[rows], other_rows, other_labels[other_rows])
    identities = zip(*(column.tolist() for column in columns), strict=True)
    return tuple(Pair(*identity, *distance) for identity, distance in zip(identities, distances.tolist(), strict=True))
