"""The default network, and a larger one: residual networks made of operators that every converter knows.

Conv, BatchNorm, ReLU, Add, Flatten, Gemm: nothing else. On a CPU training is bound by memory at full size, so only the
thin stem sees all pixels. The classifier reads the last, small map as it is: an average over it would lose where a
stroke is, which tells d from p, and a hidden layer of its own would learn the training set's writers by heart.
"""

from collections import OrderedDict
from dataclasses import dataclass

from torch import Tensor, nn


@dataclass(frozen=True, slots=True)
class Sizes:
    """Channels at full size, then at a half, a quarter and an eighth; residual blocks at each of those three."""

    stem: int = 16
    stages: tuple[int, ...] = (24, 48, 96)
    blocks: int = 1
    dropout: float = 0.0  # of what the classifier reads


def build(image_size: tuple[int, int], classes: int, sizes: Sizes = Sizes()) -> nn.Sequential:
    """float32 [N, 1, height, width] → logits [N, classes]."""
    parts: OrderedDict[str, nn.Module] = OrderedDict(stem=_convolution(1, sizes.stem))
    before, (height, width) = sizes.stem, image_size
    for number, channels in enumerate(sizes.stages, start=1):
        blocks = [_Residual(channels) for _ in range(sizes.blocks)]
        parts[f"stage{number}"] = nn.Sequential(_convolution(before, channels, stride=2), *blocks)
        before, height, width = channels, (height + 1) // 2, (width + 1) // 2
    parts["flatten"] = nn.Flatten()
    if sizes.dropout:
        parts["dropout"] = nn.Dropout(sizes.dropout)
    parts["classify"] = nn.Linear(before * height * width, classes)
    return nn.Sequential(parts)


def large(image_size: tuple[int, int], classes: int) -> nn.Sequential:
    """Wider, for whoever has four times the time."""
    return build(image_size, classes, Sizes(stages=(32, 64, 128), dropout=0.3))


class _Residual(nn.Module):
    def __init__(self, channels: int) -> None:
        super().__init__()
        self.first = _convolution(channels, channels)
        self.second = nn.Sequential(nn.Conv2d(channels, channels, 3, padding=1, bias=False), nn.BatchNorm2d(channels))
        self.relu = nn.ReLU(inplace=True)

    def forward(self, x: Tensor) -> Tensor:
        result: Tensor = self.relu(x + self.second(self.first(x)))
        return result


def _convolution(before: int, after: int, stride: int = 1) -> nn.Sequential:
    return nn.Sequential(
        nn.Conv2d(before, after, 3, stride, padding=1, bias=False),  # BatchNorm brings the bias
        nn.BatchNorm2d(after),
        nn.ReLU(inplace=True),
    )
