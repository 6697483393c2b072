"""Pictures of characters: what a dataset artifact holds, and how it becomes model input.

dataset/  train_images.npy, test_images.npy   uint8 [N, height, width], upright, white ink on black
          train_labels.npy, test_labels.npy   uint8 [N], indices into the card's labels
          card.json                           kind "dataset": labels, source, fingerprint, counts
"""

from dataclasses import dataclass
from pathlib import Path

import numpy as np

from seaway import card as cards
from seaway.errors import CardError, DataError


@dataclass(frozen=True, slots=True)
class Dataset:
    """Memory-mapped arrays, read-only: images uint8 [N, H, W], labels uint8 [N], indices into `labels`."""

    train_images: np.ndarray
    train_labels: np.ndarray
    test_images: np.ndarray
    test_labels: np.ndarray
    labels: tuple[str, ...]


def load(folder: Path) -> Dataset:
    """Opens a dataset artifact without reading its pictures. Raises DataError for what is missing or does not fit."""
    try:
        card = cards.read(folder)
    except CardError as error:
        raise DataError(f"{error}; make the dataset with `python -m components.explore`") from None
    if card.kind != "dataset":
        raise DataError(
            f"{folder}: expected a dataset, but its card says {card.kind!r}; give the explore stage's folder"
        )
    train_images, train_labels = _pair(folder, "train", len(card.labels))
    test_images, test_labels = _pair(folder, "test", len(card.labels))
    if train_images.shape[1:] != test_images.shape[1:]:
        raise DataError(f"{folder}: training and test pictures differ in size; make the dataset again")
    return Dataset(train_images, train_labels, test_images, test_labels, card.labels)


def model_input(images: np.ndarray) -> np.ndarray:
    """uint8 [N, H, W] → float32 [N, H, W, 1] in 0..1: the one place that turns pictures into model inputs."""
    return (images[..., np.newaxis] / np.float32(255)).astype(np.float32, copy=False)


def _pair(folder: Path, part: str, classes: int) -> tuple[np.ndarray, np.ndarray]:
    images = _array(folder / f"{part}_images.npy", 3)
    labels = _array(folder / f"{part}_labels.npy", 1)
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
