"""One output that a response must have, and the comparison of a response's array with it."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from seaway.artifacts import golden
from seaway.artifacts.artifact_metadata import Tolerance
from seaway.protocols import client_codecs, tensors

MAX_EXACT = 2**53  # float64 holds all integers below it

MISSING, NOT_NUMERIC, NOT_TEXT, SHAPE, DISTANCE = "missing", "not numeric", "not text", "shape", "distance"
_SENTENCES = {  # of one output, of several
    MISSING: ("is missing", "are missing"),
    NOT_NUMERIC: ("is not numeric", "are not numeric"),
    NOT_TEXT: ("is not text", "are not text"),
    SHAPE: ("has another shape than {}", "have another shape than {}"),
    DISTANCE: ("differs from {} by more than the tolerance", "differ from {} by more than the tolerance"),
}


@dataclass(frozen=True, slots=True)
class Expected:
    """`values`: float64, and `allowed` the |Δ| of each; without `allowed`, integers that float64 does not hold, or text
    as bytes. `kinds`: those of the dtypes that a response may have."""

    name: str
    tolerance: Tolerance
    values: np.ndarray
    allowed: np.ndarray | None
    kinds: str = "fiub"

    @property
    def nbytes(self) -> int:
        return self.values.nbytes + (0 if self.allowed is None else self.allowed.nbytes)

    def to_message(self) -> list[Any]:
        """As values that msgpack can encode, for `from_message`."""
        content = tensors.string_values(self.values) if self.kinds == "O" else self.values.tobytes()
        return [self.name, [self.tolerance.abs, self.tolerance.rel], self.values.shape, self.values.dtype.str, content]


def from_message(message: Sequence[Any]) -> Expected:
    name, tolerance, shape, dtype, content = message
    text = isinstance(content, list)
    array = tensors.strings(content, shape) if text else np.frombuffer(content, dtype).reshape(shape)
    return expect(name, array, Tolerance(*tolerance))


def expect(name: str, output: np.ndarray, tolerance: Tolerance) -> Expected:
    if output.dtype.kind in "OSU":
        return Expected(name, tolerance, tensors.strings(tensors.string_values(output), output.shape), None, "O")
    values = np.asarray(output, np.float64)
    if output.dtype.kind in "iu" and (np.abs(values) >= MAX_EXACT).any():
        return Expected(name, tolerance, output, None)
    with np.errstate(invalid="ignore"):  # 0 · ∞
        return Expected(name, tolerance, values, tolerance.allowed(values))


def compare(output: np.ndarray | None, expected: Expected) -> tuple[float, str]:
    """The largest |Δ| and "", or a problem for `describe`. Runs for each response, with warnings of ∞ - ∞ disabled."""
    if output is None:
        return math.inf, MISSING
    values = expected.values
    if output.dtype.kind not in expected.kinds:
        return math.inf, NOT_TEXT if expected.kinds == "O" else NOT_NUMERIC
    if output.shape != values.shape:
        output = client_codecs.restore_shape(output, values)
        if output.shape != values.shape:
            return math.inf, SHAPE
    if expected.allowed is not None:
        distance = np.abs(output - values)
        max_abs = float(distance.max(initial=0))
        if math.isfinite(max_abs) and (distance <= expected.allowed).all():
            return max_abs, ""
    if expected.kinds == "O":
        return (0.0, "") if (output == values).all() else (math.inf, DISTANCE)
    comparison = golden.compare(output, values, expected.tolerance)  # handles NaN, infinities and large integers
    return comparison.max_abs, DISTANCE if comparison.wrong else ""


def differs(one: Expected, other: Expected) -> bool:
    """Whether a response with `one` would be noticed where `other` is expected."""
    with np.errstate(invalid="ignore"):
        return bool(compare(one.values, other)[1])


def describe(problem: str, names: Sequence[str], reference: str) -> str:
    """The problem of those outputs as a sentence; `reference`: whose outputs are expected, e.g. "PyTorch's"."""
    single, several = _SENTENCES[problem]
    if len(names) > 1:
        return f"outputs {', '.join(map(repr, names))} {several}".format(reference)
    return f"{f'output {names[0]!r}' if names[0] else 'the output'} {single}".format(reference)
