"""Operators that ONNX itself defines by others, such as Mish or GroupNormalization, as graphs of those."""

import dataclasses
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import onnx

from seaway.convert.native import graph as graphs
from seaway.convert.native.graph import Graph, Node


@dataclass(frozen=True, slots=True)
class Body:
    graph: Graph
    opsets: dict[str, int]


def body(node: Node, opsets: Mapping[str, int], given: Sequence[Any]) -> Body | None:
    """The node's definition by other operators; `given` are its inputs' types and shapes, None for one that is left
    out. None where ONNX has none."""
    schema = graphs.schema(node.op, node.domain, opsets.get(node.domain, 1))
    function = _function(schema, node, given) if schema else None
    if function is None:
        return None
    own = {**opsets, **graphs.versions(function.opset_import)}
    attributes = {a.name: a for a in node.proto.attribute}
    defaults = {name: a.default_value for name, a in schema.attributes.items() if a.default_value.name}
    defaults |= {a.name: a for a in function.attribute_proto}
    nodes = []
    for proto in function.node:
        filled = _filled(proto, defaults | attributes)
        one = graphs.node(filled, own)
        nodes.append(dataclasses.replace(one, name=f"{node.name or node.op}/{one.name or one.op}"))
    outputs = tuple(own if name else "" for own, name in zip(function.output, node.outputs, strict=False))
    graph = Graph(tuple(nodes), tuple(function.input), outputs, {})
    return Body(graph, own)


def has_body(node: Node, opsets: Mapping[str, int]) -> bool:
    schema = graphs.schema(node.op, node.domain, opsets.get(node.domain, 1))
    return bool(schema and (schema.has_function or schema.has_context_dependent_function))


def _function(schema: Any, node: Node, given: Sequence[Any]) -> Any:
    if schema.has_function:
        return schema.function_body
    if not schema.has_context_dependent_function:
        return None
    types = [
        onnx.TypeProto()
        if one is None
        else onnx.helper.make_tensor_type_proto(onnx.helper.np_dtype_to_tensor_dtype(one[0]), one[1])
        for one in given
    ]
    text = schema.get_context_dependent_function(node.proto.SerializeToString(), [t.SerializeToString() for t in types])
    function = onnx.FunctionProto()
    function.ParseFromString(text)
    return function if function.output else None  # where ONNX cannot tell, for want of a rank say, it is empty


def _filled(proto: Any, attributes: Mapping[str, Any]) -> Any:
    """The body's node with the caller's attributes in the places that refer to them."""
    filled = onnx.NodeProto()
    filled.CopyFrom(proto)
    del filled.attribute[:]
    for attribute in proto.attribute:
        if not attribute.ref_attr_name:
            kept = filled.attribute.add()
            kept.CopyFrom(attribute)
            if attribute.type == onnx.AttributeProto.GRAPH:
                inner = [_filled(n, attributes) for n in attribute.g.node]
                del kept.g.node[:]
                kept.g.node.extend(inner)
        elif attribute.ref_attr_name in attributes:
            kept = filled.attribute.add()
            kept.CopyFrom(attributes[attribute.ref_attr_name])
            kept.name = attribute.name
    return filled
