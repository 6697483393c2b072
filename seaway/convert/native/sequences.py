"""Sequences that are taken apart at once: torch.export turns `torch.split` into SplitToSequence, then SequenceAt.

TensorFlow has no sequences, but an element at a known position is a slice of the tensor that was split.
"""

from collections.abc import Mapping
from dataclasses import replace

import numpy as np

from seaway.convert.native import graph as graphs
from seaway.convert.native.graph import Graph, Node

# The nodes that replace one, the last with its output; and their constant inputs
Replacement = tuple[list[Node], dict[str, np.ndarray]]


def without_splits(graph: Graph, opsets: Mapping[str, int]) -> Graph:
    """The graph with Slice or Gather for each SequenceAt of a SplitToSequence, at a constant position; and so its
    subgraphs. A sequence that is used in another way stays."""
    constants = _constants(graph)
    lists = {node.outputs[0] for node in graph.nodes if node.op == "Concat" and not node.domain}
    splits = {node.outputs[0]: node for node in graph.nodes if node.op == "SplitToSequence" and not node.domain}
    nodes, added = [], {}
    for node in graph.nodes:
        split = splits.get(node.inputs[0]) if node.op == "SequenceAt" and not node.domain else None
        taken = _element(node, split, constants, opsets) if split else None
        if split and not taken and len(split.inputs) > 1 and split.inputs[1] in lists:
            taken = _element_of_computed_sizes(node, split, constants, opsets)
        if taken:
            *before, node = taken[0]
            nodes += before
            added.update(taken[1])
        nodes.append(_with_subgraphs(node, opsets))
    used = {name for node in nodes for name in _names(node)} | set(graph.outputs)
    kept = tuple(node for node in nodes if node.op != "SplitToSequence" or node.outputs[0] in used)
    return replace(graph, nodes=kept, constants=graph.constants | added)


def _element(
    at: Node, split: Node, constants: Mapping[str, np.ndarray], opsets: Mapping[str, int]
) -> Replacement | None:
    """What replaces SequenceAt; None if its position or the split is not constant."""
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
        return [_node("Gather", at, (split.inputs[0], *arguments), {"axis": axis}, opsets)], arguments
    ends_by_name = {"start": start, "end": end, "axis": axis}
    arguments = {f"{output}/{name}": np.array([value]) for name, value in ends_by_name.items()}
    return [_node("Slice", at, (split.inputs[0], *arguments), {}, opsets)], arguments


def _element_of_computed_sizes(
    at: Node, split: Node, constants: Mapping[str, np.ndarray], opsets: Mapping[str, int]
) -> Replacement | None:
    """The same if only the position is constant: the element begins after the sum of the sizes before it."""
    position, output, sizes = constants.get(at.inputs[1]), at.outputs[0], split.inputs[1]
    if position is None or int(position) < 0:
        return None
    arguments = {f"{output}/zero": np.array([0]), f"{output}/axis": np.array([split.get("axis", 0)])}
    zero, axis = arguments
    nodes, ends = [], []
    for end, count in {"start": int(position), "end": int(position) + 1}.items():
        name = f"{output}/{end}"
        arguments[f"{name}/count"] = np.array([count])
        nodes.append(_node("Slice", at, (sizes, zero, f"{name}/count"), {}, opsets, f"{name}/sizes"))
        nodes.append(_node("ReduceSum", at, (f"{name}/sizes",), {"keepdims": 1}, opsets, name))
        ends.append(name)
    return [*nodes, _node("Slice", at, (split.inputs[0], *ends, axis), {}, opsets)], arguments


def _node(
    op: str, at: Node, inputs: tuple[str, ...], attributes: dict[str, int], opsets: Mapping[str, int], output: str = ""
) -> Node:
    """A node with the name of SequenceAt, and its output if none is given."""
    schema = graphs.schema(op, "", opsets[""])
    return Node(op, "", schema.since_version, at.name, inputs, (output,) if output else at.outputs, attributes)


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
