"""Builds the TensorFlow graph of an ONNX graph, node by node.

`registry` has a function for each operator, `layout` chooses the axis order of its inputs, and `shapes` tracks dims.
Nodes with constant inputs are constant-folded. An operator that is not in the registry but that ONNX defines as a
function of others is inlined.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import tensorflow as tf

from seaway.convert.native import inlining, layout, registry, shapes, weights
from seaway.convert.native.graph import Graph, Node
from seaway.convert.native.values import Value
from seaway.errors import ModelError, SeawayError

MAX_FOLDED_BYTES = 1 << 22  # a larger result that is also more than twice its inputs is computed at run time


class GraphBuilder:
    """Builds one model. Values are looked up by name; subgraphs also see those of the graph around them.

    `main`: whether it is the model's own graph. Only there are weights constant-folded, because the gate computes
    folded values again, and finds only those that have a name in that graph.
    """

    def __init__(self, opsets: Mapping[str, int], main: bool = True) -> None:
        self.opsets, self.main = opsets, main
        self.folded: set[tuple[str, ...]] = set()  # the outputs of each constant-folded node
        self.values: dict[str, Value] = {}  # those that the nodes of the model's own graph give

    def graph(self, graph: Graph, inputs: Mapping[str, Any], outer: Mapping[str, Value] | None = None) -> list[Value]:
        """Builds the graph and returns its outputs. `inputs`: tensors, arrays or Values by name; `outer`: for a
        subgraph, the values of the graph around it."""
        if outer is not None and self.main:
            return self._inner(self.opsets).graph(graph, inputs, outer)
        values: dict[str, Value] = dict(outer or {})
        values |= {name: Value(array) for name, array in graph.constants.items()}
        if self.main:
            for name in graph.constants:
                if weights.is_weight(values[name].tensor):
                    weights.origins().add(name, values[name].tensor)
        values |= {name: value if isinstance(value, Value) else Value(value) for name, value in inputs.items()}
        failed: list[str] = []
        missing: set[str] = set()  # outputs of failed nodes: their consumers are skipped, all other failures reported
        for node in graph.nodes:
            inner = any(isinstance(value, Graph) for value in node.attributes.values())
            if missing.isdisjoint(node.inputs) and not (missing and inner):
                try:
                    self.node(node, values)
                    continue
                except ModelError as error:
                    failed.append(str(error))
            missing.update(name for name in node.outputs if name)
        if failed:
            raise ModelError("; ".join(failed))
        if self.main:
            self.values = {name: values[name] for node in graph.nodes for name in node.outputs if name in values}
        return [values[name] if name else Value(np.zeros(0, np.float32)) for name in graph.outputs]

    def _inner(self, opsets: Mapping[str, int]) -> "GraphBuilder":
        inner = GraphBuilder(opsets, main=False)
        inner.folded = self.folded
        return inner

    def node(self, node: Node, values: dict[str, Value]) -> None:
        """Adds the node's outputs to `values`. Raises ModelError, which names the node."""
        inputs = [values[name] if name else None for name in node.inputs]
        try:
            results = self._results(node, inputs, values)
        except SeawayError:
            raise
        except Exception as error:
            described = ", ".join("none" if v is None else f"{v.dtype} {v.shape}" for v in inputs)
            raise ModelError(f"{node} over {described} cannot be converted: {_line(error)}") from error
        if node.inputs and all(result.constant for result in results):
            self.folded.add(node.outputs)
        for name, result in zip(node.outputs, results, strict=False):
            if name:
                values[name] = result

    def _results(self, node: Node, inputs: Sequence[Value | None], values: Mapping[str, Value]) -> list[Value]:
        propagated = shapes.propagate_shape(node, inputs)
        if propagated is not None:
            return [propagated]
        entry = registry.find(node.op, node.domain, node.since)
        if entry is None:
            return self._inlined(node, inputs)
        constant = all(value is None or value.constant for value in inputs)
        if constant and entry.foldable and (self.main or not any(map(_is_from_weights, inputs))):
            folded = self._folded(node, entry, inputs)
            if folded is not None:
                return folded
        with tf.name_scope(scope(node)):
            return layout.call(Call(node, self, values), entry, inputs)

    def _folded(self, node: Node, entry: registry.Entry, inputs: Sequence[Value | None]) -> list[Value] | None:
        """The constant-folded outputs; None if they are too large to keep."""
        with tf.init_scope():
            outputs = [value.plain() for value in layout.call(Call(node, self, {}), entry, inputs)]
            followed = any(map(_is_from_weights, inputs))
            arrays = [_own(_array(output), followed) for output in outputs]
        output_bytes = sum(array.nbytes for array in arrays)
        input_bytes = sum(value.tensor.nbytes for value in inputs if value is not None)
        if output_bytes > MAX_FOLDED_BYTES and output_bytes > 2 * input_bytes and node.inputs:
            return None
        for name, array in zip(node.outputs, arrays, strict=False):
            if self.main and name and (followed or weights.is_weight(array)):
                weights.origins().add(name, array)
        return [Value(array) for array in arrays]

    def _inlined(self, node: Node, inputs: Sequence[Value | None]) -> list[Value]:
        """The outputs of the operator's function body, as ONNX defines it."""
        body = inlining.function_body(node, self.opsets, [None if v is None else (v.dtype, v.shape) for v in inputs])
        if body is None:
            raise ModelError(
                f"{node} cannot be converted: neither the registry nor ONNX's function bodies have this operator"
            )
        named = {name: value for name, value in zip(body.graph.inputs, inputs, strict=False) if value is not None}
        return self._inner(body.opsets).graph(body.graph, named)  # an output named "" is omitted


