"""A shipped net's inputs: parsing `--input`, binding to forward(), and example values."""

import inspect
import math
import re
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING
from zipfile import BadZipFile

import numpy as np

from seaway.artifacts.artifact_metadata import Tensor
from seaway.errors import InvalidInput

if TYPE_CHECKING:
    from torch import nn

DTYPES = ("float32", "float64", "int64", "int32", "int8", "uint8", "bool")
OUTPUTS = ("scores", "logits")
EXAMPLES = 64  # random golden examples; fewer (at least 8) if they would exceed this size:
EXAMPLES_BYTES = 8 << 20
MAX_NUMBERS = 50_000_000  # in one example: 200 MB of float32, and eight are tried at once
MAX_EXAMPLES = 1024  # every published version contains them
_NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")  # TensorFlow's signatures take inputs as Python keywords
_SHAPE = re.compile(r"[1-9]\d*(x[1-9]\d*)*|scalar")


@dataclass(frozen=True, slots=True)
class InputSpec:
    """One `--input`; `shape` is that of one example, without the batch. `name` is None for forward()'s own name."""

    name: str | None
    shape: tuple[int, ...]
    dtype: str


@dataclass(frozen=True, slots=True)
class Binding:
    """The metadata's inputs in order, and whether forward() takes them by keyword or by position."""

    tensors: tuple[Tensor, ...]
    by_keyword: bool


def parse(text: str) -> InputSpec:
    """`[NAME:]SHAPE[:DTYPE]`, e.g. "3x224x224", "ids:128:int64", "age:scalar". Raises InvalidInput."""
    parts = text.split(":")
    name = None if _SHAPE.fullmatch(parts[0]) and parts[0] != "scalar" else parts.pop(0)
    shape, dtype = [*parts, "float32"][:2] if parts else ("", "")
    if len(parts) > 2 or not _SHAPE.fullmatch(shape) or (name is not None and not _NAME.fullmatch(name)):
        raise InvalidInput(
            f"--input {text}: write [NAME:]SHAPE[:DTYPE], the shape of one example without the batch, "
            "for example 3x224x224 or ids:128:int64 (scalar: one number per example)"
        )
    if dtype not in DTYPES:
        raise InvalidInput(f"--input {text}: dtype {dtype!r} is not one of {', '.join(DTYPES)}")
    sides = () if shape == "scalar" else tuple(int(side) for side in shape.split("x"))
    if math.prod(sides) > MAX_NUMBERS:
        raise InvalidInput(
            f"--input {text}: one example would have {math.prod(sides):,} numbers, more than {MAX_NUMBERS:,}"
        )
    return InputSpec(name, sides, dtype)


def bind(net: "nn.Module", specs: list[InputSpec]) -> Binding:
    """Names every input: its own name or, by position, that of forward()'s parameter. Raises InvalidInput."""
    parameters = list(inspect.signature(net.forward).parameters.values())
    parameter_names = [p.name for p in parameters if p.kind not in (p.VAR_POSITIONAL, p.VAR_KEYWORD)]
    required = [
        name for name in parameter_names if inspect.signature(net.forward).parameters[name].default is inspect._empty
    ]
    variadic = any(p.kind == p.VAR_POSITIONAL for p in parameters)
    takes = f"forward() takes ({', '.join(str(p) for p in parameters)})"
    if not len(required) <= len(specs) or (len(specs) > len(parameter_names) and not variadic):
        raise InvalidInput(f"--input was given {len(specs)} time(s), but {takes}; give one for each, in order")

    given_names = [spec.name for spec in specs if spec.name is not None]
    of_forward = [name for name in given_names if name in parameter_names]
    by_keyword = len(of_forward) == len(specs)
    if by_keyword and not set(required) <= set(given_names):
        raise InvalidInput(f"--input names {', '.join(given_names)}, but {takes}; give one for each")
    in_order = all(spec.name in (None, name) for spec, name in zip(specs, parameter_names, strict=False))
    if of_forward and not by_keyword and not in_order:
        raise InvalidInput(
            f"--input names {', '.join(given_names)}, some of which forward() does not have: {takes}; "
            "name every input as in forward(), or give new names for all, in forward()'s order"
        )
    if len(specs) - len(given_names) and len(specs) > len(parameter_names):
        raise InvalidInput(f"--input needs a name for each input here, because {takes}: write NAME:SHAPE")
    names = [spec.name or parameter_names[i] for i, spec in enumerate(specs)]
    _check_names(names)
    tensors = tuple(Tensor(n, s.dtype, (None, *s.shape)) for n, s in zip(names, specs, strict=True))
    return Binding(tensors, by_keyword)


