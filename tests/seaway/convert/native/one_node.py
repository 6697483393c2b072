"""Compares small graphs with ONNX Runtime: conversion, a function with an open batch, and the same inputs."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import onnx
import onnxruntime
import tensorflow as tf
from onnx import TensorProto, helper, numpy_helper

from seaway.convert.native import net

OPSETS = {"": 17, "ai.onnx.ml": 3, "com.microsoft": 1}


def model(
    nodes: Sequence[Any],
    inputs: Mapping[str, np.ndarray],
    outputs: Sequence[str],
    weights: Mapping[str, np.ndarray] | None = None,
    opsets: Mapping[str, int] | None = None,
) -> Any:
    """A ModelProto; the first axis of each input is open."""
    graph = helper.make_graph(
        list(nodes),
        "g",
        [helper.make_tensor_value_info(name, _type(x), ["n", *x.shape[1:]]) for name, x in inputs.items()],
        [onnx.ValueInfoProto(name=name) for name in outputs],
        [numpy_helper.from_array(np.asarray(w), name) for name, w in (weights or {}).items()],
    )
    versions = [helper.make_opsetid(domain, version) for domain, version in {**OPSETS, **(opsets or {})}.items()]
    return helper.make_model(graph, opset_imports=versions, ir_version=10)


def by_onnxruntime(proto: Any, inputs: Mapping[str, np.ndarray]) -> list[np.ndarray]:
    options = onnxruntime.SessionOptions()
    options.log_severity_level, options.intra_op_num_threads = 4, 1
    session = onnxruntime.InferenceSession(proto.SerializeToString(), options, ["CPUExecutionProvider"])
    feeds = {name: x.astype(object) if x.dtype.kind == "U" else x for name, x in inputs.items()}
    return [np.asarray(value) for value in session.run(None, feeds)]


def converted(proto: Any, inputs: Mapping[str, np.ndarray]) -> list[np.ndarray]:
    specs = {
        name: tf.TensorSpec([None, *x.shape[1:]], tf.string if x.dtype.kind in "OU" else tf.as_dtype(x.dtype))
        for name, x in inputs.items()
    }
    function = tf.function(net.convert(proto), autograph=False).get_concrete_function(specs)
    feeds = {name: tf.constant(x.astype(object) if x.dtype.kind == "U" else x) for name, x in inputs.items()}
    results = function(feeds)
    return [results[value.name].numpy() for value in proto.graph.output]


def check(
    nodes: Any,
    inputs: Mapping[str, np.ndarray],
    weights: Mapping[str, np.ndarray] | None = None,
    opsets: Mapping[str, int] | None = None,
    outputs: Sequence[str] | None = None,
    tolerance: float = 1e-6,
) -> list[np.ndarray]:
    """Asserts equal shapes, types, integers and strings, and floats within a tolerance; returns ONNX Runtime's."""
    nodes = [nodes] if isinstance(nodes, onnx.NodeProto) else nodes
    names = outputs or [name for name in nodes[-1].output if name]
    proto = model(nodes, inputs, names, weights, opsets)
    expected = by_onnxruntime(proto, inputs)
    for name, mine, theirs in zip(names, converted(proto, inputs), expected, strict=True):
        assert mine.shape == theirs.shape, name
        if theirs.dtype.kind in "OSU":
            assert [text.decode() for text in mine.reshape(-1)] == theirs.reshape(-1).tolist(), name
            continue
        assert mine.dtype == theirs.dtype, name
        if theirs.dtype.kind == "f":
            np.testing.assert_allclose(mine, theirs, tolerance, tolerance, err_msg=name)
        else:
            np.testing.assert_array_equal(mine, theirs, name)
    return expected


def _type(x: np.ndarray) -> int:
    return TensorProto.STRING if x.dtype.kind in "OU" else helper.np_dtype_to_tensor_dtype(x.dtype)
