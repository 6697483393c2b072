"""Reads model.onnx: the graph and its interface."""

from pathlib import Path
from typing import Any

import onnx
from google.protobuf.message import DecodeError  # type: ignore[import-untyped]

from seaway.artifacts import onnx_file
from seaway.artifacts.artifact_metadata import Tensor
from seaway.errors import ModelError


def read(path: Path) -> Any:
    """The ModelProto; `onnx_file.array` returns its large weights.

    Raises ModelError if the file is missing, truncated or not ONNX.
    """
    try:
        model = onnx_file.read(path)
        onnx.checker.check_model(onnx_file.checkable(model))
    except FileNotFoundError:
        raise ModelError(f"{path}: no such file; export the model again") from None
    except (DecodeError, onnx.checker.ValidationError, ValueError) as error:
        first = (str(error).strip().splitlines() or [""])[0]
        raise ModelError(f"{path}: not an ONNX file, or a truncated one ({first}); export the model again") from None
    return model


def interface(model: Any) -> tuple[tuple[Tensor, ...], tuple[Tensor, ...]]:
    """The graph's inputs (without initializers) and outputs."""
    initializers = {i.name for i in model.graph.initializer}
    inputs = tuple(_tensor(v) for v in model.graph.input if v.name not in initializers)
    return inputs, tuple(_tensor(v) for v in model.graph.output)


def _tensor(value: Any) -> Tensor:
    kind = value.type.tensor_type
    text = kind.elem_type == onnx.TensorProto.STRING
    dtype = "str" if text else str(onnx.helper.tensor_dtype_to_np_dtype(kind.elem_type).name)
    shape = tuple(d.dim_value if d.HasField("dim_value") else None for d in kind.shape.dim)
    return Tensor(value.name, dtype, shape)
