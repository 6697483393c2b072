"""GraphPipe, bytes ⇄ values: FlatBuffers over HTTP POST, numbers as raw little-endian bytes.

    Request          = InferRequest | MetadataRequest        read_request ⇄ write_infer_request, write_metadata_request
    InferResponse    = output tensors, or errors             read_infer_response ⇄ write_infer_response, write_errors
    MetadataResponse = the model's interface                 read_metadata_response ⇄ write_metadata_response

Both sides of every message are here. Any malformed body raises InvalidInput. A server needs `read`, `write` and `error`
(seaway.protocols.calls), and for a GET `metadata_json(metadata(model))`.
"""

import functools
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from seaway.artifacts.artifact_metadata import Tensor
from seaway.errors import InvalidInput, SeawayError, Unsupported
from seaway.protocols import signatures, tensors
from seaway.protocols.calls import BINARY, TEXT, Call, ModelVersionInfo, RawRequest, Reply
from seaway.protocols.flatbuffer import Buffer, Table, Writer

CODE_BY_NAME = {
    "uint8": 1,
    "int8": 2,
    "uint16": 3,
    "int16": 4,
    "uint32": 5,
    "int32": 6,
    "uint64": 7,
    "int64": 8,
    "float16": 9,
    "float32": 10,
    "float64": 11,
    tensors.STRING: 12,
}
NAME_BY_CODE = {code: name for name, code in CODE_BY_NAME.items()}
CODE_BY_DTYPE = {tensors.DTYPES[name]: code for name, code in CODE_BY_NAME.items()}
INFER, METADATA = 1, 2  # the Request's union: type codes
MAX_CACHED_OUTPUT_BYTES = 1 << 20  # of an only output, whose response up to its numbers is cached

NamedArrays = Mapping[str, np.ndarray] | Sequence[tuple[str, np.ndarray]]


@dataclass(slots=True)
class InferRequest:
    """Inputs in order; a name is "" if the client sent none. Empty `outputs` means the model's defaults."""

    inputs: list[tuple[str, np.ndarray]]
    outputs: list[str]
    config: str


@dataclass(frozen=True, slots=True)
class MetadataRequest:
    pass


@dataclass(frozen=True, slots=True)
class Metadata:
    """A model's interface; None in a shape travels as -1. A dtype that GraphPipe has no type for reads back as ""."""

    name: str
    version: str
    server: str
    description: str
    inputs: tuple[Tensor, ...]
    outputs: tuple[Tensor, ...]


# ---- server side


def read(raw_request: RawRequest, model: ModelVersionInfo) -> Call | Reply:
    """The call that an InferRequest makes, or the reply to a MetadataRequest. Raises InvalidInput, Unsupported.

    Config may name the signature: {"signature_name": …}. Without it serving_default is called, or if that lacks the
    inputs and outputs that the request names, the first signature that has them.
    """
    request = read_request(raw_request.body)
    if isinstance(request, MetadataRequest):
        return Reply(200, write_metadata_response(metadata(model)), BINARY)
    input_names = [name for name, _ in request.inputs if name]
    requested = _config_signature(request.config) if request.config else ""
    name = signatures.choose(model, requested, len(request.inputs), input_names, request.outputs)
    # As in GraphPipe's Go server, an unnamed tensor is the signature's input at its position.
    expected = model.signatures[name].inputs
    inputs = {key or expected[i].name: array for i, (key, array) in enumerate(request.inputs)}
    if len(inputs) != len(expected):
        raise InvalidInput(f"an input is sent twice: {[key for key, _ in request.inputs]}; send each one once")
    signatures.check_dtypes(model, name, inputs)
    signatures.check_shapes(model.signatures[name], inputs)
    return Call(name, inputs, list(dict.fromkeys(request.outputs)) or None, request.outputs)


def write(call: Call, outputs: Mapping[str, np.ndarray], model: ModelVersionInfo) -> Reply:
    """Tensors in the requested order, or in the signature's. Raises Unsupported for a type that GraphPipe lacks."""
    names = call.response_format or [tensor.name for tensor in model.signatures[call.signature].outputs]
    return Reply(200, _infer_response([outputs[name] for name in names]), BINARY)


def error(error: SeawayError) -> Reply:
    """Plain text, like the Go server's errors."""
    text = f"{error}\n".encode(errors="replace")
    return Reply(error.status, text, TEXT, {"X-Content-Type-Options": "nosniff"})


def metadata(model: ModelVersionInfo) -> Metadata:
    """The interface of the signature that a request without names and config calls."""
    name = signatures.by_preference(model)[0]
    signature = model.signatures[name]
    description = f"{model.identity}, signature {name}"
    return Metadata(model.name, str(model.version), "seaway", description, signature.inputs, signature.outputs)


OPTIONS = ("signature_name",)  # of config


