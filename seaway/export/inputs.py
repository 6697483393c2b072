"""A shipped net's inputs: parsing `--input` and `--size`, binding to forward(), and example values."""

import inspect
import math
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from seaway.artifacts import npz
from seaway.artifacts.artifact_metadata import Tensor
from seaway.errors import InvalidInput

if TYPE_CHECKING:
    from torch import nn

Examples = dict[str, np.ndarray]  # input → array, as forward() takes it in one call

INTEGERS = ("int64", "int32", "int16", "int8", "uint64", "uint32", "uint16", "uint8")
BFLOAT16 = "bfloat16"  # NumPy and no client have it: such an input is float32 outside, and narrowed before forward()
DTYPES = ("float32", "float64", "float16", BFLOAT16, *INTEGERS, "bool")
EXAMPLES = 64  # random golden examples; fewer (at least 8) if they would exceed this size:
EXAMPLES_BYTES = 8 << 20
MAX_NUMBERS = 50_000_000  # in one example: 200 MB of float32, and eight are tried at once
MAX_EXAMPLES = 1024  # every published version contains them
USUAL_SIZE = 12  # of an open axis, in most golden examples, if its range contains it
ROWS_AT_OTHER_SIZES = 2
ODD_SIZE, RANDOM_SIZES, MAX_CALLS = 7, 4, 12  # at other sizes
_NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")  # TensorFlow's signatures take inputs as Python keywords
_AXIS = r"(?:[1-9]\d*|(?!x)[A-Za-z_][A-Za-wyz0-9_]*)"  # a number or, without the letter x, a name
_SHAPE = re.compile(rf"{_AXIS}(x{_AXIS})*")
_SIZE = re.compile(r"([A-Za-z_]\w*)=(\d+)\.\.(\d+)(?::([1-9]\d*))?")


@dataclass(frozen=True, slots=True)
class Size:
    """One `--size`: the numbers low, low + step, … up to high that an open axis may have."""

    name: str
    low: int
    high: int
    step: int = 1

    def at_most(self, size: int) -> int:
        """The largest of its numbers that is not above `size`; the smallest if all are."""
        return self.low + max(0, min(size, self.high) - self.low) // self.step * self.step


@dataclass(frozen=True, slots=True)
class InputSpec:
    """One `--input`; `shape` is that of one example, of numbers and names of open axes. `name` is None for forward()'s
    own name."""

    name: str | None
    shape: tuple[int | str, ...]
    dtype: str


@dataclass(frozen=True, slots=True)
class Inputs:
    """The net's inputs.

    tensors     as the metadata has them, in order: None for an open axis
    axes        input → its axes without the batch: numbers, and names of open axes
    sizes       name of an open axis → its range
    batch       whether every input has a batch as its first axis, before `axes`
    by_keyword  whether forward() takes them by keyword, or by position
    narrowed    inputs that forward() takes as bfloat16
    """

    tensors: tuple[Tensor, ...]
    axes: dict[str, tuple[int | str, ...]]
    sizes: dict[str, Size] = field(default_factory=dict)
    batch: bool = True
    by_keyword: bool = False
    narrowed: frozenset[str] = frozenset()

    def shape(self, name: str, sizes: Mapping[str, int]) -> tuple[int, ...]:
        """An input's axes, without the batch, where the open ones have these sizes."""
        return tuple(axis if isinstance(axis, int) else sizes[axis] for axis in self.axes[name])

    def dynamic_axes(self) -> list[dict[int, str]]:
        """The names of each tensor's open axes, and of its batch, by their index."""
        return [
            ({0: "batch"} if self.batch else {})
            | {i + self.batch: axis for i, axis in enumerate(axes) if isinstance(axis, str)}
            for axes in self.axes.values()
        ]

    def usual_sizes(self) -> dict[str, int]:
        return {name: size.at_most(USUAL_SIZE) for name, size in self.sizes.items()}


def fixed(*tensors: Tensor) -> Inputs:
    """Inputs whose axes are all fixed, but for the batch."""
    return Inputs(tensors, {tensor.name: tuple(size or 1 for size in tensor.shape[1:]) for tensor in tensors})


