"""Sequences that are taken apart at once: torch.export turns `torch.split` into SplitToSequence, then SequenceAt.

TensorFlow has no sequences, but an element at a known position is a slice of the tensor that was split.
"""

from collections.abc import Mapping
from dataclasses import replace

import numpy as np

from seaway.convert.native import graph as graphs
from seaway.convert.native.graph import Graph, Node


def without_splits(graph: Graph, opsets: Mapping[str, int]) -> Graph:
    """The graph with Slice or Gather for each SequenceAt of a SplitToSequence, both with constant arguments; and so
    its subgraphs. A sequence that is used in another way stays."""
    constants = _constants(graph)
    splits = {node.outputs[0]: node for node in graph.nodes if node.op == "SplitToSequence" and not node.domain}
    nodes, added = [], {}
    for node in graph.nodes:
        split = splits.get(node.inputs[0]) if node.op == "SequenceAt" and not node.domain else None
        taken = _element(node, split, constants, opsets) if split else None
        if taken:
            node, arguments = taken
            added.update(arguments)
        nodes.append(_with_subgraphs(node, opsets))
    used = {name for node in nodes for name in _names(node)} | set(graph.outputs)
    kept = tuple(node for node in nodes if node.op != "SplitToSequence" or node.outputs[0] in used)
    return replace(graph, nodes=kept, constants=graph.constants | added)


def _element(
    at: Node, split: Node, constants: Mapping[str, np.ndarray], opsets: Mapping[str, int]
) -> tuple[Node, dict[str, np.ndarray]] | None:
    """The node that replaces SequenceAt, and its constant inputs; None if its position or the split is not constant."""
    position, output, axis = constants.get(at.inputs[1]), at.outputs[0], split.get("axis", 0)
    given = len(split.inputs) > 1 and split.inputs[1] != ""
    sizes = constants.get(split.inputs[1]) if given else np.array(1)
    if position is None or sizes is None:
        return None
    index = int(position)
    if sizes.ndim:
        index += len(sizes) if index < 0 else 0
        ends = np.cumsum(sizes)
        start, end = int(ends[index] - sizes[index]), int(ends[index])
    elif index < 0:
        return None  # the number of elements depends on the tensor's size
    else:
        start, end = index * int(sizes), (index + 1) * int(sizes)
    if not given and not split.get("keepdims", 1):
        arguments = {f"{output}/index": np.array(start)}
        return _node("Gather", at, (split.inputs[0], *arguments), {"axis": axis}, opsets), arguments
    ends_by_name = {"start": start, "end": end, "axis": axis}
    arguments = {f"{output}/{name}": np.array([value]) for name, value in ends_by_name.items()}
    return _node("Slice", at, (split.inputs[0], *arguments), {}, opsets), arguments


def _node(op: str, at: Node, inputs: tuple[str, ...], attributes: dict[str, int], opsets: Mapping[str, int]) -> Node:
    schema = graphs.schema(op, "", opsets[""])
    return Node(op, "", schema.since_version, at.name, inputs, at.outputs, attributes)


def _constants(graph: Graph) -> dict[str, np.ndarray]:
    """The constants by name, those of Constant nodes as well."""
    values = dict(graph.constants)
    for node in graph.nodes:
        if node.op == "Constant" and not node.domain:
            value = next(iter(node.attributes.values()))
            if isinstance(value, np.ndarray | int | list):
                values[node.outputs[0]] = np.asarray(value)
    return values


def _with_subgraphs(node: Node, opsets: Mapping[str, int]) -> Node:
    inner = {key: without_splits(value, opsets) for key, value in node.attributes.items() if isinstance(value, Graph)}
    return replace(node, attributes=node.attributes | inner) if inner else node


def _names(node: Node) -> set[str]:
    """The values that a node or its subgraphs read."""
    names = set(node.inputs)
    for value in node.attributes.values():
        if isinstance(value, Graph):
            names.update(value.outputs, *(_names(inner) for inner in value.nodes))
    return names
