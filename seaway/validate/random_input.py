"""Compares a converted model with its ONNX file on random input: for models without golden examples."""

from pathlib import Path
from typing import Any

import numpy as np

from seaway.artifacts.artifact_metadata import ArtifactMetadata, Tensor
from seaway.errors import ModelError, Unsupported
from seaway.validate import graph_file, runners

DEFAULT = "serving_default"
DYNAMIC_SIZE = 2  # for a dynamic axis


def differences(
    onnx: Path, saved_model: Path, metadata: ArtifactMetadata, seed: int = 0
) -> dict[str, tuple[float, float]]:
    """Output → (largest difference, largest value) of ONNX Runtime and TensorFlow; `metadata` is the SavedModel's.

    Matching NaN or infinity is no difference; otherwise they make it infinite. Raises Unsupported for inputs or outputs
    that are not numbers, ModelError if a runtime fails or shapes differ.
    """
    inputs = random(metadata.inputs, seed)
    graph, _ = graph_file.interface(graph_file.read(onnx))
    names = {tensor.name for tensor in graph}
    # A bare file's inputs are matched by order, because TensorFlow may rename them.
    renamed = metadata.inputs if names == inputs.keys() else graph
    expected = runners.onnx_runtime(onnx)(
        {theirs.name: inputs[ours.name] for theirs, ours in zip(renamed, metadata.inputs, strict=True)}
    )
    rest = (tensor.name for tensor in metadata.outputs[1:]) if metadata.parents else ()  # see convert/signatures.py
    outputs = runners.tensorflow(saved_model)([DEFAULT, *rest])(inputs)
    return {
        tensor.name: _compared(tensor.name, outputs[tensor.name], expected[tensor.name]) for tensor in metadata.outputs
    }


def random(tensors: tuple[Tensor, ...], seed: int) -> dict[str, np.ndarray]:
    """Normally distributed floats; integers 0 and 1 only, which are valid indices almost everywhere."""
    generator = np.random.default_rng(seed)
    return {tensor.name: _array(tensor, generator) for tensor in tensors}


def _array(tensor: Tensor, generator: np.random.Generator) -> np.ndarray:
    shape = [DYNAMIC_SIZE if size is None else size for size in tensor.shape]
    if tensor.dtype == "str":
        raise Unsupported(f"input {tensor.name!r} takes strings, which random input does not support")
    dtype = np.dtype(tensor.dtype)
    values = generator.integers(0, 2, shape) if dtype.kind in "biu" else generator.normal(size=shape)
    return values.astype(dtype)


def _compared(name: str, actual: Any, expected: Any) -> tuple[float, float]:
    if actual.shape != expected.shape:
        raise ModelError(f"output {name!r} is {list(actual.shape)} in TensorFlow and {list(expected.shape)} in ONNX")
    if actual.dtype.kind in "OSU" or expected.dtype.kind in "OSU":
        raise Unsupported(f"output {name!r} consists of strings, which have no difference")
    dtype = np.complex128 if actual.dtype.kind == "c" else np.float64
    ours, theirs = np.asarray(actual).astype(dtype), np.asarray(expected).astype(dtype)
    same = (ours == theirs) | (np.isnan(ours) & np.isnan(theirs))
    with np.errstate(invalid="ignore"):
        distance = np.where(same, 0.0, np.abs(ours - theirs))
    finite = np.abs(theirs[np.isfinite(theirs)])
    return float(np.nan_to_num(distance, nan=np.inf).max(initial=0.0)), float(finite.max(initial=0.0))
