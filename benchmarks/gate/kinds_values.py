"""Mutations of operators on plain values: axes, order, rounding, comparisons, indices, NaN, arithmetic."""

import itertools

import numpy as np

from benchmarks.gate.edits import OPERATOR, Sites
from benchmarks.gate.graph import Graph, attribute

INT32 = 6  # of onnx.TensorProto


def softmax_axis(graph: Graph) -> Sites:
    """A neighbouring axis of Softmax or LogSoftmax."""
    for node in graph.of("Softmax", "LogSoftmax"):
        rank = len(graph.shape(node.output[0]))
        own = attribute(node, "axis", -1) % rank
        for axis in (own - 1, own + 1):
            if 0 <= axis < rank:
                yield node, {"set": {"axis": axis}}


REDUCTIONS = ("ReduceMean", "ReduceSum", "ReduceMax", "ReduceMin", "ReduceProd", "ReduceL1", "ReduceL2")
REDUCTIONS += ("ReduceLogSumExp", "ReduceSumSquare")


def axis(graph: Graph) -> Sites:
    """A neighbouring axis of a reduction or of what else has one, where it fits."""
    for node in graph.of(*REDUCTIONS):
        axes = graph.constant(node, 1)
        rank = len(graph.shape(node.input[0]))
        if axes is not None and axes.size == 1:
            own = int(axes.item()) % rank
            for other in (own - 1, own + 1):
                if 0 <= other < rank:
                    yield node, {"constants": {1: {"values": [other]}}}
    for node in graph.of(
        "Concat", "Gather", "ArgMax", "TopK", "GatherElements", "ScatterElements", "LayerNormalization"
    ):
        rank = len(graph.shape(node.input[0]))
        own = attribute(node, "axis", -1 if node.op_type in ("TopK", "LayerNormalization") else 0) % max(rank, 1)
        for other in (own - 1, own + 1):
            if 0 <= other < rank:
                yield node, {"set": {"axis": other}}
    for node in graph.of("CumSum"):
        yield node, {"constants": {1: {"values": 0}}}
        for key in ("exclusive", "reverse"):
            yield node, {"set": {key: 1}}


def nan(graph: Graph) -> Sites:
    """NaN as a comparison takes it, instead of what the operator gives; or the reverse."""
    for node in graph.of("Relu"):
        yield node, {"recipe": "relu by comparison"}
        yield node, {"recipe": "relu by product"}
    for node in graph.of("Max", "Min"):
        if len(node.input) == 2 and graph.floats(node.output[0]):
            name = "maximum" if node.op_type == "Max" else "minimum"
            yield node, {"recipe": f"{name} by comparison"}
            yield node, {"recipe": f"{name} by comparison", "inputs": [1, 0]}
    for node in graph.of("Clip"):
        if len(node.input) == 3 and all(node.input) and graph.floats(node.output[0]):
            yield node, {"recipe": "clip by comparison"}
    for node in graph.of("IsNaN"):
        yield node, {OPERATOR: "IsInf"}
    for node in graph.of("Softmax"):
        if attribute(node, "axis", -1) in (-1, len(graph.shape(node.output[0])) - 1):
            yield node, {"recipe": "softmax without maximum"}


def rounding(graph: Graph) -> Sites:
    """Another rounding to whole numbers."""
    for node in graph.of("Round"):
        for recipe in ("round half away from zero", "round half up", "truncate"):
            yield node, {"recipe": recipe}
        for other in ("Floor", "Ceil"):
            yield node, {OPERATOR: other}
    for node in graph.of("Floor", "Ceil"):
        for other in ("Floor", "Ceil", "Round"):
            if other != node.op_type:
                yield node, {OPERATOR: other}
        yield node, {"recipe": "truncate"}
    for node in graph.of("Cast"):
        if graph.floats(node.input[0]) and graph.values[node.output[0]].dtype.kind in "iu":
            for operator in ("Round", "Floor", "Ceil"):
                yield node, {"before": {0: [{OPERATOR: operator}]}}


def integer_division(graph: Graph) -> Sites:
    """Whole numbers divided with another rounding, or by way of floats."""
    for node in graph.of("Div"):
        if graph.values[node.output[0]].dtype.kind in "iu":
            for recipe in ("divide as floats", "divide and round"):
                yield node, {"recipe": recipe}
    for node in graph.of("Mod"):
        yield node, {"set": {"fmod": 1 - attribute(node, "fmod", 0)}}
        yield node, {"recipe": "remainder as floats"}


