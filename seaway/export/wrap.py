"""Wraps the net for export, so that every hop after PyTorch has the metadata's inputs and outputs."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any, Literal, get_args

import numpy as np
import torch
from torch import nn

from seaway.artifacts.artifact_metadata import Tensor
from seaway.errors import ModelError
from seaway.export import inputs as inputs_module
from seaway.export import outputs
from seaway.export.inputs import Examples, Inputs
from seaway.nets.user import user_code

Activation = Literal["softmax", "sigmoid", "none"]
ACTIVATIONS: tuple[str, ...] = get_args(Activation)
ROWS_TOLERANCE = 0.01  # of the largest output: how far an example's may move in another batch, by rounding
BATCHES = (1, 2, 3)  # tried first: 1 and 2 detect a fixed batch, 3 one that follows the traced example


class Wrapped(nn.Module):
    """A net from the metadata's inputs, in order, to a tuple of its outputs.

    `activation`: of a classifier, whose first outputs are scores and logits; "" for any other net. `requested`: as of
    `outputs.select`.
    """

    def __init__(self, net: nn.Module, inputs: Inputs, activation: str = "", requested: tuple[str, ...] = ()) -> None:
        super().__init__()
        self.net = net
        self.inputs = inputs
        self.activation = activation
        self.requested = requested

    def call(self, *tensors: torch.Tensor) -> Any:
        """What forward() returns."""
        narrowed = self.inputs.narrowed
        by_name = {
            spec.name: tensor.bfloat16() if spec.name in narrowed else tensor
            for spec, tensor in zip(self.inputs.tensors, tensors, strict=True)
        }
        return self.net(**by_name) if self.inputs.by_keyword else self.net(*by_name.values())

    def named(self, *tensors: torch.Tensor) -> outputs.Named:
        """The outputs by name. Raises ModelError or InvalidInput."""
        return self.name(self.call(*tensors))

    def name(self, returned: Any) -> outputs.Named:
        """The same of what forward() returned."""
        flat = outputs.flatten(returned, tuple(spec.name for spec in self.inputs.tensors))
        named = outputs.select(flat, self.requested)
        if self.activation:
            named = outputs.with_scores(named, self.activation)
        return {name: value.float() if value.dtype == torch.bfloat16 else value for name, value in named.items()}

    def forward(self, *inputs: torch.Tensor) -> tuple[torch.Tensor, ...]:
        return tuple(self.named(*inputs).values())


class Characters(Wrapped):
    """A trained net: `image` float32 [N, H, W, 1] in 0..1, normalized inside, so that no client can forget it."""

    def __init__(self, net: nn.Module, image_size: tuple[int, int], mean: float, std: float) -> None:
        super().__init__(net, inputs_module.fixed(Tensor("image", "float32", (None, *image_size, 1))), "softmax")
        self.mean = mean
        self.std = std

    def call(self, *tensors: torch.Tensor) -> torch.Tensor:
        (image,) = tensors
        return self.net((image.permute(0, 3, 1, 2) - self.mean) / self.std)  # type: ignore[no-any-return]


def tensors(examples: Examples) -> tuple[torch.Tensor, ...]:
    """The examples as PyTorch's tensors, in order."""
    return tuple(torch.from_numpy(np.array(array)) for array in examples.values())


def batch_of(examples: Examples, size: int) -> Examples:
    """The first `size` examples, repeated from the start if there are fewer."""
    return {name: array[np.arange(size) % len(array)] for name, array in examples.items()}


def run(wrapped: Wrapped, examples: Examples) -> dict[str, np.ndarray]:
    """PyTorch's outputs by name."""
    with torch.no_grad():
        return {name: tensor.numpy() for name, tensor in wrapped.named(*tensors(examples)).items()}


@contextmanager
def plain_attention() -> Iterator[None]:
    """Decomposes attention: the fused operator of eval mode has no counterpart in ONNX."""
    enabled = torch.backends.mha.get_fastpath_enabled()
    torch.backends.mha.set_fastpath_enabled(False)
    try:
        yield
    finally:
        torch.backends.mha.set_fastpath_enabled(enabled)


