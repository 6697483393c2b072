"""The ONNX backend: the only file of the server that imports ONNX Runtime. It needs no TensorFlow.

A version's signatures are those of its SavedModel (artifacts/interface.py). A model without metadata has only
`serving_default`, which returns all outputs. ONNX Runtime's own operators access neither files nor the network; custom
operators are refused because no custom-operator library is loaded, and so are weights in files outside the model's
folder.
"""

import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from seaway.artifacts import interface, model_repository
from seaway.artifacts.artifact_metadata import ArtifactMetadata, Tensor
from seaway.errors import InvalidInput, ModelError, NotFound, SeawayError
from seaway.onnxruntime_import import import_onnxruntime
from seaway.protocols import signatures, tensors
from seaway.protocols.calls import DEFAULT_SIGNATURE, Signature
from seaway.serve.backends import png_decoder

ort = import_onnxruntime()
from onnxruntime.capi import onnxruntime_pybind11_state as failures  # noqa: E402

MODEL = "model.onnx"
METHOD = "tensorflow/serving/predict"
LOG_FATAL_ONLY = 4  # severity: errors are raised anyway, and clients' mistakes should not fill the log
RESOURCE_EXHAUSTED_STATUS = 429  # as TensorFlow Serving maps it

# ONNX Runtime's type names → the metadata's and TensorFlow's
_TYPES = {
    "tensor(float)": ("float32", "DT_FLOAT"),
    "tensor(double)": ("float64", "DT_DOUBLE"),
    "tensor(float16)": ("float16", "DT_HALF"),
    "tensor(int8)": ("int8", "DT_INT8"),
    "tensor(int16)": ("int16", "DT_INT16"),
    "tensor(int32)": ("int32", "DT_INT32"),
    "tensor(int64)": ("int64", "DT_INT64"),
    "tensor(uint8)": ("uint8", "DT_UINT8"),
    "tensor(uint16)": ("uint16", "DT_UINT16"),
    "tensor(uint32)": ("uint32", "DT_UINT32"),
    "tensor(uint64)": ("uint64", "DT_UINT64"),
    "tensor(bool)": ("bool", "DT_BOOL"),
    "tensor(string)": ("str", "DT_STRING"),
}
_TENSORFLOW = dict(_TYPES.values())
_PREFIX = re.compile(r"\[ONNXRuntimeError\] : \d+ : [A-Z_]+ : ")


def load(
    path: Path, metadata: ArtifactMetadata | None, threads: int, allowed_ops: frozenset[str] = frozenset()
) -> "OnnxModel":
    """Loads a version's folder: its assets.extra/model.onnx, or model.onnx if the folder has only ONNX.

    `allowed_ops` is part of the backend interface and not used here. Raises ModelError.
    """
    for file in (path / model_repository.EXTRA / MODEL, path / MODEL):
        if file.is_file():
            return OnnxModel(file, metadata, threads)
    raise ModelError(
        f"{path}: no {model_repository.EXTRA}/{MODEL} or {MODEL} found; serve it with --backend savedmodel"
    )


