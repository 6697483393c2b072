"""The default network, and a larger one: residual networks made of operators that every converter supports.

Conv, BatchNorm, ReLU, Add, Flatten, Gemm: nothing else. On a CPU memory bandwidth limits training at full size, so only
the thin stem sees all pixels. The classifier reads the last, small map without pooling: an average would lose the
positions of strokes, which distinguish d from p, and a hidden layer would memorise the training set's writers.
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
    dropout: float = 0.0  # before the classifier


def build(image_size: tuple[int, int], classes: int, sizes: Sizes = Sizes()) -> nn.Sequential:
    """float32 [N, 1, height, width] → logits [N, classes]."""
    parts: OrderedDict[str, nn.Module] = OrderedDict(stem=_convolution(1, sizes.stem))
    in_channels, (height, width) = sizes.stem, image_size
    for number, channels in enumerate(sizes.stages, start=1):
        blocks = [_Residual(channels) for _ in range(sizes.blocks)]
        parts[f"stage{number}"] = nn.Sequential(_convolution(in_channels, channels, stride=2), *blocks)
        in_channels, height, width = channels, (height + 1) // 2, (width + 1) // 2
    parts["flatten"] = nn.Flatten()
    if sizes.dropout:
        parts["dropout"] = nn.Dropout(sizes.dropout)
    parts["classify"] = nn.Linear(in_channels * height * width, classes)
    return nn.Sequential(parts)


def large(image_size: tuple[int, int], classes: int) -> nn.Sequential:
    """Wider, and four times as slow."""
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


def _convolution(in_channels: int, out_channels: int, stride: int = 1) -> nn.Sequential:
    return nn.Sequential(
        nn.Conv2d(in_channels, out_channels, 3, stride, padding=1, bias=False),  # BatchNorm has the bias
        nn.BatchNorm2d(out_channels),
        nn.ReLU(inplace=True),
    )
