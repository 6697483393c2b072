"""Wraps the net for export, so that every hop after PyTorch has the metadata's inputs and outputs."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Literal, get_args

import numpy as np
import torch
from torch import nn

from seaway.artifacts.artifact_metadata import Tensor
from seaway.errors import ModelError
from seaway.export.inputs import Binding
from seaway.nets.user import user_code

Activation = Literal["softmax", "sigmoid", "none"]
ACTIVATIONS: tuple[str, ...] = get_args(Activation)
ROWS_TOLERANCE = 0.01  # of the largest logit: how far an example's may move in another batch, by rounding
BATCHES = (1, 2, 3)  # tried first: 1 and 2 detect a fixed batch, 3 one that follows the traced example


class Wrapped(nn.Module):
    """A net from the metadata's inputs, in order, to (scores, logits), both [N, C]."""

    def __init__(self, net: nn.Module, inputs: tuple[Tensor, ...], activation: str) -> None:
        super().__init__()
        self.net = net
        self.inputs = inputs
        self.activation = activation

    def call(self, *inputs: torch.Tensor) -> torch.Tensor:
        return self.net(*inputs)  # type: ignore[no-any-return]

    def forward(self, *inputs: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        logits = self.call(*inputs)
        if self.activation == "softmax":
            return logits.softmax(dim=1), logits
        if self.activation == "sigmoid":
            return logits.sigmoid(), logits
        return logits, logits


class Characters(Wrapped):
    """A trained net: `image` float32 [N, H, W, 1] in 0..1, normalized inside, so that no client can forget it."""

    def __init__(self, net: nn.Module, image_size: tuple[int, int], mean: float, std: float) -> None:
        super().__init__(net, (Tensor("image", "float32", (None, *image_size, 1)),), "softmax")
        self.mean = mean
        self.std = std

    def call(self, *inputs: torch.Tensor) -> torch.Tensor:
        (image,) = inputs
        return self.net((image.permute(0, 3, 1, 2) - self.mean) / self.std)  # type: ignore[no-any-return]


class Shipped(Wrapped):
    """A user's net with its own layout."""

    def __init__(self, net: nn.Module, binding: Binding, activation: str) -> None:
        super().__init__(net, binding.tensors, activation)
        self.by_keyword = binding.by_keyword

    def call(self, *inputs: torch.Tensor) -> torch.Tensor:
        if self.by_keyword:
            names = (tensor.name for tensor in self.inputs)
            return self.net(**dict(zip(names, inputs, strict=True)))  # type: ignore[no-any-return]
        return self.net(*inputs)  # type: ignore[no-any-return]


def tensors(examples: dict[str, np.ndarray]) -> tuple[torch.Tensor, ...]:
    """The examples as PyTorch's tensors, in order."""
    return tuple(torch.from_numpy(np.array(array)) for array in examples.values())


def batch_of(examples: dict[str, np.ndarray], size: int) -> dict[str, np.ndarray]:
    """The first `size` examples, repeated from the start if there are fewer."""
    return {name: array[np.arange(size) % len(array)] for name, array in examples.items()}


def run(wrapped: Wrapped, examples: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
    """PyTorch's `scores` and `logits`."""
    with torch.no_grad():
        scores, logits = wrapped(*tensors(examples))
    return {"scores": scores.numpy(), "logits": logits.numpy()}


@contextmanager
def plain_attention() -> Iterator[None]:
    """Decomposes attention: the fused operator of eval mode has no counterpart in ONNX."""
    enabled = torch.backends.mha.get_fastpath_enabled()
    torch.backends.mha.set_fastpath_enabled(False)
    try:
        yield
    finally:
        torch.backends.mha.set_fastpath_enabled(enabled)


def check(wrapped: Wrapped, examples: dict[str, np.ndarray]) -> int:
    """Checks that the net accepts any batch size and returns float32 [N, C], the same each time. Returns C.

    Raises ModelError.
    """
    classes = 0
    for batch in BATCHES:
        inputs = tensors(batch_of(examples, batch))
        described = ", ".join(
            f"{t.name} {t.dtype} {list(x.shape)}" for t, x in zip(wrapped.inputs, inputs, strict=True)
        )
        with torch.no_grad(), user_code(f"forward() fails on {described} (see --input, --golden)"):
            logits = wrapped.call(*inputs)
            again = wrapped.call(*inputs)
        classes = _check_output(logits, batch, described)
        if not torch.allclose(logits, again, rtol=1e-4, atol=1e-5, equal_nan=True):
            raise ModelError(
                "forward() returns different outputs for the same inputs although the model is in eval mode; make it "
                "repeatable (F.dropout needs training=self.training; remove random numbers)"
            )
        if not bool(torch.isfinite(logits).all()):
            raise ModelError(
                f"forward() returns outputs that are not finite on {described}; "
                "check --weights, or give real inputs with --golden FILE.npz"
            )
    if classes == 1 and wrapped.activation == "softmax":
        raise ModelError("the model has one output, whose softmax is always 1: use --activation sigmoid or none")
    return classes


def check_rows(wrapped: Wrapped, examples: dict[str, np.ndarray], logits: np.ndarray) -> None:
    """Raises ModelError if an example alone has other logits than beside the others; `logits`: of all, [N, C]."""
    alone = run(wrapped, batch_of(examples, 1))["logits"]
    difference = float(np.abs(logits[:1] - alone).max())
    if difference > ROWS_TOLERANCE * float(np.abs(logits).max()):
        raise ModelError(
            f"rows of a batch influence each other: an example's outputs change by {difference:.3g} beside others. "
            "A server batches requests of different callers, so let forward() treat each row alone: x.mean(1) or "
            "fixed statistics instead of x.mean(0)"
        )


def _check_output(logits: object, batch: int, described: str) -> int:
    wanted = "only the logits, a float32 tensor [N, classes]"
    if not isinstance(logits, torch.Tensor):
        names = f" with {', '.join(map(str, logits))}" if isinstance(logits, dict) else ""
        raise ModelError(
            f"forward() returns a {type(logits).__name__}{names}; wrap it in a module that returns {wanted}"
        )
    if logits.ndim != 2 or logits.shape[1] < 1:
        raise ModelError(f"forward() returns {list(logits.shape)} for {described}; return {wanted}")
    if logits.shape[0] != batch:
        raise ModelError(
            f"forward() returns {logits.shape[0]} rows for a batch of {batch}: the batch must stay the first dimension "
            "and dynamic; reshape with x.flatten(1) or x.reshape(x.shape[0], -1), not with a fixed number"
        )
    if logits.dtype != torch.float32:
        raise ModelError(f"forward() returns {str(logits.dtype).removeprefix('torch.')}; end it with .float()")
    return int(logits.shape[1])
