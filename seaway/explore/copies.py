"""Pictures that are there twice: the same bytes, or nearly the same picture in training and test set.

How far two pictures are from each other is told in shares of their ink: the sum of |a - b| over all pixels, divided by
the mean of their sums. 0 is the same picture; two strangers of one class are at about 0.4 to 1.

Near copies are found without comparing all pictures in full. Sums over blocks of pixels bound the distance from below
(the sums' L2 distance is at most the pixels' L1 distance), so one matrix product over a few dozen sums rules out almost
all pairs and no copy; and pictures whose ink differs too much need no product.
"""

import hashlib
from dataclasses import dataclass

import numpy as np

from seaway.data.data import Dataset, Progress
from seaway.explore.chunks import let_go

NEAR = 0.06  # of the ink: strangers come this close by chance where a character is a mere line or ring
BLOCKS = 7  # blocks of pixels down and across
CANDIDATES = 128  # training pictures compared in full with a test picture: the nearest by their blocks
_CROWD = 1024  # for each row of a matrix product; where more are left, only so many are looked at
_ROWS, _COLUMNS = 64, 1 << 16  # of a matrix product: 16 MB


@dataclass(frozen=True, slots=True)
class Pair:
    """Two pictures by row and label; `distance` in shares of their ink, `levels` in grey levels a pixel (of 255)."""

    row: int
    label: int
    other_row: int
    other_label: int
    distance: float
    levels: float


@dataclass(frozen=True, slots=True)
class Copies:
    """`across`: a Pair (test, training) for each test picture with a copy in training, its nearest one, nearest first.

    `repeated`: training pictures whose bytes occurred before in the training set. `disputed`: a Pair (training,
    training) for each of those with another label than the first of its kind.
    """

    across: tuple[Pair, ...]
    repeated: int
    disputed: tuple[Pair, ...]

    @property
    def exact(self) -> int:
        """Test pictures that are in training byte by byte."""
        return sum(pair.distance == 0 for pair in self.across)


@dataclass(frozen=True, slots=True)
class Marks:
    """What copies among N pictures are found by: `hashes` uint64 [N], `blocks` float32 [N, B], `inked` bool [N]."""

    hashes: np.ndarray
    blocks: np.ndarray
    inked: np.ndarray


def hashes(images: np.ndarray) -> np.ndarray:
    """uint64 [N] of uint8 [N, H, W]: a million pictures have two with the same by accident once in 10⁷ data sets."""
    digests = b"".join(hashlib.blake2b(image.tobytes(), digest_size=8).digest() for image in images)
    return np.frombuffer(digests, np.uint64)


