"""Golden examples: inputs and the reference's outputs for them, in one .npz against which every later hop is compared.

Keys are "input:<name>" and "output:<name>", of arrays whose first axis is the example: any of them make a batch. What
cannot be sliced so is a call, sent and compared as a whole: examples with other sizes of open axes, and all examples of
a model without a batch. The first one's keys are "call1/input:<name>" and so on.
"""

import re
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from seaway.artifacts import atomic, npz
from seaway.artifacts.artifact_metadata import Tolerance
from seaway.errors import MetadataError

GOLDEN = "golden.npz"  # beside model.onnx; in a published version under assets.extra/
UNUSUAL = "unusual.npz"  # beside model.onnx: a call for each of settings["unusual"]; differences are told, not refused
TEST_OUTPUTS = (
    "test_outputs.npz"  # beside model.onnx: the reference's outputs for the dataset's whole test set, no inputs
)

_KEY = re.compile(r"(?:call([1-9]\d*)/)?(input|output):(.*)", re.DOTALL)


@dataclass(frozen=True, slots=True)
class Golden:
    """`inputs` and `outputs`: [N, …], empty for a model without a batch; `calls` that cannot be sliced."""

    inputs: dict[str, np.ndarray]
    outputs: dict[str, np.ndarray]
    calls: tuple["Golden", ...] = ()

    def whole(self) -> list["Golden"]:
        """All examples as calls: those with a batch as one, then the others."""
        return [*([Golden(self.inputs, self.outputs)] if self.inputs else []), *self.calls]


def write(path: Path, golden: Golden) -> None:
    arrays: dict[str, np.ndarray] = {}
    for prefix, call in (("", golden), *((f"call{i}/", call) for i, call in enumerate(golden.calls, 1))):
        arrays |= {f"{prefix}input:{name}": a for name, a in call.inputs.items()}
        arrays |= {f"{prefix}output:{name}": a for name, a in call.outputs.items()}
    save = np.savez_compressed if golden.inputs else np.savez  # outputs alone hardly shrink, and can be large
    with atomic.file(path) as part, part.open("wb") as opened:
        save(opened, **arrays)  # type: ignore[arg-type]


def read(path: Path) -> Golden:
    """Raises MetadataError if the file is missing or broken."""
    try:
        arrays = npz.read(path)
    except (FileNotFoundError, ValueError) as error:
        raise MetadataError(f"{path}: golden examples cannot be read ({error}); export the model again") from None
    keys = [match for match in map(_KEY.fullmatch, arrays) if match]
    parts = {int(match[1] or 0): Golden({}, {}) for match in keys} | {0: Golden({}, {})}
    for match in keys:
        part = parts[int(match[1] or 0)]
        (part.inputs if match[2] == "input" else part.outputs)[match[3]] = arrays[match[0]]
    rows, *calls = (parts[number] for number in sorted(parts))
    return Golden(rows.inputs, rows.outputs, tuple(calls))


@dataclass(frozen=True, slots=True)
class Comparison:
    """One output against the reference's. `wrong` counts examples (rows) with any element out of tolerance, or
    non-finite where the reference's is finite; `flipped` counts rows whose argmax differs although the reference's
    margin between its first and second choice is more than twice the tolerance."""

    max_abs: float
    max_rel: float
    wrong: int
    flipped: int
    rows: int


def compare(actual: np.ndarray, expected: np.ndarray, tolerance: Tolerance) -> Comparison:
    """Both [N, ...] of the same shape, or both scalars; a different shape makes every row wrong."""
    rows = len(expected) if expected.ndim else 1
    if actual.shape != expected.shape:
        return Comparison(float("inf"), float("inf"), rows, rows, rows)
    if not expected.size:
        return Comparison(0, 0, 0, 0, rows)
    actual64, expected64 = actual.astype(np.float64).reshape(rows, -1), expected.astype(np.float64).reshape(rows, -1)
    with np.errstate(invalid="ignore", divide="ignore"):
        distance = np.abs(actual64 - expected64)
        distance[(actual64 == expected64) | (np.isnan(actual64) & np.isnan(expected64))] = 0
        distance[np.isnan(distance)] = np.inf
        if expected.dtype.kind in "iu":  # float64 has not all of them
            distance[(actual != expected).reshape(rows, -1) & (distance < 1)] = 1
        allowed = tolerance.allowed(expected64)
        wrong = ((distance > allowed) | np.isinf(distance)).any(
            axis=1
        )  # also infinite where the reference's NaN or ∞ is not matched
        relative = np.where(distance > 0, distance / np.abs(expected64), 0)
        flipped = np.zeros(rows, bool)
        if expected64.shape[1] > 1:
            top = np.sort(expected64, axis=1)[:, -2:]
            distinct = top[:, 1] - top[:, 0] > 2 * allowed.max(axis=1)
            flipped = distinct & (actual64.argmax(axis=1) != expected64.argmax(axis=1))
    return Comparison(
        float(distance.max(initial=0)), float(relative.max(initial=0)), int(wrong.sum()), int(flipped.sum()), rows
    )
