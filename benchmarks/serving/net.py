"""The network that is served: conv32, pool, conv64, pool, dense128, 62 classes, on 28 by 28 (2.6 M multiply-adds).

Its weights are random with a fixed seed. Those of the last layer are scaled up, so that the scores of any two images
differ by far more than rounding, and a response to the wrong client is detected.
"""

import torch
from torch import nn

CONTRAST = 60.0  # of the last layer; 1 would give nearly the same scores to every noise image


class _ChannelsFirst(nn.Module):
    def forward(self, image: torch.Tensor) -> torch.Tensor:
        """[N, 28, 28, 1], TensorFlow's image layout, to [N, 1, 28, 28]."""
        return image.permute(0, 3, 1, 2)


def conv() -> nn.Sequential:
    """float32 [N, 28, 28, 1] → logits [N, 62]."""
    torch.manual_seed(4)
    net = nn.Sequential(
        _ChannelsFirst(),
        nn.Conv2d(1, 32, 3),
        nn.ReLU(),
        nn.MaxPool2d(2),
        nn.Conv2d(32, 64, 3),
        nn.ReLU(),
        nn.MaxPool2d(2),
        nn.Flatten(),
        nn.Linear(64 * 5 * 5, 128),
        nn.ReLU(),
        last := nn.Linear(128, 62),
    )
    with torch.no_grad():
        last.weight *= CONTRAST
    return net.eval()
