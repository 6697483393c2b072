"""Runs onnx-tf 1.10.0 (2022) on today's TensorFlow and onnx; fixes its known errors, or refuses what hits them.

It was archived with pins on packages that no longer exist. It needs little of them: onnx's old type tables, and one
call each of tensorflow-addons and tensorflow-probability. Stubs for those exist only while onnx_tf is imported;
TensorFlow itself is not patched. Its module and rep classes are not used either: `Net` walks the graph itself, so
that weights stay whole and under their names, and an error names its node.

onnx-tf's handlers end at opset 15. A newer model still converts if each operator's own version has a handler.
"""

import contextlib
import functools
import re
import sys
import types
from collections.abc import Iterator
from typing import Any

import numpy as np
import onnx
import tensorflow as tf

from seaway.artifacts import onnx_file, onnx_model
from seaway.errors import ModelError

MAX_OPSET = 15  # the newest that all handlers support


def convert(model: Any) -> "Net":
    """Converts a checked ONNX model to a TensorFlow module. Raises ModelError, which names every unsupported node."""
    missing = unsupported(model)
    if missing:
        raise ModelError(
            f"onnx-tf, which ends at opset {MAX_OPSET}, cannot convert {len(missing)} of the model's nodes: "
            f"{'; '.join(missing)}. Use --converter seaway, replace these operators in the network, or export it with "
            f"opset_version={MAX_OPSET} or lower"
        )
    return Net(model)


def unsupported(model: Any) -> list[str]:
    """Every node without a handler, as "LayerNormalization-17 (/norm/LayerNormalization)"; empty if there are none."""
    handlers = _handlers(model)
    return [
        f"{_versioned(node, model)} ({node.name or ', '.join(node.output)})"
        for node in onnx_model.nodes(model.graph)
        if not _handled(handlers.get(node.domain, {}).get(node.op_type))
    ]


class Net(tf.Module):  # type: ignore[misc]
    """`net({input: tensor}) -> {output: tensor}`; each initializer is one constant, with all its bytes."""

    def __init__(self, model: Any) -> None:
        super().__init__(name="net")
        self._model = model
        self._graph = _with_plain_node_names(model.graph)
        self._initializers = {i.name: tf.constant(onnx_file.array(i)) for i in model.graph.initializer}

    def __call__(self, inputs: dict[str, Any]) -> dict[str, Any]:
        from onnx_tf.backend import TensorflowBackend as Backend
        from onnx_tf.pb_wrapper import OnnxNode

        handlers = _handlers(self._model)
        tensors = {**self._initializers, **inputs}
        for node in self._graph.node:
            try:
                outputs = Backend._onnx_node_to_tensorflow_op(
                    OnnxNode(node), tensors, handlers, opset=self._model.opset_import
                )
            except ModelError:
                raise
            except Exception as error:  # handlers raise all kinds
                where = f"{_versioned(node, self._model)} ({node.name or ', '.join(node.output)})"
                raise ModelError(f"onnx-tf failed at node {where}: {type(error).__name__}: {error}") from error
            tensors.update(zip(node.output, outputs, strict=False))  # optional outputs may be omitted
        return {output.name: tensors[output.name] for output in self._graph.output}


def _versioned(node: Any, model: Any) -> str:
    """The operator with the version of its definition: "ReduceSum-13"."""
    version = next((o.version for o in model.opset_import if o.domain == node.domain), 1)
    if onnx.defs.has(node.op_type, domain=node.domain):
        version = onnx.defs.get_schema(node.op_type, version, node.domain).since_version
    return f"{node.domain + '.' if node.domain else ''}{node.op_type}-{version}"


def _with_plain_node_names(graph: Any) -> Any:
    """A copy of the graph (weights aside) whose node names TensorFlow accepts; tensors keep theirs."""
    copy = type(graph)(node=graph.node, output=graph.output)
    for index, node in enumerate(copy.node):
        node.name = re.sub(r"[^A-Za-z0-9_.\\/>-]", "_", node.name) or f"{node.op_type}_{index}"
    return copy


