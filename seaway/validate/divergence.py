"""Finds the node at which a SavedModel, or another ONNX file, parts from an ONNX file: the guilty operator.

Both run on the same input, with all their intermediate values as outputs. Nodes are compared in topological order. At
one whose output differs, ONNX Runtime runs that node alone on the *other side's* inputs: if the output still differs,
the node is guilty; if not, it only passes on, or enlarges, what came in. So rounding that grows through a deep network,
or flips an argmax, accuses no node that is right.

Floats differ by more than ROUNDING units in the last place of the largest number of their tensor; 8-bit integers by
more than one; other integers, booleans and strings if they are not equal. Inside the bodies of If, Loop and Scan
nothing is compared: the node itself counts.
"""

import dataclasses
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import onnx

from seaway.artifacts import onnx_model
from seaway.artifacts.network_place import module, source
from seaway.errors import ModelError
from seaway.validate import runners
from seaway.validate.sides import Arrays, OnnxValues, Side

ROUNDING = 64  # of float32: 8e-6 of the largest number
CHUNK = 48  # values of each side that are held at a time
RANDOM = ("RandomNormal", "RandomNormalLike", "RandomUniform", "RandomUniformLike", "Multinomial", "Bernoulli")
MAX_NEIGHBOURS = 3  # before it, and after it
MAX_ATTRIBUTE = 60  # characters


@dataclass(frozen=True, slots=True)
class Neighbour:
    """A node whose output is an input of the guilty one (`before`), or that takes its output."""

    node: str
    operator: str
    before: bool


@dataclass(frozen=True, slots=True)
class Guilty:
    """The node: on the same inputs, ONNX Runtime gives `expected` at `index` of `output`, and the other side `actual`.

    `shapes`: both sides' outputs, as "float32 [1, 8]". `max_abs`, `largest`: the largest |Δ|, and the largest number of
    ONNX Runtime's output; None if they are not finite numbers. `failed`: what the other side says if it fails at the
    node. `module`, `source`: in the user's network; "" if the ONNX file does not say. `unseen`: nodes before it whose
    values the other side does not show, so that one of them may be guilty instead.
    """

    node: str
    operator: str
    attributes: dict[str, str]
    inputs: tuple[str, ...]
    outputs: tuple[str, ...]
    output: str
    module: str
    source: str
    neighbours: tuple[Neighbour, ...]
    shapes: tuple[str, str] = ("", "")
    index: tuple[int, ...] = ()
    expected: str = ""
    actual: str = ""
    max_abs: float | None = None
    largest: float | None = None
    failed: str = ""
    unseen: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Divergence:
    """`guilty`, or the `reason` why no node can be named; `compared`: how many values were."""

    other: str
    guilty: Guilty | None = None
    reason: str = ""
    compared: int = 0

    def sentence(self) -> str:
        """The finding in a sentence, without a full stop."""
        if not self.guilty:
            return f"no operator can be named: {self.reason}"
        guilty = self.guilty
        places = [f"node {guilty.node!r}", guilty.module and f"module {guilty.module}", guilty.source]
        named = f"the first operator that differs is {guilty.operator} ({', '.join(filter(None, places))})"
        if guilty.failed:
            return f"{named}, at which {self.other} fails: {guilty.failed}"
        if guilty.shapes[0] != guilty.shapes[1]:
            said = f"{guilty.output!r} is {guilty.shapes[0]} in ONNX Runtime and {guilty.shapes[1]} in {self.other}"
        else:
            where = f"{guilty.output}[{', '.join(map(str, guilty.index))}]" if guilty.index else guilty.output
            said = f"{where} is {guilty.expected} in ONNX Runtime and {guilty.actual} in {self.other}"
        others = f"; or one before it, whose value {self.other} does not show: {', '.join(guilty.unseen)}"
        return f"{named}: on the same inputs, {said}{others if guilty.unseen else ''}"

    def to_json(self) -> dict[str, Any]:
        return dataclasses.asdict(self) | {"sentence": self.sentence()}


def find(own: OnnxValues, other: Side) -> Divergence:
    """The first guilty node of an ONNX file on its input. What cannot be compared is the reason, and no error."""
    try:
        return _Search(own, other).run()
    except ModelError as error:
        return Divergence(other.name, reason=str(error))


