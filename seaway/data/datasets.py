"""Images of characters: their sources, the dataset artifact, and the conversion to model input.

    strokes[:N][#MIX] made offline from letter shapes: N images (14,000), training and test together, with as many of
                      each class as in EMNIST, or for strokes:N#text as in running text
    idx:DIR[#SPLIT]   a folder of EMNIST's own files; #SPLIT where it holds several, as in idx:data#balanced
    emnist[:SPLIT]    EMNIST through torchvision: byclass (default), bymerge, balanced, letters, digits or mnist

dataset/  train_images.npy, test_images.npy   uint8 [N, height, width], upright, white ink on black
          train_labels.npy, test_labels.npy   uint8 [N], indices into the labels in card.json
          card.json                           kind "dataset": labels, source, fingerprint, counts
"""

import hashlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Protocol

import numpy as np

from seaway.artifacts import artifact_metadata
from seaway.data import emnist, idx, strokes
from seaway.errors import DataError, MetadataError

PARTS = idx.PARTS
IMAGE_SIZE = idx.IMAGE_SIZE
CACHE = Path("~/.cache/seaway")  # for downloads only

ProgressCallback = Callable[[int, int], None]  # images done, images in all


@dataclass(frozen=True, slots=True)
class Dataset:
    """Memory-mapped arrays, read-only: images uint8 [N, H, W], labels uint8 [N], indices into `labels`."""

    train_images: np.ndarray
    train_labels: np.ndarray
    test_images: np.ndarray
    test_labels: np.ndarray
    labels: tuple[str, ...]


def load(folder: Path, test: bool = True) -> Dataset:
    """Opens a dataset artifact without reading its images; with `test=False` the test set is not opened, and is empty.

    Raises DataError if files are missing or do not fit together.
    """
    try:
        metadata = artifact_metadata.read(folder)
    except MetadataError as error:
        raise DataError(f"{error}; make the dataset with `python -m seaway.explore`") from None
    if metadata.kind != "dataset":
        raise DataError(
            f"{folder}: expected a dataset, but its card.json says {metadata.kind!r}; give the explore stage's folder"
        )
    train_images, train_labels = _pair(folder, "train", len(metadata.labels))
    if not test:
        return Dataset(train_images, train_labels, train_images[:0], train_labels[:0], metadata.labels)
    test_images, test_labels = _pair(folder, "test", len(metadata.labels))
    if train_images.shape[1:] != test_images.shape[1:]:
        raise DataError(f"{folder}: training and test images differ in size; rerun python -m seaway.explore")
    return Dataset(train_images, train_labels, test_images, test_labels, metadata.labels)


def load_labels(folder: Path, part: str) -> np.ndarray:
    """uint8 [N], memory-mapped: the labels of "train" or "test"; needs no card.json. Raises DataError."""
    return _array(folder / f"{part}_labels.npy", 1)


def model_input(images: np.ndarray) -> np.ndarray:
    """uint8 [N, H, W] → float32 [N, H, W, 1] in 0..1: the only place that turns images into model inputs."""
    return (images[..., np.newaxis] / np.float32(255)).astype(np.float32, copy=False)


def read(source: str, folder: Path, cache: Path = CACHE, progress: ProgressCallback | None = None) -> tuple[str, ...]:
    """Writes a source's arrays into `folder`, in chunks that fit in memory; the caller writes the metadata.

    Returns the class names. `progress` receives the images written so far and their total. Raises DataError.
    """
    reader = _open(source, cache)
    counts = {part: reader.count(part) for part in PARTS}
    for part, count in counts.items():
        if not count:
            raise DataError(f"{source}: the {part} set is empty; give images for both training and test")
    class_counts: dict[str, np.ndarray] = {}
    done = 0
    for part, count in counts.items():
        class_counts[part] = np.zeros(256, np.int64)
        with (
            (folder / f"{part}_images.npy").open("wb") as image_file,
            (folder / f"{part}_labels.npy").open("wb") as label_file,
        ):
            _write_header(image_file, (count, *IMAGE_SIZE))
            _write_header(label_file, (count,))
            for images, indices in reader.chunks(part):
                image_file.write(images.tobytes())  # not a memory map, whose written pages would count as our memory
                label_file.write(indices.tobytes())
                class_counts[part] += np.bincount(indices, minlength=256)
                done += len(indices)
                if progress:
                    progress(done, sum(counts.values()))
    missing = [label for label, n in zip(reader.labels, class_counts["train"], strict=False) if not n]
    if missing:
        raise DataError(
            f"{source}: no training image of {' '.join(missing)}; add some, or remove these classes from the mapping"
        )
    return reader.labels


