"""TensorFlow Serving's gRPC services, bytes ⇄ values: PredictionService and ModelService.

    Predict, Classify, Regress      read, write in a worker; `find` reads only which model is meant. Predict's clients:
                                    write_predict_request and name_model, joined; read_predict_response
    MultiInference                  `split` into classifications and regressions of one version, `join` their responses
    GetModelMetadata, GetModelStatus    read_metadata_request, write_metadata, write_status

Replies have the statuses of HTTP; the gRPC server translates them, 412 to FAILED_PRECONDITION for example.
"""

from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from google.protobuf.message import DecodeError

from seaway.artifacts.artifact_metadata import Tensor
from seaway.errors import InvalidInput, SeawayError, Unsupported
from seaway.protocols import example, messages, protobuf_wire, signatures, tensorproto, tensors
from seaway.protocols.calls import DEFAULT_SIGNATURE, TEXT, Call, ModelVersionInfo, RawRequest, Reply, Signature
from seaway.protocols.tfserving import VersionStatus

TYPE = "application/grpc"
PREDICTION, MODEL = "tensorflow.serving.PredictionService", "tensorflow.serving.ModelService"
VERBS = {"Predict": "predict", "Classify": "classify", "Regress": "regress"}
_METHODS = {"tensorflow/serving/classify": "Classify", "tensorflow/serving/regress": "Regress"}
_RESULT_FIELDS = {"Classify": 2, "Regress": 3}  # of InferenceResult
_STATES = {"START": 10, "LOADING": 20, "AVAILABLE": 30, "UNLOADING": 40, "END": 50}
_UNKNOWN = 2  # gRPC's code, as REST's error_code "UNKNOWN"


def _class(name: str) -> Any:
    return messages.message(f"tensorflow.serving.{name}")


ClassificationResult, RegressionResult = _class("ClassificationResult"), _class("RegressionResult")
ModelSpec = _class("ModelSpec")


@dataclass(frozen=True, slots=True)
class Spec:
    """A ModelSpec; at most one of `version` and `label` is set."""

    name: str
    version: int | None = None
    label: str | None = None
    signature: str = ""


# ---- which model


def find(request: bytes) -> Spec:
    """The model that a request means: its field 1 in every request but MultiInference. Raises InvalidInput."""
    spec = protobuf_wire.embedded(request, 1)
    if spec is None:
        raise InvalidInput("Missing ModelSpec")
    return check_named(_read_spec(spec))


def check_named(spec: Spec) -> Spec:
    """The same. Raises InvalidInput if it names no model, as it may in warm-up requests alone."""
    if not spec.name:
        raise InvalidInput("Found ModelSpec with an empty model name.")
    return spec


def _read_spec(spec: bytes) -> Spec:
    name, version, label, signature = "", None, None, ""
    for number, value in protobuf_wire.fields(spec):
        if number == 1:
            name = protobuf_wire.text(value, "the model's name")
        elif number == 2 and isinstance(value, memoryview):
            numbers = [v for n, v in protobuf_wire.fields(value) if n == 1 and isinstance(v, int)]
            version, label = numbers[-1] if numbers else 0, None
            version -= (version >> 63) << 64  # two's complement
        elif number == 3:
            signature = protobuf_wire.text(value, "the signature's name")
        elif number == 4:
            version, label = None, protobuf_wire.text(value, "the version's label")
    return Spec(name, version, label, signature)


# ---- Predict, Classify, Regress: in a worker


def read(raw_request: RawRequest, model: ModelVersionInfo) -> Call:
    """The call that a request makes. Raises InvalidInput, Unsupported, and status 412 for no such signature."""
    if raw_request.verb == "Predict":
        return _read_predict(raw_request.body, model)
    spec = _read_spec(protobuf_wire.embedded(raw_request.body, 1) or b"")
    name = spec.signature or DEFAULT_SIGNATURE
    signature = model.signatures.get(name)
    if signature is None:
        raise InvalidInput(f"No signature was found with the name: {name}")
    verb = VERBS[raw_request.verb]
    outputs = example.required_outputs(verb, signature)
    examples = read_examples(raw_request.body)
    return Call(
        name, {example.INPUT: tensors.strings(examples, (len(examples),))}, outputs, (raw_request.verb, spec.signature)
    )


