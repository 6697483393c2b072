"""Compares a converted model with its ONNX file on random input: for models without golden examples."""

from pathlib import Path
from typing import Any

import numpy as np

from seaway.artifacts import onnx_model
from seaway.artifacts.artifact_metadata import ArtifactMetadata, Tensor
from seaway.errors import ModelError, Unsupported
from seaway.validate import runners

DEFAULT = "serving_default"
DYNAMIC_SIZES = (2, 3)  # of all dynamic axes at once: a size that the file or the conversion fixed fails at one


def differences(
    onnx: Path, saved_model: Path, metadata: ArtifactMetadata, seed: int = 0
) -> dict[str, tuple[float, float]]:
    """Output → (largest difference, largest value) of ONNX Runtime and TensorFlow; `metadata` is the SavedModel's.

    Matching NaN or infinity is no difference; otherwise they make it infinite. Raises Unsupported for inputs or outputs
    that are not numbers, and if ONNX Runtime runs at none of the sizes; ModelError if TensorFlow fails, or shapes
    differ.
    """
    graph = onnx_model.inputs(onnx_model.load(onnx))
    runtime, signatures = runners.onnx_runtime(onnx), runners.tensorflow(saved_model)
    rest = (tensor.name for tensor in metadata.outputs[1:]) if metadata.parents else ()  # see convert/signatures.py
    tensorflow = signatures([DEFAULT, *rest])
    found: dict[str, tuple[float, float]] = {}
    reason = ""
    for size in DYNAMIC_SIZES:
        inputs = random(metadata.inputs, seed, size)
        # A bare file's inputs are matched by order, because TensorFlow may rename them.
        renamed = metadata.inputs if {tensor.name for tensor in graph} == inputs.keys() else graph
        try:
            expected = runtime({t.name: inputs[o.name] for t, o in zip(renamed, metadata.inputs, strict=True)})
        except ModelError as error:
            reason = reason or str(error)
            continue
        outputs = tensorflow(inputs)
        for tensor in metadata.outputs:
            compared = _compared(tensor.name, outputs[tensor.name], expected[tensor.name])
            known = found.get(tensor.name, (0.0, 0.0))
            found[tensor.name] = max(known[0], compared[0]), max(known[1], compared[1])
    if not found:
        raise Unsupported(f"{reason}; give a file that runs on random numbers, or compare on inputs of your own")
    return found


def random(tensors: tuple[Tensor, ...], seed: int, size: int = DYNAMIC_SIZES[0]) -> dict[str, np.ndarray]:
    """Normally distributed floats; integers 0 and 1 only, which are valid indices almost everywhere; `size`: of
    each dynamic axis."""
    generator = np.random.default_rng(seed)
    return {tensor.name: _array(tensor, generator, size) for tensor in tensors}


def _array(tensor: Tensor, generator: np.random.Generator, dynamic: int) -> np.ndarray:
    shape = [dynamic if size is None else size for size in tensor.shape]
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