def _handlers(model: Any) -> dict[str, dict[str, Any]]:
    """domain → operator → onnx-tf's handler class, set to the model's opset."""
    _load()
    from onnx_tf.common.handler_helper import get_all_backend_handlers

    handlers: dict[str, dict[str, Any]] = get_all_backend_handlers({o.domain: o.version for o in model.opset_import})
    return handlers


def _handled(handler: Any) -> bool:
    # Recurrent cells need TensorFlow 1's rnn_cell, which Keras 3 no longer has.
    recurrent = handler is not None and handler.ONNX_OP in ("RNN", "LSTM", "GRU")
    return handler is not None and not recurrent and hasattr(handler, f"version_{handler.SINCE_VERSION}")


@functools.cache
def _load() -> None:
    """Imports onnx_tf with stubs for missing packages, and fixes its faulty handlers."""
    mapping = _old_mapping()
    onnx.mapping = onnx.helper.mapping = mapping
    stubs = {
        "onnx.mapping": mapping,
        "tensorflow_addons": types.SimpleNamespace(seq2seq=types.SimpleNamespace(hardmax=_hardmax)),
        "tensorflow_probability": types.SimpleNamespace(distributions=types.SimpleNamespace(Bernoulli=None)),
    }
    with _modules(stubs):
        import onnx_tf.backend  # noqa: F401
        from onnx_tf.handlers.backend import div, dropout, reduce_sum, shape, squeeze, trilu, unsqueeze
    div.Div._common = classmethod(_div)
    reduce_sum.ReduceSum.version_13 = classmethod(_reduce_sum_13)
    shape.Shape.version_15 = classmethod(_shape_15)
    squeeze.Squeeze.version_13 = classmethod(_squeeze_13)
    unsqueeze.Unsqueeze.version_13 = classmethod(_unsqueeze_13)
    dropout.Dropout.version_12 = dropout.Dropout.version_13 = classmethod(_dropout_12)
    trilu.Trilu.version_14 = classmethod(_trilu_14)


def _old_mapping() -> Any:
    """The parts of onnx 1.18's `onnx.mapping` that onnx_tf reads."""
    tensor_types = [t for t in onnx.TensorProto.DataType.values() if t not in (onnx.TensorProto.UNDEFINED,)]
    to_numpy = {t: np.dtype(onnx.helper.tensor_dtype_to_np_dtype(t)) for t in tensor_types}
    return types.SimpleNamespace(
        TENSOR_TYPE_TO_NP_TYPE=to_numpy,
        NP_TYPE_TO_TENSOR_TYPE={numpy: tensor for tensor, numpy in reversed(to_numpy.items())},
        STORAGE_TENSOR_TYPE_TO_FIELD={t: onnx.helper.tensor_dtype_to_field(t) for t in tensor_types},
    )


@contextlib.contextmanager
def _modules(stubs: dict[str, Any]) -> Iterator[None]:
    original = {name: sys.modules.get(name) for name in stubs}
    sys.modules.update(stubs)
    try:
        yield
    finally:
        for name, module in original.items():
            if module is None:
                del sys.modules[name]
            else:
                sys.modules[name] = module


def _hardmax(logits: Any, name: str | None = None) -> Any:
    return tf.one_hot(tf.argmax(logits, -1), tf.shape(logits)[-1], dtype=logits.dtype, name=name)


def _div(cls: Any, /, node: Any, **kwargs: Any) -> list[Any]:
    """onnx-tf divides integers as floats, which is inexact beyond 2**53."""
    dividend, divisor = (kwargs["tensor_dict"][name] for name in node.inputs[:2])
    if dividend.dtype.is_floating:
        return [tf.divide(dividend, divisor)]
    small = dividend.dtype.size < 4 or dividend.dtype == tf.uint32  # TensorFlow lacks kernels for some of these
    dtype = tf.int64 if small else dividend.dtype
    return [tf.cast(tf.truncatediv(tf.cast(dividend, dtype), tf.cast(divisor, dtype)), dividend.dtype)]


