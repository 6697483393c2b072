import struct
import tracemalloc
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from seaway.artifacts import artifact_metadata
from seaway.artifacts.artifact_metadata import ArtifactMetadata
from seaway.data import datasets
from seaway.errors import DataError

Writer = Callable[..., Path]


@pytest.fixture
def dataset(tmp_path: Path) -> Path:
    folder = tmp_path / "dataset"
    folder.mkdir()
    labels = datasets.read("strokes:434", folder)
    artifact_metadata.write(folder, ArtifactMetadata(kind="dataset", name="characters", labels=labels))
    return folder


def test_what_is_read_can_be_loaded(dataset: Path) -> None:
    loaded = datasets.load(dataset)
    assert loaded.train_images.shape == (372, 28, 28)
    assert loaded.test_images.shape == (62, 28, 28)
    assert loaded.train_labels.shape == (372,)
    assert set(loaded.test_labels.tolist()) == set(range(62))
    assert loaded.labels[10] == "A"
    assert isinstance(loaded.train_images, np.memmap)
    np.testing.assert_array_equal(datasets.load_labels(dataset, "train"), loaded.train_labels)
    with pytest.raises(ValueError, match="read-only"):
        loaded.train_images[0] = 0


def test_progress_ends_at_the_total(tmp_path: Path) -> None:
    calls: list[tuple[int, int]] = []
    datasets.read("strokes:434", tmp_path, progress=lambda done, total: calls.append((done, total)))
    assert calls == [(372, 434), (434, 434)]


def test_images_become_model_input() -> None:
    images = np.array([[[0, 51], [102, 255]]], np.uint8)
    batch = datasets.model_input(images)
    assert batch.dtype == np.float32
    assert batch.shape == (1, 2, 2, 1)
    np.testing.assert_allclose(batch[0, :, :, 0], [[0, 0.2], [0.4, 1]], rtol=1e-6)


@pytest.mark.parametrize(
    ("source", "reason"),
    [
        ("mnist", "'mnist' is not a data source; give strokes"),
        ("", "'' is not a data source"),
        ("idx:", "'idx:' is not a data source"),
        ("strokes:many", "'many' is not a number of images; give e.g. strokes:14000"),
        ("strokes:-5", "'-5' is not a number"),
        ("strokes:", "'' is not a number"),
        ("strokes:12345678901", "is not a number of images"),
        ("strokes:500#prose", "no such mix of classes; there are emnist, text"),
        ("strokes#", "no such mix of classes"),
        ("strokes:100", "too few for 62 classes in both parts; give at least strokes:434"),
        ("emnist:cyrillic", "no such split; EMNIST has byclass, bymerge"),
        ("idx:no/such/folder", "no/such/folder: no such folder"),
    ],
)
def test_an_invalid_source_is_reported(tmp_path: Path, source: str, reason: str) -> None:
    with pytest.raises(DataError, match=reason):
        datasets.read(source, tmp_path)
    with pytest.raises(DataError, match=reason):
        datasets.fingerprint(source)


def test_a_split_is_named_after_the_folder(write_idx: Writer, tmp_path: Path) -> None:
    folder = write_idx("mnist", [*range(10)], [5], folder=tmp_path / "with#sign")
    write_idx("letters", [*range(1, 27)], [1], folder=folder)
    assert datasets.read(f"idx:{folder}#mnist", tmp_path)[9] == "9"
    assert datasets.read(f"idx:{folder}#letters", tmp_path)[25] == "Z"
    assert datasets.fingerprint(f"idx:{folder}#mnist") != datasets.fingerprint(f"idx:{folder}#letters")
    with pytest.raises(DataError, match=r"several splits"):
        datasets.read(f"idx:{folder}", tmp_path)


def test_a_class_with_no_training_image_is_an_error(write_idx: Writer, tmp_path: Path) -> None:
    folder = write_idx("digits", [0, 1, 2, 4, 5, 6, 7, 8], [3])
    with pytest.raises(
        DataError, match=r"no training image of 3 9; add some, or remove these classes from the mapping"
    ):
        datasets.read(f"idx:{folder}", tmp_path)


@pytest.mark.parametrize(("train", "test", "empty"), [([*range(10)], [], "test"), ([], [1], "train")])
def test_an_empty_set_is_an_error(
    write_idx: Writer, tmp_path: Path, train: list[int], test: list[int], empty: str
) -> None:
    folder = write_idx("digits", train, test)
    with pytest.raises(DataError, match=f"the {empty} set is empty; give images for both"):
        datasets.read(f"idx:{folder}", tmp_path)


def test_fingerprints_follow_the_content(write_idx: Writer) -> None:
    folder = write_idx("digits", [*range(10)], [1])
    before = datasets.fingerprint(f"idx:{folder}")
    write_idx("digits", [*range(10)], [2])
    assert datasets.fingerprint(f"idx:{folder}") != before
    assert (
        datasets.fingerprint("strokes")
        == datasets.fingerprint("strokes:14000")
        == datasets.fingerprint("strokes#emnist")
        != datasets.fingerprint("strokes#text")
        != datasets.fingerprint("strokes:14001")
    )
    assert (
        datasets.fingerprint("emnist")
        == datasets.fingerprint("emnist:byclass")
        != datasets.fingerprint("emnist:letters")
    )


def rewrite(folder: Path, name: str, array: np.ndarray) -> None:
    np.save(folder / f"{name}.npy", array)


@pytest.mark.parametrize(
    ("name", "array", "reason"),
    [
        ("train_labels", np.zeros(371, np.uint8), "372 train images with 371 labels"),
        ("train_labels", np.full(372, 62, np.uint8), "train label 62, but card.json names 62 classes"),
        ("train_labels", np.zeros(372, np.int64), "int64"),
        ("test_images", np.zeros((62, 784), np.uint8), r"instead of uint8 in 3 dimensions"),
        ("test_images", np.zeros((62, 32, 32), np.uint8), "training and test images differ in size"),
    ],
)
def test_arrays_that_do_not_fit_are_reported(dataset: Path, name: str, array: np.ndarray, reason: str) -> None:
    rewrite(dataset, name, array)
    with pytest.raises(DataError, match=reason):
        datasets.load(dataset)


def test_a_broken_dataset_is_reported(dataset: Path, tmp_path: Path) -> None:
    with pytest.raises(
        DataError, match=r"is not an artifact of Seaway.*make the dataset with `python -m seaway.explore`"
    ):
        datasets.load(tmp_path / "nowhere")
    images = dataset / "train_images.npy"
    images.write_bytes(images.read_bytes()[:-1])
    with pytest.raises(DataError, match=r"train_images.npy: cannot be read"):
        datasets.load(dataset)
    images.unlink()
    with pytest.raises(DataError, match=r"train_images.npy: cannot be read .*; rerun python -m seaway\.explore"):
        datasets.load(dataset)
    artifact_metadata.write(dataset, ArtifactMetadata(kind="onnx", name="characters"))
    with pytest.raises(DataError, match=r"expected a dataset, but its card.json says 'onnx'"):
        datasets.load(dataset)


def test_images_are_never_in_memory_as_a_whole(tmp_path: Path) -> None:
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
    datasets.read(f"idx:{folder}", tmp_path)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert datasets.load_labels(tmp_path, "train").shape == (60_000,)
    assert 1e6 < peak < 30e6
