"""An ONNX model as a TensorFlow module, by Seaway's own converter."""

from collections.abc import Mapping
from typing import Any

import tensorflow as tf

from seaway.convert.native import expand, graph, table
from seaway.convert.native.build import Build
from seaway.convert.native.graph import Graph, Node
from seaway.convert.native.ops import (  # noqa: F401  they fill the table
    control,
    detection,
    elementwise,
    images,
    indexing,
    movement,
    nn,
    pooling,
    quantized,
    random,
    recurrent,
    reduce,
    resize,
    sampling,
    sets,
    signal,
    strings,
)
from seaway.convert.native.weights import Kept
from seaway.errors import ModelError


def convert(model: Any) -> "Net":
    """A checked ModelProto as a module. Raises ModelError that names every node that cannot be converted, at once."""
    read = graph.read(model)
    opsets = graph.versions(model.opset_import)
    missing = unsupported(read, opsets)
    if missing:
        raise ModelError(
            f"{len(missing)} of the model's nodes cannot be converted: {'; '.join(missing)}. Replace these operators "
            "in the network, or try --converter onnx-tf"
        )
    return Net(read, opsets)


def unsupported(read: Graph, opsets: Mapping[str, int]) -> list[str]:
    """Every node whose operator is neither in the table nor defined by others, subgraphs included."""
    return [str(node) for node in _nodes(read) if not _known(node, opsets)]


def _known(node: Node, opsets: Mapping[str, int]) -> bool:
    return table.find(node.op, node.domain, node.since) is not None or expand.has_body(node, opsets)


def _nodes(read: Graph) -> list[Node]:
    inner = [v for node in read.nodes for v in node.attributes.values() if isinstance(v, Graph)]
    return [*read.nodes, *(node for one in inner for node in _nodes(one))]


class Net(tf.Module):  # type: ignore[misc]
    """`net({input: tensor}) -> {output: tensor}`, names as in the ONNX graph. `folded`: nodes that were worked out."""

    def __init__(self, read: Graph, opsets: Mapping[str, int]) -> None:
        super().__init__(name="net")
        self._read, self._opsets = read, dict(opsets)
        self.weights: list[Any] = []
        self._kept = Kept(self.weights)

    def __call__(self, inputs: Mapping[str, Any]) -> dict[str, Any]:
        build = Build(self._opsets)
        with self._kept.open():
            got = build.graph(self._read, inputs)
            self.folded = len(build.folded)
            return {name: tf.identity(v.plain()) for name, v in zip(self._read.outputs, got, strict=True)}
