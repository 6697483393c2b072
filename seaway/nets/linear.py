"""Logistic regression on the pixels: the baseline for all other nets."""

from torch import nn


def build(image_size: tuple[int, int], classes: int) -> nn.Sequential:
    """float32 [N, 1, height, width] → logits [N, classes]."""
    height, width = image_size
    return nn.Sequential(nn.Flatten(), nn.Linear(height * width, classes))
