"""Reads ONNX models: the file, its opset, its interface; errors say what is wrong."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import onnx
from google.protobuf.message import DecodeError

from seaway.artifacts import onnx_file
from seaway.artifacts.artifact_metadata import Tensor
from seaway.errors import ModelError

AGAIN = "export the model again"
RUNTIME_DOMAIN = "com.microsoft"  # ONNX Runtime's own domain, which ONNX's checker does not look into
STANDARD_DOMAINS = ("", "ai.onnx.ml")
MAPS = ("ZipMap", "DictVectorizer", "CastMap")  # operators over maps, which are no tensors
ZIPMAP = (
    "export it without ZipMap, which turns scores into maps: with skl2onnx "
    "to_onnx(model, X, options={id(model): {'zipmap': False}}), with onnxmltools zipmap=False"
)
BLOCKED_DOMAINS = ("com.microsoft.nchwc", "com.ms.internal.nhwc")
BLOCKED_LAYOUT = (
    "ONNX Runtime's layout for one kind of CPU; save the optimized model at ORT_ENABLE_EXTENDED rather than "
    "ORT_ENABLE_ALL, or convert the file from before the optimization"
)


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
    _check_operators(model, path)
    try:
        onnx.checker.check_model(_checkable(model))
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


def interface(model: Any) -> tuple[tuple[Tensor, ...], tuple[Tensor, ...]]:
    """Its inputs and outputs."""
    return inputs(model), outputs(model)


def set_shape(value: Any, tensor: Tensor, names: dict[int, str]) -> None:
    """Declares an input's or output's shape; `names`: those of open axes, by default made from the tensor's."""
    shape = value.type.tensor_type.shape
    shape.SetInParent()  # also for a scalar
    del shape.dim[:]
    for axis, size in enumerate(tensor.shape):
        if size is None:
            shape.dim.add().dim_param = names.get(axis, f"{tensor.name}_{axis}")
        else:
            shape.dim.add().dim_value = size


def rename(graph: Any, names: dict[str, str]) -> None:
    """Renames values that nodes read, also those in subgraphs, which see the outer names."""
    for node in graph.node:
        node.input[:] = [names.get(name, name) for name in node.input]
        for attribute in node.attribute:
            for inner in (attribute.g, *attribute.graphs):
                rename(inner, names)


def _check_opset(model: Any, path: Path) -> None:
    if not model.opset_import and not model.graph.node:
        raise ModelError(f"{path}: not an ONNX file, or a truncated one (it has no graph); {AGAIN}")
    newest = onnx.defs.onnx_opset_version()
    if opset(model) > newest:
        raise ModelError(
            f"{path}: its opset is {opset(model)}, but onnx {onnx.__version__} supports at most {newest}; "
            f"export the model with opset_version={newest} or lower, or install a newer onnx"
        )


def _check_operators(model: Any, path: Path) -> None:
    """Refuses operators that no converter can support, and says what to do."""
    found = list(nodes(model.graph))
    maps = sorted({node.op_type for node in found if node.domain == "ai.onnx.ml" and node.op_type in MAPS})
    if maps:
        advice = ZIPMAP if "ZipMap" in maps else "export it with tensors as inputs"
        raise ModelError(f"{path}: it has {', '.join(maps)}, and a SavedModel's values are tensors; {advice}")
    blocked = sorted({f"{node.domain}.{node.op_type}" for node in found if node.domain in BLOCKED_DOMAINS})
    if blocked:
        raise ModelError(f"{path}: it has {', '.join(blocked)}: {BLOCKED_LAYOUT}")


def _checkable(model: Any) -> Any:
    """A copy for ONNX's checker, which skips the domain that operators unknown to ONNX are moved to: ONNX Runtime
    writes some of its own into the default domain. The converter supports them or refuses them by name."""
    copy = onnx_file.checkable(model)
    versions = {"" if o.domain == "ai.onnx" else o.domain: int(o.version) for o in copy.opset_import}
    moved = False
    for node in nodes(copy.graph):
        domain = "" if node.domain == "ai.onnx" else node.domain
        if domain in STANDARD_DOMAINS and not onnx.defs.has(node.op_type, versions.get(domain, 1), domain):
            node.domain, moved = RUNTIME_DOMAIN, True
    if moved and RUNTIME_DOMAIN not in versions:
        copy.opset_import.add(domain=RUNTIME_DOMAIN, version=1)
    return copy


def nodes(graph: Any) -> Iterator[Any]:
    """All nodes, those of subgraphs included."""
    for node in graph.node:
        yield node
        for attribute in node.attribute:
            for inner in (*([attribute.g] if attribute.HasField("g") else []), *attribute.graphs):
                yield from nodes(inner)


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