def fingerprint(source: str, cache: Path = CACHE) -> str:
    """sha256 of what `read` would read: the bytes of an idx folder's files, N and the generator of strokes, or the
    name of EMNIST's split (which never changes, and may not be downloaded yet). Raises DataError."""
    kind, _, rest = source.partition(":")
    if kind == "emnist":
        emnist.check_split(rest or idx.SPLITS[0])
        return hashlib.sha256(f"emnist\0{rest or idx.SPLITS[0]}".encode()).hexdigest()
    return _open(source, cache).fingerprint()


class _Source(Protocol):
    @property
    def labels(self) -> tuple[str, ...]: ...
    def count(self, part: str) -> int: ...
    def chunks(self, part: str) -> Iterator[tuple[np.ndarray, np.ndarray]]: ...
    def fingerprint(self) -> str: ...


def _open(source: str, cache: Path) -> _Source:
    kind, _, rest = source.partition(":")
    if kind.partition("#")[0] == "strokes":
        return _strokes(source)
    if kind == "idx" and rest:
        if "#" not in rest or Path(rest).is_dir():
            return idx.find(Path(rest).expanduser())
        folder, _, split = rest.rpartition("#")
        return idx.find(Path(folder).expanduser(), split)
    if kind == "emnist":
        return emnist.open_split(rest or idx.SPLITS[0], cache.expanduser())
    raise DataError(
        f"{source!r} is not a data source; give strokes, strokes:N, strokes:N#text, idx:DIR, idx:DIR#SPLIT, emnist or "
        "emnist:SPLIT"
    )


def _strokes(source: str) -> strokes.Strokes:
    before, hash_sign, mix = source.partition("#")
    _, colon, digits = before.partition(":")
    if colon and not (digits.isascii() and digits.isdigit() and len(digits) < 10):
        raise DataError(f"{source}: {digits!r} is not a number of images; give e.g. strokes:14000")
    count = int(digits) if colon else strokes.DEFAULT_COUNT
    return strokes.Strokes(count, mix=mix if hash_sign else next(iter(strokes.MIXES)))


def _write_header(stream: IO[bytes], shape: tuple[int, ...]) -> None:
    np.lib.format.write_array_header_1_0(stream, {"descr": "|u1", "fortran_order": False, "shape": shape})


def _pair(folder: Path, part: str, classes: int) -> tuple[np.ndarray, np.ndarray]:
    images = _array(folder / f"{part}_images.npy", 3)
    labels = load_labels(folder, part)
    if len(images) != len(labels) or not len(labels):
        raise DataError(
            f"{folder}: {len(images)} {part} images with {len(labels)} labels; rerun python -m seaway.explore"
        )
    if labels.max() >= classes:
        raise DataError(
            f"{folder}: {part} label {labels.max()}, but card.json names {classes} classes; "
            "rerun python -m seaway.explore"
        )
    return images, labels


def _array(path: Path, dimensions: int) -> np.ndarray:
    try:
        array: np.ndarray = np.load(path, mmap_mode="r", allow_pickle=False)
    except (OSError, ValueError, EOFError) as error:
        raise DataError(f"{path}: cannot be read ({error}); rerun python -m seaway.explore") from None
    if array.dtype != np.uint8 or array.ndim != dimensions:
        raise DataError(f"{path}: {array.dtype} {list(array.shape)} instead of uint8 in {dimensions} dimensions")
    return array