@dataclass(frozen=True)
class Call:
    """One node as the operator's function sees it."""

    node: Node
    build: GraphBuilder
    values: Mapping[str, Value]
    order: tuple[int, ...] | None = None  # the axis order of the inputs

    @property
    def outputs(self) -> int:
        """The number of outputs up to the last one that is used."""
        return max((i + 1 for i, name in enumerate(self.node.outputs) if name), default=0)

    def wants(self, index: int) -> bool:
        """Whether the output is used."""
        return index < len(self.node.outputs) and bool(self.node.outputs[index])

    @property
    def since(self) -> int:
        return self.node.since

    def get(self, name: str, default: Any = None) -> Any:
        """An attribute of the node."""
        return self.node.get(name, default)

    def axis(self, axis: int, rank: int) -> int:
        """The position in the input tensor of an axis of the ONNX value; negative axes count from the end."""
        axis = axis + rank if axis < 0 else axis
        return axis if self.order is None else self.order.index(axis)

    def body(self, name: str, inputs: Mapping[str, Any]) -> list[Any]:
        """The outputs of a subgraph, as tensors in ONNX's axis order."""
        return [value.plain() for value in self.build.graph(self.get(name), inputs, self.values)]


def scope(node: Node) -> str:
    """A name that TensorFlow accepts: letters, digits, _ . - and /, beginning with a letter or digit."""
    name = "".join(c if (c.isalnum() and c.isascii()) or c in "_.-/" else "_" for c in node.name or node.op)
    return name.strip("/_.-") or node.op


def _array(output: Any) -> np.ndarray:
    """A folded output as an array; a single string becomes an object array."""
    array = output if isinstance(output, np.ndarray) else output.numpy()
    return np.array(array, object) if isinstance(array, bytes | str) else np.asarray(array)


def _own(array: np.ndarray, followed: bool) -> np.ndarray:
    """What the gate follows, contiguous and in memory of its own; or a view of all of a value, in another order."""
    if not (followed or weights.is_weight(array)):
        return array
    origin = weights.origins().find(array)
    if origin is None:
        return np.asarray(array, order="C")
    return array if array.size == weights.origins().size(origin.value) else array.copy(order="C")


def _is_from_weights(value: Value | None) -> bool:
    return value is not None and value.constant and weights.origins().find(value.tensor) is not None


def _line(error: Exception) -> str:
    return (str(error).strip().splitlines() or [type(error).__name__])[0]
