"""Random ONNX graphs: each node is run by ONNX Runtime as soon as it is drawn, so shapes and results are its own.

A node that ONNX Runtime refuses, or whose result would be of no use (too large, empty, not finite), is left out.
What a graph may contain is in operators_over_pictures.py and operators_over_tensors.py, which fill OPERATORS.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import onnx
import onnxruntime
from hypothesis import strategies as st
from onnx import helper, numpy_helper

BATCHES = (1, 3)
MOST = 900  # elements; so Shape never gives a number above LARGEST
LARGEST = 1e3
ANY, PICTURES = range(1, 7), range(3, 6)  # ranks


@dataclass(frozen=True, slots=True)
class Value:
    """One value of the graph with what it is at each of BATCHES; `open`: whether a size is the batch's."""

    name: str
    arrays: tuple[np.ndarray, ...]

    @property
    def shape(self) -> tuple[int, ...]:
        return tuple(self.arrays[-1].shape)

    @property
    def rank(self) -> int:
        return len(self.shape)

    @property
    def kind(self) -> str:
        """f, i or b: numbers with a fraction, whole ones, truths."""
        return str(self.arrays[0].dtype.kind)

    def open(self, axis: int) -> bool:
        return self.arrays[0].shape[axis] != self.arrays[-1].shape[axis]


@dataclass
class Graph:
    """A graph while it is drawn."""

    draw: Callable[[Any], Any]
    opset: int
    inputs: list[Value] = field(default_factory=list)
    constants: list[Value] = field(default_factory=list)
    nodes: list[Any] = field(default_factory=list)
    values: list[Value] = field(default_factory=list)  # inputs, outputs of nodes and those constants that are data

    def input(self, *shape: int) -> Value:
        """With a batch before the shape."""
        arrays = tuple(normal(n, (batch, *shape)) for n, batch in enumerate(BATCHES, start=len(self.inputs)))
        value = Value(f"x{len(self.inputs)}", arrays)
        self.inputs.append(value)
        self.values.append(value)
        return value

    def constant(self, array: Any) -> Value:
        value = Value(f"c{len(self.constants)}", (np.asarray(array),) * len(BATCHES))
        self.constants.append(value)
        return value

    def weights(self, *shape: int) -> Value:
        return self.constant(normal(len(self.constants), shape) / np.float32(max(1, np.prod(shape[1:])) ** 0.5))

    def numbers(self, *numbers: int) -> Value:
        return self.constant(np.array(numbers, np.int64))

    def sizes(self, x: Value) -> Value:
        return self.add("Shape", [x])[0]

    def add(self, op: str, inputs: Sequence[Value | None], outputs: int = 1, **attributes: Any) -> list[Value]:
        """The node's outputs; none where it was left out."""
        names = [f"{op}_{len(self.nodes)}" + "abcdef"[i] * (outputs > 1) for i in range(outputs)]
        node = helper.make_node(op, ["" if v is None else v.name for v in inputs], names, names[0], **attributes)
        results = run(node, [v for v in inputs if v is not None], self.opset)
        if results is None or not all(useful(a) for arrays in results for a in arrays):
            return []
        got = [Value(name, arrays) for name, arrays in zip(names, zip(*results, strict=True), strict=True)]
        self.nodes.append(node)
        self.values += got
        return got

    def whole(self, low: int, high: int) -> int:
        return int(self.draw(st.integers(low, high)))

    def one_of(self, *choices: Any) -> Any:
        return self.draw(st.sampled_from(choices))

    def axis(self, rank: int) -> int:
        return self.whole(-rank, rank - 1)

    def model(self) -> Any:
        """Every result is an output, so that the first one that is wrong names its node."""
        made = {name for node in self.nodes for name in node.output}
        wanted = [onnx.ValueInfoProto(name=v.name) for v in self.values if v.name in made]
        constants = [numpy_helper.from_array(v.arrays[0], v.name) for v in self.constants]
        graph = helper.make_graph(self.nodes, "g", [declared(v) for v in self.inputs], wanted, constants)
        return helper.make_model(graph, opset_imports=[helper.make_opsetid("", self.opset)], ir_version=10)


def normal(seed: int, shape: Sequence[int]) -> np.ndarray:
    return np.random.default_rng(seed).normal(size=shape).astype(np.float32)


def declared(value: Value) -> Any:
    kind = helper.np_dtype_to_tensor_dtype(value.arrays[0].dtype)
    sizes = ["n" if value.open(axis) else size for axis, size in enumerate(value.shape)]
    return helper.make_tensor_value_info(value.name, kind, sizes)


def run(node: Any, inputs: Sequence[Value], opset: int) -> list[list[np.ndarray]] | None:
    """The node's outputs at each of BATCHES; None where ONNX Runtime refuses it."""
    own = {v.name: v for v in inputs}
    wanted = [onnx.ValueInfoProto(name=name) for name in node.output]
    graph = helper.make_graph([node], "g", [declared(v) for v in own.values()], wanted)
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", opset)], ir_version=10)
    options = onnxruntime.SessionOptions()
    options.log_severity_level, options.intra_op_num_threads = 4, 1
    try:
        session = onnxruntime.InferenceSession(model.SerializeToString(), options, ["CPUExecutionProvider"])
        return [session.run(None, {name: v.arrays[i] for name, v in own.items()}) for i in range(len(BATCHES))]
    except Exception as error:
        assert "Unrecognized attribute" not in str(error), error
        return None


def useful(array: np.ndarray) -> bool:
    if not 0 < array.size <= MOST or array.ndim > 6:
        return False
    return array.dtype == bool or bool(np.isfinite(array).all() and np.abs(array).max() < LARGEST)


OPERATORS: list[tuple[Callable[[Graph, Value], Any], str, range]] = []


def operator(kinds: str = "f", ranks: range = range(7)) -> Callable[[Any], Any]:
    def enter(function: Any) -> Any:
        OPERATORS.append((function, kinds, ranks))
        return function

    return enter


@st.composite
def graphs(draw: Any, most: int = 10) -> Graph:
    """Up to `most` operators, one after another and across."""
    g = Graph(draw, draw(st.sampled_from([21, 17])))
    sizes = [g.one_of(4, 2, 6), *[g.whole(2, 6) for _ in range(g.one_of(2, 1, 0, 3))]]
    g.input(*sizes)
    if g.one_of(False, True):
        g.input(*sizes[: g.whole(1, len(sizes))])
    if g.one_of(False, True):
        g.values.insert(0, g.weights(*sizes))
    wanted = g.whole(2, most)
    for _ in range(3 * wanted):
        if len(g.nodes) >= wanted:
            break
        x = g.values[-1 - g.whole(0, min(2, len(g.values) - 1))]
        if g.one_of(False, False, True):
            x = g.one_of(*g.values)
        fitting = [function for function, kinds, ranks in OPERATORS if x.kind in kinds and x.rank in ranks]
        g.one_of(*fitting)(g, x)
    return g
