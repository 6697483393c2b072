"""A shipped net's inputs: what `--input` says, how they bind to forward(), and examples to try them with."""

import inspect
import math
import re
from dataclasses import dataclass
from pathlib import Path
from zipfile import BadZipFile

import numpy as np
from torch import nn

from seaway.artifacts.card import Tensor
from seaway.errors import InvalidInput

DTYPES = ("float32", "float64", "int64", "int32", "int8", "uint8", "bool")
OUTPUTS = ("scores", "logits")
EXAMPLES = 64  # random golden examples, fewer (but never under 8) where they would pass this size:
EXAMPLES_BYTES = 8 << 20
LARGEST = 50_000_000  # numbers in one example: 200 MB of float32, and eight are tried at once
MOST_EXAMPLES = 1024  # they travel with every published version
_NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")  # TensorFlow's signatures take inputs as Python keywords
_SHAPE = re.compile(r"[1-9]\d*(x[1-9]\d*)*|scalar")


@dataclass(frozen=True, slots=True)
class InputSpec:
    """One `--input`; `shape` is one example's, without the batch. `name` is None where forward()'s own is meant."""

    name: str | None
    shape: tuple[int, ...]
    dtype: str


@dataclass(frozen=True, slots=True)
class Binding:
    """The card's inputs in order, and whether forward() takes them by keyword or by position."""

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
            "for example 3x224x224 or ids:128:int64 (scalar: one number an example)"
        )
    if dtype not in DTYPES:
        raise InvalidInput(f"--input {text}: dtype {dtype!r} is not one of {', '.join(DTYPES)}")
    sides = () if shape == "scalar" else tuple(int(side) for side in shape.split("x"))
    if math.prod(sides) > LARGEST:
        raise InvalidInput(
            f"--input {text}: one example would hold {math.prod(sides):,} numbers, more than {LARGEST:,}"
        )
    return InputSpec(name, sides, dtype)


def bind(net: nn.Module, specs: list[InputSpec]) -> Binding:
    """Gives every input a name: its own or, by position, that of forward()'s parameter. Raises InvalidInput."""
    parameters = list(inspect.signature(net.forward).parameters.values())
    known = [p.name for p in parameters if p.kind not in (p.VAR_POSITIONAL, p.VAR_KEYWORD)]
    required = [name for name in known if inspect.signature(net.forward).parameters[name].default is inspect._empty]
    variadic = any(p.kind == p.VAR_POSITIONAL for p in parameters)
    takes = f"forward() takes ({', '.join(str(p) for p in parameters)})"
    if not len(required) <= len(specs) or (len(specs) > len(known) and not variadic):
        raise InvalidInput(f"--input was given {len(specs)} times, but {takes}; give one for each, in order")

    given = [spec.name for spec in specs if spec.name is not None]
    of_forward = [name for name in given if name in known]
    by_keyword = len(of_forward) == len(specs)
    if by_keyword and not set(required) <= set(given):
        raise InvalidInput(f"--input names {', '.join(given)}, but {takes}; give one for each")
    if of_forward and not by_keyword:
        raise InvalidInput(
            f"--input names {', '.join(given)}, some of which forward() does not have: {takes}; "
            "use its names for all inputs, or other names for all, in its order"
        )
    if len(specs) - len(given) and len(specs) > len(known):
        raise InvalidInput(f"--input needs a name for each input here, because {takes}: write NAME:SHAPE")
    names = [spec.name or known[i] for i, spec in enumerate(specs)]
    _check_names(names)
    tensors = tuple(Tensor(n, s.dtype, (None, *s.shape)) for n, s in zip(names, specs, strict=True))
    return Binding(tensors, by_keyword)


def _check_names(names: list[str]) -> None:
    for name in names:
        if name in OUTPUTS or names.count(name) > 1:
            why = "is an output's name" if name in OUTPUTS else "is used twice"
            raise InvalidInput(f"--input: the name {name!r} {why}; give another: NAME:SHAPE")


def random_examples(tensors: tuple[Tensor, ...], count: int = 0) -> dict[str, np.ndarray]:
    """Seeded: normal floats, 0..255 for uint8, and 0 or 1 for other integers, which any embedding has."""
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
    """The user's own examples from an .npz with one array for each input name. Raises InvalidInput."""
    try:
        with np.load(path, allow_pickle=False) as arrays:
            found = {key: arrays[key] for key in arrays}
    except FileNotFoundError:
        raise InvalidInput(f"--golden {path}: there is no such file") from None
    except (OSError, ValueError, BadZipFile, AttributeError, TypeError) as error:
        raise InvalidInput(f"--golden {path}: not an .npz of arrays ({error}); np.savez makes one") from None
    wanted = ", ".join(f"{t.name} {t.dtype} {_per_example(t)}" for t in tensors)
    if sorted(found) != sorted(t.name for t in tensors):
        raise InvalidInput(f"--golden {path}: holds {', '.join(sorted(found)) or 'nothing'}, needed: {wanted}")
    counts = {len(a) if a.ndim else 0 for a in found.values()}
    if len(counts) != 1 or not 1 <= min(counts) <= MOST_EXAMPLES:
        raise InvalidInput(f"--golden {path}: every array needs the same number of examples, 1 to {MOST_EXAMPLES}")
    examples = {}
    for tensor in tensors:
        array = found[tensor.name]
        # np.savez keeps float64 and int64 unless told; narrower is fine, another kind of number is a mistake
        if array.shape[1:] != tensor.shape[1:] or array.dtype.kind != np.dtype(tensor.dtype).kind:
            got = f"{tensor.name} {array.dtype.name} {list(array.shape)}"
            raise InvalidInput(f"--golden {path}: {got} does not fit, needed: {wanted}")
        examples[tensor.name] = array.astype(tensor.dtype)
    return examples


def _per_example(tensor: Tensor) -> str:
    return str(["N", *tensor.shape[1:]]).replace("'", "")


def spread(labels: np.ndarray, count: int = EXAMPLES) -> np.ndarray:
    """Indices of `count` examples spread over all classes: the first of every class, then the second, and so on."""
    by_class = np.argsort(labels, kind="stable")
    starts = np.searchsorted(labels[by_class], labels[by_class])
    turn = np.arange(len(labels)) - starts
    return np.sort(by_class[np.argsort(turn, kind="stable")[:count]])
