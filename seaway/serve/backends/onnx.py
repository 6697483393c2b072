"""The ONNX backend: the only file of the server that imports ONNX Runtime. It needs no TensorFlow.

A version's signatures are those of its SavedModel: `serving_default` gives the first output, each further output has a
signature of its own, and picture models with labels have `from_png`. A model without a card has `serving_default`
alone, which gives all outputs. Operators that ONNX Runtime does not bring itself are refused, since no library of
others' is loaded, and so are weights in files outside the model's folder; none of its own touches files or network.
"""

import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from seaway.artifacts import store
from seaway.artifacts.card import Card, Tensor
from seaway.errors import InvalidInput, ModelError, NotFound, SeawayError
from seaway.ort import import_onnxruntime
from seaway.protocols import tensors
from seaway.protocols.calls import DEFAULT_SIGNATURE, Signature
from seaway.serve.backends import pictures

ort = import_onnxruntime()
from onnxruntime.capi import onnxruntime_pybind11_state as failures  # noqa: E402

MODEL = "model.onnx"
FROM_PNG, PNG = "from_png", "png"
BEST = 3  # classes in top_labels
METHOD = "tensorflow/serving/predict"
SILENT = 4  # ONNX Runtime's severity "fatal": its errors are raised, and clients' mistakes fill no log
TOO_LARGE = 429  # as TensorFlow's RESOURCE_EXHAUSTED

# ONNX Runtime's names of types → the card's and TensorFlow's
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


def load(path: Path, card: Card | None, threads: int, allowed_ops: frozenset[str] = frozenset()) -> "OnnxModel":
    """A version's folder into memory: its assets.extra/model.onnx, or model.onnx where a folder holds ONNX alone.

    `allowed_ops` belongs to what backends share; no operator needs to be allowed here. Raises ModelError.
    """
    for file in (path / store.EXTRA / MODEL, path / MODEL):
        if file.is_file():
            return OnnxModel(file, card, threads)
    raise ModelError(f"{path}: there is no {store.EXTRA}/{MODEL} or {MODEL} in it; serve it with --backend savedmodel")


