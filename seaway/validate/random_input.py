"""A converted model beside its ONNX file on random input: for models that come without golden examples."""

from pathlib import Path
from typing import Any

import numpy as np

from seaway.artifacts.card import Card, Tensor
from seaway.errors import ModelError, Unsupported
from seaway.validate import graph_file, runners

DEFAULT = "serving_default"
FREE = 2  # the size of an axis that the model leaves open


def differences(onnx: Path, saved_model: Path, card: Card, seed: int = 0) -> dict[str, tuple[float, float]]:
    """Output → (largest difference, largest value) of ONNX Runtime and TensorFlow; `card` is the SavedModel's.

    NaN and infinity where both have them are no difference; elsewhere they make it infinite. Raises Unsupported for
    inputs or outputs that are not numbers, ModelError where a runtime fails or shapes differ.
    """
    inputs = random(card.inputs, seed)
    graph, _ = graph_file.interface(graph_file.read(onnx))
    names = {tensor.name for tensor in graph}
    renamed = card.inputs if names == inputs.keys() else graph  # of a bare file: in its order, by TensorFlow's names
    expected = runners.onnx_runtime(onnx)(
        {theirs.name: inputs[ours.name] for theirs, ours in zip(renamed, card.inputs, strict=True)}
    )
    rest = (tensor.name for tensor in card.outputs[1:]) if card.parents else ()  # see convert/signatures.py
    got = runners.tensorflow(saved_model)([DEFAULT, *rest])(inputs)
    return {tensor.name: _compared(tensor.name, got[tensor.name], expected[tensor.name]) for tensor in card.outputs}


def random(tensors: tuple[Tensor, ...], seed: int) -> dict[str, np.ndarray]:
    """Normally distributed floats; of whole numbers only 0 and 1, which are indices of nearly everything."""
    chance = np.random.default_rng(seed)
    return {tensor.name: _array(tensor, chance) for tensor in tensors}


def _array(tensor: Tensor, chance: np.random.Generator) -> np.ndarray:
    shape = [FREE if size is None else size for size in tensor.shape]
    if tensor.dtype == "str":
        raise Unsupported(f"input {tensor.name!r} takes strings, for which there is no random input")
    dtype = np.dtype(tensor.dtype)
    values = chance.integers(0, 2, shape) if dtype.kind in "biu" else chance.normal(size=shape)
    return values.astype(dtype)


def _compared(name: str, got: Any, expected: Any) -> tuple[float, float]:
    if got.shape != expected.shape:
        raise ModelError(f"output {name!r} is {list(got.shape)} in TensorFlow and {list(expected.shape)} in ONNX")
    if got.dtype.kind in "OSU" or expected.dtype.kind in "OSU":
        raise Unsupported(f"output {name!r} is of strings, which have no largest difference")
    wide = np.complex128 if got.dtype.kind == "c" else np.float64
    ours, theirs = np.asarray(got).astype(wide), np.asarray(expected).astype(wide)
    same = (ours == theirs) | (np.isnan(ours) & np.isnan(theirs))
    with np.errstate(invalid="ignore"):
        apart = np.where(same, 0.0, np.abs(ours - theirs))
    finite = np.abs(theirs[np.isfinite(theirs)])
    return float(np.nan_to_num(apart, nan=np.inf).max(initial=0.0)), float(finite.max(initial=0.0))
