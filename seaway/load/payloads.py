"""Examples as encoded requests, and the check of each response against the expected output."""

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from seaway.artifacts import artifact_metadata, golden, model_repository
from seaway.artifacts.artifact_metadata import Tolerance
from seaway.artifacts.golden import Golden
from seaway.errors import DataError, InvalidInput, MetadataError
from seaway.protocols import client_codecs
from seaway.protocols.client_codecs import Protocol

Inputs = Mapping[str, np.ndarray]

MAX_REQUESTS = 64  # different ones for each protocol, if there are as many examples
MAX_BODY_BYTES = 64 * 2**20  # total size of a protocol's request bodies
MAX_VERIFIED = 16  # response bodies that are remembered for each request
DEFAULT_TOLERANCE = Tolerance(1e-4, 1e-3)  # for examples without artifact metadata

PYTORCH, FILE, FIRST_RESPONSE = "pytorch", "file", "first"
REFERENCES = {  # what responses are compared with → in a sentence, as a short noun
    PYTORCH: ("PyTorch's recorded output for the same input", "PyTorch's output"),
    FILE: ("the output in the file of examples for the same input", "the file's output"),
    FIRST_RESPONSE: (
        "the first response to the same request, because the examples have no outputs",
        "the first response",
    ),
}


class WrongResponse(Exception):
    """A 2xx response that is not the expected one. Few fixed messages, so that equal errors are counted together."""

    KIND = "wrong response: "  # begins the name under which such errors are counted

    def __init__(self, message: str, max_abs: float = float("inf")) -> None:
        super().__init__(message)
        self.max_abs = max_abs


@dataclass(frozen=True, slots=True)
class Model:
    """A model's examples, with the expected outputs if they are known (else `examples.outputs` is empty).

    `inputs`: names in the model's order; `output`: the name of the compared one; `digest`: a version's, else "".
    """

    name: str
    inputs: tuple[str, ...]
    output: str
    tolerance: Tolerance
    examples: Golden
    digest: str = ""
    reference: str = PYTORCH  # the source of the examples' outputs

    @property
    def count(self) -> int:
        return min((len(array) for array in self.examples.inputs.values()), default=0)


@dataclass(slots=True)
class Payload:
    """One encoded request with its expected output and the allowed |Δ|: `expected`, `allowed` float64 [batch, …].

    Without a known output they are None until the first response, with which all later ones are compared. `reference`:
    the source of the expected output, a key of `REFERENCES`.
    """

    body: bytes
    headers: dict[str, str]
    output: str
    rows: int
    tolerance: Tolerance
    expected: np.ndarray | None = None
    allowed: np.ndarray | None = None
    reference: str = PYTORCH
    verified: dict[bytes, float] = field(default_factory=dict)  # correct response bodies → their largest |Δ|

    def to_message(self) -> dict[str, Any]:
        """The request as values that msgpack can encode, for `from_message`."""
        message = {key: getattr(self, key) for key in ("body", "headers", "output", "rows", "reference")}
        message["tolerance"] = [self.tolerance.abs, self.tolerance.rel]
        if self.expected is not None:
            message["expected"] = [list(self.expected.shape), self.expected.tobytes()]
        return message

    @classmethod
    def from_message(cls, message: Mapping[str, Any]) -> "Payload":
        payload = cls(**{**message, "tolerance": Tolerance(*message["tolerance"]), "expected": None})
        if "expected" in message:
            shape, raw = message["expected"]
            _set_expected(payload, np.frombuffer(raw, np.float64).reshape(shape))
        return payload


