"""The default network: five 3x3 convolutions and one hidden layer, made of operators that every converter knows.

Conv, BatchNorm, ReLU, Flatten, Gemm: nothing else. Strides instead of pooling halve the picture: on a CPU, where
training is bound by memory at full size, only the thin first layer sees all pixels.
"""

from collections import OrderedDict
from dataclasses import dataclass

from torch import nn


@dataclass(frozen=True, slots=True)
class Sizes:
    """Channels at full, half and quarter size, and the width of the hidden layer."""

    full: int = 16
    half: int = 32
    quarter: int = 64
    hidden: int = 128


def build(image_size: tuple[int, int], classes: int, sizes: Sizes = Sizes()) -> nn.Sequential:
    """float32 [N, 1, height, width] → logits [N, classes]."""
    height, width = ((side + 3) // 4 for side in image_size)  # twice halved, rounded up each time
    return nn.Sequential(
        OrderedDict(
            at_full=_convolution(1, sizes.full),
            to_half=_convolution(sizes.full, sizes.half, stride=2),
            at_half=_convolution(sizes.half, sizes.half),
            to_quarter=_convolution(sizes.half, sizes.quarter, stride=2),
            at_quarter=_convolution(sizes.quarter, sizes.quarter),
            flatten=nn.Flatten(),
            hidden=nn.Sequential(
                nn.Linear(sizes.quarter * height * width, sizes.hidden, bias=False),
                nn.BatchNorm1d(sizes.hidden),
                nn.ReLU(inplace=True),
            ),
            classify=nn.Linear(sizes.hidden, classes),
        )
    )


def _convolution(before: int, after: int, stride: int = 1) -> nn.Sequential:
    return nn.Sequential(
        nn.Conv2d(before, after, 3, stride, padding=1, bias=False),  # BatchNorm brings the bias
        nn.BatchNorm2d(after),
        nn.ReLU(inplace=True),
    )
