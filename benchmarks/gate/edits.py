"""Edits of one node of an ONNX graph, as JSON:

set        attribute → its new value; None removes it
op_type    another operator's type, with those attributes alone that `keep` names
inputs     which of its inputs it has, in order
constants  index of an input → a change of that constant: `scale`, `add`, `values`, `transpose`, `swap` (two places
           along an axis) or `roll` (blocks along an axis, as gates); further indices append inputs
before     index of an input → operators on the way to it
after      operators on the way from its first output
recipe     a name in RECIPES: nodes that take its place
"""

from collections.abc import Iterator
from typing import Any

import numpy as np
import onnx
import onnx.parser
from onnx import helper, numpy_helper

from benchmarks.gate.graph import Graph

Edit = dict[str, Any]
Sites = Iterator[tuple[Any, Edit]]  # nodes and their edits
PREFIX = "mutant/"  # of every value that a mutant adds
OPERATOR = "op_type"

# Nodes in ONNX's text format, from the inputs a, b, c to y.
RECIPES = {
    "round half away from zero": (
        "half = Constant<value_float: float = 0.5>() h = CastLike(half, a) s = Sign(a) p = Abs(a) q = Add(p, h)"
        " r = Floor(q) y = Mul(r, s)"
    ),
    "round half up": ("half = Constant<value_float: float = 0.5>() h = CastLike(half, a) q = Add(a, h) y = Floor(q)"),
    "truncate": "s = Sign(a) p = Abs(a) r = Floor(p) y = Mul(r, s)",
    "divide as floats": ("f = Cast<to = 1>(a) g = Cast<to = 1>(b) q = Div(f, g) r = Floor(q) y = CastLike(r, a)"),
    "divide and round": ("f = Cast<to = 1>(a) g = Cast<to = 1>(b) q = Div(f, g) r = Round(q) y = CastLike(r, a)"),
    "remainder as floats": (
        "f = Cast<to = 1>(a) g = Cast<to = 1>(b) q = Div(f, g) r = Floor(q) s = Mul(r, g) t = Sub(f, s)"
        " y = CastLike(t, a)"
    ),
    "relu by comparison": "z = Sub(a, a) zero = Constant<value_float: float = 0.0>() o = CastLike(zero, a)"
    " m = Greater(a, o) y = Where(m, a, o)",
    "relu by product": "zero = Constant<value_float: float = 0.0>() o = CastLike(zero, a) m = Greater(a, o)"
    " f = CastLike(m, a) y = Mul(a, f)",
    "maximum by comparison": "m = Greater(a, b) y = Where(m, a, b)",
    "minimum by comparison": "m = Less(a, b) y = Where(m, a, b)",
    "clip by comparison": "m = Greater(a, b) l = Where(m, a, b) n = Less(l, c) y = Where(n, l, c)",
    "statistics of the input": "y = InstanceNormalization(a, b, c)",
    "swish": "s = Sigmoid(a) y = Mul(a, s)",
    "softmax without maximum": "e = Exp(a) i = Constant<value_ints: ints = [-1]>() n = ReduceSum(e, i) y = Div(e, n)",
}


def apply(graph: Graph, name: str, edit: Edit) -> Any:
    """A copy of the graph's model with the node of that name edited."""
    mutant = onnx.ModelProto()
    mutant.CopyFrom(graph.model)
    node = next(each for each in mutant.graph.node if each.name == name)
    place = list(mutant.graph.node).index(node)
    before, after = [], []
    if "inputs" in edit:
        kept = [node.input[i] for i in edit["inputs"]]
        del node.input[:]
        node.input.extend(kept)
    for index, change in edit.get("constants", {}).items():
        _change(mutant.graph, node, int(index), change, graph.values)
    if OPERATOR in edit:
        node.op_type = edit[OPERATOR]
        kept_names = {*edit.get("keep", ())}
        stay = [each for each in node.attribute if each.name in kept_names]
        del node.attribute[:]
        node.attribute.extend(stay)
    for key, value in edit.get("set", {}).items():
        for each in [each for each in node.attribute if each.name == key]:
            node.attribute.remove(each)
        if value is not None:
            node.attribute.append(helper.make_attribute(key, value))
    for index, chain in edit.get("before", {}).items():
        nodes, end = _chain(chain, node.input[int(index)], node.input[int(index)], f"before{index}")
        before += nodes
        node.input[int(index)] = end
    if "after" in edit:
        inner = f"{PREFIX}inner"
        nodes, end = _chain(edit["after"], inner, inner, "after")
        nodes[-1].output[0] = node.output[0]
        node.output[0] = inner
        after += nodes
    rest = list(mutant.graph.node)
    changed = [node]
    if "recipe" in edit:
        changed = replacement(RECIPES[edit["recipe"]], node)
    del mutant.graph.node[:]
    mutant.graph.node.extend([*rest[:place], *before, *changed, *after, *rest[place + 1 :]])
    return mutant


def _chain(operators: list[dict[str, Any]], start: str, like: str, what: str) -> tuple[list[Any], str]:
    """Nodes of one input each, but for CastLike, which has the first value as its second."""
    nodes, value = [], start
    for i, description in enumerate(operators):
        options = {key: each for key, each in description.items() if key != OPERATOR}
        end = f"{PREFIX}{what}/{i}"
        inputs = [value, like] if description[OPERATOR] == "CastLike" else [value]
        nodes.append(helper.make_node(description[OPERATOR], inputs, [end], name=end, **options))
        value = end
    return nodes, value


def replacement(text: str, node: Any) -> list[Any]:
    """The nodes of a recipe, which take a node's inputs and give its first output."""
    graph = onnx.parser.parse_graph(f"g (float[N] a, float[N] b, float[N] c) => (float[N] y) {{ {text} }}")
    names = dict(zip("abc", node.input, strict=False)) | {"y": node.output[0]}
    nodes = []
    for i, each in enumerate(graph.node):
        for values in (each.input, each.output):
            renamed = [names.get(value, f"{PREFIX}{value}") for value in values]
            del values[:]
            values.extend(renamed)
        each.name = f"{PREFIX}{i}"
        nodes.append(each)
    return nodes


def _change(graph: Any, node: Any, index: int, change: dict[str, Any], values: dict[str, Any]) -> None:
    """Gives the node a constant of its own instead of an input, so that no other node changes."""
    if index < len(node.input) and node.input[index]:
        array = np.asarray(values[node.input[index]])
    else:
        array = np.zeros((), np.float32)
        node.input.extend([""] * (index + 1 - len(node.input)))
    name = f"{PREFIX}constant{index}"
    graph.initializer.append(numpy_helper.from_array(np.array(changed(array, change), order="C"), name))
    node.input[index] = name


def changed(array: np.ndarray, change: dict[str, Any]) -> np.ndarray:
    """The constant after a change, of the same type."""
    result = array
    for how, value in change.items():
        if how == "scale":
            result = result * value
        elif how == "add":
            result = result + value
        elif how == "values":
            result = np.asarray(value)
        elif how == "transpose":
            result = np.swapaxes(result, *value)
        elif how == "swap":
            axis, one, other = value
            order = np.arange(result.shape[axis])
            order[[one, other]] = order[[other, one]]
            result = result.take(order, axis)
        elif how == "roll":
            axis, blocks = value
            result = np.concatenate([*np.split(result, blocks, axis)[1:], np.split(result, blocks, axis)[0]], axis)
        else:
            raise ValueError(f"no such change: {how}")
    dtype = change.get("dtype", array.dtype)
    return np.asarray(result).astype(dtype)
