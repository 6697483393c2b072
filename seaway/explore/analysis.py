"""All findings of the exploration report, computed from a dataset's memory-mapped arrays; plots are made elsewhere.

Reads the images three times: for sums, hashes and blanks; for duplicates across the split; for outliers.
"""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from seaway.data.datasets import Dataset, ProgressCallback
from seaway.explore import class_balance, duplicates, outliers, statistics
from seaway.explore.class_balance import Difference, Imbalance, Sampling
from seaway.explore.duplicates import Duplicates
from seaway.explore.statistics import ClassStatistics

ProgressFactory = Callable[[str], ProgressCallback]  # from the description of a task

PARTS = ("training", "test")
FARTHEST, FARTHEST_PER_CLASS = 32, 2  # shown of all classes, of each
BY_CLASS = 4  # shown of each class
MISLABELLED, MISLABELLED_PER_PAIR = 32, 2  # shown of all, of each pair of classes


@dataclass(frozen=True, slots=True)
class ImageRef:
    """One image: `part` is "training" or "test", `row` its row there, `label` its class."""

    part: str
    row: int
    label: int


@dataclass(frozen=True, slots=True)
class Outlier:
    """An image and its distance from its class: in medians of the class, or relative to that from the class `other`."""

    image: ImageRef
    distance: float
    other: int


@dataclass(frozen=True, slots=True)
class Findings:
    """Of K classes and images [H, W]: `train` and `test` are counts, int64 [K], `brightness` their means, 0..255."""

    labels: tuple[str, ...]
    size: tuple[int, int]
    train: np.ndarray
    test: np.ndarray
    difference: Difference
    imbalance: Imbalance
    samplings: tuple[Sampling, ...]
    statistics: ClassStatistics
    brightness: tuple[float, float]
    blanks: dict[str, tuple[ImageRef, ...]]
    duplicates: Duplicates
    farthest: tuple[Outlier, ...]
    farthest_by_class: tuple[Outlier, ...]
    likely_mislabelled: tuple[Outlier, ...]

    @property
    def train_test_ratio(self) -> float:
        """Training images per test image."""
        return float(self.train.sum() / self.test.sum())

    @property
    def blank_count(self) -> int:
        return sum(len(images) for images in self.blanks.values())


def analyse(dataset: Dataset, progress: ProgressFactory = lambda _: lambda *_: None) -> Findings:
    """Analyses a dataset with a training image in every class; the same on every run."""
    classes = len(dataset.labels)
    train = np.bincount(dataset.train_labels, minlength=classes)
    test = np.bincount(dataset.test_labels, minlength=classes)
    scans = (
        statistics.scan(dataset.train_images, dataset.train_labels, classes, progress("reading training images")),
        statistics.scan(dataset.test_images, dataset.test_labels, classes, progress("reading test images")),
    )
    class_statistics = statistics.class_statistics(scans[0], train)
    fingerprints = scans[0].fingerprints, scans[1].fingerprints
    duplicate_pairs = duplicates.find(dataset, *fingerprints, progress("looking for duplicates"))
    farthest, farthest_by_class, mislabelled = _outliers(dataset, class_statistics, train, scans, progress)
    height, width = dataset.train_images.shape[1:]
    return Findings(
        labels=dataset.labels,
        size=(height, width),
        train=train,
        test=test,
        difference=class_balance.compare(train, test),
        imbalance=class_balance.imbalance(train, test),
        samplings=class_balance.samplings(train),
        statistics=class_statistics,
        brightness=(scans[0].brightness, scans[1].brightness),
        blanks={kind: _blanks(dataset, scans, kind) for kind in statistics.BLANKS},
        duplicates=duplicate_pairs,
        farthest=farthest,
        farthest_by_class=farthest_by_class,
        likely_mislabelled=mislabelled,
    )


def _blanks(dataset: Dataset, scans: tuple[statistics.Scan, ...], kind: str) -> tuple[ImageRef, ...]:
    number = 1 + list(statistics.BLANKS).index(kind)
    return tuple(
        ImageRef(part, int(row), int(labels[row]))
        for part, scan, labels in zip(PARTS, scans, (dataset.train_labels, dataset.test_labels), strict=True)
        for row in np.flatnonzero(scan.blank == number)
    )


def _outliers(
    dataset: Dataset,
    class_statistics: ClassStatistics,
    counts: np.ndarray,
    scans: tuple[statistics.Scan, ...],
    progress: ProgressFactory,
) -> tuple[tuple[Outlier, ...], ...]:
    """The farthest from their class, overall and of each class; and those nearer to another class. Without blanks."""
    labels = np.concatenate([dataset.train_labels, dataset.test_labels]).astype(np.int64)
    distances = [
        outliers.measure(
            images, own_labels, class_statistics, counts, progress(f"looking for outliers in {part} images")
        )
        for images, own_labels, part in (
            (dataset.train_images, dataset.train_labels, "training"),
            (dataset.test_images, dataset.test_labels, "test"),
        )
    ]
    typical = outliers.typical(distances[0], dataset.train_labels, counts)
    own, other, nearest = (
        np.concatenate([getattr(part, name) for part in distances]) for name in ("own", "other", "nearest")
    )
    inked = np.concatenate([scan.blank for scan in scans]) == 0
    in_medians = np.where(inked, own / typical[labels], 0)
    ratio = own / np.maximum(nearest, 1e-3)
    ratio = np.where(inked & (counts >= outliers.MIN_IMAGES)[labels] & (ratio > 1), ratio, 0)

    def pick(distance: np.ndarray, rows: np.ndarray) -> tuple[Outlier, ...]:
        train = len(dataset.train_labels)
        return tuple(
            Outlier(_reference(int(row), int(labels[row]), train), float(distance[row]), int(other[row]))
            for row in rows
        )

    by_class = outliers.highest(in_medians, labels, len(labels), BY_CLASS)
    return (
        pick(in_medians, outliers.highest(in_medians, labels, FARTHEST, FARTHEST_PER_CLASS)),
        pick(in_medians, by_class[np.argsort(labels[by_class], kind="stable")]),
        pick(ratio, outliers.highest(ratio, labels * len(counts) + other, MISLABELLED, MISLABELLED_PER_PAIR)),
    )


def _reference(row: int, label: int, train: int) -> ImageRef:
    return ImageRef("training", row, label) if row < train else ImageRef("test", row - train, label)
