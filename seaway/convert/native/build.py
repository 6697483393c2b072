"""Builds the TensorFlow graph of an ONNX graph, node by node.

Three layers meet here: the table says what an operator does, `layout` in which order of axes it is given tensors, and
`shapes` what is known of sizes. Nodes with constant inputs are worked out at once. An operator that the table does
not have but ONNX defines by others is built from those.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import tensorflow as tf

from seaway.convert.native import expand, layout, shapes, table
from seaway.convert.native.graph import Graph, Node
from seaway.convert.native.values import Value
from seaway.errors import ModelError, SeawayError

FOLDED_MOST = 1 << 22  # bytes; a constant that is larger than this and than twice its inputs is left to run time


class Build:
    """One model's way into TensorFlow. `values` holds what is known by name; subgraphs see those around them."""

    def __init__(self, opsets: Mapping[str, int]) -> None:
        self.opsets = opsets
        self.folded: set[tuple[str, ...]] = set()  # outputs of nodes that were worked out

    def graph(self, graph: Graph, inputs: Mapping[str, Any], around: Mapping[str, Value] | None = None) -> list[Value]:
        """The graph's outputs. `inputs`: tensors, arrays or Values by name; `around`: what a subgraph may see."""
        values: dict[str, Value] = dict(around or {})
        values |= {name: Value(array) for name, array in graph.constants.items()}
        values |= {name: given if isinstance(given, Value) else Value(given) for name, given in inputs.items()}
        failed: list[str] = []
        lost: set[str] = set()  # what failed nodes would have given; all that fail by themselves are named at once
        for node in graph.nodes:
            inner = any(isinstance(value, Graph) for value in node.attributes.values())
            if lost.isdisjoint(node.inputs) and not (lost and inner):
                try:
                    self.node(node, values)
                    continue
                except ModelError as error:
                    failed.append(str(error))
            lost.update(name for name in node.outputs if name)
        if failed:
            raise ModelError("; ".join(failed))
        return [values[name] if name else Value(np.zeros(0, np.float32)) for name in graph.outputs]

    def node(self, node: Node, values: dict[str, Value]) -> None:
        """Puts the node's outputs among `values`. Raises ModelError that names the node."""
        given = [values[name] if name else None for name in node.inputs]
        try:
            results = self._results(node, given, values)
        except SeawayError:
            raise
        except Exception as error:
            told = ", ".join("none" if v is None else f"{v.dtype} {v.shape}" for v in given)
            raise ModelError(f"{node} over {told} cannot be converted: {_line(error)}") from error
        if node.inputs and all(result.constant for result in results):
            self.folded.add(node.outputs)
        for name, result in zip(node.outputs, results, strict=False):
            if name:
                values[name] = result

    def _results(self, node: Node, given: Sequence[Value | None], values: Mapping[str, Value]) -> list[Value]:
        known = shapes.known(node, given)
        if known is not None:
            return [known]
        entry = table.find(node.op, node.domain, node.since)
        if entry is None:
            return self._expanded(node, given)
        if entry.foldable and all(value is None or value.constant for value in given):
            folded = self._folded(node, entry, given)
            if folded is not None:
                return folded
        with tf.name_scope(scope(node)):
            return layout.call(Call(node, self, values), entry, given)

    def _folded(self, node: Node, entry: table.Entry, given: Sequence[Value | None]) -> list[Value] | None:
        """Worked out on constants; None where the result is too large to keep."""
        with tf.init_scope():
            got = [one.plain() for one in layout.call(Call(node, self, {}), entry, given)]
            arrays = [_array(one) for one in got]
        size, before = sum(a.nbytes for a in arrays), sum(v.held.nbytes for v in given if v is not None)
        if size > FOLDED_MOST and size > 2 * before and node.inputs:
            return None
        return [Value(array) for array in arrays]

    def _expanded(self, node: Node, given: Sequence[Value | None]) -> list[Value]:
        """Built from the operators by which ONNX defines it."""
        body = expand.body(node, self.opsets, [None if v is None else (v.dtype, v.shape) for v in given])
        if body is None:
            raise ModelError(f"{node} cannot be converted: there is no such operator in the table")
        named = {name: value for name, value in zip(body.graph.inputs, given, strict=False) if value is not None}
        return Build(body.opsets).graph(body.graph, named)  # "" among the outputs is one left out


@dataclass(frozen=True)
class Call:
    """One node while it is built, as its function sees it."""

    node: Node
    build: Build
    values: Mapping[str, Value]
    order: tuple[int, ...] | None = None  # in which the inputs are given

    @property
    def outputs(self) -> int:
        """How many outputs there are, the last one that is wanted included."""
        return max((i + 1 for i, name in enumerate(self.node.outputs) if name), default=0)

    def wants(self, index: int) -> bool:
        """Whether the output is used."""
        return index < len(self.node.outputs) and bool(self.node.outputs[index])

    @property
    def since(self) -> int:
        return self.node.since

    def get(self, name: str, default: Any = None) -> Any:
        """An attribute."""
        return self.node.get(name, default)

    def axis(self, axis: int, rank: int) -> int:
        """Where the value's axis, counted from the end where it is negative, is in the tensor that was given."""
        axis = axis + rank if axis < 0 else axis
        return axis if self.order is None else self.order.index(axis)

    def body(self, name: str, inputs: Mapping[str, Any]) -> list[Any]:
        """The outputs of a subgraph, as tensors with their axes in their places."""
        return [value.plain() for value in self.build.graph(self.get(name), inputs, self.values)]


def scope(node: Node) -> str:
    """A name that TensorFlow takes: letters, digits, _ . - and /, beginning with a letter or digit."""
    name = "".join(c if (c.isalnum() and c.isascii()) or c in "_.-/" else "_" for c in node.name or node.op)
    return name.strip("/_.-") or node.op


def _array(one: Any) -> np.ndarray:
    """What was worked out, as an array; a single string is one of bytes otherwise."""
    held = one if isinstance(one, np.ndarray) else one.numpy()
    return np.array(held, object) if isinstance(held, bytes | str) else np.asarray(held)


def _line(error: Exception) -> str:
    return (str(error).strip().splitlines() or [type(error).__name__])[0]
