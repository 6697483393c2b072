"""Planted duplicates are found, each with its original; a dataset without any has none."""

from pathlib import Path

import numpy as np
import pytest

from seaway.data import datasets
from seaway.data.datasets import Dataset
from seaway.explore import duplicates, statistics
from seaway.explore.duplicates import MAX_DISTANCE, Duplicates


def no_progress(_: int, __: int) -> None:
    pass


def find(train: np.ndarray, test: np.ndarray, train_labels: np.ndarray, test_labels: np.ndarray) -> Duplicates:
    dataset = Dataset(train, train_labels.astype(np.uint8), test, test_labels.astype(np.uint8), ("a", "b"))
    fingerprints = [
        statistics.scan(part, np.zeros(len(part), np.uint8), 1, no_progress).fingerprints for part in (train, test)
    ]
    return duplicates.find(dataset, fingerprints[0], fingerprints[1], no_progress)


@pytest.fixture(scope="module")
def images(tmp_path_factory: pytest.TempPathFactory) -> tuple[np.ndarray, np.ndarray]:
    """Training and test images of strokes without duplicates."""
    folder: Path = tmp_path_factory.mktemp("strokes")
    datasets.read("strokes:3000", folder)
    return np.load(folder / "train_images.npy"), np.load(folder / "test_images.npy")


def zeros(images: np.ndarray) -> np.ndarray:
    return np.zeros(len(images), np.uint8)


def test_a_dataset_without_duplicates_has_none(images: tuple[np.ndarray, np.ndarray]) -> None:
    train, test = images
    assert find(train, test, zeros(train), zeros(test)) == Duplicates((), 0, ())


def test_exact_and_near_duplicates_are_found_with_their_originals(images: tuple[np.ndarray, np.ndarray]) -> None:
    train, test = images[0], images[1].copy()
    rng = np.random.default_rng(0)
    originals = rng.choice(len(train), 40, replace=False)
    noise = rng.integers(-12, 13, (20, 28, 28)) * (train[originals[20:]] > 0)
    test[100:120] = train[originals[:20]]
    test[200:220] = np.clip(train[originals[20:]] + noise, 0, 255)
    labels = np.arange(len(train)) % 2
    test_labels = zeros(test)
    test_labels[100:120] = labels[originals[:20]]
    duplicates_found = find(train, test, labels, test_labels)
    assert {pair.row: pair.other_row for pair in duplicates_found.leaked} == {
        **dict(zip(range(100, 120), originals[:20].tolist(), strict=True)),
        **dict(zip(range(200, 220), originals[20:].tolist(), strict=True)),
    }
    assert duplicates_found.exact == 20
    assert [pair.distance for pair in duplicates_found.leaked] == sorted(
        pair.distance for pair in duplicates_found.leaked
    )
    assert all(0 < pair.distance <= MAX_DISTANCE and 0 < pair.levels < 12 for pair in duplicates_found.leaked[20:])
    assert all(pair.label == pair.other_label for pair in duplicates_found.leaked[:20])
    assert [(p.label, p.other_label) for p in duplicates_found.leaked[20:]] == [
        (0, labels[p.other_row]) for p in duplicates_found.leaked[20:]
    ]


def test_an_image_changed_beyond_the_threshold_is_no_duplicate(images: tuple[np.ndarray, np.ndarray]) -> None:
    train, test = images[0], images[1].copy()
    for row, share in ((3, 0.95 * MAX_DISTANCE), (4, 1.05 * MAX_DISTANCE)):
        # darker by s: the difference is s of the ink, the mean ink 1 - s / 2
        test[row] = np.rint(train[row] * (1 - share / (1 + share / 2)))
    assert [pair.row for pair in find(train, test, zeros(train), zeros(test)).leaked] == [3]


def test_candidates_include_every_pair_that_is_near(
    images: tuple[np.ndarray, np.ndarray], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(duplicates, "MAX_CANDIDATES", 10_000)  # at so wide a threshold all images are alike
    monkeypatch.setattr(duplicates, "_MAX_HITS", 10_000)
    near = 0.4
    other, flat = (part.reshape(len(part), -1).astype(np.float32) for part in images)
    matrix = duplicates.block_matrix(28, 28)
    rows, others = duplicates.candidates(flat @ matrix, other @ matrix, near, no_progress)
    found = set(zip(rows.tolist(), others.tolist(), strict=True))
    close = 0
    for row in range(0, len(flat), 4):
        apart = np.abs(other - flat[row]).sum(axis=1) / ((other.sum(axis=1) + flat[row].sum()) / 2)
        for match in np.flatnonzero(apart <= near).tolist():
            assert (row, match) in found
            close += 1
    assert close > 10
    assert len(found) < len(flat) * len(other) / 20


def test_many_similar_images_are_found_and_candidates_bounded(images: tuple[np.ndarray, np.ndarray]) -> None:
    rng = np.random.default_rng(0)
    similar = [np.clip(images[0][0] + rng.integers(0, 3, (n, 28, 28)), 0, 255).astype(np.uint8) for n in (1500, 70)]
    matrix = duplicates.block_matrix(28, 28)
    rows, _ = duplicates.candidates(
        *(part.reshape(len(part), -1) @ matrix for part in similar[::-1]), MAX_DISTANCE, no_progress
    )
    assert set(rows.tolist()) == set(range(70))
    assert np.bincount(rows).max() <= duplicates.MAX_CANDIDATES
    assert len(find(similar[0], similar[1], zeros(similar[0]), zeros(similar[1])).leaked) == 70


def test_repeats_within_training_and_their_labels(images: tuple[np.ndarray, np.ndarray]) -> None:
    train, test = images[0].copy(), images[1]
    train[10], train[11], train[500] = train[7], train[7], train[9]
    labels = np.zeros(len(train), np.uint8)
    labels[11] = 1
    duplicates_found = find(train, test, labels, zeros(test))
    assert duplicates_found.repeated == 3
    assert [(p.row, p.label, p.other_row, p.other_label) for p in duplicates_found.conflicting_labels] == [
        (11, 1, 7, 0)
    ]
    assert duplicates_found.leaked == ()


def test_blanks_are_no_duplicates(images: tuple[np.ndarray, np.ndarray]) -> None:
    train, test = images[0].copy(), images[1].copy()
    train[:5], test[:5] = 0, 0
    assert find(train, test, zeros(train), zeros(test)) == Duplicates((), 0, ())
    assert find(np.zeros_like(train), test, zeros(train), zeros(test)) == Duplicates((), 0, ())


@pytest.mark.parametrize("size", [(28, 28), (20, 50), (3, 2), (1, 9)])
def test_blocks_partition_the_image(size: tuple[int, int]) -> None:
    matrix = duplicates.block_matrix(*size)
    assert matrix.shape == (size[0] * size[1], min(7, size[0]) * min(7, size[1]))
    np.testing.assert_array_equal(matrix.sum(axis=1), 1)
    assert matrix.sum(axis=0).min() >= 1
