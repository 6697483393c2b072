"""The table of networks. Each takes float32 [N, 1, height, width], normalised, and gives logits [N, classes].

To add one: a file beside this with a small dataclass of sizes and a `build`, and a line in NETS.
"""

from collections.abc import Callable

from torch import nn

from seaway.errors import ModelError
from seaway.nets import cnn, mlp

NETS: dict[str, Callable[[tuple[int, int], int], nn.Module]] = {"cnn": cnn.build, "mlp": mlp.build}


def build(net: str, image_size: tuple[int, int], classes: int) -> nn.Module:
    """A new network with random weights (torch's seed decides); `image_size` is (height, width). Raises ModelError."""
    if net not in NETS:
        raise ModelError(f"{net!r} is no network that Seaway knows: use one of {', '.join(sorted(NETS))}")
    if min(image_size) < 1 or classes < 2:
        raise ModelError(
            f"{net} cannot be built for pictures of {image_size[0]}x{image_size[1]} and {classes} classes: "
            "it needs at least one pixel and two classes"
        )
    return NETS[net](image_size, classes)
