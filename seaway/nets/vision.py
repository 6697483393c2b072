"""torchvision's classifiers, untrained, for pictures with one channel: `torchvision:NAME`, as torchvision:resnet18."""

from collections import OrderedDict
from difflib import get_close_matches
from typing import Any

from torch import nn

from seaway.errors import ModelError

# Branches that are for training alone, and weights drawn in a way that takes minutes.
_OPTIONS: dict[str, dict[str, Any]] = {
    "googlenet": {"aux_logits": False, "init_weights": False},
    "inception_v3": {"aux_logits": False, "init_weights": False},
}


def build(name: str, image_size: tuple[int, int], classes: int) -> nn.Module:
    """float32 [N, 1, height, width] → logits [N, classes]; smaller pictures than the net takes are enlarged inside it.

    Raises ModelError for a name that torchvision does not have.
    """
    try:
        from torchvision import models
    except ImportError:
        raise ModelError(
            f"torchvision:{name}: torchvision is not installed here; install it, or take --net cnn"
        ) from None
    there = models.list_models(module=models)
    if name not in there:
        near = get_close_matches(name, there, 3) or there[:3]
        raise ModelError(
            f"--net torchvision:{name}: torchvision has no classifier of that name; perhaps {', '.join(near)}"
        )
    net: nn.Module = models.get_model(name, weights=None, num_classes=classes, **_OPTIONS.get(name, {}))
    _one_channel(net)
    size = _size(models.get_model_weights(name), name, image_size)
    if size == image_size:
        return net
    resize = nn.Upsample(size=size, mode="bilinear", align_corners=False)
    return nn.Sequential(OrderedDict(resize=resize, net=net))


def _one_channel(net: nn.Module) -> None:
    """Puts a convolution of one channel in the place of the first, which has three."""
    name, first = next((name, part) for name, part in net.named_modules() if isinstance(part, nn.Conv2d))
    owner, _, last = name.rpartition(".")
    kept = {key: getattr(first, key) for key in ("kernel_size", "stride", "padding", "dilation", "padding_mode")}
    one = nn.Conv2d(1, first.out_channels, bias=first.bias is not None, **kept)
    setattr(net.get_submodule(owner), last, one)


def _size(weights: Any, name: str, image_size: tuple[int, int]) -> tuple[int, int]:
    """The least that the net takes, which torchvision states for each; transformers take nothing else."""
    height, width = weights.DEFAULT.meta["min_size"]
    if name.startswith("vit_"):
        return height, width
    return max(height, image_size[0]), max(width, image_size[1])
