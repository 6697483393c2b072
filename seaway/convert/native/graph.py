"""An ONNX graph as plain values: nodes with their attributes, constants as numpy arrays.

Attributes become int, float, str, bytes, numpy arrays, lists of these, or Graph for the bodies of If, Loop and Scan.
"""

from dataclasses import dataclass, field
from typing import Any

import numpy as np
import onnx
from onnx import AttributeProto, numpy_helper

from seaway.artifacts import onnx_file

DOMAINS = ("", "ai.onnx")


@dataclass(frozen=True, slots=True)
class Node:
    """One operator. `since` is the version of its definition; an omitted input or output is named ""."""

    op: str
    domain: str
    since: int
    name: str
    inputs: tuple[str, ...]
    outputs: tuple[str, ...]
    attributes: dict[str, Any] = field(default_factory=dict)
    proto: Any = None

    def get(self, name: str, default: Any = None) -> Any:
        return self.attributes.get(name, default)

    def __str__(self) -> str:
        """As "Resize-19 (/up) with mode=cubic", for messages; large attributes are left out."""
        shown = [f"{name}={value}" for name, value in self.attributes.items() if _short(value)]
        name = f"{self.domain + '.' if self.domain else ''}{self.op}-{self.since}"
        return f"{name} ({self.name or ', '.join(self.outputs)}){' with ' if shown else ''}{', '.join(shown)}"


@dataclass(frozen=True, slots=True)
class Graph:
    """Nodes in topological order. `inputs` excludes those that have a constant as their default."""

    nodes: tuple[Node, ...]
    inputs: tuple[str, ...]
    outputs: tuple[str, ...]
    constants: dict[str, np.ndarray]


def _short(value: Any) -> bool:
    return isinstance(value, int | float | str | list) and len(str(value)) <= 40


def read(model: Any) -> Graph:
    """ModelProto → Graph; the model's local functions are inlined."""
    if model.functions:
        model = onnx.inliner.inline_local_functions(model)
    return of(model.graph, versions(model.opset_import))


def versions(opset_import: Any) -> dict[str, int]:
    return {"" if o.domain in DOMAINS else o.domain: int(o.version) for o in opset_import}


def of(proto: Any, opsets: dict[str, int]) -> Graph:
    constants = {i.name: onnx_file.array(i) for i in proto.initializer}
    constants |= {i.values.name: _dense(i) for i in proto.sparse_initializer}
    return Graph(
        tuple(node(n, opsets) for n in proto.node),
        tuple(i.name for i in proto.input if i.name not in constants),
        tuple(o.name for o in proto.output),
        constants,
    )


def node(proto: Any, opsets: dict[str, int]) -> Node:
    domain = "" if proto.domain in DOMAINS else proto.domain
    attributes = {a.name: attribute(a, opsets) for a in proto.attribute}
    since = _since(proto.op_type, domain, opsets.get(domain, 1))
    return Node(proto.op_type, domain, since, proto.name, tuple(proto.input), tuple(proto.output), attributes, proto)


def attribute(proto: Any, opsets: dict[str, int]) -> Any:
    kind = proto.type
    if kind == AttributeProto.GRAPH:
        return of(proto.g, opsets)
    if kind == AttributeProto.TENSOR:
        return numpy_helper.to_array(proto.t)
    if kind == AttributeProto.SPARSE_TENSOR:
        return _dense(proto.sparse_tensor)
    value = onnx.helper.get_attribute_value(proto)
    if kind == AttributeProto.STRING:
        return value.decode("utf-8", "surrogateescape")
    if kind == AttributeProto.STRINGS:
        return [v.decode("utf-8", "surrogateescape") for v in value]
    return list(value) if kind in (AttributeProto.INTS, AttributeProto.FLOATS) else value


def schema(op: str, domain: str, version: int) -> Any:
    """The operator's schema at a version of its domain; None if there is none."""
    try:
        return onnx.defs.get_schema(op, version, domain)
    except onnx.defs.SchemaError:
        return None


def _since(op: str, domain: str, version: int) -> int:
    definition = schema(op, domain, version)
    return definition.since_version if definition else version


def _dense(sparse: Any) -> np.ndarray:
    values, indices = numpy_helper.to_array(sparse.values), numpy_helper.to_array(sparse.indices)
    dense = np.zeros(tuple(sparse.dims), values.dtype)
    dense[np.unravel_index(indices, dense.shape) if indices.ndim == 1 else tuple(indices.T)] = values
    return dense
