"""Pictures of characters: where they come from, what a dataset artifact holds, and how it becomes model input.

    strokes[:N]       made offline from stroke fonts: N pictures (14,000), training and test together
    idx:DIR[#SPLIT]   a folder of EMNIST's own files; #SPLIT where it holds several, as in idx:data#balanced
    emnist[:SPLIT]    EMNIST through torchvision: byclass (default), bymerge, balanced, letters, digits or mnist

dataset/  train_images.npy, test_images.npy   uint8 [N, height, width], upright, white ink on black
          train_labels.npy, test_labels.npy   uint8 [N], indices into the card's labels
          card.json                           kind "dataset": labels, source, fingerprint, counts
"""

import hashlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Protocol

import numpy as np

from seaway import extras
from seaway.artifacts import card as cards
from seaway.data import emnist, idx, strokes
from seaway.errors import CardError, DataError

PARTS = idx.PARTS
IMAGE_SIZE = idx.IMAGE_SIZE
CACHE = Path("~/.cache/seaway")  # for downloads only

Progress = Callable[[int, int], None]


@dataclass(frozen=True, slots=True)
class Dataset:
    """Memory-mapped arrays, read-only: images uint8 [N, H, W], labels uint8 [N], indices into `labels`."""

    train_images: np.ndarray
    train_labels: np.ndarray
    test_images: np.ndarray
    test_labels: np.ndarray
    labels: tuple[str, ...]


def load(folder: Path, test: bool = True) -> Dataset:
    """Opens a dataset artifact without reading its pictures; without `test` that set is not opened, and is empty.

    Raises DataError for what is missing or does not fit.
    """
    try:
        card = cards.read(folder)
    except CardError as error:
        raise DataError(f"{error}; make the dataset with `python -m seaway.explore`") from None
    if card.kind != "dataset":
        raise DataError(
            f"{folder}: expected a dataset, but its card says {card.kind!r}; give the explore stage's folder"
        )
    train_images, train_labels = _pair(folder, "train", len(card.labels))
    if not test:
        return Dataset(train_images, train_labels, train_images[:0], train_labels[:0], card.labels)
    test_images, test_labels = _pair(folder, "test", len(card.labels))
    if train_images.shape[1:] != test_images.shape[1:]:
        raise DataError(f"{folder}: training and test pictures differ in size; make the dataset again")
    return Dataset(train_images, train_labels, test_images, test_labels, card.labels)


def load_labels(folder: Path, part: str) -> np.ndarray:
    """uint8 [N], memory-mapped: the labels of "train" or "test", without a card. Raises DataError."""
    return _array(folder / f"{part}_labels.npy", 1)


def model_input(images: np.ndarray) -> np.ndarray:
    """uint8 [N, H, W] → float32 [N, H, W, 1] in 0..1: the one place that turns pictures into model inputs."""
    return (images[..., np.newaxis] / np.float32(255)).astype(np.float32, copy=False)


def read(source: str, folder: Path, cache: Path = CACHE, progress: Progress | None = None) -> tuple[str, ...]:
    """Writes a source's arrays into `folder`, in chunks and never as a whole in memory; the card is the caller's.

    Returns the class names. `progress` is told the pictures written so far and their total. Raises DataError.
    """
    opened = _open(source, cache)
    counts = {part: opened.count(part) for part in PARTS}
    for part, count in counts.items():
        if not count:
            raise DataError(f"{source}: the {part} set is empty; give pictures for both training and test")
    seen: dict[str, np.ndarray] = {}
    done = 0
    for part, count in counts.items():
        seen[part] = np.zeros(256, np.int64)
        with (folder / f"{part}_images.npy").open("wb") as images, (folder / f"{part}_labels.npy").open("wb") as labels:
            _write_header(images, (count, *IMAGE_SIZE))
            _write_header(labels, (count,))
            for pictures, indices in opened.chunks(part):
                images.write(pictures.tobytes())  # not a memory map: its written pages would count as ours
                labels.write(indices.tobytes())
                seen[part] += np.bincount(indices, minlength=256)
                done += len(indices)
                if progress:
                    progress(done, sum(counts.values()))
    missing = [label for label, n in zip(opened.labels, seen["train"], strict=False) if not n]
    if missing:
        raise DataError(
            f"{source}: no training picture of {' '.join(missing)}; add some, or take these classes out of the mapping"
        )
    return opened.labels


def fingerprint(source: str, cache: Path = CACHE) -> str:
    """sha256 of what `read` would read: the bytes of an idx folder's files, N and the generator of strokes, or the
    name of EMNIST's split (which never changes, and need not be there yet). Raises DataError."""
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
    kind, colon, rest = source.partition(":")
    if kind == "strokes":
        extras.require("HersheyFonts")
        return strokes.Strokes(_number(source, rest) if colon else strokes.DEFAULT_COUNT)
    if kind == "idx" and rest:
        if "#" not in rest or Path(rest).is_dir():
            return idx.find(Path(rest).expanduser())
        folder, _, split = rest.rpartition("#")
        return idx.find(Path(folder).expanduser(), split)
    if kind == "emnist":
        return emnist.open_split(rest or idx.SPLITS[0], cache.expanduser())
    raise DataError(
        f"{source!r} is no data source; give strokes, strokes:N, idx:DIR, idx:DIR#SPLIT, emnist or emnist:SPLIT"
    )


def _number(source: str, digits: str) -> int:
    if not (digits.isascii() and digits.isdigit() and len(digits) < 10):
        raise DataError(f"{source}: {digits!r} is not a number of pictures; give one as in strokes:14000")
    return int(digits)


def _write_header(opened: IO[bytes], shape: tuple[int, ...]) -> None:
    np.lib.format.write_array_header_1_0(opened, {"descr": "|u1", "fortran_order": False, "shape": shape})


def _pair(folder: Path, part: str, classes: int) -> tuple[np.ndarray, np.ndarray]:
    images = _array(folder / f"{part}_images.npy", 3)
    labels = load_labels(folder, part)
    if len(images) != len(labels) or not len(labels):
        raise DataError(f"{folder}: {len(images)} {part} pictures with {len(labels)} labels; make the dataset again")
    if labels.max() >= classes:
        raise DataError(f"{folder}: {part} label {labels.max()}, but the card names {classes} classes; make it again")
    return images, labels


def _array(path: Path, dimensions: int) -> np.ndarray:
    try:
        array: np.ndarray = np.load(path, mmap_mode="r", allow_pickle=False)
    except (OSError, ValueError, EOFError) as error:
        raise DataError(f"{path}: cannot be read ({error}); make the dataset again") from None
    if array.dtype != np.uint8 or array.ndim != dimensions:
        raise DataError(f"{path}: {array.dtype} {list(array.shape)} instead of uint8 in {dimensions} dimensions")
    return array
