"""Random ONNX graphs: ONNX Runtime runs each node as soon as it is drawn, so shapes and results are its own.

A node is left out if ONNX Runtime refuses it, or if its result is unusable (too large, empty, not finite).
operators_over_images.py and operators_over_tensors.py fill OPERATORS, from which nodes are drawn.
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
MAX_ELEMENTS = 900  # so Shape never returns a number above MAX_VALUE
MAX_VALUE = 1e3
ANY, IMAGES = range(1, 7), range(3, 6)  # ranks


@dataclass(frozen=True, slots=True)
class Value:
    """One value of the graph, with its array at each of BATCHES."""

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
        """f, i or b: floats, integers, booleans."""
        return str(self.arrays[0].dtype.kind)

    def is_batch(self, axis: int) -> bool:
        """Whether the axis has the size of the batch."""
        return self.arrays[0].shape[axis] != self.arrays[-1].shape[axis]


@dataclass
class Graph:
    """A graph while it is drawn."""

    draw: Callable[[Any], Any]
    opset: int
    inputs: list[Value] = field(default_factory=list)
    constants: list[Value] = field(default_factory=list)
    nodes: list[Any] = field(default_factory=list)
    values: list[Value] = field(default_factory=list)  # inputs, nodes' outputs, and constants that are data

    def input(self, *shape: int) -> Value:
        """Adds an input; the batch precedes `shape`."""
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
        """Adds a node and returns its outputs; [] if it was left out."""
        names = [f"{op}_{len(self.nodes)}" + "abcdef"[i] * (outputs > 1) for i in range(outputs)]
        node = helper.make_node(op, ["" if v is None else v.name for v in inputs], names, names[0], **attributes)
        results = run(node, [v for v in inputs if v is not None], self.opset)
        if results is None or not all(usable(a) for arrays in results for a in arrays):
            return []
        added = [Value(name, arrays) for name, arrays in zip(names, zip(*results, strict=True), strict=True)]
        self.nodes.append(node)
        self.values += added
        return added

    def whole(self, low: int, high: int) -> int:
        return int(self.draw(st.integers(low, high)))

    def one_of(self, *choices: Any) -> Any:
        return self.draw(st.sampled_from(choices))

    def axis(self, rank: int) -> int:
        return self.whole(-rank, rank - 1)

    def model(self) -> Any:
        """Every node's output is an output of the model, so that the first wrong one names its node."""
        produced = {name for node in self.nodes for name in node.output}
        outputs = [onnx.ValueInfoProto(name=v.name) for v in self.values if v.name in produced]
        constants = [numpy_helper.from_array(v.arrays[0], v.name) for v in self.constants]
        graph = helper.make_graph(self.nodes, "g", [declared(v) for v in self.inputs], outputs, constants)
        return helper.make_model(graph, opset_imports=[helper.make_opsetid("", self.opset)], ir_version=10)


def normal(seed: int, shape: Sequence[int]) -> np.ndarray:
    return np.random.default_rng(seed).normal(size=shape).astype(np.float32)


def declared(value: Value) -> Any:
    kind = helper.np_dtype_to_tensor_dtype(value.arrays[0].dtype)
    sizes = ["n" if value.is_batch(axis) else size for axis, size in enumerate(value.shape)]
    return helper.make_tensor_value_info(value.name, kind, sizes)


def run(node: Any, inputs: Sequence[Value], opset: int) -> list[list[np.ndarray]] | None:
    """The node's outputs at each of BATCHES; None if ONNX Runtime refuses it."""
    by_name = {v.name: v for v in inputs}
    outputs = [onnx.ValueInfoProto(name=name) for name in node.output]
    graph = helper.make_graph([node], "g", [declared(v) for v in by_name.values()], outputs)
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", opset)], ir_version=10)
    options = onnxruntime.SessionOptions()
    options.log_severity_level, options.intra_op_num_threads = 4, 1
    try:
        session = onnxruntime.InferenceSession(model.SerializeToString(), options, ["CPUExecutionProvider"])
        return [session.run(None, {name: v.arrays[i] for name, v in by_name.items()}) for i in range(len(BATCHES))]
    except Exception as error:
        assert "Unrecognized attribute" not in str(error), error
        return None


def usable(array: np.ndarray) -> bool:
    if not 0 < array.size <= MAX_ELEMENTS or array.ndim > 6:
        return False
    return array.dtype == bool or bool(np.isfinite(array).all() and np.abs(array).max() < MAX_VALUE)


OPERATORS: list[tuple[Callable[[Graph, Value], Any], str, range]] = []


def operator(kinds: str = "f", ranks: range = range(7)) -> Callable[[Any], Any]:
    def enter(function: Any) -> Any:
        OPERATORS.append((function, kinds, ranks))
        return function

    return enter


@st.composite
def graphs(draw: Any, max_nodes: int = 10) -> Graph:
    """Up to `max_nodes` operators, mostly applied to recent values."""
    g = Graph(draw, draw(st.sampled_from([21, 17])))
    sizes = [g.one_of(4, 2, 6), *[g.whole(2, 6) for _ in range(g.one_of(2, 1, 0, 3))]]
    g.input(*sizes)
    if g.one_of(False, True):
        g.input(*sizes[: g.whole(1, len(sizes))])
    if g.one_of(False, True):
        g.values.insert(0, g.weights(*sizes))
    target = g.whole(2, max_nodes)
    for _ in range(3 * target):
        if len(g.nodes) >= target:
            break
        x = g.values[-1 - g.whole(0, min(2, len(g.values) - 1))]
        if g.one_of(False, False, True):
            x = g.one_of(*g.values)
        suitable = [function for function, kinds, ranks in OPERATORS if x.kind in kinds and x.rank in ranks]
        g.one_of(*suitable)(g, x)
    return g
