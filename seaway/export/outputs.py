"""What forward() returns, as named tensors: any nesting of tuples, lists, dicts and objects with tensor attributes."""

import dataclasses
import re
from collections.abc import Iterator, Mapping
from typing import Any

import torch

from seaway.artifacts.interface import CLASSIFIER
from seaway.errors import InvalidInput, ModelError

Named = dict[str, torch.Tensor]

SCORES, LOGITS = CLASSIFIER
UNNAMED = "output_"
MAX_DEPTH = 8  # of objects in objects
DTYPES = (
    *(torch.float32, torch.float64, torch.float16, torch.bfloat16, torch.bool),
    *(torch.int64, torch.int32, torch.int16, torch.int8, torch.uint64, torch.uint32, torch.uint16, torch.uint8),
)
_NOT_IN_NAMES = re.compile(r"[^A-Za-z0-9_.]+")


def flatten(returned: Any, taken: tuple[str, ...] = ()) -> Named:
    """Every tensor under its name: keys and fields joined by "_", and `output_0…` for what has neither.

    Anything but tensors is left out. `taken`: the inputs' names, which outputs cannot have. Raises ModelError.
    """
    named: Named = {}
    for path, tensor in _walk(returned, (), 0):
        joined = _NOT_IN_NAMES.sub("_", "_".join(path)) or "0"
        name = UNNAMED + joined if joined[0].isdigit() or joined in taken else joined
        if name in named:
            raise ModelError(f"forward() returns two tensors that would both be called {name!r}; rename one of them")
        named[name] = tensor
    if not named:
        raise ModelError(f"forward() returns a {type(returned).__name__} without a tensor; return at least one tensor")
    for name, tensor in named.items():
        if tensor.layout != torch.strided or tensor.dtype not in DTYPES or tensor.is_nested:
            what = str(tensor.dtype if tensor.layout == torch.strided else tensor.layout).removeprefix("torch.")
            raise ModelError(f"forward() returns {name} as {what}, which no server carries; return plain numbers")
    return named


def _walk(value: Any, path: tuple[str, ...], depth: int) -> Iterator[tuple[tuple[str, ...], torch.Tensor]]:
    if isinstance(value, torch.Tensor):
        yield path, value
        return
    if depth == MAX_DEPTH:
        return
    for key, inner in _items(value):
        yield from _walk(inner, (*path, key), depth + 1)


def _items(value: Any) -> list[tuple[str, Any]]:
    if isinstance(value, Mapping):
        return [(str(key), inner) for key, inner in value.items()]
    if isinstance(value, tuple) and hasattr(value, "_fields"):
        return list(zip(value._fields, value, strict=True))
    if isinstance(value, tuple | list):
        return [(str(i), inner) for i, inner in enumerate(value)]
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        return [(field.name, getattr(value, field.name)) for field in dataclasses.fields(value)]
    attributes = getattr(value, "__dict__", None)
    return list(attributes.items()) if isinstance(attributes, dict) and not isinstance(value, type) else []


def select(named: Named, requested: tuple[str, ...]) -> Named:
    """The requested outputs in that order, each `NAME` or `NEW=NAME`; all of them if none is requested.

    As many new names as there are outputs rename them in order. Raises InvalidInput.
    """
    if not requested:
        return named
    pairs = [(text.partition("=")[0], text.rpartition("=")[2]) for text in requested]
    unknown = [own for _, own in pairs if own not in named]
    if len(unknown) == len(pairs) == len(named) and all(new == own for new, own in pairs):
        return dict(zip(unknown, named.values(), strict=True))
    if unknown:
        raise InvalidInput(f"--output {unknown[0]}: forward() returns {', '.join(named)}; choose among those")
    return {new: named[own] for new, own in pairs}


def check_names(requested: list[str]) -> None:
    """Raises InvalidInput for an `--output` that cannot be a name, or is given twice."""
    names = [text.partition("=")[0] for text in requested]
    for text, name in zip(requested, names, strict=True):
        if not name or _NOT_IN_NAMES.search(name) or not text.rpartition("=")[2]:
            raise InvalidInput(f"--output {text}: write NAME, or NEW=NAME to rename it; letters, digits, _ and .")
        if names.count(name) > 1:
            raise InvalidInput(f"--output {name} is given twice")


def with_scores(named: Named, activation: str) -> Named:
    """A classifier's outputs: `scores`, which the activation makes from the logits, `logits`, and the others.

    The logits are the output of that name, or the only one. Raises ModelError.
    """
    own = LOGITS if LOGITS in named else next(iter(named))
    if own != LOGITS and len(named) > 1:
        raise ModelError(
            f"forward() returns {', '.join(named)}: for --labels or --activation name the logits, "
            f"for example --output logits={own}"
        )
    logits = named[own]
    if logits.ndim != 2 or not logits.is_floating_point():
        shape = f"{str(logits.dtype).removeprefix('torch.')} {list(logits.shape)}"
        raise ModelError(f"--labels and --activation need logits [N, classes], but forward() returns {own} as {shape}")
    others = {name: tensor for name, tensor in named.items() if name not in (own, SCORES)}
    return {SCORES: _activated(logits, activation), LOGITS: logits, **others}


def _activated(logits: torch.Tensor, activation: str) -> torch.Tensor:
    if activation == "softmax":
        return logits.softmax(dim=1)
    return logits.sigmoid() if activation == "sigmoid" else logits