@dataclass(slots=True)
class Observed:
    """The outputs of some calls: of each its batch (0 for a net without one), and every output's type and shape."""

    calls: list[tuple[int, dict[str, tuple[str, tuple[int, ...]]]]] = field(default_factory=list)

    def add(self, batch: int, results: dict[str, np.ndarray]) -> None:
        self.calls.append((batch, {name: (array.dtype.name, array.shape) for name, array in results.items()}))

    @property
    def batched(self) -> bool:
        """Whether the batch is the first axis of every output, and no further one, as of an image's similarity to each
        text of its batch."""
        leads = all(batch and shape[:1] == (batch,) for batch, by_name in self.calls for _, shape in by_name.values())
        return leads and not any(map(self._pairs, self.calls[0][1]))

    def _pairs(self, name: str) -> bool:
        """Whether an axis after the first one is the batch, too."""
        axes = zip(*(shape[1:] for shape in (by_name[name][1] for _, by_name in self.calls)), strict=True)
        batches = tuple(batch for batch, _ in self.calls)
        return len(set(batches)) > 1 and batches in axes

    def tensors(self) -> tuple[Tensor, ...]:
        """The outputs, with None for every axis that varies, and for the batch. Raises ModelError."""
        first = self.calls[0][1]
        for _, by_name in self.calls[1:]:
            kinds, expected = ({n: (d, len(s)) for n, (d, s) in found.items()} for found in (by_name, first))
            if kinds != expected:
                raise ModelError(
                    f"forward() returns {_kinds(kinds)} for some inputs and {_kinds(expected)} for others; let it "
                    "return the same tensors for all"
                )
        return tuple(self._tensor(name, dtype) for name, (dtype, _) in first.items())

    def _tensor(self, name: str, dtype: str) -> Tensor:
        shapes = [by_name[name][1] for _, by_name in self.calls]
        batches = [batch for batch, _ in self.calls]
        leads = all(batch and shape[:1] == (batch,) for batch, shape in zip(batches, shapes, strict=True))
        axes = [set(axis) for axis in zip(*shapes, strict=True)]
        sizes = [None if len(axis) > 1 or (leads and i == 0) else axis.pop() for i, axis in enumerate(axes)]
        return Tensor(name, dtype, tuple(sizes))


def _kinds(kinds: dict[str, tuple[str, int]]) -> str:
    return ", ".join(f"{name} ({dtype}, rank {rank})" for name, (dtype, rank) in kinds.items())


def check(wrapped: Wrapped, examples: Examples) -> Observed:
    """Runs the net at several batch sizes: it must return the same twice, and numbers. Raises ModelError."""
    observed = Observed()
    for batch, call in _calls(wrapped.inputs, examples):
        inputs = tensors(call)
        described = ", ".join(
            f"{t.name} {t.dtype} {list(x.shape)}" for t, x in zip(wrapped.inputs.tensors, inputs, strict=True)
        )
        with torch.no_grad():
            with user_code(f"forward() fails on {described} ({_options(wrapped.inputs)})"):
                returned = wrapped.call(*inputs)
            first, again = wrapped.name(returned), wrapped.named(*inputs)
        for name, tensor in first.items():
            _check_output(name, tensor, again.get(name), described)
        observed.add(batch, {name: tensor.numpy() for name, tensor in first.items()})
    if wrapped.activation and not observed.batched:
        rows, batch = len(first[outputs.LOGITS]), observed.calls[-1][0]
        raise ModelError(
            f"forward() returns {rows} rows for a batch of {batch}: the batch of a classifier must stay the first axis "
            "and open; reshape with x.flatten(1) or x.reshape(x.shape[0], -1), not with a fixed number"
        )
    if wrapped.activation == "softmax" and first[outputs.LOGITS].shape[1] == 1:
        raise ModelError("the model has one output, whose softmax is always 1: use --activation sigmoid or none")
    return observed


def _calls(inputs: Inputs, examples: Examples) -> Iterator[tuple[int, Examples]]:
    """A batch (0 without one) and the inputs of a call."""
    if not inputs.batch:
        yield 0, examples
    else:
        yield from ((batch, batch_of(examples, batch)) for batch in BATCHES)


def _options(inputs: Inputs) -> str:
    hint = "" if inputs.batch else ", without a batch because of --no-batch"
    return f"see --input, --golden{', --size' if inputs.sizes else ''}{hint}"


def _check_output(name: str, output: torch.Tensor, again: torch.Tensor | None, described: str) -> None:
    if (
        again is None
        or output.shape != again.shape
        or not torch.allclose(output.double(), again.double(), rtol=1e-4, atol=1e-5, equal_nan=True)
    ):
        raise ModelError(
            "forward() returns different outputs for the same inputs although the model is in eval mode; make it "
            "repeatable (F.dropout needs training=self.training; remove random numbers)"
        )
    if not output.is_floating_point() or not output.numel():
        return
    if bool(output.isnan().any()) or not bool(output.isfinite().any()):
        raise ModelError(
            f"forward() returns outputs that are not finite on {described} ({name}); "
            "check --weights, or give real inputs with --golden FILE.npz"
        )


def check_rows(
    run: Callable[[Examples], dict[str, np.ndarray]], examples: Examples, results: dict[str, np.ndarray]
) -> None:
    """Raises ModelError if an example alone has other outputs than beside the others; `results`: of all, [N, …]."""
    alone = run(batch_of(examples, 1))
    for name, expected in results.items():
        if not expected.size or not np.issubdtype(expected.dtype, np.floating):
            continue
        with np.errstate(invalid="ignore"):
            difference = float(np.nanmax(np.abs(expected[:1] - alone[name]), initial=0))
        if difference > ROWS_TOLERANCE * float(np.abs(expected[np.isfinite(expected)]).max(initial=0)):
            raise ModelError(
                f"rows of a batch influence each other: an example's outputs change by {difference:.3g} beside others. "
                "A server batches requests of different callers, so let forward() treat each row alone: x.mean(1) or "
                "fixed statistics instead of x.mean(0); or, if its first axis is no batch, use --no-batch"
            )