def _check_names(names: list[str]) -> None:
    for name in names:
        if name in OUTPUTS or names.count(name) > 1:
            why = "is an output's name" if name in OUTPUTS else "is used twice"
            raise InvalidInput(f"--input: the name {name!r} {why}; give another: NAME:SHAPE")


def random_examples(tensors: tuple[Tensor, ...], count: int = 0) -> dict[str, np.ndarray]:
    """Seeded: normal floats, 0..255 for uint8, and 0 or 1 for other integers, which any embedding accepts."""
    generator = np.random.default_rng(0)
    if not count:
        size = sum(np.dtype(t.dtype).itemsize * int(np.prod([side or 1 for side in t.shape])) for t in tensors)
        count = max(8, min(EXAMPLES, EXAMPLES_BYTES // size))
    examples = {}
    for tensor in tensors:
        shape = (count, *(side or 1 for side in tensor.shape[1:]))
        if tensor.dtype.startswith("float"):
            examples[tensor.name] = generator.standard_normal(shape).astype(tensor.dtype)
        else:
            high = 256 if tensor.dtype == "uint8" else 2
            examples[tensor.name] = generator.integers(0, high, shape).astype(tensor.dtype)
    return examples


def read_examples(path: Path, tensors: tuple[Tensor, ...]) -> dict[str, np.ndarray]:
    """The user's own examples from an .npz with one array per input name. Raises InvalidInput."""
    try:
        with np.load(path, allow_pickle=False) as arrays:
            content = {key: arrays[key] for key in arrays}
    except FileNotFoundError:
        raise InvalidInput(f"--golden {path}: no such file") from None
    except (OSError, ValueError, BadZipFile, AttributeError, TypeError) as error:
        raise InvalidInput(f"--golden {path}: not an .npz of arrays ({error}); np.savez makes one") from None
    expected = ", ".join(f"{t.name} {t.dtype} {_per_example(t)}" for t in tensors)
    if sorted(content) != sorted(t.name for t in tensors):
        raise InvalidInput(f"--golden {path}: contains {', '.join(sorted(content)) or 'nothing'}, needed: {expected}")
    counts = {len(a) if a.ndim else 0 for a in content.values()}
    if len(counts) != 1 or not 1 <= min(counts) <= MAX_EXAMPLES:
        raise InvalidInput(f"--golden {path}: every array needs the same number of examples, 1 to {MAX_EXAMPLES}")
    examples = {}
    for tensor in tensors:
        array = content[tensor.name]
        # np.savez keeps float64 and int64; narrowing those is fine, another kind of number is a mistake
        if array.shape[1:] != tensor.shape[1:] or array.dtype.kind != np.dtype(tensor.dtype).kind:
            actual = f"{tensor.name} {array.dtype.name} {list(array.shape)}"
            raise InvalidInput(f"--golden {path}: {actual} does not fit, needed: {expected}")
        examples[tensor.name] = array.astype(tensor.dtype)
    return examples


def _per_example(tensor: Tensor) -> str:
    return str(["N", *tensor.shape[1:]]).replace("'", "")


def spread(labels: np.ndarray, count: int = EXAMPLES) -> np.ndarray:
    """Indices of `count` examples spread over all classes: the first of every class, then the second, and so on."""
    by_class = np.argsort(labels, kind="stable")
    starts = np.searchsorted(labels[by_class], labels[by_class])
    rank_in_class = np.arange(len(labels)) - starts
    return np.sort(by_class[np.argsort(rank_in_class, kind="stable")[:count]])
