"""Planted copies are found, each with its original; a data set without any has none."""

from pathlib import Path

import numpy as np
import pytest

from seaway.data import data
from seaway.data.data import Dataset
from seaway.explore import copies, pictures
from seaway.explore.copies import NEAR, Copies


def nothing(_: int, __: int) -> None:
    pass


def find(train: np.ndarray, test: np.ndarray, train_labels: np.ndarray, test_labels: np.ndarray) -> Copies:
    dataset = Dataset(train, train_labels.astype(np.uint8), test, test_labels.astype(np.uint8), ("a", "b"))
    marks = [pictures.scan(part, np.zeros(len(part), np.uint8), 1, nothing).marks for part in (train, test)]
    return copies.find(dataset, marks[0], marks[1], nothing)


@pytest.fixture(scope="module")
def drawn(tmp_path_factory: pytest.TempPathFactory) -> tuple[np.ndarray, np.ndarray]:
    """Training and test pictures of strokes, none a copy of another."""
    folder: Path = tmp_path_factory.mktemp("strokes")
    data.read("strokes:3000", folder)
    return np.load(folder / "train_images.npy"), np.load(folder / "test_images.npy")


def zeros(images: np.ndarray) -> np.ndarray:
    return np.zeros(len(images), np.uint8)


def test_nothing_is_found_where_nothing_is(drawn: tuple[np.ndarray, np.ndarray]) -> None:
    train, test = drawn
    assert find(train, test, zeros(train), zeros(test)) == Copies((), 0, ())


def test_exact_and_changed_copies_are_found_with_their_originals(drawn: tuple[np.ndarray, np.ndarray]) -> None:
    train, test = drawn[0], drawn[1].copy()
    rng = np.random.default_rng(0)
    originals = rng.choice(len(train), 40, replace=False)
    noise = rng.integers(-12, 13, (20, 28, 28)) * (train[originals[20:]] > 0)
    test[100:120] = train[originals[:20]]
    test[200:220] = np.clip(train[originals[20:]] + noise, 0, 255)
    labels = np.arange(len(train)) % 2
    test_labels = zeros(test)
    test_labels[100:120] = labels[originals[:20]]
    found = find(train, test, labels, test_labels)
    assert {pair.row: pair.other_row for pair in found.across} == {
        **dict(zip(range(100, 120), originals[:20].tolist(), strict=True)),
        **dict(zip(range(200, 220), originals[20:].tolist(), strict=True)),
    }
    assert found.exact == 20
    assert [pair.distance for pair in found.across] == sorted(pair.distance for pair in found.across)
    assert all(0 < pair.distance <= NEAR and 0 < pair.levels < 12 for pair in found.across[20:])
    assert all(pair.label == pair.other_label for pair in found.across[:20])
    assert [(p.label, p.other_label) for p in found.across[20:]] == [
        (0, labels[p.other_row]) for p in found.across[20:]
    ]


def test_a_copy_changed_beyond_the_threshold_is_none(drawn: tuple[np.ndarray, np.ndarray]) -> None:
    train, test = drawn[0], drawn[1].copy()
    for row, share in ((3, 0.95 * NEAR), (4, 1.05 * NEAR)):
        # darker by s: the difference is s of the ink, the mean ink 1 - s / 2
        test[row] = np.rint(train[row] * (1 - share / (1 + share / 2)))
    assert [pair.row for pair in find(train, test, zeros(train), zeros(test)).across] == [3]


def test_candidates_hold_every_pair_that_is_near(
    drawn: tuple[np.ndarray, np.ndarray], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(copies, "CANDIDATES", 10_000)  # at so wide a threshold all pictures are alike
    monkeypatch.setattr(copies, "_CROWD", 10_000)
    near = 0.3
    other, flat = (part.reshape(len(part), -1).astype(np.float32) for part in drawn)
    matrix = copies.block_matrix(28, 28)
    rows, others = copies.candidates(flat @ matrix, other @ matrix, near, nothing)
    found = set(zip(rows.tolist(), others.tolist(), strict=True))
    close = 0
    for row in range(0, len(flat), 4):
        apart = np.abs(other - flat[row]).sum(axis=1) / ((other.sum(axis=1) + flat[row].sum()) / 2)
        for match in np.flatnonzero(apart <= near).tolist():
            assert (row, match) in found
            close += 1
    assert close > 10
    assert len(found) < len(flat) * len(other) / 20


def test_a_crowd_of_like_pictures_is_found_and_bounded(drawn: tuple[np.ndarray, np.ndarray]) -> None:
    rng = np.random.default_rng(0)
    crowd = [np.clip(drawn[0][0] + rng.integers(0, 3, (n, 28, 28)), 0, 255).astype(np.uint8) for n in (1500, 70)]
    matrix = copies.block_matrix(28, 28)
    rows, _ = copies.candidates(*(part.reshape(len(part), -1) @ matrix for part in crowd[::-1]), NEAR, nothing)
    assert set(rows.tolist()) == set(range(70))
    assert np.bincount(rows).max() <= copies.CANDIDATES
    assert len(find(crowd[0], crowd[1], zeros(crowd[0]), zeros(crowd[1])).across) == 70


def test_repeats_within_training_and_their_labels(drawn: tuple[np.ndarray, np.ndarray]) -> None:
    train, test = drawn[0].copy(), drawn[1]
    train[10], train[11], train[500] = train[7], train[7], train[9]
    labels = np.zeros(len(train), np.uint8)
    labels[11] = 1
    found = find(train, test, labels, zeros(test))
    assert found.repeated == 3
    assert [(p.row, p.label, p.other_row, p.other_label) for p in found.disputed] == [(11, 1, 7, 0)]
    assert found.across == ()


def test_blanks_are_no_copies(drawn: tuple[np.ndarray, np.ndarray]) -> None:
    train, test = drawn[0].copy(), drawn[1].copy()
    train[:5], test[:5] = 0, 0
    assert find(train, test, zeros(train), zeros(test)) == Copies((), 0, ())
    assert find(np.zeros_like(train), test, zeros(train), zeros(test)) == Copies((), 0, ())


@pytest.mark.parametrize("size", [(28, 28), (20, 50), (3, 2), (1, 9)])
def test_blocks_part_the_picture(size: tuple[int, int]) -> None:
    matrix = copies.block_matrix(*size)
    assert matrix.shape == (size[0] * size[1], min(7, size[0]) * min(7, size[1]))
    np.testing.assert_array_equal(matrix.sum(axis=1), 1)
    assert matrix.sum(axis=0).min() >= 1
