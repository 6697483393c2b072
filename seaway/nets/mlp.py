"""A multilayer perceptron: small, quick to train, and the baseline for the convolutional net.

It ends in logits. The softmax is added on export: cross-entropy applies its own, and a second one would flatten the
gradients.
"""

from dataclasses import dataclass

from torch import nn


@dataclass(frozen=True, slots=True)
class Sizes:
    first: int = 512
    second: int = 256


def build(image_size: tuple[int, int], classes: int, sizes: Sizes = Sizes()) -> nn.Sequential:
    """float32 [N, 1, height, width] → logits [N, classes]."""
    height, width = image_size
    return nn.Sequential(
        nn.Flatten(),
        nn.Linear(height * width, sizes.first),
        nn.ELU(),
        nn.Linear(sizes.first, sizes.second),
        nn.ELU(),
        nn.Linear(sizes.second, classes),
    )