class _Search:
    def __init__(self, own: OnnxValues, other: Side) -> None:
        self.own, self.other = own, other
        self.nodes = list(own.model.graph.node)
        self.producers = {output: node for node in self.nodes for output in node.output if output}
        self.initializers = {tensor.name: tensor for tensor in own.model.graph.initializer}
        self.compared = 0
        self.closest = (0.0, "")  # of the nodes that were run alone: the largest share of what rounding may do

    def run(self) -> Divergence:
        values = [value for value, node in self.producers.items() if node.op_type not in RANDOM]
        for start in range(0, len(values), CHUNK):
            chunk = values[start : start + CHUNK]
            expected = self.own.fetch(chunk)
            actual, failed = self._fetched([value for value in chunk if self.other.has(value)], expected)
            for value, array in actual.items():
                self.compared += 1
                if ratio(array, expected[value]) > 1 and (guilty := self._alone_guilty(value, actual, expected)):
                    return Divergence(self.other.name, guilty, compared=self.compared)
            if failed:
                guilty = dataclasses.replace(self._described(failed[0]), failed=failed[1])
                return Divergence(self.other.name, guilty, compared=self.compared)
        return Divergence(self.other.name, reason=self._innocence(), compared=self.compared)

    def _innocence(self) -> str:
        if not self.compared:
            return f"{self.other.name} shows none of the intermediate values"
        share, node = self.closest
        if not node:
            return f"all {self.compared:,} intermediate values of ONNX Runtime and {self.other.name} agree"
        return (
            f"of {self.compared:,} intermediate values some differ, but each node alone gives the same on the same "
            f"inputs, within rounding; nearest to its limit is {node!r}, with {share:.0%} of it"
        )

    def _fetched(self, values: Sequence[str], expected: dict[str, Any]) -> tuple[Arrays, tuple[str, str] | None]:
        """The other side's values as arrays of ONNX's types; if it fails, those before the first that it cannot give,
        and that value with the error."""
        try:
            fetched = self.other.fetch(values)
            return {v: _typed(a, expected[v]) for v, a in fetched.items() if isinstance(expected[v], np.ndarray)}, None
        except ModelError as error:
            if len(values) == 1:
                return {}, (values[0], str(error))
        half = len(values) // 2
        first, failed = self._fetched(values[:half], expected)
        if failed:
            return first, failed
        second, failed = self._fetched(values[half:], expected)
        return first | second, failed

    def _alone_guilty(self, value: str, actual: Arrays, expected: Arrays) -> Guilty | None:
        """The value's node, if it gives another value than ONNX Runtime on the other side's inputs, too."""
        node = self.producers[value]
        reference, unseen = self._alone(node, value, actual, expected)
        share = ratio(actual[value], reference)
        if share <= 1:
            self.closest = max(self.closest, (share, node.name or value))
            return None
        guilty = dataclasses.replace(
            self._described(value), shapes=(_shape(reference), _shape(actual[value])), unseen=unseen
        )
        if reference.shape != actual[value].shape:
            return guilty
        distance = distances(actual[value], reference)
        index = tuple(int(i) for i in np.unravel_index(int(distance.argmax()), distance.shape))
        number, largest = _is_number(reference), scale(reference) if _is_number(reference) else None
        return dataclasses.replace(
            guilty, index=index, expected=_shown(reference[index]), actual=_shown(actual[value][index]),
            max_abs=float(distance.max()) if number and np.isfinite(distance.max()) else None, largest=largest,
        )  # fmt: skip

    def _alone(self, node: Any, value: str, actual: Arrays, expected: Arrays) -> tuple[np.ndarray, tuple[str, ...]]:
        """ONNX Runtime's output of the node on the other side's inputs, and the nodes whose values that side does not
        show, for which it gets ONNX Runtime's own; if it does not run alone, its output in the whole graph."""
        names = [name for name in dict.fromkeys((*node.input, *_captured(node))) if name]
        computed = [name for name in names if name in self.producers]
        unseen = [name for name in computed if not self.other.has(name)]
        sources = {name: self.producers[name] for name in unseen}
        hidden = tuple(each.name or name for name, each in sources.items() if each.op_type != "Constant")
        given: dict[str, Any] = {name: self.own.inputs[name] for name in names if name in self.own.inputs}
        given |= self.own.fetch(computed)
        seen = [name for name in computed if name not in unseen]
        try:
            fetched = self.other.fetch([name for name in seen if name not in actual])
            given |= {name: _typed((actual | fetched)[name], given[name]) for name in seen}
            constants = [self.initializers[name] for name in names if name in self.initializers]
            return self._run_alone(node, value, given, constants), hidden
        except (ModelError, AttributeError, KeyError, TypeError, ValueError):  # of sequences, which are no arrays
            return expected[value], hidden

    def _run_alone(self, node: Any, value: str, given: Arrays, constants: list[Any]) -> np.ndarray:
        inputs = [
            onnx.helper.make_tensor_value_info(name, onnx.helper.np_dtype_to_tensor_dtype(array.dtype), array.shape)
            for name, array in given.items()
        ]
        graph = onnx.helper.make_graph([node], "node", inputs, [onnx.ValueInfoProto(name=value)], constants)
        whole = self.own.model
        model = onnx.helper.make_model(graph, opset_imports=whole.opset_import, ir_version=whole.ir_version)
        run = runners.onnx_values(model.SerializeToString(), self.own.folder)
        return run(given, [value])[value]

    def _described(self, value: str) -> Guilty:
        node = self.producers[value]
        before = {id(n): n for n in map(self.producers.get, node.input) if n is not None and n.op_type != "Constant"}
        after = [each for each in self.nodes if {*node.output} & {*each.input, *_captured(each)}]
        near = [(each, True) for each in [*before.values()][:MAX_NEIGHBOURS]]
        near += [(each, False) for each in after[:MAX_NEIGHBOURS]]
        return Guilty(
            node=node.name or value,
            operator=node.op_type,
            attributes=_attributes(node),
            inputs=tuple(node.input),
            outputs=tuple(node.output),
            output=value,
            module=module(node, {*self.initializers}),
            source=source(node),
            neighbours=tuple(Neighbour(n.name or n.output[0], n.op_type, is_before) for n, is_before in near),
        )