class OnnxModel:
    """One version in memory; for `signatures` and `definitions` see seaway.protocols.calls.ModelVersionInfo."""

    platform = "onnx_onnxv1"

    def __init__(self, file: Path, metadata: ArtifactMetadata | None, threads: int) -> None:
        try:
            self._session = ort.InferenceSession(str(file), _options(threads), providers=["CPUExecutionProvider"])
        except Exception as error:  # ONNX Runtime has a dozen classes for this, without a common base
            raise ModelError(f"{file}: ONNX Runtime cannot load the model: {_error_text(error)}") from None
        inputs = _tensors(file, self._session.get_inputs(), metadata.inputs if metadata else None)
        outputs = _tensors(file, self._session.get_outputs(), metadata.outputs if metadata else None)
        self._scores = outputs[0].name
        self._dtypes = {tensor.name: tensors.DTYPES[tensor.dtype] for tensor in inputs}
        self._strings = {tensor.name for tensor in (*inputs, *outputs) if tensor.dtype == tensors.STRING}
        labels = metadata.labels if metadata else ()
        self._labels = tensors.strings([label.encode() for label in labels], [len(labels)])
        self.signatures = _signatures(inputs, outputs, metadata)
        self.definitions = {name: _to_json(signature) for name, signature in self.signatures.items()}

    def predict(
        self, signature: str, inputs: dict[str, np.ndarray], outputs: list[str] | None = None
    ) -> dict[str, np.ndarray]:
        """Runs a signature; `outputs` None returns all of its outputs. Strings are bytes, as everywhere.

        Raises InvalidInput, NotFound, or SeawayError with ONNX Runtime's message.
        """
        declared = self.signatures.get(signature)
        if declared is None:
            raise NotFound(f"no signature {signature!r}; choose from {sorted(self.signatures)}")
        names = [tensor.name for tensor in declared.outputs]
        missing = [name for name in outputs or () if name not in names]
        if missing:
            raise InvalidInput(f"signature {signature!r} has no output {missing}; it has {sorted(names)}")
        if signature not in (interface.FROM_PNG, interface.LABEL):
            return self._run(inputs, outputs or names)
        results = self._labelled(self._decode(inputs) if signature == interface.FROM_PNG else inputs)
        return {name: results[name] for name in outputs or names}

    def close(self) -> None:
        """Nothing to do: the session is freed with its last reference."""

    def _run(self, inputs: dict[str, np.ndarray], output_names: list[str]) -> dict[str, np.ndarray]:
        if inputs.keys() != self._dtypes.keys():
            raise InvalidInput(f"the model takes {sorted(self._dtypes)}, but got {sorted(inputs)}")
        for name, array in inputs.items():
            if array.dtype != self._dtypes[name]:
                actual = tensors.dtype_name(array)
                raise InvalidInput(f"input {name!r} is {actual}, but the model takes {self._dtypes[name].name}")
            if array.ndim > tensors.MAX_RANK:
                raise InvalidInput(f"input {name!r} has {array.ndim} dimensions; ONNX takes at most {tensors.MAX_RANK}")
        if self._strings:
            inputs = {n: _decode_strings(n, array) if n in self._strings else array for n, array in inputs.items()}
        try:
            values = self._session.run(output_names, inputs)
        except (failures.Fail, failures.InvalidArgument, failures.RuntimeException) as error:
            mismatch = signatures.shape_mismatch(self.signatures[DEFAULT_SIGNATURE], inputs)
            raise InvalidInput(mismatch) if mismatch else _as_seaway_error(error) from None
        outputs = dict(zip(output_names, values, strict=True))
        for name in self._strings.intersection(output_names):
            outputs[name] = tensors.strings(tensors.string_values(outputs[name]), outputs[name].shape)
        return outputs

    def _decode(self, inputs: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
        """The inputs of from_png as those of the model."""
        pngs = inputs.get(interface.PNG)
        if pngs is None or len(inputs) != 1:
            raise InvalidInput(f"signature {interface.FROM_PNG!r} takes [{interface.PNG!r}], but got {sorted(inputs)}")
        if pngs.dtype != object or pngs.ndim != 1:
            raise InvalidInput(f"from_png takes strings of shape [N], but got {tensors.dtype_name(pngs)} {pngs.shape}")
        (image,) = self.signatures[DEFAULT_SIGNATURE].inputs
        height, width, channels = (size or 0 for size in image.shape[1:])
        pixels = np.empty((len(pngs), height, width, channels), np.float32)
        for row, png in enumerate(tensors.string_values(pngs)):  # one at a time, to limit memory
            pixels[row] = png_decoder.decode(png, height, width, channels)
        return {image.name: pixels}

    def _labelled(self, inputs: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
        scores = self._run(inputs, [self._scores])[self._scores]
        best = np.argsort(-scores, axis=1, kind="stable")[:, : interface.TOP_CLASSES]
        labels, top_scores = self._labels[best], np.take_along_axis(scores, best, axis=1)
        results = {"label": labels[:, 0], "score": top_scores[:, 0], "top_labels": labels, "top_scores": top_scores}
        return results | {self._scores: scores}


def _options(threads: int) -> Any:
    options = ort.SessionOptions()
    options.intra_op_num_threads, options.inter_op_num_threads = threads, 1
    options.execution_mode = ort.ExecutionMode.ORT_SEQUENTIAL
    options.graph_optimization_level = ort.GraphOptimizationLevel.ORT_ENABLE_ALL
    options.add_session_config_entry("session.intra_op.allow_spinning", "0")  # other processes need the cores
    # Both would keep the memory of the largest batch, and bring no speed up to 32 images.
    options.enable_cpu_mem_arena = options.enable_mem_pattern = False
    options.log_severity_level = LOG_FATAL_ONLY
    return options


def _tensors(file: Path, arguments: Sequence[Any], declared: tuple[Tensor, ...] | None) -> tuple[Tensor, ...]:
    """The inputs or outputs from the metadata, or else the graph. Raises ModelError if the two differ."""
    for argument in arguments:
        if argument.type not in _TYPES:
            raise ModelError(
                f"{file}: {argument.name!r} is {argument.type}, which no protocol carries; export a tensor"
            )
    actual = tuple(
        Tensor(arg.name, _TYPES[arg.type][0], tuple(size if isinstance(size, int) else None for size in arg.shape))
        for arg in arguments
    )
    dtypes, expected = ({tensor.name: tensor.dtype for tensor in specs} for specs in (actual, declared or actual))
    if dtypes != expected:
        raise ModelError(f"{file}: the model has {dtypes}, but its metadata says {expected}; publish the version again")
    return declared or actual


def _signatures(
    inputs: tuple[Tensor, ...], outputs: tuple[Tensor, ...], metadata: ArtifactMetadata | None
) -> dict[str, Signature]:
    """Without metadata, the shape () may also be an unknown rank."""
    if metadata is None:
        unranked = frozenset(tensor.name for tensor in (*inputs, *outputs) if not tensor.shape)
        return {DEFAULT_SIGNATURE: Signature(inputs, outputs, METHOD, unranked)}
    by_name = interface.signatures(inputs, outputs, metadata.labels)
    return {name: Signature(*sides, METHOD) for name, sides in by_name.items()}


def _to_json(signature: Signature) -> dict[str, Any]:
    """A SignatureDef as protobuf's JSON, which TensorFlow Serving's metadata shows."""

    def tensor_infos(specs: tuple[Tensor, ...]) -> dict[str, Any]:
        return {
            tensor.name: {
                "name": tensor.name,
                "dtype": _TENSORFLOW[tensor.dtype],
                "tensor_shape": {
                    "dim": [{"size": str(-1 if size is None else size), "name": ""} for size in tensor.shape],
                    "unknown_rank": tensor.name in signature.unranked,
                },
            }
            for tensor in specs
        }

    return {
        "inputs": tensor_infos(signature.inputs),
        "outputs": tensor_infos(signature.outputs),
        "method_name": signature.method,
        "defaults": {},
    }


def _decode_strings(name: str, array: np.ndarray) -> np.ndarray:
    """Bytes → str, as ONNX's strings are. Raises InvalidInput."""
    try:
        decoded = np.array([value.decode() for value in tensors.string_values(array)], object)
    except UnicodeDecodeError as error:
        raise InvalidInput(f"input {name!r} has a string that is not UTF-8, which ONNX requires: {error}") from None
    return decoded.reshape(array.shape)


def _as_seaway_error(error: Exception) -> SeawayError:
    """ONNX Runtime's error as ours. Run-time errors are the fault of the input, because the model was validated."""
    text = _error_text(error)
    if "Failed to allocate memory" in text or "bad_alloc" in text:
        return SeawayError(f"this input needs more memory than is available: {text}", status=RESOURCE_EXHAUSTED_STATUS)
    if isinstance(error, failures.InvalidArgument) or "while running" in text:
        return InvalidInput(text)
    return SeawayError(text)


def _error_text(error: Exception) -> str:
    return " ".join(_PREFIX.sub("", str(error)).split())[:500] or type(error).__name__