class OnnxModel:
    """One version in memory; `signatures` and `definitions` are those of seaway.protocols.calls.Served."""

    platform = "onnx_onnxv1"

    def __init__(self, file: Path, card: Card | None, threads: int) -> None:
        try:
            self._session = ort.InferenceSession(str(file), _options(threads), providers=["CPUExecutionProvider"])
        except Exception as error:  # it has a dozen classes for this, without a common one
            raise ModelError(f"{file}: ONNX Runtime cannot load the model: {_said(error)}") from None
        inputs = _tensors(file, self._session.get_inputs(), card.inputs if card else None)
        outputs = _tensors(file, self._session.get_outputs(), card.outputs if card else None)
        self._scores = outputs[0].name
        self._dtypes = {tensor.name: tensors.DTYPES[tensor.dtype] for tensor in inputs}
        self._strings = {tensor.name for tensor in (*inputs, *outputs) if tensor.dtype == tensors.STRING}
        labels = card.labels if card else ()
        self._labels = tensors.strings([label.encode() for label in labels], [len(labels)])
        self.signatures = _signatures(inputs, outputs, card)
        self.definitions = {name: _as_json(signature) for name, signature in self.signatures.items()}

    def predict(
        self, signature: str, inputs: dict[str, np.ndarray], outputs: list[str] | None = None
    ) -> dict[str, np.ndarray]:
        """Runs a signature; `outputs` None gives all of its outputs. Strings are bytes, as everywhere.

        Raises InvalidInput, NotFound, or SeawayError with what ONNX Runtime said.
        """
        found = self.signatures.get(signature)
        if found is None:
            raise NotFound(f"no signature {signature!r}; there are {sorted(self.signatures)}")
        given = [tensor.name for tensor in found.outputs]
        missing = [name for name in outputs or () if name not in given]
        if missing:
            raise InvalidInput(f"signature {signature!r} has no output {missing}; it has {sorted(given)}")
        if signature == FROM_PNG:
            answers = self._from_png(inputs)
            return {name: answers[name] for name in outputs or given}
        return self._run(inputs, outputs or given)

    def close(self) -> None:
        """The session's memory goes with the last call that holds it."""

    def _run(self, inputs: dict[str, np.ndarray], wanted: list[str]) -> dict[str, np.ndarray]:
        if inputs.keys() != self._dtypes.keys():
            raise InvalidInput(f"the model takes {sorted(self._dtypes)}, but {sorted(inputs)} came")
        for name, array in inputs.items():
            if array.dtype != self._dtypes[name]:
                came = tensors.dtype_name(array)
                raise InvalidInput(f"input {name!r} is {came}, but the model takes {self._dtypes[name].name}")
            if array.ndim > tensors.MAX_RANK:
                raise InvalidInput(f"input {name!r} has {array.ndim} dimensions; ONNX takes at most {tensors.MAX_RANK}")
        if self._strings:
            inputs = {name: _text(name, array) if name in self._strings else array for name, array in inputs.items()}
        try:
            values = self._session.run(wanted, inputs)
        except (failures.Fail, failures.InvalidArgument, failures.RuntimeException) as error:
            raise _refusal(error) from None
        answers = dict(zip(wanted, values, strict=True))
        for name in self._strings.intersection(wanted):
            answers[name] = tensors.strings(tensors.string_values(answers[name]), answers[name].shape)
        return answers

    def _from_png(self, inputs: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
        pngs = inputs.get(PNG)
        if pngs is None or len(inputs) != 1:
            raise InvalidInput(f"signature {FROM_PNG!r} takes [{PNG!r}], but {sorted(inputs)} came")
        if pngs.dtype != object or pngs.ndim != 1:
            raise InvalidInput(f"from_png takes strings of shape [N], but {tensors.dtype_name(pngs)} {pngs.shape} came")
        (image,) = self.signatures[DEFAULT_SIGNATURE].inputs
        height, width, channels = (side or 0 for side in image.shape[1:])
        read = np.empty((len(pngs), height, width, channels), np.float32)
        for row, png in enumerate(tensors.string_values(pngs)):  # of a large batch one at a time is unfolded
            read[row] = pictures.read(png, height, width, channels)
        scores = self._run({image.name: read}, [self._scores])[self._scores]
        best = np.argsort(-scores, axis=1, kind="stable")[:, :BEST]
        names, shares = self._labels[best], np.take_along_axis(scores, best, axis=1)
        answers = {"label": names[:, 0], "score": shares[:, 0], "top_labels": names, "top_scores": shares}
        return answers | {self._scores: scores}


def _options(threads: int) -> Any:
    options = ort.SessionOptions()
    options.intra_op_num_threads, options.inter_op_num_threads = threads, 1
    options.execution_mode = ort.ExecutionMode.ORT_SEQUENTIAL
    options.graph_optimization_level = ort.GraphOptimizationLevel.ORT_ENABLE_ALL
    options.add_session_config_entry("session.intra_op.allow_spinning", "0")  # other processes want the cores
    # Both keep what the largest batch needed for as long as the model lives, and make it no faster up to 32 pictures.
    options.enable_cpu_mem_arena = options.enable_mem_pattern = False
    options.log_severity_level = SILENT
    return options


def _tensors(file: Path, arguments: Sequence[Any], promised: tuple[Tensor, ...] | None) -> tuple[Tensor, ...]:
    """The graph's inputs or outputs; the card's where there is one. Raises ModelError where the two differ."""
    for argument in arguments:
        if argument.type not in _TYPES:
            raise ModelError(
                f"{file}: {argument.name!r} is {argument.type}, which no protocol carries; export a tensor"
            )
    found = tuple(
        Tensor(arg.name, _TYPES[arg.type][0], tuple(side if isinstance(side, int) else None for side in arg.shape))
        for arg in arguments
    )
    kinds, wanted = ({tensor.name: tensor.dtype for tensor in side} for side in (found, promised or found))
    if kinds != wanted:
        raise ModelError(f"{file}: the model has {kinds}, but its card says {wanted}; publish the version again")
    return promised or found


def _signatures(inputs: tuple[Tensor, ...], outputs: tuple[Tensor, ...], card: Card | None) -> dict[str, Signature]:
    """As seaway/convert/signatures.py makes them; without a card ONNX Runtime says () for an unknown rank too."""
    if card is None:
        unranked = frozenset(tensor.name for tensor in (*inputs, *outputs) if not tensor.shape)
        return {DEFAULT_SIGNATURE: Signature(inputs, outputs, METHOD, unranked)}
    first, *others = outputs
    made = {DEFAULT_SIGNATURE: Signature(inputs, (first,), METHOD)}
    made |= {output.name: Signature(inputs, (output,), METHOD) for output in others}
    if _takes_pictures(inputs, first, card.labels):
        best = min(BEST, len(card.labels))
        answers = (
            Tensor("label", "str", (None,)),
            Tensor("score", "float32", (None,)),
            Tensor("top_labels", "str", (None, best)),
            Tensor("top_scores", "float32", (None, best)),
        )
        made[FROM_PNG] = Signature((Tensor(PNG, "str", (None,)),), (first, *answers), METHOD)
    return made


def _takes_pictures(inputs: tuple[Tensor, ...], scores: Tensor, labels: tuple[str, ...]) -> bool:
    """One float32 input [N, height, width, 1 or 3] in, one score a label out."""
    shape = inputs[0].shape
    sizes = len(shape) == 4 and shape[0] is None and None not in shape[1:] and shape[3] in (1, 3)
    answers = bool(labels) and scores.shape[1:] == (len(labels),)
    return len(inputs) == 1 and inputs[0].dtype == "float32" and sizes and answers


def _as_json(signature: Signature) -> dict[str, Any]:
    """A SignatureDef as protobuf's JSON, which TensorFlow Serving's metadata shows."""

    def side(listed: tuple[Tensor, ...]) -> dict[str, Any]:
        return {
            tensor.name: {
                "name": tensor.name,
                "dtype": _TENSORFLOW[tensor.dtype],
                "tensor_shape": {
                    "dim": [{"size": str(-1 if size is None else size), "name": ""} for size in tensor.shape],
                    "unknown_rank": tensor.name in signature.unranked,
                },
            }
            for tensor in listed
        }

    sides = {"inputs": side(signature.inputs), "outputs": side(signature.outputs)}
    return {**sides, "method_name": signature.method, "defaults": {}}


def _text(name: str, array: np.ndarray) -> np.ndarray:
    """Bytes as str, which ONNX's strings are. Raises InvalidInput."""
    try:
        made = np.array([value.decode() for value in tensors.string_values(array)], object)
    except UnicodeDecodeError as error:
        raise InvalidInput(f"input {name!r} has a string that is not UTF-8, as ONNX's are: {error}") from None
    return made.reshape(array.shape)


def _refusal(error: Exception) -> SeawayError:
    """What an operator or ONNX Runtime refuses is the fault of the input's shape or values: the model was proved."""
    text = _said(error)
    if "Failed to allocate memory" in text or "bad_alloc" in text:
        return SeawayError(f"this input needs more memory than there is: {text}", status=TOO_LARGE)
    if isinstance(error, failures.InvalidArgument) or "while running" in text:
        return InvalidInput(text)
    return SeawayError(text)


def _said(error: Exception) -> str:
    return " ".join(_PREFIX.sub("", str(error)).split())[:500] or type(error).__name__
