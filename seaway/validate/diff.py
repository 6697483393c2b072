"""Two models on the same inputs: ONNX files and SavedModels, their outputs and the first node that differs."""

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from seaway import tensorflow_import
from seaway.artifacts import artifact_metadata, golden, model_repository, onnx_model
from seaway.artifacts.artifact_metadata import Tensor, Tolerance
from seaway.errors import InvalidInput, MetadataError, ModelError, Unsupported
from seaway.validate import divergence, random_input, runners, saved_file, sides
from seaway.validate.divergence import Divergence
from seaway.validate.sides import Arrays

MODEL = "model.onnx"
TOLERANCE = Tolerance(1e-4, 1e-3)  # as for examples without artifact metadata
Run = Callable[[Arrays], Mapping[str, np.ndarray]]


@dataclass(frozen=True, slots=True)
class Files:
    """A model in files: `onnx`, `saved_model` or both, of which the outputs come from the SavedModel. `inputs`: its
    inputs in order."""

    title: str
    onnx: Path | None
    saved_model: Path | None
    inputs: tuple[Tensor, ...]

    def runner(self) -> Run:
        """Raises ModelError."""
        if not self.saved_model:
            assert self.onnx
            return runners.onnx_runtime(self.onnx)
        signatures = saved_file.signatures(saved_file.read(self.saved_model))
        asked = {tensor.name for tensor in self.inputs}
        same = [name for name, (inputs, _) in signatures.items() if {tensor.name for tensor in inputs} == asked]
        return runners.tensorflow(self.saved_model)(same)


def files(path: Path) -> Files:
    """An ONNX file, an ONNX artifact, a SavedModel or a version's folder. Raises InvalidInput, ModelError."""
    if path.is_file():
        return Files(str(path), path, None, onnx_model.inputs(onnx_model.load(path)))
    if model_repository.is_saved_model(path):
        tensorflow_import.import_tensorflow()
        exported = path / model_repository.EXTRA / MODEL
        return Files(str(path), exported if exported.is_file() else None, path, _inputs(path))
    if (path / MODEL).is_file():
        return Files(str(path), path / MODEL, None, onnx_model.inputs(onnx_model.load(path / MODEL)))
    raise InvalidInput(f"{path}: no ONNX file, SavedModel or version's folder; give one of them, or a server's URL")


def _inputs(saved_model: Path) -> tuple[Tensor, ...]:
    """In the order of the artifact's metadata; of a SavedModel from elsewhere, those of its serving_default."""
    for place in (artifact_metadata.METADATA_FILE, model_repository.METADATA_FILE):
        try:
            return artifact_metadata.read(saved_model, place).inputs
        except MetadataError:
            continue
    signatures = saved_file.signatures(saved_file.read(saved_model))
    if random_input.DEFAULT not in signatures:
        raise ModelError(f"{saved_model} has no signature {random_input.DEFAULT}, and only that one is compared")
    return signatures[random_input.DEFAULT][0]


def random_inputs(tensors: tuple[Tensor, ...], seed: int) -> Iterator[Arrays]:
    """Of two sizes of every dynamic axis. Raises Unsupported for strings."""
    for size in random_input.DYNAMIC_SIZES:
        yield random_input.random(tensors, seed, size)


def named(inputs: Arrays, model: Files) -> Arrays:
    """The inputs under the model's own names, by their order if those are others: TensorFlow allows not all of ONNX's.

    Raises InvalidInput."""
    if inputs.keys() == {tensor.name for tensor in model.inputs}:
        return inputs
    if len(inputs) != len(model.inputs):
        own = ", ".join(tensor.name for tensor in model.inputs)
        raise InvalidInput(f"{model.title} takes {own}, but the inputs are {', '.join(inputs)}")
    return {tensor.name: array for tensor, array in zip(model.inputs, inputs.values(), strict=True)}


@dataclass(frozen=True, slots=True)
class Difference:
    """The largest |Δ| of an output, the largest number of the first model's, and whether it is out of tolerance."""

    max_abs: float
    largest: float
    differs: bool


def outputs(first: Mapping[str, np.ndarray], second: Mapping[str, np.ndarray]) -> dict[str, Difference]:
    """By name, of the outputs that both have; by their order if they share no name. Raises Unsupported."""
    names = [name for name in first if name in second]
    pairs = [(name, first[name], second[name]) for name in names]
    if not names and len(first) == len(second):
        pairs = [(name, one, other) for (name, one), other in zip(first.items(), second.values(), strict=True)]
    if not pairs:
        raise Unsupported(f"the models share no output: {', '.join(first)} and {', '.join(second)}")
    found = {}
    for name, one, other in pairs:
        one, other = np.asarray(one), np.asarray(other)
        if one.dtype.kind in "OSU" or other.dtype.kind in "OSU":
            equal = one.shape == other.shape and list(map(_text, one.flat)) == list(map(_text, other.flat))
            found[name] = Difference(0.0 if equal else float("inf"), 0.0, not equal)
            continue
        compared = golden.compare(other, one, TOLERANCE)
        found[name] = Difference(compared.max_abs, divergence.scale(one), bool(compared.wrong))
    return found


def node(first: Files, second: Files, inputs: Arrays) -> Divergence:
    """The first node that differs, sought between the ONNX file of one and the SavedModel, or else the ONNX file, of
    the other."""
    for one, other in ((first, second), (second, first)):
        if one.onnx and other.saved_model and not (one is second and first.onnx):
            return _search(one, other, inputs)
    if first.onnx and second.onnx:
        return _search(first, second, inputs)
    return Divergence(second.title, reason="neither side has an ONNX file, whose nodes could be compared")


def _search(one: Files, other: Files, inputs: Arrays) -> Divergence:
    assert one.onnx
    onnx_inputs = onnx_model.inputs(onnx_model.load(one.onnx))
    try:
        own = sides.OnnxValues(one.onnx, named(inputs, Files(str(one.onnx), one.onnx, None, onnx_inputs)))
        given = named(inputs, other)
        if other.saved_model:
            return divergence.find(own, sides.SavedModelValues(other.saved_model, given, other.title))
        assert other.onnx
        return divergence.find(own, sides.OnnxValues(other.onnx, given, other.title))
    except ModelError as error:
        return Divergence(other.title, reason=str(error))


def _text(value: object) -> str:
    return value.decode("utf-8", "replace") if isinstance(value, bytes) else str(value)
