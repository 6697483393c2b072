"""torchvision's classifiers, untrained, for images with one channel: `torchvision:NAME`, e.g. torchvision:resnet18."""

from collections import OrderedDict
from difflib import get_close_matches
from typing import Any

from torch import nn

from seaway.errors import ModelError

# Without auxiliary outputs for training, and without an initialisation that takes minutes.
_OPTIONS: dict[str, dict[str, Any]] = {
    "googlenet": {"aux_logits": False, "init_weights": False},
    "inception_v3": {"aux_logits": False, "init_weights": False},
}


def build(name: str, image_size: tuple[int, int], classes: int) -> nn.Module:
    """float32 [N, 1, height, width] → logits [N, classes]; images smaller than the net accepts are enlarged inside it.

    Raises ModelError for a name that torchvision does not have.
    """
    try:
        from torchvision import models
    except ImportError:
        raise ModelError(f"torchvision:{name}: torchvision is not installed; install it, or use --net cnn") from None
    available = models.list_models(module=models)
    if name not in available:
        near = get_close_matches(name, available, 3) or available[:3]
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
    """Replaces the first convolution, which has three input channels, by one with a single channel."""
    name, first = next((name, part) for name, part in net.named_modules() if isinstance(part, nn.Conv2d))
    parent, _, attribute = name.rpartition(".")
    options = {key: getattr(first, key) for key in ("kernel_size", "stride", "padding", "dilation", "padding_mode")}
    one = nn.Conv2d(1, first.out_channels, bias=first.bias is not None, **options)
    setattr(net.get_submodule(parent), attribute, one)


def _size(weights: Any, name: str, image_size: tuple[int, int]) -> tuple[int, int]:
    """The image size for the net: at least the minimum that torchvision states; vision transformers need just that."""
    height, width = weights.DEFAULT.meta["min_size"]
    if name.startswith("vit_"):
        return height, width
    return max(height, image_size[0]), max(width, image_size[1])
