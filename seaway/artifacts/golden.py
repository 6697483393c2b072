"""Golden examples: inputs and PyTorch's outputs for them, in one .npz against which every later hop is compared.

Keys are "input:<name>" and "output:<name>"; the first dimension of every array is the example.
"""

import zlib
from dataclasses import dataclass
from pathlib import Path
from zipfile import BadZipFile

import numpy as np

from seaway.artifacts import atomic
from seaway.artifacts.artifact_metadata import Tolerance
from seaway.errors import MetadataError

GOLDEN = "golden.npz"  # beside model.onnx; in a published version under assets.extra/
TEST_OUTPUTS = "test_outputs.npz"  # beside model.onnx: PyTorch's outputs for the dataset's whole test set, no inputs


@dataclass(frozen=True, slots=True)
class Golden:
    inputs: dict[str, np.ndarray]
    outputs: dict[str, np.ndarray]


def write(path: Path, golden: Golden) -> None:
    arrays = {f"input:{name}": a for name, a in golden.inputs.items()}
    arrays |= {f"output:{name}": a for name, a in golden.outputs.items()}
    save = np.savez_compressed if golden.inputs else np.savez  # outputs alone hardly shrink, and can be large
    with atomic.file(path) as part, part.open("wb") as opened:
        save(opened, **arrays)  # type: ignore[arg-type]


def read(path: Path) -> Golden:
    """Raises MetadataError if the file is missing or broken."""
    try:
        with path.open("rb") as opened, np.load(opened, allow_pickle=False) as arrays:
            inputs = {key.removeprefix("input:"): arrays[key] for key in arrays if key.startswith("input:")}
            outputs = {key.removeprefix("output:"): arrays[key] for key in arrays if key.startswith("output:")}
    except (OSError, EOFError, ValueError, AttributeError, TypeError, BadZipFile, zlib.error) as error:
        raise MetadataError(f"{path}: golden examples cannot be read ({error}); export the model again") from None
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


def compare(actual: np.ndarray, expected: np.ndarray, tolerance: Tolerance) -> Comparison:
    """Both [N, ...] of the same shape; a different shape makes every row wrong."""
    rows = len(expected)
    if actual.shape != expected.shape:
        return Comparison(float("inf"), float("inf"), rows, rows, rows)
    if not expected.size:
        return Comparison(0, 0, 0, 0, rows)
    actual64, expected64 = actual.astype(np.float64).reshape(rows, -1), expected.astype(np.float64).reshape(rows, -1)
    with np.errstate(invalid="ignore", divide="ignore"):
        distance = np.abs(actual64 - expected64)
        distance[(actual64 == expected64) | (np.isnan(actual64) & np.isnan(expected64))] = 0
        distance[np.isnan(distance)] = np.inf
        allowed = tolerance.allowed(expected64)
        wrong = ((distance > allowed) | np.isinf(distance)).any(
            axis=1
        )  # also infinite where PyTorch's NaN or ∞ is not matched
        relative = np.where(distance > 0, distance / np.abs(expected64), 0)
        flipped = np.zeros(rows, bool)
        if expected64.shape[1] > 1:
            top = np.sort(expected64, axis=1)[:, -2:]
            distinct = top[:, 1] - top[:, 0] > 2 * allowed.max(axis=1)
            flipped = distinct & (actual64.argmax(axis=1) != expected64.argmax(axis=1))
    return Comparison(
        float(distance.max(initial=0)), float(relative.max(initial=0)), int(wrong.sum()), int(flipped.sum()), rows
    )