def check_given(texts: Sequence[str]) -> None:
    """Raises InvalidInput if there is no `--input`."""
    if not texts:
        raise InvalidInput("--input is missing: give the shape of each input of forward(), for example 3x224x224")


def parse(text: str) -> InputSpec:
    """`[NAME:]SHAPE[:DTYPE]`, e.g. "3x224x224", "ids:L:int64", "age:scalar". Raises InvalidInput."""
    parts = text.split(":")
    starts_with_shape = bool(_SHAPE.fullmatch(parts[0])) and (parts[0][0].isdigit() or parts[-1] in DTYPES)
    named = len(parts) == 3 or (len(parts) == 2 and not starts_with_shape)
    name = parts.pop(0) if named else None
    shape, dtype = [*parts, "float32"][:2]
    if len(parts) > 2 or not _SHAPE.fullmatch(shape) or (name is not None and not _NAME.fullmatch(name)):
        raise InvalidInput(
            f"--input {text}: write [NAME:]SHAPE[:DTYPE], the shape of one example without the batch, "
            "for example 3x224x224 or ids:128:int64 (scalar: one number per example; ids:L:int64 --size L=1..512: any "
            "length)"
        )
    if dtype not in DTYPES:
        raise InvalidInput(f"--input {text}: dtype {dtype!r} is not one of {', '.join(DTYPES)}")
    axes = () if shape == "scalar" else tuple(int(axis) if axis.isdigit() else axis for axis in shape.split("x"))
    numbers = math.prod(axis for axis in axes if isinstance(axis, int))
    if numbers > MAX_NUMBERS:
        raise InvalidInput(f"--input {text}: one example would have {numbers:,} numbers, more than {MAX_NUMBERS:,}")
    return InputSpec(name, axes, dtype)


def parse_size(text: str) -> Size:
    """`NAME=LOW..HIGH[:STEP]`, e.g. "L=1..512", "side=64..512:32". Raises InvalidInput."""
    match = _SIZE.fullmatch(text)
    if not match:
        raise InvalidInput(
            f"--size {text}: write NAME=LOWEST..HIGHEST, for example L=1..512, or side=64..512:32 for multiples of 32"
        )
    name, (low, high, step) = match[1], (int(number or 1) for number in match.groups()[1:])
    if not 1 <= low <= high:
        raise InvalidInput(f"--size {text}: the lowest size is at least 1, and at most the highest")
    return Size(name, low, high, step)


def check_sizes(specs: list[InputSpec], sizes: list[Size]) -> None:
    """Every open axis has one `--size`, and every `--size` an axis. Raises InvalidInput."""
    names = [size.name for size in sizes]
    used = {axis for spec in specs for axis in spec.shape if isinstance(axis, str)}
    for axis in sorted(used - set(names)):
        raise InvalidInput(f"--input has an axis named {axis!r}: add its range, for example --size {axis}=1..512")
    for name in names:
        if name not in used or names.count(name) > 1:
            why = "is given twice" if name in used else "is no axis of an --input"
            raise InvalidInput(
                f"--size {name}=…: {name!r} {why}; name an axis in --input, for example ids:{name}:int64"
            )
    highest = {size.name: size.high for size in sizes}
    for spec in specs:
        numbers = math.prod(axis if isinstance(axis, int) else highest[axis] for axis in spec.shape)
        if numbers > MAX_NUMBERS:
            raise InvalidInput(
                f"--input: one example of {spec.name or 'an input'} would have {numbers:,} numbers at the highest "
                f"sizes, more than {MAX_NUMBERS:,}"
            )


