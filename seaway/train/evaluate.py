"""How good a network is: its logits for many pictures, and the figures made of them."""

import string
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from seaway.data import data, idx

BATCH = 512
BINS = 15  # of confidence, as calibration errors are given since Guo et al. 2017


@dataclass(frozen=True, slots=True)
class Normalisation:
    """Mean and standard deviation of the training pictures' values in 0..1."""

    mean: float
    std: float

    def __call__(self, images: Tensor) -> Tensor:
        return (images - self.mean) / self.std


@dataclass(frozen=True, slots=True)
class Result:
    """What a network made of N pictures. Confidence is the softmax's share of the class that a picture is taken for.

    top5        how often the true class is among the five most probable
    confusion   int64 [classes, classes]: [i, j] counts pictures of class i that were taken for class j
    taken       int64 [N], the class that each picture is taken for
    confidence  float32 [N], in 0..1
    """

    accuracy: float
    balanced_accuracy: float
    loss: float
    top5: float
    confusion: np.ndarray
    taken: np.ndarray
    confidence: np.ndarray
    reliability: "Reliability"

    @property
    def recall(self) -> np.ndarray:
        """float64 [classes]; NaN for a class without pictures."""
        return _share(self.confusion.diagonal(), self.confusion.sum(axis=1))

    @property
    def precision(self) -> np.ndarray:
        """float64 [classes]; NaN for a class that no picture is taken for."""
        return _share(self.confusion.diagonal(), self.confusion.sum(axis=0))

    def bymerge_accuracy(self, labels: tuple[str, ...]) -> float | None:
        """The accuracy with case folded as EMNIST's ByMerge folds it; None where it merges none of these classes."""
        _, group = np.unique(bymerge(labels), return_inverse=True)
        if len(np.unique(group)) == len(labels):
            return None
        return float(self.confusion[group[:, None] == group].sum() / self.confusion.sum())


@dataclass(frozen=True, slots=True)
class Reliability:
    """Pictures in BINS bins of equal width by their confidence: how many, how sure the network is, how often right.

    counts int64 [BINS]; confidence and accuracy float64 [BINS], means, NaN for an empty bin.
    """

    counts: np.ndarray
    confidence: np.ndarray
    accuracy: np.ndarray

    @property
    def error(self) -> float:
        """The expected calibration error: the mean distance of confidence and accuracy over all pictures, in 0..1."""
        return float(np.nansum(self.counts * np.abs(self.accuracy - self.confidence)) / self.counts.sum())


def to_batch(images: np.ndarray) -> Tensor:
    """uint8 [N, H, W] → float32 [N, 1, H, W] in 0..1."""
    return torch.from_numpy(data.model_input(images)).movedim(3, 1)


def predict(net: nn.Module, images: np.ndarray, normalise: Normalisation, device: torch.device) -> Tensor:
    """Logits float32 [N, classes], on the CPU; leaves the net in evaluation mode."""
    net.eval()
    with torch.inference_mode():
        starts = range(0, len(images), BATCH)
        batches = (to_batch(images[start : start + BATCH]).to(device) for start in starts)
        return torch.cat([net(normalise(batch)).cpu() for batch in batches])


def measure(logits: Tensor, labels: np.ndarray) -> Result:
    """Balanced accuracy is the mean recall of the classes that occur, so that frequent ones do not hide rare ones."""
    classes = logits.shape[1]
    truth = torch.from_numpy(labels.astype(np.int64))
    best, chosen = logits.softmax(dim=1).max(dim=1)
    confidence, taken = best.numpy(), chosen.numpy()
    pairs = truth.numpy() * classes + taken
    confusion = np.bincount(pairs, minlength=classes * classes).reshape(classes, classes)
    present = confusion.sum(axis=1) > 0
    recall = confusion.diagonal()[present] / confusion.sum(axis=1)[present]
    five = logits.topk(min(5, classes), dim=1).indices
    return Result(
        accuracy=float(confusion.trace() / len(labels)),
        balanced_accuracy=float(recall.mean()),
        loss=float(F.cross_entropy(logits, truth)),
        top5=float((five == truth[:, None]).any(dim=1).double().mean()),
        confusion=confusion,
        taken=taken,
        confidence=confidence,
        reliability=_reliability(confidence, taken == truth.numpy()),
    )


def bymerge(labels: tuple[str, ...]) -> list[str]:
    """Each class's name after EMNIST's ByMerge: the upper case of a lower-case letter that looks like it, else its own.

    So c, i, j, k, l, m, o, p, s, u, v, w, x, y and z are merged (Cohen et al. 2017, III.C).
    """
    kept = idx.standard_labels("bymerge")[1]
    merged = set(string.ascii_lowercase) - set(kept)
    return [label.upper() if label in merged else label for label in labels]


def _reliability(confidence: np.ndarray, right: np.ndarray) -> Reliability:
    sure = confidence.astype(np.float64)
    number = np.searchsorted(np.linspace(0, 1, BINS + 1)[1:-1], sure)  # not a number: in the last
    counts = np.bincount(number, minlength=BINS)
    sums = (np.bincount(number, weights=values, minlength=BINS) for values in (sure, right))
    return Reliability(counts, *(_share(total, counts) for total in sums))


def _share(part: np.ndarray, whole: np.ndarray) -> np.ndarray:
    """float64; NaN where there is nothing to share."""
    return np.where(whole > 0, part / np.maximum(whole, 1), np.nan)
