"""The networks by name. Each takes float32 [N, 1, height, width], normalised, and returns logits [N, classes].

linear, mlp, cnn, cnn-large  in this package; to add one, write a `build` and add it to NETS and `names`
torchvision:NAME             an untrained torchvision classifier for one channel: torchvision:resnet18
python:MODULE:FUNCTION       the user's own: FUNCTION(image_size, classes), of (height, width) and int, returns it
"""

import hashlib
import inspect
from collections.abc import Callable
from pathlib import Path

import torch
from torch import nn

from seaway.errors import ModelError
from seaway.nets import cnn, linear, mlp, names, user, vision

NETS: dict[str, Callable[[tuple[int, int], int], nn.Module]] = {
    "cnn": cnn.build,
    "cnn-large": cnn.large,
    "linear": linear.build,
    "mlp": mlp.build,
}


def build(net: str, image_size: tuple[int, int], classes: int) -> nn.Module:
    """A new network with random weights (torch's seed decides); `image_size` is (height, width). Raises ModelError."""
    if min(image_size) < 1 or classes < 2:
        raise ModelError(
            f"--net {net}: cannot build a model for {image_size[0]}x{image_size[1]} images (height x width) and "
            f"{classes} classes: it needs at least one pixel and two classes"
        )
    if net in NETS:
        return NETS[net](image_size, classes)
    if net.startswith(names.VISION):
        return vision.build(net.removeprefix(names.VISION), image_size, classes)
    names.check_net(net)
    return _user_net(net, image_size, classes)


def fingerprint(net: str) -> str:
    """sha256 of the source file of a user's function, to distinguish nets of the same name; "" for other nets.

    Raises ModelError.
    """
    if not net.startswith(names.PYTHON):
        return ""
    file = inspect.getsourcefile(inspect.unwrap(_function(net)))
    return hashlib.sha256(Path(file).read_bytes()).hexdigest() if file else ""


def _function(net: str) -> Callable[..., nn.Module]:
    return user.find(net, "--net", "python:mynets:small")


def _user_net(net: str, image_size: tuple[int, int], classes: int) -> nn.Module:
    height, width = image_size
    with user.user_code(f"--net {net}: the function fails for ({height}, {width}) and {classes}"):
        model = _function(net)(image_size, classes)
    if not isinstance(model, nn.Module):
        raise ModelError(f"--net {net}: returned {type(model).__name__}, not a torch.nn.Module")
    training = model.training
    with torch.no_grad(), user.user_code(f"--net {net}: forward() fails on float32 [2, 1, {height}, {width}]"):
        logits = model.eval()(torch.zeros(2, 1, height, width))
    model.train(training)
    if not isinstance(logits, torch.Tensor) or logits.shape != (2, classes) or logits.dtype != torch.float32:
        output = f"{logits.dtype} {[*logits.shape]}" if isinstance(logits, torch.Tensor) else type(logits).__name__
        raise ModelError(
            f"--net {net}: returns {output} for two images instead of float32 [2, {classes}], a logit for each of "
            f"the {classes} classes; let the function use its second argument"
        )
    return model
