"""An ONNX file from elsewhere as an onnx artifact: ONNX Runtime is the reference for later hops, in PyTorch's place."""

import hashlib
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import onnx

from seaway.artifacts import artifact_metadata, onnx_file, onnx_model
from seaway.errors import InvalidInput, ModelError, Unsupported
from seaway.export import model_file
from seaway.export.inputs import BFLOAT16, DTYPES, Examples, Inputs, Size

_NOT_IN_NAMES = re.compile(r"[^A-Za-z0-9_]+")


def read(file: Path, sizes: list[Size], requested: tuple[str, ...]) -> tuple[Any, Inputs]:
    """The model with the requested outputs only, its inputs under names that TensorFlow allows, and those inputs.

    `sizes`: the ranges of its open axes, by their names in the file; an unnamed one is `<input>_<axis>`. Raises
    ModelError, InvalidInput, Unsupported.
    """
    onnx_model.load(file)  # which checks it
    model = onnx.load(str(file))
    _select(model.graph, requested, file)
    for tensor in (*onnx_model.inputs(model), *onnx_model.outputs(model)):
        if tensor.dtype not in DTYPES or tensor.dtype == BFLOAT16:
            raise Unsupported(
                f"{file}: {tensor.name!r} is of type {tensor.dtype}, which golden examples cannot hold; choose other "
                "outputs with --output, or use seaway convert, which compares nothing that it cannot"
            )
    names = {t.name: _plain(t.name) for t in onnx_model.inputs(model)}
    taken = {value.name for value in model.graph.output} | {name for node in model.graph.node for name in node.output}
    if len(set(names.values())) < len(names) or any(new in taken for own, new in names.items() if new != own):
        raise ModelError(f"{file}: the inputs {', '.join(names)} need other names: letters, digits and _")
    onnx_model.rename(model.graph, names)
    for value in model.graph.input:
        value.name = names.get(value.name, value.name)
    return model, _inputs(model, sizes, file)


def _plain(name: str) -> str:
    plain = _NOT_IN_NAMES.sub("_", name)
    return plain if plain[:1].isalpha() else f"input_{plain.lstrip('_')}"


def _select(graph: Any, requested: tuple[str, ...], file: Path) -> None:
    outputs = {value.name: value for value in graph.output}
    if not requested:
        return
    pairs = [(text.partition("=")[0], text.rpartition("=")[2]) for text in requested]
    unknown = [own for _, own in pairs if own not in outputs]
    if unknown:
        raise InvalidInput(f"--output {unknown[0]}: {file} has the outputs {', '.join(outputs)}; choose among those")
    del graph.output[:]
    for new, own in pairs:
        value = graph.output.add()
        value.CopyFrom(outputs[own])
        if new != own:
            graph.node.add(op_type="Identity", input=[own], output=[new])
            value.name = new


def _inputs(model: Any, sizes: list[Size], file: Path) -> Inputs:
    """The batch is the first axis of every input if all of those are open, and of the same name where they have one."""
    initializers = {tensor.name for tensor in model.graph.initializer}
    values = [value for value in model.graph.input if value.name not in initializers]
    tensors = onnx_model.inputs(model)
    axes = {
        value.name: tuple(
            size if size is not None else dim.dim_param or f"{value.name}_{i}"
            for i, (size, dim) in enumerate(zip(tensor.shape, value.type.tensor_type.shape.dim, strict=True))
        )
        for value, tensor in zip(values, tensors, strict=True)
    }
    firsts = {
        value.type.tensor_type.shape.dim[0].dim_param for value, t in zip(values, tensors, strict=True) if t.shape
    }
    batch = bool(tensors) and all(t.shape[:1] == (None,) for t in tensors) and len(firsts) == 1
    if batch:
        axes = {name: own[1:] for name, own in axes.items()}
    by_name = {size.name: size for size in sizes}
    named = {axis for own in axes.values() for axis in own if isinstance(axis, str)}
    missing = sorted(named - by_name.keys())
    if missing:
        raise InvalidInput(f"{file}: its axis {missing[0]!r} is open: add the range, e.g. --size {missing[0]}=1..512")
    if unknown := sorted(by_name.keys() - named):
        raise InvalidInput(f"--size {unknown[0]}=…: {file} has the open axes {', '.join(sorted(named)) or 'none'}")
    return Inputs(tensors, axes, {name: by_name[name] for name in sorted(named)}, batch)


def runner(model: Any, folder: Path) -> Callable[[Examples], dict[str, np.ndarray]]:
    """Writes the model to `folder`, and returns its outputs in ONNX Runtime for some inputs. Raises ModelError."""
    try:
        session = model_file.session(model_file.write(model, folder))
    except Exception as error:
        raise ModelError(f"ONNX Runtime cannot load the model: {_first_line(error)}") from None
    names = [output.name for output in session.get_outputs()]

    def run(examples: Examples) -> dict[str, np.ndarray]:
        try:
            return dict(zip(names, session.run(names, examples), strict=True))
        except Exception as error:
            shapes = ", ".join(f"{name} {array.dtype.name} {list(array.shape)}" for name, array in examples.items())
            raise ModelError(f"ONNX Runtime fails on {shapes} (see --golden, --size): {_first_line(error)}") from None

    return run


def weights(model: Any) -> dict[str, str]:
    """Checksums of the float weights, of two elements or more, that outputs depend on."""
    needed = {value.name for value in model.graph.output}
    for node in reversed(model.graph.node):
        if needed.intersection(node.output):
            needed |= _read_by(node)
    return {
        tensor.name: artifact_metadata.checksum(array)
        for tensor in model.graph.initializer
        if tensor.name in needed and (array := onnx_file.array(tensor)).dtype.kind == "f" and array.size > 1
    }


def _read_by(node: Any) -> set[str]:
    """The names of a node's inputs, and of all values in its subgraphs."""
    names = set(node.input)
    for attribute in node.attribute:
        for inner in (*([attribute.g] if attribute.HasField("g") else []), *attribute.graphs):
            names |= {name for inside in inner.node for name in _read_by(inside)}
            names |= {value.name for value in inner.output}
    return names


def settings(file: Path) -> dict[str, Any]:
    """What the metadata says of the file."""
    with file.open("rb") as opened:
        digest = hashlib.file_digest(opened, "sha256").hexdigest()
    return {"reference": "ONNX Runtime", "model": file.name, "model_sha256": digest}


def _first_line(error: BaseException) -> str:
    return " ".join(str(error).split())[:300] or type(error).__name__
