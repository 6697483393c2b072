"""The intermediate values of an ONNX file, and of a SavedModel, on one input: what `divergence` compares."""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import onnx

from seaway.artifacts import carriers, model_repository, onnx_model
from seaway.errors import ModelError
from seaway.validate import runners

CONVERSION = "conversion.json"
FUNCTION = "call"  # the SavedModel's function that every signature calls: seaway/convert/signatures.py

Arrays = dict[str, np.ndarray]


class Side(Protocol):
    """A model that is bound to its input. Its values have the names and the axis order of the ONNX graph."""

    name: str

    def has(self, value: str) -> bool:
        """Whether it has this value."""

    def fetch(self, values: Sequence[str]) -> Arrays:
        """The values. Raises ModelError."""


class OnnxValues:
    """A Side: an ONNX file in ONNX Runtime, all of whose values are outputs. Raises ModelError."""

    def __init__(self, file: Path, inputs: Arrays, name: str = "ONNX Runtime") -> None:
        onnx_model.load(file)  # whose errors say what to do
        model = onnx.load(str(file), load_external_data=False)
        if model.functions:
            model = onnx.inliner.inline_local_functions(model)
        self.name, self.model, self.inputs, self.folder = name, model, inputs, file.parent
        self._names = {output for node in model.graph.node for output in node.output if output}
        wider = onnx.ModelProto()
        wider.CopyFrom(model)
        own = {value.name for value in model.graph.output}
        wider.graph.output.extend(onnx.ValueInfoProto(name=name) for name in sorted(self._names - own))
        self._run = runners.onnx_values(wider.SerializeToString(), self.folder)

    def has(self, value: str) -> bool:
        return value in self._names

    def fetch(self, values: Sequence[str]) -> Arrays:
        return self._run(self.inputs, values) if values else {}


class SavedModelValues:
    """A Side: a SavedModel with the converter's record of what carries each value. Raises ModelError without one."""

    def __init__(self, folder: Path, inputs: Arrays, name: str = "the SavedModel") -> None:
        self.name, self.inputs = name, inputs
        self._carriers = read_carriers(folder)
        self._run = runners.tensorflow_values(folder, FUNCTION)

    def has(self, value: str) -> bool:
        return value in self._carriers

    def fetch(self, values: Sequence[str]) -> Arrays:
        chosen = {value: self._carriers[value] for value in values}
        tensors = list(dict.fromkeys(tensor for carrier in chosen.values() for tensor in carrier.tensors()))
        arrays = self._run(self.inputs, tensors) if tensors else {}
        return {value: _value(carrier, arrays) for value, carrier in chosen.items()}


def read_carriers(folder: Path) -> dict[str, carriers.Carrier]:
    """The record of a SavedModel, or of a published version. Raises ModelError without one."""
    places = [folder / CONVERSION, folder / model_repository.EXTRA / CONVERSION]
    file = next((place for place in places if place.is_file()), places[0])
    try:
        values = json.loads(file.read_bytes())["values"]
        return {name: carriers.from_json(raw) for name, raw in values.items()}
    except (OSError, ValueError, KeyError, TypeError, AttributeError):
        raise ModelError(
            f"{file} does not record what carries the values of the ONNX graph; convert again, with --converter seaway"
        ) from None


def _value(carrier: carriers.Carrier, tensors: dict[str, Any]) -> np.ndarray:
    if carrier.elements is None:
        array = np.asarray(tensors[carrier.tensor])
        return array if carrier.order is None else array.transpose(np.argsort(carrier.order))
    elements = [tensors[each] if isinstance(each, str) else each for each in carrier.elements]
    return np.array(elements).reshape(carrier.shape)
