"""How good a network is: its logits for many pictures, and the figures made of them."""

from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from seaway import data

BATCH = 512


@dataclass(frozen=True, slots=True)
class Normalisation:
    """Mean and standard deviation of the training pictures' values in 0..1."""

    mean: float
    std: float

    def __call__(self, images: Tensor) -> Tensor:
        return (images - self.mean) / self.std


@dataclass(frozen=True, slots=True)
class Result:
    """`confusion[i, j]` counts pictures of class i that were taken for class j."""

    accuracy: float
    balanced_accuracy: float
    loss: float
    confusion: np.ndarray

    @property
    def recall(self) -> np.ndarray:
        """float64 [classes]; NaN for a class without pictures."""
        seen = self.confusion.sum(axis=1)
        return np.where(seen > 0, self.confusion.diagonal() / np.maximum(seen, 1), np.nan)


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
    pairs = labels.astype(np.int64) * classes + logits.argmax(dim=1).numpy()
    confusion = np.bincount(pairs, minlength=classes * classes).reshape(classes, classes)
    present = confusion.sum(axis=1) > 0
    recall = confusion.diagonal()[present] / confusion.sum(axis=1)[present]
    return Result(
        accuracy=float(confusion.trace() / len(labels)),
        balanced_accuracy=float(recall.mean()),
        loss=float(F.cross_entropy(logits, truth)),
        confusion=confusion,
    )
