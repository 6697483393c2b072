"""Kinds of mutations: what a converter may get wrong in one operator; each yields edits for every place in a graph."""

from collections import Counter
from collections.abc import Callable
from typing import Any

from benchmarks.gate import kinds_layers, kinds_values
from benchmarks.gate.edits import Edit, Sites
from benchmarks.gate.graph import Graph

KINDS: dict[str, Callable[[Graph], Sites]] = {
    "epsilon": kinds_layers.epsilon,
    "coordinates": kinds_layers.coordinates,
    "interpolation": kinds_layers.interpolation,
    "GELU": kinds_layers.gelu,
    "padding": kinds_layers.padding,
    "pooling": kinds_layers.pooling,
    "softmax axis": kinds_values.softmax_axis,
    "axis": kinds_values.axis,
    "transposed weight": kinds_layers.transposed_weight,
    "NaN": kinds_values.nan,
    "rounding": kinds_values.rounding,
    "integer division": kinds_values.integer_division,
    "clip limit": kinds_values.clip_limit,
    "slope": kinds_layers.slope,
    "dropped bias": kinds_layers.dropped_bias,
    "swapped channels": kinds_layers.swapped_channels,
    "swapped parts": kinds_values.swapped_parts,
    "weight x 1.01": kinds_layers.scaled_weight,
    "activation": kinds_layers.activation,
    "statistics": kinds_layers.statistics,
    "scatter": kinds_values.scatter,
    "indices": kinds_values.indices,
    "recurrent": kinds_layers.recurrent,
    "mask": kinds_values.mask,
    "float16": kinds_layers.half,
    "permutation": kinds_values.permutation,
    "comparison": kinds_values.comparison,
    "residual": kinds_values.residual,
    "scale": kinds_values.scale,
    "arithmetic": kinds_values.arithmetic,
    "reduction": kinds_values.reduction,
}


def of_weight(graph: Graph, node: Any, edit: Edit) -> bool:
    """Whether the edit changes or leaves out a weight, so that the gate's test of weights alone can see it."""
    names = {node.input[int(i)] for i in edit.get("constants", {}) if int(i) < len(node.input)}
    if "inputs" in edit:
        names |= {name for i, name in enumerate(node.input) if i not in edit["inputs"]}
    return any(name and graph.is_weight(name) for name in names)


def all_sites(graph: Graph) -> dict[str, list[tuple[str, Edit, bool]]]:
    """Kind → name of the node, edit, and whether it is of a weight; every place in the graph, in its order."""
    names = Counter(node.name for node in graph.nodes)
    if "" in names or max(names.values(), default=0) > 1:
        raise ValueError("nodes without a name of their own")
    return {
        kind: [(node.name, edit, of_weight(graph, node, edit)) for node, edit in sites(graph)]
        for kind, sites in KINDS.items()
    }