def _reduce_sum_13(cls: Any, /, node: Any, **kwargs: Any) -> list[Any]:
    """onnx-tf reduces over only the first of several axes."""
    tensors = kwargs["tensor_dict"]
    axes = tensors[node.inputs[1]] if len(node.inputs) > 1 and node.inputs[1] else None
    if axes is not None and axes.shape[0] is None:
        raise ModelError(f"{node.name}: ReduceSum with computed axes cannot be converted; make the axes constant")
    if axes is None or axes.shape[0] == 0:
        if node.attrs.get("noop_with_empty_axes", 0):
            return [tf.identity(tensors[node.inputs[0]])]
        axes = None
    return [tf.reduce_sum(tensors[node.inputs[0]], axis=axes, keepdims=node.attrs.get("keepdims", 1) == 1)]


def _shape_15(cls: Any, /, node: Any, **kwargs: Any) -> list[Any]:
    """onnx-tf takes the length of a symbolic tensor, which only works outside a graph."""
    sizes = tf.shape(kwargs["tensor_dict"][node.inputs[0]], tf.int64)
    return [sizes[node.attrs.get("start", 0) : node.attrs.get("end")]]


def _squeeze_13(cls: Any, /, node: Any, **kwargs: Any) -> list[Any]:
    """Opset 13 made the axes an input, which onnx-tf does not support."""
    x = kwargs["tensor_dict"][node.inputs[0]]
    return [tf.squeeze(x, _constant_axes(node, kwargs["tensor_dict"]) if len(node.inputs) > 1 else None)]


def _unsqueeze_13(cls: Any, /, node: Any, **kwargs: Any) -> list[Any]:
    """As Squeeze; negative axes count from the end of the result."""
    x = kwargs["tensor_dict"][node.inputs[0]]
    axes = _constant_axes(node, kwargs["tensor_dict"])
    rank = x.shape.rank + len(axes)
    for axis in sorted(axis % rank for axis in axes):
        x = tf.expand_dims(x, axis)
    return [x]


def _constant_axes(node: Any, tensors: dict[str, Any]) -> list[int]:
    axes = tf.get_static_value(tensors[node.inputs[1]])
    if axes is None:
        raise ModelError(f"{node.name}: {node.op_type} with computed axes cannot be converted; make them constant")
    return [int(axis) for axis in axes]


def _dropout_12(cls: Any, /, node: Any, **kwargs: Any) -> list[Any]:
    """onnx-tf treats a training_mode tensor of False as True, and drops."""
    x = kwargs["tensor_dict"][node.inputs[0]]
    if len(node.inputs) > 2 and node.inputs[2]:
        training = tf.get_static_value(kwargs["tensor_dict"][node.inputs[2]])
        if training is None or training:
            raise ModelError(f"{node.name}: a Dropout in training mode; export the network after calling eval()")
    return [x, tf.ones_like(x, tf.bool)]


def _trilu_14(cls: Any, /, node: Any, **kwargs: Any) -> list[Any]:
    """onnx-tf takes the truth value of a symbolic tensor, which only works outside a graph."""
    x = kwargs["tensor_dict"][node.inputs[0]]
    k = tf.cast(kwargs["tensor_dict"][node.inputs[1]], tf.int32) if len(node.inputs) > 1 and node.inputs[1] else 0
    rows, columns = tf.range(tf.shape(x)[-2])[:, tf.newaxis], tf.range(tf.shape(x)[-1])
    keep = columns - rows >= k if node.attrs.get("upper", 1) else columns - rows <= k
    return [tf.where(keep, x, tf.zeros_like(x))]