def _read_predict(body: bytes, model: ModelVersionInfo) -> Call:
    name = _read_spec(protobuf_wire.embedded(body, 1) or b"").signature or DEFAULT_SIGNATURE
    signature = model.signatures.get(name)
    if signature is None:
        raise SeawayError(f'Serving signature key "{name}" not found.', status=412)
    sent: dict[str, bytes | memoryview] = {}
    output_filter: list[str] = []
    for number, value in protobuf_wire.fields(body):
        if number == 2 and isinstance(value, memoryview):
            key, tensor = "", memoryview(b"")
            for inner, content in protobuf_wire.fields(value):
                if inner == 1:
                    key = protobuf_wire.text(content, "an input's name")
                elif inner == 2 and isinstance(content, memoryview):
                    tensor = content
            sent[key] = tensor
        elif number == 3:
            output_filter.append(protobuf_wire.text(value, "output_filter"))
    expected = {tensor.name for tensor in signature.inputs}
    required = expected - signature.defaults.keys()
    if not required <= sent.keys() <= expected:
        raise InvalidInput(
            f"input size does not match signature: {len(sent)}!={len(expected)} len({_set(sent.keys())}) != "
            f"len({_set(expected)}). Sent extra: {_set(sent.keys() - expected)}. "
            f"Missing but required: {_set(required - sent.keys())}."
        )
    available = {tensor.name for tensor in signature.outputs}
    outputs: list[str] = []
    for alias in output_filter:
        if alias not in available:
            raise InvalidInput(
                f"output tensor alias not found in signature: {alias} Outputs expected to be in the set "
                f"{_set(available)}."
            )
        if alias in outputs:
            raise InvalidInput(f"duplicate output tensor alias: {alias}")
        outputs.append(alias)
    inputs = {
        name: tensorproto.read(sent[name], f"input {name!r}") if name in sent else signature.defaults[name]
        for name in (tensor.name for tensor in signature.inputs)
    }
    signatures.check_dtypes(model, name, inputs)
    return Call(name, inputs, outputs or None, ("Predict", name))


def _set(names: Collection[str]) -> str:
    return f"{{{','.join(sorted(names))}}}"


def read_examples(request: bytes) -> list[bytes]:
    """The serialised tf.Examples of a request's Input, each joined with the context. Raises InvalidInput."""
    examples: list[bytes] = []
    context = b""
    kind = 0
    for number, value in protobuf_wire.fields(protobuf_wire.embedded(request, 2) or b""):
        if number in (1, 2) and isinstance(value, memoryview):
            if number != kind:  # of a oneof the last counts
                examples, context, kind = [], b"", number
            for inner, content in protobuf_wire.fields(value):
                if inner == 1 and isinstance(content, memoryview):
                    examples.append(bytes(content))
                elif inner == 2 and number == 2 and isinstance(content, memoryview):
                    context += content
    if not examples:
        raise InvalidInput("Input is empty.")
    return [context + one for one in examples]


def write(call: Call, outputs: Mapping[str, np.ndarray], model: ModelVersionInfo) -> Reply:
    """The response. Raises InvalidInput if the outputs do not fit it, Unsupported for their types."""
    verb, signature = call.response_format
    spec = _write_spec(model.name, model.version, signature)
    if verb == "Predict":
        names = call.outputs or [tensor.name for tensor in model.signatures[call.signature].outputs]
        body = protobuf_wire.encode(2, spec)
        for name in names:
            entry = protobuf_wire.encode(1, name.encode()) + protobuf_wire.encode(
                2, tensorproto.write(outputs[name], name)
            )
            body += protobuf_wire.encode(1, entry)
        return Reply(200, body, TYPE)
    count = len(call.inputs[example.INPUT])
    if verb == "Classify":
        result = ClassificationResult()
        for row in example.classifications(outputs, count):
            classes = result.classifications.add().classes
            for label, score in row:
                classes.add(label=label, score=score)
    else:
        result = RegressionResult()
        for value in example.regressions(outputs[example.VALUES], count):
            result.regressions.add(value=value)
    return Reply(200, protobuf_wire.encode(1, result.SerializeToString()) + protobuf_wire.encode(2, spec), TYPE)


def _write_spec(name: str, version: int | None, signature: str = "") -> bytes:
    number = None if version is None else {"value": version}
    return bytes(ModelSpec(name=name, signature_name=signature, version=number).SerializeToString())


def error(error: SeawayError) -> Reply:
    return Reply(error.status, str(error).encode(errors="replace"), TEXT)


# ---- Predict: client side


def write_predict_request(inputs: Mapping[str, np.ndarray], outputs: Sequence[str], signature: str) -> bytes:
    """A PredictRequest without its model, of which `name_model` gives the rest: joined, they are one message."""
    parts = [protobuf_wire.encode(1, protobuf_wire.encode(3, signature.encode()))] if signature else []
    for name, array in inputs.items():
        parts.append(
            protobuf_wire.encode(
                2, protobuf_wire.encode(1, name.encode()) + protobuf_wire.encode(2, tensorproto.write(array, name))
            )
        )
    parts += [protobuf_wire.encode(3, name.encode()) for name in outputs]
    return b"".join(parts)


def name_model(name: str, version: int | None) -> bytes:
    """The part of any request that names the model."""
    return protobuf_wire.encode(1, _write_spec(name, version))


def read_predict_response(body: bytes) -> dict[str, np.ndarray]:
    """Output arrays by name. Raises InvalidInput for anything but a PredictResponse."""
    outputs = {}
    for number, value in protobuf_wire.fields(body):
        if number == 1 and isinstance(value, memoryview):
            entry = dict(protobuf_wire.fields(value))
            name = protobuf_wire.text(entry.get(1, memoryview(b"")), "an output's name")
            outputs[name] = tensorproto.read(protobuf_wire.bytes_of(entry.get(2), name), f"output {name!r}")
    if not outputs:
        raise InvalidInput("the response has no outputs")
    return outputs