def ratio(actual: np.ndarray, expected: np.ndarray) -> float:
    """The largest |Δ| as a multiple of what rounding may do; infinite for another shape, or where there is none."""
    if actual.shape != expected.shape:
        return float("inf")
    worst = float(distances(actual, expected).max(initial=0.0))
    if worst == 0:
        return 0.0
    if not _is_float(expected):
        byte = expected.dtype.kind in "iu" and expected.dtype.itemsize == 1
        return worst if byte else float("inf")
    limit = ROUNDING * float(np.finfo(expected.dtype).eps) * max(scale(expected), scale(actual))
    return worst / limit if limit else float("inf")


def distances(actual: np.ndarray, expected: np.ndarray) -> np.ndarray:
    """|Δ| of each element as float64, infinite between NaN or infinity and anything else; 1 or 0 for no numbers."""
    if not _is_number(expected):
        return np.asarray(actual != expected, np.float64)
    dtype = np.complex128 if expected.dtype.kind == "c" else np.float64
    ours, theirs = actual.astype(dtype), expected.astype(dtype)
    with np.errstate(invalid="ignore"):
        distance = np.where((actual == expected) | (np.isnan(ours) & np.isnan(theirs)), 0.0, np.abs(ours - theirs))
    if expected.dtype.kind in "iu":  # float64 has not all of them
        distance = np.where((actual != expected) & (distance < 1), 1.0, distance)
    return np.nan_to_num(distance, nan=np.inf, posinf=np.inf)


def scale(array: np.ndarray) -> float:
    """The largest finite |number|."""
    sizes = np.abs(array.astype(np.complex128 if array.dtype.kind == "c" else np.float64))
    return float(sizes[np.isfinite(sizes)].max(initial=0.0))


def _is_float(array: np.ndarray) -> bool:
    return array.dtype.kind in "fc"


def _is_number(array: np.ndarray) -> bool:
    return array.dtype.kind in "iufc"


def _typed(actual: Any, expected: np.ndarray) -> np.ndarray:
    """The other side's value in ONNX's type: TensorFlow holds some in wider ones, and strings as bytes. A single number
    gets ONNX's shape, because the converter drops axes of a constant that is broadcast anyway."""
    array = np.asarray(actual)
    if array.size == expected.size == 1:
        array = array.reshape(expected.shape)
    if expected.dtype.kind in "OSU":
        texts = [each.decode("utf-8", "replace") if isinstance(each, bytes) else str(each) for each in array.flat]
        return np.array(texts, object).reshape(array.shape)
    return array.astype(expected.dtype)


def _captured(node: Any) -> Iterator[str]:
    """Values of the graph around it that the bodies of a node read, among others."""
    bodies = [body for a in node.attribute for body in (*([a.g] if a.HasField("g") else []), *a.graphs)]
    for body in bodies:
        inner = {output for each in body.node for output in each.output} | {value.name for value in body.input}
        yield from (name for each in onnx_model.nodes(body) for name in each.input if name not in inner)
        yield from (value.name for value in body.output if value.name not in inner)


def _attributes(node: Any) -> dict[str, str]:
    found = {}
    for each in node.attribute:
        value = onnx.helper.get_attribute_value(each)
        bulky = each.type in (onnx.AttributeProto.GRAPH, onnx.AttributeProto.TENSOR, onnx.AttributeProto.GRAPHS)
        text = "…" if bulky else value.decode("utf-8", "replace") if isinstance(value, bytes) else str(value)
        found[each.name] = text if len(text) <= MAX_ATTRIBUTE else text[:MAX_ATTRIBUTE] + "…"
    return found


def _shape(array: np.ndarray) -> str:
    return f"{'strings' if array.dtype.kind in 'OSU' else array.dtype} {list(array.shape)}"


def _shown(value: Any) -> str:
    return f"{value:.9g}" if np.asarray(value).dtype.kind == "f" else str(value)
