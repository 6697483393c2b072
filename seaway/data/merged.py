"""Accuracy with some classes counted as one, computed from the confusion matrix."""

from collections.abc import Sequence

import numpy as np

LOOK_ALIKES = ("0Oo", "1Il")  # characters that nobody tells apart in handwriting without context


def look_alikes(labels: Sequence[str]) -> list[str]:
    """Each class's group: the first of its look-alikes, or its own label."""
    group = {character: alike[0] for alike in LOOK_ALIKES for character in alike}
    return [group.get(label, label) for label in labels]


def accuracy(confusion: np.ndarray, groups: Sequence[str]) -> float | None:
    """The accuracy with the classes of each group as one; None if no two classes share a group. `confusion`: counts
    [true class, predicted class]."""
    _, group = np.unique(groups, return_inverse=True)
    if len(np.unique(group)) == len(groups):
        return None
    return float(confusion[group[:, None] == group].sum() / confusion.sum())
