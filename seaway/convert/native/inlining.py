"""Function inlining: operators that ONNX defines as functions of others, such as GroupNormalization."""

import dataclasses
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import onnx

from seaway.convert.native import graph as graphs
from seaway.convert.native.graph import Graph, Node


@dataclass(frozen=True, slots=True)
class FunctionBody:
    graph: Graph
    opsets: dict[str, int]


def function_body(node: Node, opsets: Mapping[str, int], inputs: Sequence[Any]) -> FunctionBody | None:
    """The node's function body; None if ONNX defines none. `inputs`: (dtype, shape) each, None for an omitted one."""
    schema = graphs.schema(node.op, node.domain, opsets.get(node.domain, 1))
    function = _function(schema, node, inputs) if schema else None
    if function is None:
        return None
    body_opsets = {**opsets, **graphs.versions(function.opset_import)}
    attributes = {a.name: a for a in node.proto.attribute}
    defaults = {name: a.default_value for name, a in schema.attributes.items() if a.default_value.name}
    defaults |= {a.name: a for a in function.attribute_proto}
    nodes = []
    for proto in function.node:
        filled = _with_attributes(proto, defaults | attributes)
        inner = graphs.node(filled, body_opsets)
        nodes.append(dataclasses.replace(inner, name=f"{node.name or node.op}/{inner.name or inner.op}"))
    outputs = tuple(output if name else "" for output, name in zip(function.output, node.outputs, strict=False))
    graph = Graph(tuple(nodes), tuple(function.input), outputs, {})
    return FunctionBody(graph, body_opsets)


def has_function_body(node: Node, opsets: Mapping[str, int]) -> bool:
    schema = graphs.schema(node.op, node.domain, opsets.get(node.domain, 1))
    return bool(schema and (schema.has_function or schema.has_context_dependent_function))


def _function(schema: Any, node: Node, inputs: Sequence[Any]) -> Any:
    if schema.has_function:
        return schema.function_body
    if not schema.has_context_dependent_function:
        return None
    types = [
        onnx.TypeProto()
        if value is None
        else onnx.helper.make_tensor_type_proto(onnx.helper.np_dtype_to_tensor_dtype(value[0]), value[1])
        for value in inputs
    ]
    text = schema.get_context_dependent_function(node.proto.SerializeToString(), [t.SerializeToString() for t in types])
    function = onnx.FunctionProto()
    function.ParseFromString(text)
    return function if function.output else None  # empty if ONNX cannot build it, e.g. without a rank


def _with_attributes(proto: Any, attributes: Mapping[str, Any]) -> Any:
    """The body's node with its attribute references replaced by the caller's attributes."""
    filled = onnx.NodeProto()
    filled.CopyFrom(proto)
    del filled.attribute[:]
    for attribute in proto.attribute:
        if not attribute.ref_attr_name:
            copied = filled.attribute.add()
            copied.CopyFrom(attribute)
            if attribute.type == onnx.AttributeProto.GRAPH:
                inner = [_with_attributes(n, attributes) for n in attribute.g.node]
                del copied.g.node[:]
                copied.g.node.extend(inner)
        elif attribute.ref_attr_name in attributes:
            copied = filled.attribute.add()
            copied.CopyFrom(attributes[attribute.ref_attr_name])
            copied.name = attribute.name
    return filled
