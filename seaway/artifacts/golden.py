"""Golden examples: inputs with PyTorch's outputs for them, in one .npz that every later hop compares itself with.

Keys are "input:<name>" and "output:<name>"; the first dimension of every array is the example.
"""

from dataclasses import dataclass
from pathlib import Path
from zipfile import BadZipFile

import numpy as np

from seaway.artifacts import atomic
from seaway.artifacts.card import Tolerance
from seaway.errors import CardError

GOLDEN = "golden.npz"  # beside model.onnx; in a published version under assets.extra/
TEST_OUTPUTS = "test_outputs.npz"  # beside model.onnx: PyTorch's outputs for the dataset's whole test set, no inputs


@dataclass(frozen=True, slots=True)
class Golden:
    inputs: dict[str, np.ndarray]
    outputs: dict[str, np.ndarray]


def write(path: Path, golden: Golden) -> None:
    arrays = {f"input:{name}": a for name, a in golden.inputs.items()}
    arrays |= {f"output:{name}": a for name, a in golden.outputs.items()}
    with atomic.file(path) as part, part.open("wb") as opened:
        np.savez(opened, **arrays)  # type: ignore[arg-type]


def read(path: Path) -> Golden:
    """Raises CardError where the file is missing or broken."""
    try:
        with path.open("rb") as opened, np.load(opened, allow_pickle=False) as arrays:
            inputs = {key.removeprefix("input:"): arrays[key] for key in arrays if key.startswith("input:")}
            outputs = {key.removeprefix("output:"): arrays[key] for key in arrays if key.startswith("output:")}
    except (OSError, EOFError, ValueError, AttributeError, TypeError, BadZipFile) as error:
        raise CardError(f"{path}: golden examples cannot be read ({error}); export the model again") from None
    return Golden(inputs, outputs)


@dataclass(frozen=True, slots=True)
class Comparison:
    """One output against PyTorch's. `wrong` counts examples (rows) with any element out of tolerance, or non-finite
    where PyTorch's is finite; `flipped` counts rows whose argmax differs although PyTorch's margin between its first
    and second choice is more than twice the tolerance."""

    max_abs: float
    max_rel: float
    wrong: int
    flipped: int
    rows: int


def compare(got: np.ndarray, expected: np.ndarray, tolerance: Tolerance) -> Comparison:
    """Both [N, ...] of the same shape; a different shape makes every row wrong."""
    rows = len(expected)
    if got.shape != expected.shape:
        return Comparison(float("inf"), float("inf"), rows, rows, rows)
    if not expected.size:
        return Comparison(0, 0, 0, 0, rows)
    got64, expected64 = got.astype(np.float64).reshape(rows, -1), expected.astype(np.float64).reshape(rows, -1)
    with np.errstate(invalid="ignore", divide="ignore"):
        distance = np.abs(got64 - expected64)
        distance[(got64 == expected64) | (np.isnan(got64) & np.isnan(expected64))] = 0
        distance[np.isnan(distance)] = np.inf
        allowed = tolerance.allowed(expected64)
        bad = ((distance > allowed) | np.isinf(distance)).any(axis=1)  # inf too where PyTorch's NaN or ∞ was not met
        relative = np.where(distance > 0, distance / np.abs(expected64), 0)
        flipped = np.zeros(rows, bool)
        if expected64.shape[1] > 1:
            top = np.sort(expected64, axis=1)[:, -2:]
            clear = top[:, 1] - top[:, 0] > 2 * allowed.max(axis=1)
            flipped = clear & (got64.argmax(axis=1) != expected64.argmax(axis=1))
    return Comparison(
        float(distance.max(initial=0)), float(relative.max(initial=0)), int(bad.sum()), int(flipped.sum()), rows
    )