def block_matrix(height: int, width: int) -> np.ndarray:
    """float32 [H · W, B]: which pixel is in which block, for `pictures @ matrix`."""
    rows, columns = (np.arange(side) * min(BLOCKS, side) // side for side in (height, width))
    block = rows[:, np.newaxis] * (columns.max() + 1) + columns
    return np.asarray(block.reshape(-1, 1) == np.arange(block.max() + 1), np.float32)


def find(dataset: Dataset, train: Marks, test: Marks, progress: Progress) -> Copies:
    """All copies; pictures without ink are left out, since one blank is like another."""
    inked = np.flatnonzero(train.inked)
    repeated, disputed = _within(train.hashes, dataset.train_labels, inked)
    rows = np.flatnonzero(test.inked)
    copied = _same(test.hashes, train.hashes, rows, inked)
    there = copied >= 0
    exact = [rows[there], copied[there], np.zeros((there.sum(), 2))]
    once = inked[np.unique(train.hashes[inked], return_index=True)[1]]
    rows = rows[~there]
    a, b = candidates(test.blocks[rows], train.blocks[once], NEAR, progress)
    a, b = rows[a], once[b]
    apart = distances(dataset.test_images, dataset.train_images, a, b)
    nearest = np.lexsort((apart[:, 0], a))
    nearest = nearest[apart[nearest, 0] <= NEAR]
    nearest = nearest[np.unique(a[nearest], return_index=True)[1]]
    near = [a[nearest], b[nearest], apart[nearest]]
    a, b, apart = (np.concatenate(parts) for parts in zip(exact, near, strict=True))
    order = np.argsort(apart[:, 0], kind="stable")
    across = _pairs(a[order], b[order], dataset.test_labels, dataset.train_labels, apart[order])
    return Copies(across, repeated, disputed)


def candidates(
    blocks: np.ndarray, others: np.ndarray, near: float, progress: Progress
) -> tuple[np.ndarray, np.ndarray]:
    """Pairs (row of `blocks`, row of `others`), float32 [N, B] and [M, B], that may be closer than `near`.

    All of them, but for rows with more than CANDIDATES: of these the nearest by the L1 distance of their blocks.
    """
    ink, other_ink = blocks.sum(axis=1), others.sum(axis=1)
    order, other_order = np.argsort(ink), np.argsort(other_ink)
    sorted_ink = other_ink[other_order]
    right = _lifted(others, other_ink, near, left=False)[other_order]
    most = (1 + near / 2) / (1 - near / 2)  # ratio of the ink of two copies
    found = [(np.zeros(0, np.int64), np.zeros(0, np.int64))]
    for start in range(0, len(order), _ROWS):
        rows = order[start : start + _ROWS]
        left = _lifted(blocks[rows], ink[rows], near, left=True)
        low, high = np.searchsorted(sorted_ink, (ink[rows[0]] / most * 0.999, ink[rows[-1]] * most * 1.001))
        hits = [(np.zeros(0, np.int64), np.zeros(0, np.int64), np.zeros(0, np.float32))]
        for at in range(low, high, _COLUMNS):
            row, column = _below(left @ right[at : min(at + _COLUMNS, high)].T)
            a, b = rows[row], other_order[at + column]
            bound = np.abs(blocks[a] - others[b]).sum(axis=1) / ((ink[a] + other_ink[b]) / 2)
            inside = bound <= near * 1.001
            hits.append((a[inside], b[inside], bound[inside]))
        a, b, bound = (np.concatenate(parts) for parts in zip(*hits, strict=True))
        lowest = _lowest(a, bound)
        found.append((a[lowest], b[lowest]))
        progress(start + len(rows), len(order))
    a, b = (np.concatenate(parts) for parts in zip(*found, strict=True))
    return a, b


def distances(images: np.ndarray, others: np.ndarray, rows: np.ndarray, other_rows: np.ndarray) -> np.ndarray:
    """float64 [P, 2] for pairs of rows of uint8 [N, H, W] and [M, H, W]: share of the ink, grey levels a pixel."""
    measured = np.zeros((len(rows), 2))
    for start in range(0, len(rows), 1024):
        part = slice(start, start + 1024)
        a, b = images[rows[part]].astype(np.int32), others[other_rows[part]].astype(np.int32)
        apart = np.abs(a - b).sum(axis=(1, 2))
        measured[part, 0] = apart / np.maximum((a.sum(axis=(1, 2)) + b.sum(axis=(1, 2))) / 2, 1)
        measured[part, 1] = apart / a[0].size
        let_go(images)
        let_go(others)
    return measured


def _lifted(blocks: np.ndarray, ink: np.ndarray, near: float, left: bool) -> np.ndarray:
    """Vectors whose products are |a - b|² - (near · mean ink)²: negative where a pair may be near."""
    reach = (near / 2) ** 2
    own = ((blocks**2).sum(axis=1) - reach * ink**2)[:, np.newaxis]
    one, ink = np.ones_like(own), ink[:, np.newaxis]
    parts = [-2 * blocks, own, one, -2 * reach * ink] if left else [blocks, one, own, ink]
    return np.concatenate(parts, axis=1, dtype=np.float32)


def _below(excess: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Rows and columns of what is at most 0; of a crowd only each row's lowest in every 1/_CROWD of the columns."""
    rows, columns = excess.shape
    if np.count_nonzero(excess <= 0) <= _CROWD * rows:
        row, column = np.nonzero(excess <= 0)
        return row, column
    padded = np.pad(excess, ((0, 0), (0, -columns % _CROWD)), constant_values=np.inf)
    parts = padded.reshape(rows, _CROWD, -1)
    column = (parts.argmin(axis=2) + np.arange(_CROWD) * parts.shape[2]).ravel()
    row = np.repeat(np.arange(rows), _CROWD)
    inside = padded[row, column] <= 0
    return row[inside], column[inside]


def _lowest(rows: np.ndarray, values: np.ndarray) -> np.ndarray:
    """Places of the CANDIDATES lowest values of each row."""
    order = np.lexsort((values, rows))
    ordered = rows[order]
    return order[np.arange(len(order)) - np.searchsorted(ordered, ordered) < CANDIDATES]


def _within(hashes: np.ndarray, labels: np.ndarray, rows: np.ndarray) -> tuple[int, tuple[Pair, ...]]:
    """How many of the pictures `rows` repeat an earlier one, and which of them under another label."""
    _, first, which = np.unique(hashes[rows], return_index=True, return_inverse=True)
    earlier = rows[first[which]]
    differ = labels[rows] != labels[earlier]
    apart = np.zeros((np.count_nonzero(differ), 2))
    return len(rows) - len(first), _pairs(rows[differ], earlier[differ], labels, labels, apart)


def _same(hashes: np.ndarray, others: np.ndarray, rows: np.ndarray, other_rows: np.ndarray) -> np.ndarray:
    """int64 [len(rows)]: for each of `rows` the first of `other_rows` with the same hash, -1 where there is none."""
    if not len(other_rows):
        return np.full(len(rows), -1)
    order = other_rows[np.argsort(others[other_rows], kind="stable")]
    place = np.searchsorted(others[order], hashes[rows])
    found = order[np.minimum(place, len(order) - 1)]
    return np.where(others[found] == hashes[rows], found, -1)


def _pairs(
    rows: np.ndarray, other_rows: np.ndarray, labels: np.ndarray, other_labels: np.ndarray, apart: np.ndarray
) -> tuple[Pair, ...]:
    columns = (rows, labels[rows], other_rows, other_labels[other_rows])
    whole = zip(*(column.tolist() for column in columns), strict=True)
    return tuple(Pair(*four, *two) for four, two in zip(whole, apart.tolist(), strict=True))
