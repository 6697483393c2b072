"""Networks by name, each as a function without arguments: `python:benchmarks.ship.builders:timm.resnet18`.

Weights are random, seeded, and spread: freshly initialized networks have BatchNorm statistics of 0 and 1, biases of
zero and residual branches scaled by 1e-6, and so hide errors in what comes before those.
"""

import functools
import inspect
import zlib
from collections.abc import Callable
from typing import Any

import torch
from torch import nn
from torch.utils import _pytree

from benchmarks.ship import exactness, lists

BATCH = 3  # random inputs that set the running statistics
MIN_VARIANCE = 1e-3
MIN_SCALE = 0.1  # of a branch: smaller ones, as of LayerScale, are drawn around this


def __getattr__(name: str) -> Callable[[], nn.Module]:
    """The function that builds LIST.NET."""
    source, _, net = name.partition(".")
    if not net or source not in SOURCES:
        raise AttributeError(f"no network {name!r}: name one as LIST.NET, of the lists {', '.join(SOURCES)}")
    return functools.partial(build, source, net)


def build(source: str, name: str) -> nn.Module:
    """The network in eval mode, with its own seed."""
    seed = zlib.crc32(name.encode())
    torch.manual_seed(seed)
    net = SOURCES[source](name).eval()
    spread(net, seed)
    normalize(net, source, name)
    return net


def spread(net: nn.Module, seed: int) -> None:
    """Gives constant vectors (biases, scales) random values of a usual size."""
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for parameter in net.parameters():
            if not parameter.is_floating_point() or not parameter.numel():
                continue
            value = float(parameter.flatten()[0])
            if not bool((parameter == value).all()):
                continue
            if value == 0:
                parameter.normal_(0, 0.02, generator=generator)
            else:
                scale = max(abs(value), MIN_SCALE) * (1 if value > 0 else -1)
                parameter.uniform_(0.8, 1.2, generator=generator).mul_(scale)


def normalize(net: nn.Module, source: str, name: str) -> None:
    """Gives running statistics those of random inputs, as training does: what differs from them grows layer by layer,
    and of a deep network only amplified rounding would be left."""
    layers = [layer for layer in net.modules() if isinstance(layer, nn.modules.batchnorm._BatchNorm)]
    layers = [layer for layer in layers if layer.track_running_stats]
    if not layers:
        return
    entry = next(entry for entry in lists.read(source) if entry["name"] == name)
    momenta = [layer.momentum for layer in layers]
    for layer in layers:
        layer.train()
        layer.momentum = 1.0
    call(net, next(exactness.batches({"batch": BATCH} | entry)))
    for layer, momentum in zip(layers, momenta, strict=True):
        layer.eval()
        layer.momentum = momentum
        assert layer.running_var is not None
        layer.running_var.add_(MIN_VARIANCE)


def call(net: nn.Module, inputs: dict[str, Any]) -> dict[str, torch.Tensor]:
    """The tensors that forward() returns, in order, by their names as far as it gives any; inputs whose names are not
    forward()'s are in its order."""
    names = inspect.signature(net.forward).parameters
    tensors = {name: torch.from_numpy(array) for name, array in inputs.items()}
    with torch.no_grad():
        returned = net(**tensors) if tensors.keys() <= names.keys() else net(*tensors.values())
    leaves, _ = _pytree.tree_flatten_with_path(returned)
    return {
        _pytree.keystr(path).strip("[]'.") or "output": leaf for path, leaf in leaves if isinstance(leaf, torch.Tensor)
    }


class Detector(nn.Module):
    """A detector of torchvision, which takes a list of images: the one of a batch of one."""

    def __init__(self, net: nn.Module) -> None:
        super().__init__()
        self.net = net

    def forward(self, images: torch.Tensor) -> dict[str, torch.Tensor]:
        return self.net([images[0]])[0]  # type: ignore[no-any-return]


def torchvision_net(name: str) -> nn.Module:
    import torchvision

    options: dict[str, Any] = {}
    if name in ("googlenet", "inception_v3"):
        options["init_weights"] = True
    module = torchvision.models.get_model_builder(name).__module__
    if ".segmentation" in module or ".detection" in module:
        options["weights_backbone"] = None
    net: nn.Module = torchvision.models.get_model(name, weights=None, **options)
    return Detector(net) if ".detection" in module else net


def timm_net(name: str) -> nn.Module:
    import timm

    net: nn.Module = timm.create_model(name, pretrained=False)
    return net


def own_net(name: str) -> nn.Module:
    from benchmarks.ship import own

    return own.NETS[name][0]()


def transformers_net(name: str) -> nn.Module:
    from benchmarks.ship import shrink

    entry = next(entry for entry in lists.read("transformers") if entry["name"] == name)
    return shrink.build(name, entry["overrides"])


SOURCES: dict[str, Callable[[str], nn.Module]] = {
    "torchvision": torchvision_net,
    "timm": timm_net,
    "transformers": transformers_net,
    "nets": own_net,
}
