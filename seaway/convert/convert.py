"""Converts an ONNX model to a TensorFlow SavedModel with the signatures that servers and the gate expect.

    python -m seaway.convert --onnx onnx/ --saved-model saved_model/
    python -m seaway.convert model.onnx saved_model/

The interface comes from the onnx artifact's metadata; a bare .onnx file keeps the names and shapes of its graph.
"""

import importlib.util
import keyword
import re
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from seaway import tensorflow_import
from seaway.artifacts import artifact_metadata, atomic, interface
from seaway.artifacts import onnx_model as models
from seaway.artifacts.artifact_metadata import ArtifactMetadata, Tensor
from seaway.convert import report
from seaway.errors import InvalidInput, ModelError, Unsupported

MODEL = "model.onnx"
LABELS = "labels.txt"
DEFAULT_CONVERTER = "seaway"
ONNX_TF = "onnx-tf"
# onnx-tf is archived: of its requirements, PyYAML is never imported, and tensorflow-addons does not exist for
# Python 3.12.
INSTALL_ONNX_TF = "pip install --no-deps onnx-tf==1.10.0"

Net = Callable[[dict[str, Any]], dict[str, Any]]  # a tf.Module: {input: tensor} → {output: tensor}


def _seaway(model: Any) -> Net:
    from seaway.convert.native import net

    return net.convert(model)


def _onnx_tf(model: Any) -> Net:
    from seaway.convert import onnx_tf_compat

    return onnx_tf_compat.convert(model)


CONVERTERS: dict[str, Callable[[Any], Net]] = {DEFAULT_CONVERTER: _seaway, ONNX_TF: _onnx_tf}


@dataclass(frozen=True, slots=True)
class _Interface:
    """The SavedModel's interface: `inputs` maps an input's name in the graph to its tensor."""

    inputs: dict[str, Tensor]
    outputs: tuple[Tensor, ...]
    default: tuple[str, ...]


def convert_artifact(onnx: Path, saved_model: Path, converter: str = DEFAULT_CONVERTER) -> ArtifactMetadata:
    """Converts an onnx artifact to a saved_model artifact; returns its metadata. Raises MetadataError, ModelError,
    InvalidInput."""
    return _convert(onnx / MODEL, saved_model, converter, artifact_metadata.check(onnx, "onnx"))


def convert(onnx_path: Path, saved_model_dir: Path, converter: str = DEFAULT_CONVERTER) -> ArtifactMetadata:
    """Converts a bare ONNX file to a saved_model artifact; `serving_default` returns every output of the graph."""
    return _convert(onnx_path, saved_model_dir, converter, None)


def _convert(onnx_path: Path, saved_model: Path, converter: str, metadata: ArtifactMetadata | None) -> ArtifactMetadata:
    if converter not in CONVERTERS:
        raise InvalidInput(f"--converter {converter}: no such converter; choose from {', '.join(CONVERTERS)}")
    if converter == ONNX_TF and not importlib.util.find_spec("onnx_tf"):
        raise Unsupported(
            f"--converter {ONNX_TF}: onnx-tf is not installed. Install it without its dependencies, which are no "
            "longer maintained: "
            f"{INSTALL_ONNX_TF} (or omit --converter, for Seaway's own)"
        )
    _check_target(saved_model)
    _say(f"reading {onnx_path}")
    model = models.load(onnx_path)
    own = _interface_of_metadata(model, metadata) if metadata else _interface_of_graph(model)
    tensorflow_import.import_tensorflow()
    from seaway.convert import signatures

    _say(f"converting {len(model.graph.node)} nodes of opset {models.opset(model)} with {converter}")
    net = CONVERTERS[converter](model)
    labels = metadata.labels if metadata else ()
    with atomic.folder(saved_model) as part:
        names = signatures.save(net, own.inputs, own.outputs, labels, own.default, part)
        _say(f"writing signatures {', '.join(names)} to {saved_model}")
        conversion = report.make(model, onnx_path, part, net)
        _say(report.line(conversion))
        report.write(part, conversion)
        if labels:
            (part / LABELS).write_text("\n".join(labels) + "\n", encoding="utf-8")
        return artifact_metadata.write(part, _metadata(onnx_path, converter, models.opset(model), own, metadata))