def clip_limit(graph: Graph) -> Sites:
    """A limit that is 5 % off, or missing."""
    for node in graph.of("Clip"):
        for index in (1, 2):
            limit = graph.constant(node, index)
            if limit is not None:
                yield node, {"constants": {index: {"add" if limit == 0 else "scale": 0.05 if limit == 0 else 1.05}}}
                if index == 2:
                    yield node, {"inputs": [0, 1]}
    for node in graph.of("Max", "Min"):
        for index in (0, 1):
            limit = graph.constant(node, index)
            if limit is not None and limit.size == 1 and limit.dtype.kind == "f":
                yield node, {"constants": {index: {"add" if limit == 0 else "scale": 0.05 if limit == 0 else 1.05}}}


def swapped_parts(graph: Graph) -> Sites:
    """Inputs of Concat, or parts of a split, in another order; a slice that starts one later."""
    for node in graph.of("Concat"):
        sizes = [graph.shape(name) for name in node.input]
        for i in range(len(sizes) - 1):
            if sizes[i] == sizes[i + 1] and graph.floats(node.output[0]):
                order = list(range(len(sizes)))
                order[i], order[i + 1] = order[i + 1], order[i]
                yield node, {"inputs": order}
    for node in graph.of("SequenceAt"):
        yield node, {"constants": {1: {"values": 1 if graph.values[node.input[1]] == 0 else 0}}}
    for node in graph.of("Slice"):
        starts, ends = graph.constant(node, 1), graph.constant(node, 2)
        if starts is not None and ends is not None and starts.size == 1 and graph.floats(node.output[0]):
            for by in (1, -1):
                yield node, {"constants": {1: {"add": by}, 2: {"add": by}}}


def scatter(graph: Graph) -> Sites:
    """Another reduction of what is scattered to one place."""
    for node in graph.of("ScatterElements", "ScatterND"):
        own = attribute(node, "reduction", "none")
        for other in ("none", "add", "mul", "max", "min"):
            if other != own:
                yield node, {"set": {"reduction": other}}


def indices(graph: Graph) -> Sites:
    """Indices that are clamped or wrapped, or off where they are negative."""
    for node in graph.of("Gather", "GatherElements"):
        if graph.constant(node, 1) is None:
            yield node, {"before": {1: [{OPERATOR: "Abs"}]}}
            yield node, {"before": {1: [{OPERATOR: "Cast", "to": INT32}, {OPERATOR: "Relu"}]}}
    for node in graph.of("GatherND"):
        if not graph.fixed(node.input[1]):
            yield node, {"before": {1: [{OPERATOR: "Abs"}]}}
    for node in graph.of("ArgMax", "ArgMin"):
        yield node, {"set": {"select_last_index": 1}}
        yield node, {OPERATOR: "ArgMin" if node.op_type == "ArgMax" else "ArgMax", "keep": ["axis", "keepdims"]}
    for node in graph.of("TopK"):
        yield node, {"set": {"largest": 1 - attribute(node, "largest", 1)}}


def mask(graph: Graph) -> Sites:
    """A mask with the other sign, another value of what is hidden, a triangle that is one off."""
    for node in graph.of("Where"):
        if graph.values[node.input[1]].shape == graph.values[node.input[2]].shape or graph.floats(node.output[0]):
            yield node, {"inputs": [0, 2, 1]}
        for index in (1, 2):
            value = graph.constant(node, index)
            if value is not None and value.dtype.kind == "f" and value.size:
                if np.isneginf(value).any():
                    for finite in (-1e4, -100.0, -10.0, -1.0):
                        yield node, {"constants": {index: {"values": finite}}}
                elif value.size == 1:
                    yield node, {"constants": {index: {"add": 0.05}}}
    for node in graph.of("Trilu"):
        yield node, {"set": {"upper": 1 - attribute(node, "upper", 1)}}
        for by in (1, -1):
            k = graph.constant(node, 1)
            yield node, {"constants": {1: {"values": (0 if k is None else int(k.item())) + by, "dtype": "int64"}}}
    for node in graph.of("And", "Or"):
        yield node, {OPERATOR: "Or" if node.op_type == "And" else "And"}


