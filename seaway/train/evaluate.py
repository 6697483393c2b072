"""Evaluates a network: its logits for many images, and the metrics computed from them."""

import string
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from seaway.data import datasets, idx, merged

BATCH = 512
BINS = 15  # of confidence, as usual for calibration errors since Guo et al. 2017


@dataclass(frozen=True, slots=True)
class Normalisation:
    """Mean and standard deviation of the training images' values in 0..1."""

    mean: float
    std: float

    def __call__(self, images: Tensor) -> Tensor:
        return (images - self.mean) / self.std


@dataclass(frozen=True, slots=True)
class Result:
    """Metrics of a network on N images. Confidence is the softmax probability of the predicted class.

    top5        how often the true class is among the five most probable
    confusion   int64 [classes, classes]: [i, j] counts images of class i that were predicted as class j
    predicted   int64 [N], the predicted class of each image
    confidence  float32 [N], in 0..1
    """

    accuracy: float
    balanced_accuracy: float
    loss: float
    top5: float
    confusion: np.ndarray
    predicted: np.ndarray
    confidence: np.ndarray
    reliability: "Reliability"

    @property
    def recall(self) -> np.ndarray:
        """float64 [classes]; NaN for a class without images."""
        return _share(self.confusion.diagonal(), self.confusion.sum(axis=1))

    @property
    def precision(self) -> np.ndarray:
        """float64 [classes]; NaN for a class that is never predicted."""
        return _share(self.confusion.diagonal(), self.confusion.sum(axis=0))

    def bymerge_accuracy(self, labels: tuple[str, ...]) -> float | None:
        """The accuracy with case folded as in EMNIST's ByMerge split; None if it merges none of these classes."""
        return merged.accuracy(self.confusion, bymerge(labels))


@dataclass(frozen=True, slots=True)
class Reliability:
    """Images in BINS bins of equal width by confidence: their number, their mean confidence, and their accuracy.

    counts int64 [BINS]; confidence and accuracy float64 [BINS], means, NaN for an empty bin.
    """

    counts: np.ndarray
    confidence: np.ndarray
    accuracy: np.ndarray

    @property
    def error(self) -> float:
        """The expected calibration error, 0..1: the mean distance between confidence and accuracy over all images."""
        return float(np.nansum(self.counts * np.abs(self.accuracy - self.confidence)) / self.counts.sum())


def to_batch(images: np.ndarray) -> Tensor:
    """uint8 [N, H, W] → float32 [N, 1, H, W] in 0..1."""
    return torch.from_numpy(datasets.model_input(images)).movedim(3, 1)


def predict(net: nn.Module, images: np.ndarray, normalise: Normalisation, device: torch.device) -> Tensor:
    """Logits float32 [N, classes], on the CPU; leaves the net in evaluation mode."""
    net.eval()
    with torch.inference_mode():
        starts = range(0, len(images), BATCH)
        batches = (to_batch(images[start : start + BATCH]).to(device) for start in starts)
        return torch.cat([net(normalise(batch)).cpu() for batch in batches])


def measure(logits: Tensor, labels: np.ndarray) -> Result:
    """All metrics. Balanced accuracy is the mean recall of the classes that occur, so rare ones weigh as much."""
    classes = logits.shape[1]
    truth = torch.from_numpy(labels.astype(np.int64))
    probability, index = logits.softmax(dim=1).max(dim=1)
    confidence, predicted = probability.numpy(), index.numpy()
    pairs = truth.numpy() * classes + predicted
    confusion = np.bincount(pairs, minlength=classes * classes).reshape(classes, classes)
    present = confusion.sum(axis=1) > 0
    recall = confusion.diagonal()[present] / confusion.sum(axis=1)[present]
    top5 = logits.topk(min(5, classes), dim=1).indices
    return Result(
        accuracy=float(confusion.trace() / len(labels)),
        balanced_accuracy=float(recall.mean()),
        loss=float(F.cross_entropy(logits, truth)),
        top5=float((top5 == truth[:, None]).any(dim=1).double().mean()),
        confusion=confusion,
        predicted=predicted,
        confidence=confidence,
        reliability=_reliability(confidence, predicted == truth.numpy()),
    )


def bymerge(labels: tuple[str, ...]) -> list[str]:
    """Each class's name in EMNIST's ByMerge: upper case for lower-case letters that look like it, else unchanged.

    c, i, j, k, l, m, o, p, s, u, v, w, x, y and z are merged (Cohen et al. 2017, III.C).
    """
    names = idx.standard_labels("bymerge")[1]
    folded = set(string.ascii_lowercase) - set(names)
    return [label.upper() if label in folded else label for label in labels]


def _reliability(confidence: np.ndarray, correct: np.ndarray) -> Reliability:
    confidence = confidence.astype(np.float64)
    number = np.searchsorted(np.linspace(0, 1, BINS + 1)[1:-1], confidence)  # NaN: in the last
    counts = np.bincount(number, minlength=BINS)
    sums = (np.bincount(number, weights=values, minlength=BINS) for values in (confidence, correct))
    return Reliability(counts, *(_share(total, counts) for total in sums))


def _share(part: np.ndarray, whole: np.ndarray) -> np.ndarray:
    """float64; NaN where the whole is 0."""
    return np.where(whole > 0, part / np.maximum(whole, 1), np.nan)
