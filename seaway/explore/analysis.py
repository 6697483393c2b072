"""Everything the exploration report says, found in one go over a dataset's memory-mapped arrays. No plots here.

Three readings: one for sums, hashes and blanks, one for copies across the split, one for pictures unlike their class.
"""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from seaway.data.data import Dataset, Progress
from seaway.explore import balance, copies, pictures, strangers
from seaway.explore.balance import Difference, Imbalance, Sampling
from seaway.explore.copies import Copies
from seaway.explore.pictures import Looks

Progresses = Callable[[str], Progress]  # what is being done → who is told how far it is

PARTS = ("training", "test")
FARTHEST, FARTHEST_EACH = 32, 2  # shown of all classes, of each
OF_EACH_CLASS = 4
ASTRAY, ASTRAY_EACH = 32, 2  # shown of all, of each pair of classes


@dataclass(frozen=True, slots=True)
class Found:
    """One picture: `part` is "training" or "test", `row` its place there, `label` its class."""

    part: str
    row: int
    label: int


@dataclass(frozen=True, slots=True)
class Stranger:
    """A picture and how far it is from its class: in medians of the class, or in distances to the class `other`."""

    picture: Found
    times: float
    other: int


@dataclass(frozen=True, slots=True)
class Findings:
    """Of K classes and pictures [H, W]: `train` and `test` are counts int64 [K], `brightness` means over 0..255."""

    labels: tuple[str, ...]
    size: tuple[int, int]
    train: np.ndarray
    test: np.ndarray
    difference: Difference
    imbalance: Imbalance
    samplings: tuple[Sampling, ...]
    looks: Looks
    brightness: tuple[float, float]
    blanks: dict[str, tuple[Found, ...]]
    copies: Copies
    farthest: tuple[Stranger, ...]
    of_each_class: tuple[Stranger, ...]
    astray: tuple[Stranger, ...]

    @property
    def split(self) -> float:
        """Training pictures for each test picture."""
        return float(self.train.sum() / self.test.sum())

    @property
    def blank(self) -> int:
        return sum(len(found) for found in self.blanks.values())


def analyse(dataset: Dataset, progresses: Progresses = lambda _: lambda *_: None) -> Findings:
    """Of a dataset with a training picture in every class; the same on every run."""
    classes = len(dataset.labels)
    train = np.bincount(dataset.train_labels, minlength=classes)
    test = np.bincount(dataset.test_labels, minlength=classes)
    scans = (
        pictures.scan(dataset.train_images, dataset.train_labels, classes, progresses("reading training pictures")),
        pictures.scan(dataset.test_images, dataset.test_labels, classes, progresses("reading test pictures")),
    )
    seen = pictures.looks(scans[0], train)
    copied = copies.find(dataset, scans[0].marks, scans[1].marks, progresses("looking for copies"))
    farthest, of_each_class, astray = _strangers(dataset, seen, train, scans, progresses)
    height, width = dataset.train_images.shape[1:]
    return Findings(
        labels=dataset.labels,
        size=(height, width),
        train=train,
        test=test,
        difference=balance.compare(train, test),
        imbalance=balance.imbalance(train, test),
        samplings=balance.samplings(train),
        looks=seen,
        brightness=(scans[0].brightness, scans[1].brightness),
        blanks={kind: _blanks(dataset, scans, kind) for kind in pictures.BLANKS},
        copies=copied,
        farthest=farthest,
        of_each_class=of_each_class,
        astray=astray,
    )


def _blanks(dataset: Dataset, scans: tuple[pictures.Scan, ...], kind: str) -> tuple[Found, ...]:
    number = 1 + list(pictures.BLANKS).index(kind)
    return tuple(
        Found(part, int(row), int(labels[row]))
        for part, scanned, labels in zip(PARTS, scans, (dataset.train_labels, dataset.test_labels), strict=True)
        for row in np.flatnonzero(scanned.blank == number)
    )


def _strangers(
    dataset: Dataset, seen: Looks, counts: np.ndarray, scans: tuple[pictures.Scan, ...], progresses: Progresses
) -> tuple[tuple[Stranger, ...], ...]:
    """The farthest from their class; of each class; and those much nearer to another class. Blanks are left out."""
    labels = np.concatenate([dataset.train_labels, dataset.test_labels]).astype(np.int64)
    parts = [
        strangers.measure(images, own, seen, counts, progresses(f"looking for {part} pictures unlike their class"))
        for images, own, part in (
            (dataset.train_images, dataset.train_labels, "training"),
            (dataset.test_images, dataset.test_labels, "test"),
        )
    ]
    typical = strangers.typical(parts[0], dataset.train_labels, counts)
    own, other, nearest = (
        np.concatenate([getattr(part, name) for part in parts]) for name in ("own", "other", "nearest")
    )
    plain = np.concatenate([scanned.blank for scanned in scans]) == 0
    times = np.where(plain, own / typical[labels], 0)
    ratio = own / np.maximum(nearest, 1e-3)
    ratio = np.where(plain & (counts >= strangers.FEW)[labels] & (ratio > 1), ratio, 0)

    def pick(scores: np.ndarray, rows: np.ndarray) -> tuple[Stranger, ...]:
        return tuple(
            Stranger(_found(int(row), int(labels[row]), len(dataset.train_labels)), float(scores[row]), int(other[row]))
            for row in rows
        )

    each = strangers.highest(times, labels, len(labels), OF_EACH_CLASS)
    return (
        pick(times, strangers.highest(times, labels, FARTHEST, FARTHEST_EACH)),
        pick(times, each[np.argsort(labels[each], kind="stable")]),
        pick(ratio, strangers.highest(ratio, labels * len(counts) + other, ASTRAY, ASTRAY_EACH)),
    )


def _found(row: int, label: int, train: int) -> Found:
    return Found("training", row, label) if row < train else Found("test", row - train, label)
