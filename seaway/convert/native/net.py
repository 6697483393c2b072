"""Seaway's own converter: an ONNX model as a TensorFlow module."""

from collections.abc import Mapping
from typing import Any

import tensorflow as tf

from seaway.artifacts.carriers import Carrier
from seaway.artifacts.constants import Constant
from seaway.convert.native import graph, inlining, registry, sequences
from seaway.convert.native.build import GraphBuilder
from seaway.convert.native.graph import Graph, Node
from seaway.convert.native.ops import (  # noqa: F401  importing these modules fills the registry
    attention,
    bitcast,
    control,
    detection,
    elementwise,
    features,
    fused,
    grid_sample,
    images,
    indexing,
    linear,
    movement,
    nn,
    pooling,
    quantized,
    quantized_fused,
    random,
    recurrent,
    reduce,
    resize,
    signal,
    strings,
    trees,
    unique,
)
from seaway.convert.native.weights import VariableStore
from seaway.errors import ModelError


def convert(model: Any) -> "Net":
    """Converts a checked ModelProto. Raises one ModelError that names every node that cannot be converted."""
    opsets = graph.versions(model.opset_import)
    onnx_graph = sequences.without_splits(graph.read(model), opsets)
    missing = unsupported(onnx_graph, opsets)
    if missing:
        raise ModelError(
            f"{len(missing)} of the model's nodes cannot be converted: {'; '.join(missing)}. Replace these operators "
            "in the network, and export it again"
        )
    return Net(onnx_graph, opsets)


def unsupported(onnx_graph: Graph, opsets: Mapping[str, int]) -> list[str]:
    """Every node, subgraphs included, whose operator is not in the registry and has no function body in ONNX."""
    return [str(node) for node in _nodes(onnx_graph) if not _supported(node, opsets)]


def _supported(node: Node, opsets: Mapping[str, int]) -> bool:
    return registry.find(node.op, node.domain, node.since) is not None or inlining.has_function_body(node, opsets)


def _nodes(onnx_graph: Graph) -> list[Node]:
    inner = [v for node in onnx_graph.nodes for v in node.attributes.values() if isinstance(v, Graph)]
    return [*onnx_graph.nodes, *(node for subgraph in inner for node in _nodes(subgraph))]


class Net(tf.Module):  # type: ignore[misc]
    """`net({input: tensor}) -> {output: tensor}`, names as in the ONNX graph. `folded`: the number of
    constant-folded nodes; `constants`: the origins of its constants; `values`: what carries each value of the ONNX
    graph, if the net was last called in a function."""

    def __init__(self, onnx_graph: Graph, opsets: Mapping[str, int]) -> None:
        super().__init__(name="net")
        self._onnx_graph, self._opsets = onnx_graph, dict(opsets)
        self.weights: list[Any] = []
        self._variable_store = VariableStore(self.weights)
        self.values: dict[str, Carrier] = {}

    @property
    def constants(self) -> list[Constant]:
        return list(self._variable_store.constants)

    def __call__(self, inputs: Mapping[str, Any]) -> dict[str, Any]:
        builder = GraphBuilder(self._opsets)
        with self._variable_store.active():
            outputs = builder.graph(self._onnx_graph, inputs)
            self.folded = len(builder.folded)
            if not tf.executing_eagerly():
                carriers = {name: value.carrier() for name, value in builder.values.items()}
                self.values = {name: carrier for name, carrier in carriers.items() if carrier}
            return {name: tf.identity(v.plain()) for name, v in zip(self._onnx_graph.outputs, outputs, strict=True)}
