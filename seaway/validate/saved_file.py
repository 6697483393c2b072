"""Reads a SavedModel's files: signatures, weights, strings. Runs nothing."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np

from seaway.artifacts.artifact_metadata import Tensor
from seaway.errors import ModelError

Signature = tuple[tuple[Tensor, ...], tuple[Tensor, ...]]  # inputs, outputs


def read(folder: Path) -> Any:
    """The MetaGraphDef of saved_model.pb. Raises ModelError for a missing or truncated file."""
    from google.protobuf.message import DecodeError
    from tensorflow.core.protobuf.saved_model_pb2 import SavedModel

    path = folder / "saved_model.pb"
    try:
        return SavedModel.FromString(path.read_bytes()).meta_graphs[0]
    except FileNotFoundError:
        raise ModelError(f"{path}: no such file; convert the model again") from None
    except (DecodeError, IndexError):
        raise ModelError(f"{path}: not a SavedModel, or a truncated one; convert the model again") from None


def signatures(saved: Any) -> dict[str, Signature]:
    """Signature's name → its inputs and outputs, as servers will report them."""
    return {
        name: (_tensors(definition.inputs), _tensors(definition.outputs))
        for name, definition in saved.signature_def.items()
        if not name.startswith("__")
    }


def constants(saved: Any) -> Iterator[np.ndarray]:
    """Every floating-point constant."""
    import tensorflow as tf

    for constant in _constants(saved):
        if tf.as_dtype(constant.dtype).is_floating:
            yield tf.make_ndarray(constant)


def variables(folder: Path) -> Iterator[np.ndarray]:
    """Every floating-point variable of two elements or more."""
    import tensorflow as tf

    variables = folder / "variables" / "variables"
    if not variables.with_name("variables.index").exists():
        return
    try:
        reader = tf.train.load_checkpoint(str(variables))
        for name, dtype in reader.get_variable_to_dtype_map().items():
            if dtype.is_floating and (array := reader.get_tensor(name)).size >= 2:
                yield array
    except tf.errors.OpError as error:
        raise ModelError(f"{variables.parent}: cannot be read ({error.message}); convert the model again") from None


def string_constants(saved: Any) -> list[tuple[str, ...]]:
    """Every constant string tensor in the graph."""
    import tensorflow as tf

    arrays = [tf.make_ndarray(c).reshape(-1) for c in _constants(saved) if tf.as_dtype(c.dtype) == tf.string]
    return [tuple(value.decode("utf-8", "replace") for value in array) for array in arrays]


def _constants(saved: Any) -> Iterator[Any]:
    """TensorProtos of the graph and of its functions."""
    bodies = [saved.graph_def.node, *(f.node_def for f in saved.graph_def.library.function)]
    return (node.attr["value"].tensor for nodes in bodies for node in nodes if node.op == "Const")


def _tensors(infos: Any) -> tuple[Tensor, ...]:
    import tensorflow as tf

    def shape(info: Any) -> tuple[int | None, ...]:
        return tuple(None if d.size < 0 else int(d.size) for d in info.tensor_shape.dim)

    def dtype(info: Any) -> str:
        kind = tf.as_dtype(info.dtype)
        return "str" if kind == tf.string else str(kind.name)

    return tuple(Tensor(name, dtype(info), shape(info)) for name, info in sorted(infos.items()))