def read_status(body: bytes) -> list[VersionStatus]:
    """The states in a GetModelStatusResponse. Raises InvalidInput."""
    rows = _parse("GetModelStatusResponse", body).model_version_status
    names = {number: name for name, number in _STATES.items()}
    return [VersionStatus(row.version, names.get(row.state, "UNKNOWN"), row.status.error_message) for row in rows]


def read_metadata(body: bytes) -> dict[str, Signature]:
    """The signatures in a GetModelMetadataResponse. Raises InvalidInput."""
    packed = _parse("GetModelMetadataResponse", body).metadata["signature_def"].value
    definitions = _parse("SignatureDefMap", packed).signature_def

    def tensor_specs(infos: Mapping[str, Any]) -> tuple[Tensor, ...]:
        return tuple(
            Tensor(
                name,
                tensorproto.dtype(info.dtype),
                tuple(None if dim.size < 0 else dim.size for dim in info.tensor_shape.dim),
            )
            for name, info in infos.items()
        )

    return {
        name: Signature(tensor_specs(definition.inputs), tensor_specs(definition.outputs))
        for name, definition in definitions.items()
        if not name.startswith("__")  # TensorFlow's own
    }


def _parse(name: str, body: bytes) -> Any:
    try:
        return _class(name).FromString(body)
    except DecodeError as error:
        raise InvalidInput(f"not a {name}: {error}") from None


# ---- MultiInference


def split(request: bytes) -> tuple[Iterator[tuple[str, bytes]], list[Spec]]:
    """The method and request of each task, and what each means, all of one model. Raises InvalidInput, Unsupported.

    Each of the requests has the whole input, so they are made one after another.
    """
    shared = protobuf_wire.embedded(request, 2)
    tasks: list[tuple[str, bytes]] = []
    specs: list[Spec] = []
    for number, value in protobuf_wire.fields(request):
        if number != 1 or not isinstance(value, memoryview):
            continue
        spec = protobuf_wire.embedded(value, 1) or b""
        specs.append(_read_spec(spec))
        methods = [protobuf_wire.text(v, "method_name") for n, v in protobuf_wire.fields(value) if n == 2]
        method = methods[-1] if methods else ""
        if method not in _METHODS:
            raise Unsupported(f"Unsupported signature method_name: {method}")
        tasks.append((_METHODS[method], protobuf_wire.encode(1, spec)))
    if not specs:
        raise InvalidInput("the MultiInferenceRequest has no tasks; send one for each signature")
    if len({(spec.name, spec.version, spec.label) for spec in specs}) > 1:
        raise InvalidInput("All ModelSpecs in a MultiInferenceRequest must access the same model name.")
    seen = set()
    for spec_ in specs:
        name = spec_.signature or DEFAULT_SIGNATURE
        if name in seen:
            raise InvalidInput(f"Duplicate evaluation of signature: {name}")
        seen.add(name)
    rest = b"" if shared is None else protobuf_wire.encode(2, shared)
    return ((method, spec + rest) for method, spec in tasks), specs


def join(parts: Sequence[tuple[str, bytes]]) -> bytes:
    """The MultiInferenceResponse of the parts' methods and responses."""
    results = []
    for method, response in parts:
        result, spec = protobuf_wire.embedded(response, 1) or b"", protobuf_wire.embedded(response, 2) or b""
        results.append(protobuf_wire.encode(1, spec) + protobuf_wire.encode(_RESULT_FIELDS[method], result))
    return b"".join(protobuf_wire.encode(1, result) for result in results)


# ---- status and metadata: in the supervisor


def check_metadata_request(request: bytes) -> None:
    """Raises InvalidInput for other fields than signature_def."""
    wanted = [
        protobuf_wire.text(value, "metadata_field") for number, value in protobuf_wire.fields(request) if number == 2
    ]
    if not wanted:
        raise InvalidInput("GetModelMetadataRequest must specify at least one metadata_field")
    for one in wanted:
        if one != "signature_def":
            raise InvalidInput(f"Metadata field {one} is not supported")


def write_metadata(model: ModelVersionInfo) -> bytes:
    """The GetModelMetadataResponse."""
    from google.protobuf import json_format  # takes longer to import than all the rest

    response, definitions = _class("GetModelMetadataResponse")(), _class("SignatureDefMap")()
    response.model_spec.name, response.model_spec.version.value = model.name, model.version
    for name, definition in model.definitions.items():
        json_format.ParseDict(definition, definitions.signature_def[name], ignore_unknown_fields=True)
    response.metadata["signature_def"].Pack(definitions)
    return bytes(response.SerializeToString())


def write_status(statuses: Sequence[VersionStatus]) -> bytes:
    """The GetModelStatusResponse, newest version first."""
    response = _class("GetModelStatusResponse")()
    for status in sorted(statuses, key=lambda s: -s.version):
        row = response.model_version_status.add(version=status.version, state=_STATES[status.state])
        row.status.error_code = _UNKNOWN if status.error else 0
        row.status.error_message = status.error
    return bytes(response.SerializeToString())