def permutation(graph: Graph) -> Sites:
    """Two axes of a Transpose change places, where it fits; or it is left out."""
    for node in graph.of("Transpose"):
        rank = len(graph.shape(node.input[0]))
        perm = list(attribute(node, "perm", range(rank)[::-1]))
        for i, j in itertools.combinations(range(rank), 2):
            other = list(perm)
            other[i], other[j] = other[j], other[i]
            if i > 0:
                yield node, {"set": {"perm": other}}
    for node in graph.of("Reshape"):
        shape = graph.shape(node.input[0])
        for i in range(1, len(shape) - 1):
            if shape[i] > 1 and shape[i + 1] > 1 and graph.floats(node.output[0]):
                perm = list(range(len(shape)))
                perm[i], perm[i + 1] = i + 1, i
                yield node, {"before": {0: [{OPERATOR: "Transpose", "perm": perm}]}}
    for node in graph.of("DepthToSpace"):
        yield node, {"set": {"mode": "DCR" if attribute(node, "mode", "DCR") == "CRD" else "CRD"}}
    for node in graph.of("Einsum"):
        terms, _, result = attribute(node, "equation").partition("->")
        for number, term in enumerate(parts := terms.split(",")):
            for i in range(1, len(term)):
                other = term[: i - 1] + term[i] + term[i - 1] + term[i + 1 :]
                if other != term:
                    equation = ",".join([*parts[:number], other, *parts[number + 1 :]])
                    yield node, {"set": {"equation": f"{equation}->{result}"}}


OTHER_COMPARISON = {"Less": "LessOrEqual", "LessOrEqual": "Less"}
OTHER_COMPARISON |= {"Greater": "GreaterOrEqual", "GreaterOrEqual": "Greater"}


def comparison(graph: Graph) -> Sites:
    """Less for less or equal, and the like; the other way round."""
    for node in graph.of(*OTHER_COMPARISON):
        yield node, {OPERATOR: OTHER_COMPARISON[node.op_type]}
        yield node, {"inputs": [1, 0]}
    for node in graph.of("Equal"):
        yield node, {OPERATOR: "GreaterOrEqual"}
        yield node, {OPERATOR: "LessOrEqual"}
    for node in graph.of("Xor"):
        yield node, {OPERATOR: "Or"}
    for node in graph.of("Sign"):
        if graph.floats(node.output[0]):
            yield node, {OPERATOR: "Tanh"}


def residual(graph: Graph) -> Sites:
    """A sum, or a product of two values, of which one is left out."""
    for node in graph.of("Add", "Mul", "Sub"):
        if not any(graph.fixed(name) for name in node.input) and graph.floats(node.output[0]):
            for index in (0, 1):
                if graph.shape(node.input[index]) == graph.shape(node.output[0]):
                    yield node, {OPERATOR: "Identity", "inputs": [index]}


def scale(graph: Graph) -> Sites:
    """A factor, as that of attention, 2 % off; alpha or beta of Gemm."""
    for node in graph.of("Mul", "Div"):
        for index in (0, 1):
            factor = graph.constant(node, index)
            if factor is not None and factor.size == 1 and factor.dtype.kind == "f":
                yield node, {"constants": {index: {"scale": 1.02}}}
    for node in graph.of("Gemm"):
        for key in ("alpha", "beta"):
            yield node, {"set": {key: 1.02}}


def arithmetic(graph: Graph) -> Sites:
    """Another operator of two values, or their order."""
    swaps = {"Add": "Sub", "Sub": "Add", "Max": "Min", "Min": "Max", "Mul": "Add"}
    for node in graph.of(*swaps):
        if len(node.input) != 2 or any(graph.is_weight(name) for name in node.input):
            continue
        if graph.shape(node.input[0]) == graph.shape(node.input[1]) or node.op_type in ("Max", "Min"):
            yield node, {OPERATOR: swaps[node.op_type]}
    for node in graph.of("Sub"):
        yield node, {"inputs": [1, 0]}


def reduction(graph: Graph) -> Sites:
    """Another reduction over the same axes."""
    others = {"ReduceMean": "ReduceMax", "ReduceMax": "ReduceMin", "ReduceMin": "ReduceMax", "ReduceSum": "ReduceMean"}
    others |= {"ReduceL2": "ReduceL1", "ReduceLogSumExp": "ReduceMax", "ReduceProd": "ReduceSum"}
    for node in graph.of(*others):
        yield node, {OPERATOR: others[node.op_type], "keep": ["keepdims", "noop_with_empty_axes"]}
