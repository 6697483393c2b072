import string

import numpy as np
import pytest

from seaway.data import strokes
from seaway.data.strokes import Strokes
from seaway.errors import DataError


def everything(source: Strokes, part: str) -> tuple[np.ndarray, np.ndarray]:
    images, labels = zip(*source.chunks(part), strict=True)
    return np.concatenate(images), np.concatenate(labels)


@pytest.fixture(scope="module")
def train() -> tuple[np.ndarray, np.ndarray]:
    return everything(Strokes(7000), "train")


def test_one_image_in_seven_is_for_testing(train: tuple[np.ndarray, np.ndarray]) -> None:
    source = Strokes(7000)
    images, labels = train
    assert images.shape == (6000, 28, 28)
    assert images.dtype == labels.dtype == np.uint8
    assert (source.count("train"), source.count("test")) == (6000, 1000) == (len(labels), 1000)
    assert source.labels == tuple(string.digits + string.ascii_uppercase + string.ascii_lowercase)


def test_the_same_every_time_and_another_with_another_seed(train: tuple[np.ndarray, np.ndarray]) -> None:
    for again, first in zip(everything(Strokes(7000), "train"), train, strict=True):
        np.testing.assert_array_equal(again, first)
    other, _ = everything(Strokes(7000, seed=1), "train")
    assert (other != train[0]).any(axis=(1, 2)).mean() > 0.99


def test_no_writer_and_no_image_in_both_parts(train: tuple[np.ndarray, np.ndarray]) -> None:
    test, _ = everything(Strokes(7000), "test")
    assert not {image.tobytes() for image in test} & {image.tobytes() for image in train[0]}
    hands = [strokes.hands(Strokes(7000), part).slant for part in ("train", "test")]
    assert len(hands[0]) == 150
    assert not set(hands[0]) & set(hands[1])


def test_ink_fills_24_pixels_and_leaves_the_border(train: tuple[np.ndarray, np.ndarray]) -> None:
    ink = train[0] > 100
    rows, columns = ink.any(axis=2), ink.any(axis=1)
    tall, wide = (28 - line.argmax(axis=1) - line[:, ::-1].argmax(axis=1) for line in (rows, columns))
    longer = np.maximum(tall, wide)
    assert np.quantile(longer, 0.002) >= 21
    assert np.median(longer) >= 23
    assert longer.max() <= 24
    assert not ink[:, [0, 1, 26, 27]].any()
    assert not ink[:, :, [0, 1, 26, 27]].any()
    assert 0.15 < ink.mean() < 0.3
    assert train[0].max(axis=(1, 2)).min() > 200


def test_classes_are_as_uneven_as_emnists(train: tuple[np.ndarray, np.ndarray]) -> None:
    counts = np.bincount(train[1], minlength=62)
    np.testing.assert_array_equal(counts, strokes.class_counts(6000))
    digits, upper, lower = counts[:10].sum(), counts[10:36].sum(), counts[36:].sum()
    np.testing.assert_allclose(np.array([digits, upper, lower]) / 6000, [0.495, 0.271, 0.235], atol=0.01)
    assert counts[10:36].argmax() == counts[36:].argmax() == string.ascii_lowercase.index("e")
    assert counts.min() > 10


def test_classes_of_text_are_as_frequent_as_in_notes() -> None:
    counts = strokes.class_counts(6000, "text")
    digits, upper, lower = counts[:10].sum(), counts[10:36].sum(), counts[36:].sum()
    np.testing.assert_allclose(np.array([digits, upper, lower]) / 6000, [0.15, 0.27, 0.58], atol=0.01)
    _, labels = everything(Strokes(7000, mix="text"), "train")
    np.testing.assert_array_equal(np.bincount(labels, minlength=62), counts)
    with pytest.raises(DataError, match="strokes:434#prose: no such mix of classes; there are emnist, text"):
        Strokes(434, mix="prose")


@pytest.mark.parametrize("mix", strokes.MIXES)
@pytest.mark.parametrize("total", [62, 63, 100, 371, 116_322])
def test_every_class_is_there_and_nothing_is_lost(total: int, mix: str) -> None:
    counts = strokes.class_counts(total, mix)
    assert counts.sum() == total
    assert counts.min() >= 1


def test_the_smallest_set_has_every_class_in_both_parts() -> None:
    for part in ("train", "test"):
        assert len(set(everything(Strokes(strokes.SMALLEST_COUNT), part)[1])) == 62
    with pytest.raises(DataError, match="strokes:433: too few for 62 classes in both parts; give at least strokes:434"):
        Strokes(433)


def test_characters_can_be_told_apart(train: tuple[np.ndarray, np.ndarray]) -> None:
    """The nearest class mean among digits, far above chance (0.1): labels and images belong together."""
    images, labels = train
    test_images, test_labels = everything(Strokes(7000), "test")
    means = np.stack([images[labels == digit].mean(axis=0) for digit in range(10)]).reshape(10, -1)
    digits = test_images[test_labels < 10].reshape(-1, 784).astype(float)
    nearest = ((digits[:, np.newaxis] - means) ** 2).sum(axis=2).argmin(axis=1)
    assert (nearest == test_labels[test_labels < 10]).mean() > 0.6


def test_fingerprint_tells_size_seed_and_mix_apart() -> None:
    sources = Strokes(434), Strokes(435), Strokes(434, seed=1), Strokes(434, mix="text"), Strokes(434)
    prints = [source.fingerprint() for source in sources]
    assert len(set(prints)) == 4
    assert prints[0] == prints[4]
