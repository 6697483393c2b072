"""Chunked reading gives the same as NumPy on the whole; the blanks and outliers found are those that were planted."""

import mmap
from pathlib import Path

import numpy as np
import pytest

from seaway.explore import chunks, outliers, statistics

RNG = np.random.default_rng(3)


def no_progress(_: int, __: int) -> None:
    pass


def test_means_and_deviations_are_those_of_the_whole(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(chunks, "_CHUNK_PIXELS", 7 * 5 * 64)  # chunks of 64 images
    images = RNG.integers(0, 256, (1000, 7, 5), np.uint8)
    labels = RNG.choice(np.array([0, 1, 3], np.uint8), 1000)  # none of class 2
    calls: list[tuple[int, int]] = []
    scanned = statistics.scan(images, labels, 4, lambda done, total: calls.append((done, total)))
    class_statistics = statistics.class_statistics(scanned, np.bincount(labels, minlength=4))
    for label in (0, 1, 3):
        np.testing.assert_allclose(class_statistics.mean[label], images[labels == label].mean(axis=0), rtol=1e-5)
        np.testing.assert_allclose(class_statistics.deviation[label], images[labels == label].std(axis=0), rtol=1e-4)
    assert not class_statistics.mean[2].any()
    assert scanned.brightness == pytest.approx(images.mean())
    assert len(calls) == 16
    assert calls[-1] == (1000, 1000)


def test_blanks_of_every_kind() -> None:
    images = np.zeros((6, 20, 20), np.uint8)
    images[0] = 127  # grey all over, but no ink
    images[1, 0, 0] = 255
    images[2, 0, :2] = 255  # two pixels of 400 are enough
    images[3] = 255
    images[4, :18] = 128
    images[5, 5:9] = 200
    kinds = ["", *statistics.BLANKS]
    scanned = statistics.scan(images, np.zeros(6, np.uint8), 1, no_progress)
    assert [kinds[blank] for blank in scanned.blank] == ["empty", "nearly empty", "", "nearly full", "", ""]
    np.testing.assert_array_equal(scanned.fingerprints.inked, scanned.blank == 0)


def test_pages_of_a_memory_map_are_released(tmp_path: Path) -> None:
    np.save(tmp_path / "images.npy", RNG.integers(0, 256, (20_000, 28, 28), np.uint8))
    images = np.load(tmp_path / "images.npy", mmap_mode="r")
    assert isinstance(images.base, mmap.mmap)
    assert sum(int(part.sum(dtype=np.int64)) for _, part in chunks.chunks(images)) > 0
    size_kb = (tmp_path / "images.npy").stat().st_size // 1024
    smaps = Path("/proc/self/smaps").read_text().split("images.npy")[1]
    assert int(smaps.split("Rss:")[1].split()[0]) < size_kb / 10


def test_outliers_are_the_planted_ones() -> None:
    images = np.zeros((400, 20, 20), np.uint8)
    labels = np.arange(400) % 2
    images[labels == 0, 8:12] = 200  # a beam across, a beam down
    images[labels == 1, :, 8:12] = 200
    images = np.clip(images + RNG.integers(0, 40, images.shape), 0, 255).astype(np.uint8)
    images[6] = images[7]  # of class 0, looks like class 1
    images[9, :5, :5] = 255  # a blot
    counts = np.bincount(labels)
    class_statistics = statistics.class_statistics(statistics.scan(images, labels, 2, no_progress), counts)
    distances = outliers.measure(images, labels, class_statistics, counts, no_progress)
    times = distances.own / outliers.typical(distances, labels, counts)[labels]
    assert set(np.argsort(-times)[:2]) == {6, 9}
    assert np.median(times) == pytest.approx(1, abs=0.1)
    assert np.flatnonzero(distances.own > distances.nearest).tolist() == [6]
    assert distances.other[6] == 1


def test_distances_are_as_defined() -> None:
    images = RNG.integers(0, 256, (60, 4, 3), np.uint8)
    labels = np.arange(60) % 3
    class_statistics = statistics.class_statistics(statistics.scan(images, labels, 3, no_progress), np.bincount(labels))
    distances = outliers.measure(images, labels, class_statistics, np.bincount(labels), no_progress)
    whole = np.sqrt(
        ((images[:, np.newaxis] - class_statistics.mean) ** 2 / (class_statistics.deviation**2 + 32**2)).mean(
            axis=(2, 3)
        )
    )
    np.testing.assert_allclose(distances.own, whole[np.arange(60), labels], rtol=1e-3)
    whole[np.arange(60), labels] = np.inf
    np.testing.assert_array_equal(distances.other, whole.argmin(axis=1))


def test_a_class_of_a_few_images_is_left_out() -> None:
    images = RNG.integers(0, 256, (32, 4, 3), np.uint8)
    labels = np.array([0] * 15 + [1] * 15 + [2] * 2)
    images[30:] = images[3]  # of class 0, and nearest to class 2
    counts = np.bincount(labels)
    class_statistics = statistics.class_statistics(statistics.scan(images, labels, 3, no_progress), counts)
    distances = outliers.measure(images, labels, class_statistics, counts, no_progress)
    assert outliers.typical(distances, labels, counts)[2] == np.inf
    assert distances.own[30] < 0.1
    assert distances.other[3] == 1


def test_the_highest_of_each_group() -> None:
    scores, groups = np.array([5.0, 9.0, 8.0, 7.0, 0.0, 6.0]), np.array([0, 1, 1, 1, 2, 0])
    assert outliers.highest(scores, groups, 9, 2).tolist() == [1, 2, 5, 0]
    assert outliers.highest(scores, groups, 3, 1).tolist() == [1, 5]
    assert outliers.highest(scores, groups, 2, 9).tolist() == [1, 2]