def _metadata(
    onnx_path: Path, converter: str, opset: int, own: _Interface, metadata: ArtifactMetadata | None
) -> ArtifactMetadata:
    bare = ArtifactMetadata(
        kind="saved_model",
        name=onnx_path.stem,
        inputs=tuple(own.inputs.values()),
        outputs=own.outputs,
        settings={"converter": converter, "opset": opset},
    )
    if metadata is None:
        return bare
    return replace(
        bare, name=metadata.name, labels=metadata.labels, tolerances=metadata.tolerances, parents={"onnx": metadata}
    )


def _interface_of_metadata(model: Any, metadata: ArtifactMetadata) -> _Interface:
    """The metadata's interface, which the graph must have. Raises ModelError."""
    for side, expected, actual in (
        ("input", metadata.inputs, models.inputs(model)),
        ("output", metadata.outputs, models.outputs(model)),
    ):
        graph = {t.name: t for t in actual}
        for tensor in expected:
            in_graph = graph.pop(tensor.name, None)
            if in_graph is None or in_graph.dtype != tensor.dtype or not _fits(in_graph.shape, tensor.shape):
                raise ModelError(
                    f"the metadata has the {side} {_shown(tensor)}, but the graph has "
                    f"{', '.join(_shown(t) for t in actual) or 'none'}; export the model again"
                )
        if side == "input" and graph:
            raise ModelError(
                f"the graph needs inputs that are not in the metadata: {', '.join(graph)}; export it again"
            )
    for tensor in metadata.inputs:
        if _signature_name(tensor.name) != tensor.name:
            raise ModelError(
                f"input {tensor.name!r} cannot be an argument of a TensorFlow signature; export the model with an "
                f"input name of letters, digits and _, e.g. {_signature_name(tensor.name)!r}"
            )
    default = tuple(t.name for t in interface.default_outputs(metadata.outputs))
    return _Interface({t.name: t for t in metadata.inputs}, metadata.outputs, default)


def _interface_of_graph(model: Any) -> _Interface:
    """The graph's own interface; renames inputs whose names TensorFlow does not allow, and prints the new names."""
    inputs: dict[str, Tensor] = {}
    for tensor in models.inputs(model):
        name = _signature_name(tensor.name)
        while name in {t.name for t in inputs.values()}:
            name += "_"
        inputs[tensor.name] = replace(tensor, name=name)
        if name != tensor.name:
            _say(f"input {tensor.name!r} is called {name!r} in the SavedModel: TensorFlow does not allow its name")
    outputs = models.outputs(model)
    if inputs and all(tensor.shape[:1] == (None,) for tensor in inputs.values()):
        # onnxmltools declares [1] for the labels of any number of rows, and ONNX Runtime ignores what is declared.
        outputs = tuple(replace(t, shape=(None, *t.shape[1:])) if t.shape[:1] == (1,) else t for t in outputs)
    return _Interface(inputs, outputs, tuple(t.name for t in outputs))


def _signature_name(name: str) -> str:
    """The name itself if it is a Python identifier, as TensorFlow's signatures require; else a similar one."""
    plain = re.sub(r"[^A-Za-z0-9_]", "_", name)
    if plain[:1] in "_0123456789":
        plain = f"input{plain}" if plain.startswith("_") else f"input_{plain}"
    return plain + "_" if keyword.iskeyword(plain) else plain


def _fits(graph: tuple[int | None, ...], expected: tuple[int | None, ...]) -> bool:
    """Whether the graph's shape allows the expected one: an axis that is expected to be dynamic must be."""
    return len(graph) == len(expected) and all(g is None or g == p for g, p in zip(graph, expected, strict=True))


def _check_target(folder: Path) -> None:
    """Refuses a folder that contains anything but a SavedModel, because the conversion replaces the whole folder."""
    if folder.is_file() or (folder.is_dir() and any(folder.iterdir()) and not (folder / "saved_model.pb").is_file()):
        raise InvalidInput(f"{folder}: already exists and is not a SavedModel; give a new folder, or remove this one")


def _shown(tensor: Tensor) -> str:
    return f"{tensor.name}: {tensor.dtype} {list(tensor.shape)}"


def _say(text: str) -> None:
    print(f"convert: {text}", flush=True)
