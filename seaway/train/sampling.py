"""The images of an epoch, where classes are imbalanced.

none          every image once
weighted      every image once; its loss is weighted in inverse proportion to the size of its class
undersample   as many images of every class as the rarest class has, chosen anew each epoch
oversample    as many images of every class as the most common class has, by repeating images
augment       the same, but every repeat is strongly augmented, as if another writer had drawn it
"""

import numpy as np

from seaway.errors import InvalidInput

NONE, WEIGHTED, UNDERSAMPLE, OVERSAMPLE, AUGMENT = CHOICES = (
    "none",
    "weighted",
    "undersample",
    "oversample",
    "augment",
)


def check(sampling: str) -> None:
    if sampling not in CHOICES:
        raise InvalidInput(f"--sampling {sampling}: choose from {', '.join(CHOICES)}")


def size(labels: np.ndarray, sampling: str) -> int:
    """The number of images in an epoch; `labels`, uint8 [N], are those of the training images."""
    counts = _counts(labels)
    per_class = {UNDERSAMPLE: counts.min(), OVERSAMPLE: counts.max(), AUGMENT: counts.max()}.get(sampling)
    return len(labels) if per_class is None else int(per_class) * len(counts)


def draw(labels: np.ndarray, sampling: str, rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
    """int64 [n] and bool [n]: indices into `labels`, uint8 [N], in random order, and whether each repeats another one.

    Repeats are even: within a class the counts of any two images differ by at most one.
    """
    if sampling in (NONE, WEIGHTED):
        return rng.permutation(len(labels)), np.zeros(len(labels), bool)
    counts = _counts(labels)
    class_size = int(counts.min() if sampling == UNDERSAMPLE else counts.max())
    chosen = np.concatenate([_resize(np.flatnonzero(labels == label), class_size, rng) for label in np.unique(labels)])
    order = rng.permutation(len(chosen))
    repeats = np.ones(len(chosen), bool)
    repeats[np.unique(chosen, return_index=True)[1]] = False
    return chosen[order], repeats[order]


def weights(labels: np.ndarray, classes: int, sampling: str) -> np.ndarray | None:
    """float32 [classes], with a mean of one over the images; None if all images count alike."""
    if sampling != WEIGHTED:
        return None
    counts = np.bincount(labels, minlength=classes)
    present = np.count_nonzero(counts)
    return (len(labels) / (present * np.maximum(counts, 1))).astype(np.float32)


def _counts(labels: np.ndarray) -> np.ndarray:
    counts = np.bincount(labels)
    return counts[counts > 0]


def _resize(indices: np.ndarray, size: int, rng: np.random.Generator) -> np.ndarray:
    whole, rest = divmod(size, len(indices))
    return np.concatenate([np.tile(indices, whole), rng.choice(indices, rest, replace=False)])
