"""Which pictures an epoch is made of where classes are unevenly filled.

none        every picture once
down        every class cut to the rarest one's number, by another choice each epoch
up          every class raised to the commonest one's number by repeats
synthetic   the same by distorted copies: each repeat is drawn anew, as another hand might have drawn it
weighted    every picture once; its loss counts in inverse proportion to how many pictures its class has
"""

import numpy as np

from seaway.errors import InvalidInput

NONE, DOWN, UP, SYNTHETIC, WEIGHTED = CHOICES = ("none", "down", "up", "synthetic", "weighted")


def check(sampling: str) -> None:
    if sampling not in CHOICES:
        raise InvalidInput(f"--sampling {sampling}: choose {', '.join(CHOICES)}")


def size(labels: np.ndarray, sampling: str) -> int:
    """How many pictures an epoch has; `labels` uint8 [N] are those of the training rows."""
    counts = _counts(labels)
    per_class = {DOWN: counts.min(), UP: counts.max(), SYNTHETIC: counts.max()}.get(sampling)
    return len(labels) if per_class is None else int(per_class) * len(counts)


def draw(labels: np.ndarray, sampling: str, rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
    """int64 [n] and bool [n]: places in `labels`, uint8 [N], in random order, and whether each is a repeat of one that
    is there already. Repeats are even: within a class no picture comes twice more often than another."""
    if sampling in (NONE, WEIGHTED):
        return rng.permutation(len(labels)), np.zeros(len(labels), bool)
    counts = _counts(labels)
    wanted = int(counts.min() if sampling == DOWN else counts.max())
    chosen = np.concatenate([_resize(np.flatnonzero(labels == label), wanted, rng) for label in np.unique(labels)])
    order = rng.permutation(len(chosen))
    repeats = np.ones(len(chosen), bool)
    repeats[np.unique(chosen, return_index=True)[1]] = False
    return chosen[order], repeats[order]


def weights(labels: np.ndarray, classes: int, sampling: str) -> np.ndarray | None:
    """float32 [classes], one on average over the pictures; None where all count alike."""
    if sampling != WEIGHTED:
        return None
    counts = np.bincount(labels, minlength=classes)
    present = np.count_nonzero(counts)
    return (len(labels) / (present * np.maximum(counts, 1))).astype(np.float32)


def _counts(labels: np.ndarray) -> np.ndarray:
    counts = np.bincount(labels)
    return counts[counts > 0]


def _resize(places: np.ndarray, wanted: int, rng: np.random.Generator) -> np.ndarray:
    whole, rest = divmod(wanted, len(places))
    return np.concatenate([np.tile(places, whole), rng.choice(places, rest, replace=False)])
