"""The networks that are served. The usual one, `conv`: conv32, pool, conv64, pool, dense128, 62 classes, on 28 by 28
(2.6 M multiply-adds). `resnet18` and `large` are loaded and unloaded beside it.

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


def resnet18() -> nn.Module:
    """float32 [N, 3, 224, 224] → logits [N, 1000]: torchvision's, 47 MB of random weights."""
    import torchvision

    torch.manual_seed(18)
    net: nn.Module = torchvision.models.resnet18()
    return net.eval()


def large() -> nn.Sequential:
    """float32 [N, 3, 64, 64] → logits [N, 1000]: VGG11 for small images, 154 MB of random weights."""
    torch.manual_seed(11)
    layers: list[nn.Module] = []
    before = 3
    for channels, convolutions in ((64, 1), (128, 1), (256, 2), (512, 2), (512, 2)):
        for _ in range(convolutions):
            layers += [nn.Conv2d(before, channels, 3, padding=1), nn.ReLU()]
            before = channels
        layers.append(nn.MaxPool2d(2))
    layers += [nn.Flatten(), nn.Linear(512 * 2 * 2, 4096), nn.ReLU(), nn.Linear(4096, 4096), nn.ReLU()]
    return nn.Sequential(*layers, nn.Linear(4096, 1000)).eval()
