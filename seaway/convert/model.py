"""Reads ONNX models: the file, its opset, its interface; errors say what is wrong."""

from pathlib import Path
from typing import Any

import onnx
from google.protobuf.message import DecodeError  # type: ignore[import-untyped]

from seaway.artifacts import onnx_file
from seaway.artifacts.artifact_metadata import Tensor
from seaway.errors import ModelError

AGAIN = "export the model again"


def load(path: Path) -> Any:
    """The checked ModelProto; `onnx_file.array` returns its large weights.

    Raises ModelError if the file is missing, truncated, not ONNX, or not valid.
    """
    try:
        model = onnx_file.read(path)
    except FileNotFoundError as error:
        raise ModelError(f"{error.filename or path}: no such file; give an ONNX model, or {AGAIN}") from None
    except IsADirectoryError:
        raise ModelError(f"{path}: a folder, not an ONNX file; give the model.onnx in it") from None
    except DecodeError as error:
        raise ModelError(f"{path}: not an ONNX file, or a truncated one ({error}); {AGAIN}") from None
    except ValueError as error:
        raise ModelError(f"{path}: not a valid ONNX model ({error}); {AGAIN}") from None
    _check_opset(model, path)
    try:
        onnx.checker.check_model(onnx_file.checkable(model))
    except (onnx.checker.ValidationError, ValueError) as error:
        raise ModelError(f"{path}: not a valid ONNX model ({_first_line(error)}); {AGAIN}") from None
    return model


def opset(model: Any) -> int:
    """The opset of ONNX's default domain."""
    return next((int(o.version) for o in model.opset_import if o.domain in ("", "ai.onnx")), 1)


def inputs(model: Any) -> tuple[Tensor, ...]:
    """The graph's inputs without initializers."""
    initializers = {i.name for i in model.graph.initializer}
    return tuple(_tensor(value) for value in model.graph.input if value.name not in initializers)


def outputs(model: Any) -> tuple[Tensor, ...]:
    return tuple(_tensor(value) for value in model.graph.output)


def _check_opset(model: Any, path: Path) -> None:
    if not model.opset_import and not model.graph.node:
        raise ModelError(f"{path}: not an ONNX file, or a truncated one (it has no graph); {AGAIN}")
    newest = onnx.defs.onnx_opset_version()
    if opset(model) > newest:
        raise ModelError(
            f"{path}: its opset is {opset(model)}, but onnx {onnx.__version__} supports at most {newest}; "
            f"export the model with opset_version={newest} or lower, or install a newer onnx"
        )


def _tensor(value: Any) -> Tensor:
    kind = value.type.tensor_type
    if not value.type.HasField("tensor_type") or not kind.elem_type:
        raise ModelError(f"{value.name!r} is not a tensor; only tensors can be a SavedModel's inputs and outputs")
    dtype = "str" if kind.elem_type == onnx.TensorProto.STRING else _numpy_name(kind.elem_type)
    shape = tuple(d.dim_value if d.HasField("dim_value") else None for d in kind.shape.dim)
    return Tensor(value.name, dtype, shape)


def _numpy_name(elem_type: int) -> str:
    return str(onnx.helper.tensor_dtype_to_np_dtype(elem_type).name)


def _first_line(error: Exception) -> str:
    return (str(error).strip().splitlines() or [type(error).__name__])[0]
