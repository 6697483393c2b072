import struct
import tracemalloc
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from seaway.artifacts import card as cards
from seaway.artifacts.card import Card
from seaway.data import data
from seaway.errors import DataError

Writer = Callable[..., Path]


@pytest.fixture
def dataset(tmp_path: Path) -> Path:
    folder = tmp_path / "dataset"
    folder.mkdir()
    labels = data.read("strokes:434", folder)
    cards.write(folder, Card(kind="dataset", name="characters", labels=labels))
    return folder


def test_what_is_read_can_be_loaded(dataset: Path) -> None:
    loaded = data.load(dataset)
    assert loaded.train_images.shape == (372, 28, 28)
    assert loaded.test_images.shape == (62, 28, 28)
    assert loaded.train_labels.shape == (372,)
    assert set(loaded.test_labels.tolist()) == set(range(62))
    assert loaded.labels[10] == "A"
    assert isinstance(loaded.train_images, np.memmap)
    np.testing.assert_array_equal(data.load_labels(dataset, "train"), loaded.train_labels)
    with pytest.raises(ValueError, match="read-only"):
        loaded.train_images[0] = 0


def test_progress_ends_at_the_total(tmp_path: Path) -> None:
    told: list[tuple[int, int]] = []
    data.read("strokes:434", tmp_path, progress=lambda done, total: told.append((done, total)))
    assert told == [(372, 434), (434, 434)]


def test_pictures_become_model_input() -> None:
    images = np.array([[[0, 51], [102, 255]]], np.uint8)
    batch = data.model_input(images)
    assert batch.dtype == np.float32
    assert batch.shape == (1, 2, 2, 1)
    np.testing.assert_allclose(batch[0, :, :, 0], [[0, 0.2], [0.4, 1]], rtol=1e-6)


@pytest.mark.parametrize(
    ("source", "reason"),
    [
        ("mnist", "'mnist' is no data source; give strokes"),
        ("", "'' is no data source"),
        ("idx:", "'idx:' is no data source"),
        ("strokes:many", "'many' is not a number of pictures; give one as in strokes:14000"),
        ("strokes:-5", "'-5' is not a number"),
        ("strokes:", "'' is not a number"),
        ("strokes:12345678901", "is not a number of pictures"),
        ("strokes:100", "too few for 62 classes in both parts; give at least strokes:434"),
        ("emnist:cyrillic", "no such split; EMNIST has byclass, bymerge"),
        ("idx:no/such/folder", "no/such/folder: no such folder"),
    ],
)
def test_a_source_that_is_none_is_told(tmp_path: Path, source: str, reason: str) -> None:
    with pytest.raises(DataError, match=reason):
        data.read(source, tmp_path)
    with pytest.raises(DataError, match=reason):
        data.fingerprint(source)


def test_a_split_is_named_after_the_folder(write_idx: Writer, tmp_path: Path) -> None:
    folder = write_idx("mnist", [*range(10)], [5], folder=tmp_path / "with#sign")
    write_idx("letters", [*range(1, 27)], [1], folder=folder)
    assert data.read(f"idx:{folder}#mnist", tmp_path)[9] == "9"
    assert data.read(f"idx:{folder}#letters", tmp_path)[25] == "Z"
    assert data.fingerprint(f"idx:{folder}#mnist") != data.fingerprint(f"idx:{folder}#letters")
    with pytest.raises(DataError, match=r"several splits"):
        data.read(f"idx:{folder}", tmp_path)


def test_a_class_with_no_training_picture_is_an_error(write_idx: Writer, tmp_path: Path) -> None:
    folder = write_idx("digits", [0, 1, 2, 4, 5, 6, 7, 8], [3])
    with pytest.raises(DataError, match=r"no training picture of 3 9; add some, or take these classes out"):
        data.read(f"idx:{folder}", tmp_path)


@pytest.mark.parametrize(("train", "test", "empty"), [([*range(10)], [], "test"), ([], [1], "train")])
def test_an_empty_set_is_an_error(
    write_idx: Writer, tmp_path: Path, train: list[int], test: list[int], empty: str
) -> None:
    folder = write_idx("digits", train, test)
    with pytest.raises(DataError, match=f"the {empty} set is empty; give pictures for both"):
        data.read(f"idx:{folder}", tmp_path)


def test_fingerprints_follow_the_content(write_idx: Writer) -> None:
    folder = write_idx("digits", [*range(10)], [1])
    before = data.fingerprint(f"idx:{folder}")
    write_idx("digits", [*range(10)], [2])
    assert data.fingerprint(f"idx:{folder}") != before
    assert data.fingerprint("strokes") == data.fingerprint("strokes:14000") != data.fingerprint("strokes:14001")
    assert data.fingerprint("emnist") == data.fingerprint("emnist:byclass") != data.fingerprint("emnist:letters")


def rewrite(folder: Path, name: str, array: np.ndarray) -> None:
    np.save(folder / f"{name}.npy", array)


@pytest.mark.parametrize(
    ("name", "array", "reason"),
    [
        ("train_labels", np.zeros(371, np.uint8), "372 train pictures with 371 labels"),
        ("train_labels", np.full(372, 62, np.uint8), "train label 62, but the card names 62 classes"),
        ("train_labels", np.zeros(372, np.int64), "int64"),
        ("test_images", np.zeros((62, 784), np.uint8), r"instead of uint8 in 3 dimensions"),
        ("test_images", np.zeros((62, 32, 32), np.uint8), "training and test pictures differ in size"),
    ],
)
def test_arrays_that_do_not_fit_are_told(dataset: Path, name: str, array: np.ndarray, reason: str) -> None:
    rewrite(dataset, name, array)
    with pytest.raises(DataError, match=reason):
        data.load(dataset)


def test_a_broken_dataset_is_told(dataset: Path, tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"there is no card.*make the dataset with `python -m seaway.explore`"):
        data.load(tmp_path / "nowhere")
    images = dataset / "train_images.npy"
    images.write_bytes(images.read_bytes()[:-1])
    with pytest.raises(DataError, match=r"train_images.npy: cannot be read"):
        data.load(dataset)
    images.unlink()
    with pytest.raises(DataError, match=r"train_images.npy: cannot be read .*; make the dataset again"):
        data.load(dataset)
    cards.write(dataset, Card(kind="onnx", name="characters"))
    with pytest.raises(DataError, match=r"expected a dataset, but its card says 'onnx'"):
        data.load(dataset)


def test_pictures_never_lie_in_memory_as_a_whole(tmp_path: Path) -> None:
    """60,000 of them are 47 MB; reading them may take the few chunks that are under way."""
    folder = tmp_path / "idx"
    folder.mkdir()
    for part, count in (("train", 60_000), ("test", 10)):
        images = struct.pack(">4I", 0x0803, count, 28, 28) + bytes(784 * count)
        (folder / f"emnist-digits-{part}-images-idx3-ubyte").write_bytes(images)
        labels = struct.pack(">2I", 0x0801, count) + bytes(n % 10 for n in range(count))
        (folder / f"emnist-digits-{part}-labels-idx1-ubyte").write_bytes(labels)
    del images
    tracemalloc.start()
    data.read(f"idx:{folder}", tmp_path)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert data.load_labels(tmp_path, "train").shape == (60_000,)
    assert 1e6 < peak < 30e6