def _config_signature(config: str) -> str:
    try:
        options = json.loads(config) if config.strip() else {}
    except (ValueError, RecursionError):
        options = None
    if not isinstance(options, dict):
        raise InvalidInput(
            f'config {config[:80]!r} is not a JSON object: leave it empty or send {{"signature_name": "…"}}'
        )
    unknown = sorted(options.keys() - set(OPTIONS))
    if unknown:
        raise InvalidInput(f"config has unknown options {unknown[:8]}; known options: {list(OPTIONS)}")
    name = options.get("signature_name", "")
    if not isinstance(name, str):
        raise InvalidInput("config: signature_name is not a string; send the name of one of the model's signatures")
    return name


# ---- requests


def write_infer_request(inputs: NamedArrays, outputs: Sequence[str] = (), config: str = "") -> bytes:
    """Raises Unsupported for a dtype that GraphPipe has no type for (bool, complex, …)."""
    pairs = list(inputs.items()) if isinstance(inputs, Mapping) else list(inputs)
    named = any(name for name, _ in pairs)
    writer = Writer()
    root, kind, infer = writer.table(1, 4)
    writer.head[kind] = INFER
    at, config_at, names_at, tensors_at, outputs_at = writer.table(
        4 if config else 0, 4 if named else 0, 4, 4 if outputs else 0
    )
    writer.link(infer, at)
    if config:
        writer.link(config_at, writer.string(config.encode()))
    if named:
        _write_strings(writer, names_at, [name.encode() for name, _ in pairs])
    _write_tensors(writer, tensors_at, [array for _, array in pairs])
    if outputs:
        _write_strings(writer, outputs_at, [name.encode() for name in outputs])
    return b"".join(writer.finish(root))


def write_metadata_request() -> bytes:
    writer = Writer()
    root, kind, request = writer.table(1, 4)
    writer.head[kind] = METADATA
    writer.link(request, writer.table()[0])
    return b"".join(writer.finish(root))


def read_request(body: bytes) -> InferRequest | MetadataRequest:
    """A client's request; arrays are read-only views of `body`. Raises InvalidInput, Unsupported."""
    request = Buffer(body).root()
    kind, table = request.byte(0), request.table(1)
    if kind == METADATA:
        return MetadataRequest()
    if kind != INFER or table is None:
        raise InvalidInput(
            f"not a GraphPipe request: its type is {kind}; send an InferRequest (1) or MetadataRequest (2)"
        )
    arrays = [_read_tensor(t, f"input {i}") for i, t in enumerate(table.tables(2))]
    names = [_text(name) for name in table.strings(1)]
    if len(names) > len(arrays):
        raise InvalidInput(
            f"{len(names)} input_names for {len(arrays)} input_tensors; send at most one name per tensor"
        )
    names += [""] * (len(arrays) - len(names))  # as GraphPipe's Go server does
    outputs = [_text(name) for name in table.strings(3)]
    return InferRequest(list(zip(names, arrays, strict=True)), outputs, _text(table.string(0)))


# ---- responses


def write_infer_response(outputs: Sequence[np.ndarray]) -> bytes:
    """Tensors in the requested order; the errors vector is absent, as clients expect. Raises Unsupported."""
    return b"".join(_infer_response(outputs))


def _infer_response(outputs: Sequence[np.ndarray]) -> list[bytes | memoryview]:
    if len(outputs) == 1 and outputs[0].dtype.kind in "iuf" and outputs[0].nbytes <= MAX_CACHED_OUTPUT_BYTES:
        return [*_sole_response(outputs[0].dtype, outputs[0].shape), tensors.raw(outputs[0])]
    return _response(outputs)


@functools.lru_cache(256)
def _sole_response(dtype: np.dtype[np.generic], shape: tuple[int, ...]) -> list[bytes | memoryview]:
    """A response with one tensor, without its numbers, which come last."""
    return _response([np.broadcast_to(np.zeros((), dtype), shape)])[:-1]


def _response(outputs: Sequence[np.ndarray]) -> list[bytes | memoryview]:
    writer = Writer()
    root, tensors_at = writer.table(4)
    _write_tensors(writer, tensors_at, outputs)
    return writer.finish(root)


def write_errors(message: str, code: int = 1) -> bytes:
    """An InferResponse that carries one error and no tensors."""
    writer = Writer()
    root, _, errors_at = writer.table(0, 4)
    errors, [entry] = writer.references(1)
    writer.link(errors_at, errors)
    at, code_at, message_at = writer.table(8, 4)
    writer.link(entry, at)
    writer.head[code_at : code_at + 8] = code.to_bytes(8, "little", signed=True)
    writer.link(message_at, writer.string(message.encode(errors="replace")))
    return b"".join(writer.finish(root))


def read_infer_response(body: bytes) -> list[np.ndarray]:
    """The output tensors, read-only views of `body`. Raises InvalidInput for a malformed response or errors in it."""
    response = Buffer(body).root()
    messages = [_text(error.string(1)) or f"error {error.long(0)}" for error in response.tables(1)]
    if messages:
        raise InvalidInput("the server responded: " + "; ".join(messages))
    return [_read_tensor(t, f"output {i}") for i, t in enumerate(response.tables(0))]