def read_model(source: Path) -> Model:
    """Reads a version's folder, an ONNX artifact or an .npz file of examples. Raises MetadataError, DataError.

    The file's arrays are [N, …]: inputs as "<name>" or "input:<name>", and an optional output as "output:<name>".
    """
    if source.is_file():
        return _read_file(source)
    if (source / model_repository.METADATA_FILE).exists():
        metadata = artifact_metadata.read(source, model_repository.METADATA_FILE)
        examples = golden.read(source / model_repository.EXTRA / golden.GOLDEN)
    else:
        metadata, examples = artifact_metadata.read(source), golden.read(source / golden.GOLDEN)
    calls = examples.whole()
    if not metadata.outputs or not calls or any(metadata.outputs[0].name not in call.outputs for call in calls):
        raise MetadataError(
            f"{source}: no golden examples of the model's output; give a version's folder or an ONNX artifact"
        )
    output = metadata.outputs[0].name
    if output not in metadata.tolerances:
        raise MetadataError(f"{source}: the artifact metadata has no tolerance for {output!r}; export the model again")
    inputs = tuple(tensor.name for tensor in metadata.inputs)
    digest = metadata.sha256 if metadata.kind == "version" else ""
    return Model(metadata.name, inputs, output, metadata.tolerances[output], examples, digest)


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
        with np.load(path, allow_pickle=False) as opened:
            arrays = dict(opened)
    except golden.BROKEN as error:
        raise DataError(
            f"{path} is not an .npz file of arrays ({error}); write one with numpy.savez(path, NAME=ARRAY)"
        ) from None
    outputs = {key.removeprefix("output:"): array for key, array in arrays.items() if key.startswith("output:")}
    inputs = {key.removeprefix("input:"): array for key, array in arrays.items() if not key.startswith("output:")}
    sizes = {len(array) if array.ndim else 0 for array in (*inputs.values(), *outputs.values())}
    if not inputs or len(sizes) != 1:
        raise DataError(f"{path}: needs one array for each input, all [N, …] with the same N; it has {sorted(arrays)}")
    reference = FILE if outputs else FIRST_RESPONSE
    output = next(iter(outputs), "")
    return Model("", tuple(inputs), output, DEFAULT_TOLERANCE, Golden(inputs, outputs), reference=reference)


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
        if sum(len(payload.body) for payload in payloads) > MAX_BODY_BYTES:
            break
        body, headers = client_codecs.write_call(protocol, {n: call.inputs[n] for n in model.inputs}, model.output)
        rows = len(call.inputs[model.inputs[0]]) if model.examples.inputs else 1
        payload = Payload(body, headers, model.output, rows, model.tolerance, reference=model.reference)
        _set_expected(payload, call.outputs[model.output])
        payloads.append(payload)
    return payloads


def _batches(model: Model, protocol: Protocol, batch: int) -> list[Payload]:
    chosen = _png_examples(model) if protocol is client_codecs.PNG else np.arange(model.count)
    if not len(chosen):
        raise InvalidInput("there are no examples to send; export the model again, or give a file with examples")
    outputs = model.examples.outputs.get(model.output)
    payloads: list[Payload] = []
    for start in range(0, len(chosen), max(1, len(chosen) // MAX_REQUESTS)):
        rows = chosen[(start + np.arange(batch)) % len(chosen)]
        inputs = {name: model.examples.inputs[name][rows] for name in model.inputs}
        body, headers = protocol.write(inputs, model.output)
        payload = Payload(body, headers, model.output, batch, model.tolerance, reference=model.reference)
        if outputs is not None:
            _set_expected(payload, outputs[rows])
        payloads.append(payload)
        if len(payloads) * len(body) > MAX_BODY_BYTES:
            break
    return payloads


def _set_expected(payload: Payload, output: np.ndarray) -> None:
    payload.expected = np.asarray(output, np.float64)
    payload.allowed = payload.tolerance.allowed(payload.expected)


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
    if arrays[0].shape[-1] == 1:
        grey = pixels[..., 0]
        border = np.concatenate([grey[:, 0], grey[:, -1], grey[:, :, 0], grey[:, :, -1]], axis=1)
        exact &= border.mean(axis=1) <= 127
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
        output = protocol.read(body, headers, payload.output)
    except InvalidInput:
        raise WrongResponse(f"not a {protocol.title} response") from None
    if output.dtype.kind not in "fiub":
        raise WrongResponse("the output is not numeric")
    if payload.expected is None or payload.allowed is None:
        if not output.ndim or len(output) != payload.rows:
            raise WrongResponse("the number of rows differs from the request's")
        _set_expected(payload, output)
        return 0.0
    if output.shape != payload.expected.shape:
        raise WrongResponse(f"the shape differs from {REFERENCES[payload.reference][1]}")
    with np.errstate(invalid="ignore"):  # ∞ - ∞
        distance = np.abs(output - payload.expected)
    max_abs = float(distance.max(initial=0))
    if math.isfinite(max_abs) and (distance <= payload.allowed).all():
        return max_abs
    comparison = golden.compare(output, payload.expected, payload.tolerance)  # handles NaN and infinities
    if comparison.wrong:
        reference = REFERENCES[payload.reference][1]
        raise WrongResponse(f"differs from {reference} by more than the tolerance", comparison.max_abs)
    return comparison.max_abs


def discriminative(payloads: list[Payload]) -> bool:
    """Whether the expected outputs differ by more than the tolerance, so that a response to another request, or a
    constant one, would be noticed."""
    first = payloads[0]
    if first.expected is None or first.allowed is None:
        return False
    return any(p.expected is not None and _differs(p.expected, first.expected, first.allowed) for p in payloads[1:])


def _differs(other: np.ndarray, expected: np.ndarray, allowed: np.ndarray) -> bool:
    with np.errstate(invalid="ignore"):  # ∞ - ∞
        return other.shape != expected.shape or bool((np.abs(other - expected) > allowed).any())