def bind(net: "nn.Module", specs: list[InputSpec], sizes: list[Size] | None = None, batch: bool = True) -> Inputs:
    """Names every input: its own name or, by position, that of forward()'s parameter. Raises InvalidInput."""
    sizes = sizes or []
    check_sizes(specs, sizes)
    parameters = list(inspect.signature(net.forward).parameters.values())
    parameter_names = [p.name for p in parameters if p.kind not in (p.VAR_POSITIONAL, p.VAR_KEYWORD)]
    required = [p.name for p in parameters if p.name in parameter_names and p.default is inspect._empty]
    variadic = any(p.kind == p.VAR_POSITIONAL for p in parameters)
    any_keyword = any(p.kind == p.VAR_KEYWORD for p in parameters)
    takes = f"forward() takes ({', '.join(str(p) for p in parameters)})"
    given_names = [spec.name for spec in specs if spec.name is not None]
    all_named = len(given_names) == len(specs)
    too_many = len(specs) > len(parameter_names) and not variadic and not (any_keyword and all_named)
    if not len(required) <= len(specs) or too_many:
        raise InvalidInput(f"--input was given {len(specs)} time(s), but {takes}; give one for each, in order")

    of_forward = [name for name in given_names if name in parameter_names]
    by_keyword = len(of_forward) == len(specs) or (any_keyword and all_named and set(required) <= set(given_names))
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
    for name in names:
        if names.count(name) > 1:
            raise InvalidInput(f"--input: the name {name!r} is used twice; give another: NAME:SHAPE")
    keyword_only = [p.name for p in parameters if p.kind == p.KEYWORD_ONLY]
    if not by_keyword and any(name in keyword_only for name in parameter_names[: len(specs)]):
        raise InvalidInput(f"--input needs forward()'s own names here, because {takes}: write NAME:SHAPE")
    return Inputs(
        tuple(_tensor(name, spec, batch) for name, spec in zip(names, specs, strict=True)),
        {name: spec.shape for name, spec in zip(names, specs, strict=True)},
        {size.name: size for size in sizes},
        batch,
        by_keyword,
        frozenset(name for name, spec in zip(names, specs, strict=True) if spec.dtype == BFLOAT16),
    )


def _tensor(name: str, spec: InputSpec, batch: bool) -> Tensor:
    sides = tuple(axis if isinstance(axis, int) else None for axis in spec.shape)
    dtype = "float32" if spec.dtype == BFLOAT16 else spec.dtype
    return Tensor(name, dtype, (None, *sides) if batch else sides)