def write_metadata_response(metadata: Metadata) -> bytes:
    writer = Writer()
    root, *fields = writer.table(4, 4, 4, 4, 4, 4)
    texts = (metadata.name, metadata.version, metadata.server, metadata.description)
    for field, text in zip(fields[:4], texts, strict=True):
        writer.link(field, writer.string(text.encode()))
    for field, specs in zip(fields[4:], (metadata.inputs, metadata.outputs), strict=True):
        vector, entries = writer.references(len(specs))
        writer.link(field, vector)
        for entry, tensor in zip(entries, specs, strict=True):
            at, name, description, shape, kind = writer.table(4, 4, 4, 1)
            writer.link(entry, at)
            writer.link(name, writer.string(tensor.name.encode()))
            writer.link(description, writer.string(b""))
            writer.link(shape, writer.longs(_sizes(tensor)))
            writer.head[kind] = CODE_BY_NAME.get(tensor.dtype, 0)
    return b"".join(writer.finish(root))


def read_metadata_response(body: bytes) -> Metadata:
    """Raises InvalidInput for a malformed response."""
    table = Buffer(body).root()
    name, version, server, description = (_text(table.string(slot)) for slot in range(4))
    inputs, outputs = (tuple(_read_io(io) for io in table.tables(slot)) for slot in (4, 5))
    return Metadata(name, version, server, description, inputs, outputs)


def metadata_json(metadata: Metadata) -> bytes:
    """The response to a GET: the same as JSON, under the Go server's field names."""

    def described(specs: tuple[Tensor, ...]) -> list[dict[str, object]]:
        return [
            {
                "Name": tensor.name,
                "Description": "",
                "Shape": list(_sizes(tensor)),
                "Type": CODE_BY_NAME.get(tensor.dtype, 0),
            }
            for tensor in specs
        ]

    fields = {
        "Name": metadata.name,
        "Version": metadata.version,
        "Server": metadata.server,
        "Description": metadata.description,
        "Inputs": described(metadata.inputs),
        "Outputs": described(metadata.outputs),
    }
    return json.dumps(fields, indent=4, ensure_ascii=False).encode() + b"\n"


# ---- tensors


def _write_tensors(writer: Writer, field: int, arrays: Sequence[np.ndarray]) -> None:
    at, entries = writer.references(len(arrays))
    writer.link(field, at)
    for entry, array in zip(entries, arrays, strict=True):
        writer.link(entry, _write_tensor(writer, array))


def _write_tensor(writer: Writer, array: np.ndarray) -> int:
    code = CODE_BY_DTYPE.get(array.dtype) or CODE_BY_NAME.get(tensors.dtype_name(array))
    if code is None:
        raise Unsupported(f"GraphPipe has no type for {array.dtype.name}; cast it, or use the REST API")
    strings = code == CODE_BY_NAME[tensors.STRING]
    at, kind, shape, data, values = writer.table(1, 4, 0 if strings else 4, 4 if strings else 0)
    writer.head[kind] = code
    writer.link(shape, writer.longs(array.shape))
    if strings:
        _write_strings(writer, values, tensors.string_values(array))
    else:
        writer.data(data, tensors.raw(array))
    return at


def _write_strings(writer: Writer, field: int, values: Sequence[bytes]) -> None:
    at, entries = writer.references(len(values))
    writer.link(field, at)
    for entry, value in zip(entries, values, strict=True):
        writer.link(entry, writer.string(value))


def _read_tensor(table: Table, where: str) -> np.ndarray:
    code = table.byte(0)
    if code not in NAME_BY_CODE:
        raise Unsupported(f"{where}: tensor type {code} carries no data; use 1 (uint8) to 12 (string)", status=400)
    shape, data, values = table.longs(1), table.vector(2, 1), table.strings(3)
    try:
        if NAME_BY_CODE[code] != tensors.STRING:
            if values:
                raise InvalidInput(f"string_val is set, but the type is {NAME_BY_CODE[code]}; send data alone")
            return tensors.from_raw(NAME_BY_CODE[code], shape, data)
        if data:
            raise InvalidInput("data is set, but the type is string; send string_val alone")
        return tensors.strings(values, shape)
    except InvalidInput as error:
        raise InvalidInput(f"{where}: {error}") from None


def _read_io(table: Table) -> Tensor:
    shape = tuple(None if size < 0 else size for size in table.longs(2))
    return Tensor(_text(table.string(0)), NAME_BY_CODE.get(table.byte(3), ""), shape)


def _sizes(tensor: Tensor) -> tuple[int, ...]:
    return tuple(-1 if size is None else size for size in tensor.shape)


def _text(raw: bytes) -> str:
    try:
        return raw.decode()
    except UnicodeDecodeError:
        raise InvalidInput(f"a name or text is not UTF-8: {raw[:40]!r}; encode it as UTF-8") from None
