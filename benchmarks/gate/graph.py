"""An ONNX graph with its values on one example: what a mutation looks at."""

from collections.abc import Iterator
from typing import Any

import numpy as np
import onnx
from onnx import helper

from seaway.artifacts import onnx_file


class Graph:
    """A model, its values on one example, and which of them are constant. `weights`: names that the gate follows."""

    def __init__(self, model: Any, example: dict[str, np.ndarray], weights: frozenset[str] = frozenset()) -> None:
        self.model, self.example, self.weights = model, example, weights
        self.nodes = list(model.graph.node)
        self.producers = {name: node for node in self.nodes for name in node.output if name}
        self.initializers = {tensor.name: onnx_file.array(tensor) for tensor in model.graph.initializer}
        self.values = example | self.initializers | run(model, example, [*self.producers])
        self._fixed: dict[str, bool] = {}

    def of(self, *operators: str) -> Iterator[Any]:
        """The nodes of those types, but for those that compute constants."""
        for node in self.nodes:
            if node.op_type in operators and not self.fixed(node.output[0]):
                yield node

    def fixed(self, name: str) -> bool:
        """Whether the value is the same for every input."""
        if name not in self._fixed:
            node = self.producers.get(name)
            known = name in self.initializers
            self._fixed[name] = known or (node is not None and all(self.fixed(each) for each in node.input if each))
        return self._fixed[name]

    def is_weight(self, name: str) -> bool:
        """Whether the value is one of the weights, or computed from them alone."""
        node = self.producers.get(name)
        return name in self.weights or (
            node is not None and self.fixed(name) and any(self.is_weight(each) for each in node.input if each)
        )

    def constant(self, node: Any, index: int) -> np.ndarray | None:
        """The constant that is an input of the node."""
        if index >= len(node.input) or not node.input[index] or not self.fixed(node.input[index]):
            return None
        value = self.values.get(node.input[index])
        return value if isinstance(value, np.ndarray) else None

    def shape(self, name: str) -> tuple[int, ...]:
        value = self.values.get(name)
        return value.shape if isinstance(value, np.ndarray) else ()

    def floats(self, name: str) -> bool:
        value = self.values.get(name)
        return isinstance(value, np.ndarray) and value.dtype.kind == "f"


def run(model: Any, example: dict[str, np.ndarray], names: list[str]) -> dict[str, Any]:
    """Those values of the model on an example, by ONNX Runtime."""
    from seaway.onnxruntime_import import import_onnxruntime

    wider = onnx.ModelProto()
    wider.CopyFrom(model)
    own = [value.name for value in wider.graph.output]
    wider.graph.output.extend(onnx.ValueInfoProto(name=name) for name in names if name not in own)
    onnxruntime = import_onnxruntime()
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 4  # of mutants, many do not run
    session = onnxruntime.InferenceSession(wider.SerializeToString(), options, providers=["CPUExecutionProvider"])
    inputs = {value.name for value in session.get_inputs()}
    wanted = [*dict.fromkeys([*own, *names])]
    results = session.run(wanted, {name: array for name, array in example.items() if name in inputs})
    return dict(zip(wanted, results, strict=True))


def attribute(node: Any, name: str, default: Any = None) -> Any:
    """An attribute's value, strings as str."""
    for each in node.attribute:
        if each.name == name:
            value = helper.get_attribute_value(each)
            return value.decode() if isinstance(value, bytes) else value
    return default
