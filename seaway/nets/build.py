"""The networks by name. Each takes float32 [N, 1, height, width], normalised, and gives logits [N, classes].

linear, mlp, cnn, cnn-large  ours, in files beside this: to add one, a `build` there and a line in NETS
torchvision:NAME             a classifier of torchvision's, untrained, made for one channel: torchvision:resnet18
python:MODULE:FUNCTION       the user's own: FUNCTION(image_size, classes), (height, width) and int, gives the net
"""

import hashlib
import inspect
from collections.abc import Callable
from pathlib import Path

import torch
from torch import nn

from seaway.errors import ModelError
from seaway.nets import cnn, linear, mlp, user, vision

NETS: dict[str, Callable[[tuple[int, int], int], nn.Module]] = {
    "cnn": cnn.build,
    "cnn-large": cnn.large,
    "linear": linear.build,
    "mlp": mlp.build,
}
VISION = "torchvision:"
CHOICES = f"{', '.join(sorted(NETS))}, {VISION}NAME or {user.PREFIX}MODULE:FUNCTION"


def build(net: str, image_size: tuple[int, int], classes: int) -> nn.Module:
    """A new network with random weights (torch's seed decides); `image_size` is (height, width). Raises ModelError."""
    if min(image_size) < 1 or classes < 2:
        raise ModelError(
            f"{net} cannot be built for pictures of {image_size[0]}x{image_size[1]} and {classes} classes: "
            "it needs at least one pixel and two classes"
        )
    if net in NETS:
        return NETS[net](image_size, classes)
    if net.startswith(VISION):
        return vision.build(net.removeprefix(VISION), image_size, classes)
    if net.startswith(user.PREFIX):
        return _own(net, image_size, classes)
    raise ModelError(f"{net!r} is no network that Seaway knows: use one of {CHOICES}")


def fingerprint(net: str) -> str:
    """sha256 of the file that a user's function stands in, so that another net of its name is not taken for it; "" for
    nets of which the name says all. Raises ModelError."""
    if not net.startswith(user.PREFIX):
        return ""
    file = inspect.getsourcefile(inspect.unwrap(_function(net)))
    return hashlib.sha256(Path(file).read_bytes()).hexdigest() if file else ""


def _function(net: str) -> Callable[..., nn.Module]:
    return user.find(net, "--net", "python:mynets:small")


def _own(net: str, image_size: tuple[int, int], classes: int) -> nn.Module:
    height, width = image_size
    with user.user_code(f"--net {net}: it fails when called with ({height}, {width}) and {classes}"):
        built = _function(net)(image_size, classes)
    if not isinstance(built, nn.Module):
        raise ModelError(f"--net {net}: returned {type(built).__name__}, not a torch.nn.Module")
    training = built.training
    with torch.no_grad(), user.user_code(f"--net {net}: forward() fails on float32 [2, 1, {height}, {width}]"):
        logits = built.eval()(torch.zeros(2, 1, height, width))
    built.train(training)
    if not isinstance(logits, torch.Tensor) or logits.shape != (2, classes) or logits.dtype != torch.float32:
        given = f"{logits.dtype} {[*logits.shape]}" if isinstance(logits, torch.Tensor) else type(logits).__name__
        raise ModelError(
            f"--net {net}: gives {given} for two pictures where float32 [2, {classes}] is wanted, a logit for each of "
            f"the {classes} classes; let the function use the number that it is given"
        )
    return built
