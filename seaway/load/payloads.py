"""Examples as encoded requests, and the check of each response against the expected output."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from seaway.artifacts import artifact_metadata, golden, interface, model_repository, npz
from seaway.artifacts.artifact_metadata import Tolerance
from seaway.artifacts.golden import Golden
from seaway.errors import DataError, InvalidInput, MetadataError
from seaway.load import expected as outputs_expected
from seaway.load.expected import Expected
from seaway.protocols import client_codecs, tensors
from seaway.protocols.client_codecs import Protocol

Inputs = Mapping[str, np.ndarray]

MAX_REQUESTS = 64  # different ones for each protocol, if there are as many examples
MAX_BYTES = 64 * 2**20  # total size of a protocol's request bodies and their expected outputs
MAX_VERIFIED = 16  # response bodies that are remembered for each request
DEFAULT_TOLERANCE = Tolerance(1e-4, 1e-3)  # for examples without artifact metadata

# What responses are compared with: one of these, or another runtime's recorded outputs (`ArtifactMetadata.reference`)
PYTORCH, FILE, FIRST_RESPONSE = "pytorch", "file", "first"


class WrongResponse(Exception):
    """A 2xx response that is not the expected one. Few fixed messages, so that equal errors are counted together."""

    KIND = "wrong response: "  # begins the name under which such errors are counted

    def __init__(self, message: str, max_abs: float = float("inf")) -> None:
        super().__init__(message)
        self.max_abs = max_abs


@dataclass(frozen=True, slots=True)
class Model:
    """A model's examples, with the expected outputs if they are known.

    `inputs`: names in the model's order; `outputs`: the compared ones, empty if none is known, and their tolerances;
    `digest`: a version's, else "".
    """

    name: str
    inputs: tuple[str, ...]
    outputs: Mapping[str, Tolerance]
    examples: Golden
    digest: str = ""
    reference: str = PYTORCH  # the source of the examples' outputs

    @property
    def count(self) -> int:
        return min((len(array) for array in self.examples.inputs.values()), default=0)


class CallFailed(Exception):
    """A gRPC call that ended with another status than OK."""


@dataclass(slots=True)
class Payload:
    """One encoded request with the outputs that it asks for (none: all), and what is expected of them.

    Without known outputs `expected` is empty until the first response, with which all later ones are compared.
    `reference`: the source of the expected outputs.
    """

    body: bytes
    headers: dict[str, str]
    outputs: tuple[str, ...]
    rows: int
    expected: tuple[Expected, ...] = ()
    reference: str = PYTORCH
    verified: dict[bytes, float] = field(default_factory=dict)  # correct response bodies → their largest |Δ|

    def to_message(self) -> dict[str, Any]:
        """The request as values that msgpack can encode, for `from_message`."""
        message = {key: getattr(self, key) for key in ("body", "headers", "outputs", "rows", "reference")}
        return message | {"expected": [one.to_message() for one in self.expected]}

    @classmethod
    def from_message(cls, message: Mapping[str, Any]) -> "Payload":
        expected = tuple(map(outputs_expected.from_message, message["expected"]))
        return cls(**{**message, "outputs": tuple(message["outputs"]), "expected": expected})


def read_model(source: Path) -> Model:
    """Reads a version's folder, an ONNX artifact or an .npz file of examples. Raises MetadataError, DataError.

    The file's arrays are [N, …]: inputs as "<name>" or "input:<name>", and optional outputs as "output:<name>".
    """
    if source.is_file():
        return _read_file(source)
    if (source / model_repository.METADATA_FILE).exists():
        metadata = artifact_metadata.read(source, model_repository.METADATA_FILE)
        examples = golden.read(source / model_repository.EXTRA / golden.GOLDEN)
    else:
        metadata, examples = artifact_metadata.read(source), golden.read(source / golden.GOLDEN)
    calls, names = examples.whole(), [tensor.name for tensor in interface.default_outputs(metadata.outputs)]
    if not names or not calls or any(not call.outputs.keys() >= set(names) for call in calls):
        raise MetadataError(
            f"{source}: no golden examples of the model's outputs; give a version's folder or an ONNX artifact"
        )
    if missing := [name for name in names if name not in metadata.tolerances]:
        raise MetadataError(
            f"{source}: the artifact metadata has no tolerance for {', '.join(missing)}; export the model again"
        )
    inputs = tuple(tensor.name for tensor in metadata.inputs)
    outputs = {name: metadata.tolerances[name] for name in names}
    digest = metadata.sha256 if metadata.kind == "version" else ""
    reference = PYTORCH if metadata.reference == artifact_metadata.PYTORCH else metadata.reference
    return Model(metadata.name, inputs, outputs, examples, digest, reference)


def identity(source: Path, name: str = "") -> str:
    """The Seaway-Model header of this version, name/version@digest; "" if `source` is no version in a model repository.
    `name`: the model's name on the server, if that differs from the folder's. Raises as `read_model`."""
    folder, digest = source.absolute(), read_model(source).digest
    number = model_repository.number(folder.name)
    if not digest or number is None:
        return ""
    return model_repository.header(f"{name or folder.parent.name}/{number}@{digest}")


def _read_file(path: Path) -> Model:
    try:
        arrays = npz.read(path)
    except (FileNotFoundError, ValueError) as error:
        raise DataError(
            f"{path} is not an .npz file of arrays ({error}); write one with numpy.savez(path, NAME=ARRAY)"
        ) from None
    outputs = {key.removeprefix("output:"): array for key, array in arrays.items() if key.startswith("output:")}
    inputs = {key.removeprefix("input:"): array for key, array in arrays.items() if not key.startswith("output:")}
    sizes = {len(array) if array.ndim else 0 for array in (*inputs.values(), *outputs.values())}
    if not inputs or len(sizes) != 1:
        raise DataError(f"{path}: needs one array for each input, all [N, …] with the same N; it has {sorted(arrays)}")
    reference = FILE if outputs else FIRST_RESPONSE
    tolerances = dict.fromkeys(outputs, DEFAULT_TOLERANCE)
    return Model("", tuple(inputs), tolerances, Golden(inputs, outputs), reference=reference)


def encode(model: Model, protocol: Protocol, batch: int) -> list[Payload]:
    """Requests of `batch` examples each, every one starting at another example, so that no two are equal.

    Examples repeat if there are fewer than `batch`. Examples that are calls follow, each a request; they are all that a
    model without a batch has. Raises InvalidInput.
    """
    if batch < 1 or (batch > 1 and not model.examples.inputs):
        least = "at least 1" if batch < 1 else "1 for a model that takes no batch"
        raise InvalidInput(f"--batch must be {least}, not {batch}")
    payloads = _batches(model, protocol, batch) if model.examples.inputs else []
    for call in model.examples.calls if protocol is not client_codecs.PNG else ():
        if sum(_nbytes(payload) for payload in payloads) > MAX_BYTES:
            break
        rows = len(call.inputs[model.inputs[0]]) if model.examples.inputs else 1
        payloads.append(_payload(model, protocol, call, rows, whole=True))
    return payloads


def _batches(model: Model, protocol: Protocol, batch: int) -> list[Payload]:
    chosen = _png_examples(model) if protocol is client_codecs.PNG else np.arange(model.count)
    if not len(chosen):
        raise InvalidInput("there are no examples to send; export the model again, or give a file with examples")
    examples = model.examples
    payloads: list[Payload] = []
    for start in range(0, len(chosen), max(1, len(chosen) // MAX_REQUESTS)):
        rows = chosen[(start + np.arange(batch)) % len(chosen)]
        inputs = {name: examples.inputs[name][rows] for name in model.inputs}
        outputs = {name: examples.outputs[name][rows] for name in model.outputs}
        payloads.append(_payload(model, protocol, Golden(inputs, outputs), batch))
        if len(payloads) * _nbytes(payloads[-1]) > MAX_BYTES:
            break
    return payloads


def _payload(model: Model, protocol: Protocol, call: Golden, rows: int, whole: bool = False) -> Payload:
    names = protocol.carried({name: tensors.dtype_name(call.outputs[name]) for name in model.outputs})
    body, headers = protocol.write({name: call.inputs[name] for name in model.inputs}, names, whole=whole)
    expected = tuple(outputs_expected.expect(name, call.outputs[name], model.outputs[name]) for name in names)
    return Payload(body, headers, tuple(names), rows, expected, model.reference)


def _nbytes(payload: Payload) -> int:
    return len(payload.body) + sum(one.nbytes for one in payload.expected)


def _png_examples(model: Model) -> np.ndarray:
    """Indices of the examples that an 8-bit PNG represents exactly and that from_png leaves as they are (it inverts
    greyscale images with a light border). Raises InvalidInput for a model that takes no images."""
    arrays = [model.examples.inputs[name] for name in model.inputs]
    if len(arrays) != 1 or arrays[0].ndim != 4 or arrays[0].shape[-1] not in (1, 3):
        raise InvalidInput(
            "protocol 'png' is for models with one image input, [N, height, width, 1 or 3]; choose another protocol"
        )
    pixels = arrays[0].astype(np.float64) * 255
    exact = (np.abs(pixels - np.rint(pixels)).max(axis=(1, 2, 3)) < 1e-3) & (pixels.min(axis=(1, 2, 3)) > -0.5)
    exact &= pixels.max(axis=(1, 2, 3)) < 255.5
    exact &= interface.from_png_keeps(arrays[0])
    indices: np.ndarray = np.flatnonzero(exact)
    if not len(indices):
        raise InvalidInput("protocol 'png': no example is an 8-bit image with a dark border; choose another protocol")
    return indices


def check(body: bytes, headers: client_codecs.Headers, payload: Payload, protocol: Protocol) -> float:
    """The largest |Δ| between a response and the expected output. Raises WrongResponse if it is above the tolerance.

    A body that was correct for this request before is correct again, and not decoded again.
    """
    known = payload.verified.get(body)
    if known is not None:
        return known
    max_abs = _compare(body, headers, payload, protocol)
    if len(payload.verified) < MAX_VERIFIED:
        payload.verified[body] = max_abs
    return max_abs


def _compare(body: bytes, headers: client_codecs.Headers, payload: Payload, protocol: Protocol) -> float:
    try:
        outputs = protocol.read(body, headers, payload.outputs)
    except InvalidInput:
        raise WrongResponse(f"not a {protocol.title} response") from None
    if not payload.expected:
        _expect_first_response(payload, outputs)
        return 0.0
    largest = 0.0
    problems: dict[str, list[str]] = {}
    with np.errstate(invalid="ignore"):  # ∞ - ∞
        for one in payload.expected:
            max_abs, problem = outputs_expected.compare(outputs.get(one.name), one)
            largest = max(largest, max_abs)
            if problem:
                problems.setdefault(problem, []).append(one.name)
    if problems:
        whose = _possessive(payload.reference)
        sentences = (outputs_expected.describe(problem, names, whose) for problem, names in problems.items())
        raise WrongResponse("; ".join(sentences), largest)
    return largest


def _expect_first_response(payload: Payload, outputs: Mapping[str, np.ndarray]) -> None:
    if not any(array.ndim and len(array) == payload.rows for array in outputs.values()):
        raise WrongResponse("the number of rows differs from the request's")
    payload.expected = tuple(outputs_expected.expect(name, a, DEFAULT_TOLERANCE) for name, a in outputs.items())


def describe_reference(reference: str) -> str:
    """What responses were compared with, for a sentence."""
    if reference == FILE:
        return "the outputs in the file of examples for the same input"
    if reference == FIRST_RESPONSE:
        return "the first response to the same request, because the examples have no outputs"
    return f"{_possessive(reference)} recorded outputs for the same input"


def _possessive(reference: str) -> str:
    known = {PYTORCH: artifact_metadata.PYTORCH, FILE: "the file", FIRST_RESPONSE: "the first response"}
    return f"{known.get(reference, reference)}'s"


def discriminative(payloads: list[Payload]) -> bool:
    """Whether the expected outputs differ by more than the tolerance, so that a response to another request, or a
    constant one, would be noticed."""
    first = payloads[0].expected
    return any(outputs_expected.differs(*pair) for p in payloads[1:] for pair in zip(p.expected, first, strict=False))