def random_examples(inputs: Inputs, count: int = 0) -> Examples:
    """Seeded: normal floats, 0..255 for uint8, and 0 or 1 for other integers, which any embedding accepts.

    Open axes have their usual sizes. One example without a batch axis for a net without a batch.
    """
    sizes = inputs.usual_sizes()
    shapes = {tensor.name: inputs.shape(tensor.name, sizes) for tensor in inputs.tensors}
    if not count:
        size = sum(np.dtype(t.dtype).itemsize * math.prod(shapes[t.name]) for t in inputs.tensors)
        count = max(8, min(EXAMPLES, EXAMPLES_BYTES // max(1, size)))
    generator = np.random.default_rng(0)
    return {
        tensor.name: _draw(
            tensor.dtype, (count, *shapes[tensor.name]) if inputs.batch else shapes[tensor.name], generator
        )
        for tensor in inputs.tensors
    }


def _draw(dtype: str, shape: tuple[int, ...], generator: np.random.Generator) -> np.ndarray:
    if dtype.startswith("float"):
        return np.asarray(generator.standard_normal(shape), dtype)
    return np.asarray(generator.integers(0, 256 if dtype == "uint8" else 2, shape), dtype)


def at_sizes(
    inputs: Inputs, examples: Examples, sizes: Mapping[str, int], rows: int, real: bool, draw: int = 0
) -> Examples:
    """`rows` examples with these sizes of the open axes (one call, for a net without a batch).

    Real examples are cut or repeated along their axes; of random ones the numbers are drawn again, others for each
    `draw`.
    """
    generator = np.random.default_rng([draw, *sizes.values()])
    resized = {}
    for name, array in examples.items():
        shape = (rows, *inputs.shape(name, sizes)) if inputs.batch else inputs.shape(name, sizes)
        if real:
            kept = (np.arange(size) % max(1, have) for size, have in zip(shape, array.shape, strict=True))
            resized[name] = array[np.ix_(*kept)]
        else:
            resized[name] = np.asarray(generator.choice(array.reshape(-1), shape), array.dtype)
    return resized


def sizes_to_try(inputs: Inputs) -> list[dict[str, int]]:
    """The ends of each open axis, all at once and one by one, odd sizes and random ones in between."""
    if not inputs.sizes:
        return []
    usual = inputs.usual_sizes()
    lowest = {name: size.low for name, size in inputs.sizes.items()}
    highest = {name: size.at_most(size.high) for name, size in inputs.sizes.items()}
    tried = [lowest, highest, {name: size.at_most(ODD_SIZE) for name, size in inputs.sizes.items()}]
    for name in inputs.sizes:
        tried += [usual | {name: lowest[name]}, usual | {name: highest[name]}]
    generator = np.random.default_rng(0)
    for _ in range(RANDOM_SIZES):
        drawn = {name: int(generator.integers(size.low, size.high + 1)) for name, size in inputs.sizes.items()}
        tried.append({name: size.at_most(drawn[name]) for name, size in inputs.sizes.items()})
    distinct = {tuple(sizes.items()): sizes for sizes in tried if sizes != usual}
    return list(distinct.values())[:MAX_CALLS]


def read_examples(path: Path, inputs: Inputs) -> Examples:
    """The user's own examples from an .npz with one array per input name. Raises InvalidInput."""
    try:
        content = npz.read(path)
    except FileNotFoundError:
        raise InvalidInput(f"--golden {path}: no such file") from None
    except ValueError as error:
        raise InvalidInput(f"--golden {path}: not an .npz of arrays ({error}); np.savez makes one") from None
    expected = ", ".join(f"{t.name} {t.dtype} {_shown(inputs, t)}" for t in inputs.tensors)
    if sorted(content) != sorted(t.name for t in inputs.tensors):
        raise InvalidInput(f"--golden {path}: contains {', '.join(sorted(content)) or 'nothing'}, needed: {expected}")
    if inputs.batch:
        counts = {len(a) if a.ndim else 0 for a in content.values()}
        if len(counts) != 1 or not 1 <= min(counts) <= MAX_EXAMPLES:
            raise InvalidInput(f"--golden {path}: every array needs the same number of examples, 1 to {MAX_EXAMPLES}")
    examples = {}
    sizes: dict[str, int] = {}
    for tensor in inputs.tensors:
        array = content[tensor.name]
        # np.savez keeps float64 and int64; narrowing those is fine, another kind of number is a mistake
        fits = array.ndim == len(tensor.shape) and array.dtype.kind == np.dtype(tensor.dtype).kind
        sides = array.shape[1:] if inputs.batch else array.shape
        if not fits or not all(
            _matches(a, s, sizes, inputs) for a, s in zip(inputs.axes[tensor.name], sides, strict=True)
        ):
            actual = f"{tensor.name} {array.dtype.name} {list(array.shape)}"
            raise InvalidInput(f"--golden {path}: {actual} does not fit, needed: {expected}")
        examples[tensor.name] = array.astype(tensor.dtype)
    return examples


def _matches(axis: int | str, size: int, sizes: dict[str, int], inputs: Inputs) -> bool:
    """Whether the axis may have this size; an open one has the same size in all inputs."""
    if isinstance(axis, int):
        return axis == size
    allowed = inputs.sizes[axis]
    in_range = allowed.low <= size <= allowed.high and (size - allowed.low) % allowed.step == 0
    return in_range and sizes.setdefault(axis, size) == size


def _shown(inputs: Inputs, tensor: Tensor) -> str:
    axes = [
        axis if isinstance(axis, int) else f"{axis} ({inputs.sizes[axis].low} to {inputs.sizes[axis].high})"
        for axis in inputs.axes[tensor.name]
    ]
    return str(["N", *axes] if inputs.batch else axes).replace("'", "")


def spread(labels: np.ndarray, count: int = EXAMPLES) -> np.ndarray:
    """Indices of `count` examples spread over all classes: the first of every class, then the second, and so on."""
    by_class = np.argsort(labels, kind="stable")
    starts = np.searchsorted(labels[by_class], labels[by_class])
    rank_in_class = np.arange(len(labels)) - starts
    return np.sort(by_class[np.argsort(rank_in_class, kind="stable")[:count]])
