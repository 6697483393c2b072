"""GraphPipe, bytes ⇄ values: FlatBuffers over HTTP POST, numbers as they lie in memory.

    Request          = InferRequest | MetadataRequest        read_request ⇄ write_infer_request, write_metadata_request
    InferResponse    = output tensors, or errors             read_infer_response ⇄ write_infer_response, write_errors
    MetadataResponse = the model's interface                 read_metadata_response ⇄ write_metadata_response

Both sides of every message are here. A body that is not what it should be raises InvalidInput, whatever it holds.
"""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from seaway.card import Tensor
from seaway.errors import InvalidInput, Unsupported
from seaway.protocols import tensors
from seaway.protocols.flatbuffer import Buffer, Field, Scalar, Table, Write, Writer

TYPES = {
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
NAMES = {code: name for name, code in TYPES.items()}
INFER, METADATA = 1, 2  # union Req

Named = Mapping[str, np.ndarray] | Sequence[tuple[str, np.ndarray]]


@dataclass(frozen=True, slots=True)
class InferRequest:
    """Inputs in order; a name is "" where the client gave none. `outputs` empty: the model's defaults."""

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


# ---- requests


def write_infer_request(inputs: Named, outputs: Sequence[str] = (), config: str = "") -> bytes:
    """Raises Unsupported for a dtype that GraphPipe has no type for (bool, complex, …)."""
    pairs = list(inputs.items()) if isinstance(inputs, Mapping) else list(inputs)
    named = any(name for name, _ in pairs)
    infer: list[Field] = [
        _string(config) if config else None,
        _strings([name for name, _ in pairs]) if named else None,
        _refs([_tensor(array) for _, array in pairs]),
        _strings(outputs) if outputs else None,
    ]
    return Writer().finish(_table([Scalar("B", INFER), _table(infer)]))


def write_metadata_request() -> bytes:
    return Writer().finish(_table([Scalar("B", METADATA), _table([])]))


def read_request(body: bytes) -> InferRequest | MetadataRequest:
    """What a client asks; arrays are read-only views of `body`. Raises InvalidInput, Unsupported."""
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
        raise InvalidInput(f"{len(names)} input_names for {len(arrays)} input_tensors; give one name for each tensor")
    names += [""] * (len(arrays) - len(names))  # "Go treats missing trailing names or "" as "use default i""
    outputs = [_text(name) for name in table.strings(3)]
    return InferRequest(list(zip(names, arrays, strict=True)), outputs, _text(table.string(0)))


# ---- answers


def write_infer_response(outputs: Sequence[np.ndarray]) -> bytes:
    """Tensors in the order asked for; the errors vector is absent, as clients expect. Raises Unsupported."""
    return Writer().finish(_table([_refs([_tensor(array) for array in outputs])]))


def write_errors(message: str, code: int = 1) -> bytes:
    """An InferResponse that carries one error and no tensors."""
    error = _table([Scalar("q", code), _string(message)])
    return Writer().finish(_table([None, _refs([error])]))


def read_infer_response(body: bytes) -> list[np.ndarray]:
    """The output tensors, read-only views of `body`. Raises InvalidInput for a malformed answer or errors in it."""
    response = Buffer(body).root()
    messages = [_text(error.string(1)) or f"error {error.long(0)}" for error in response.tables(1)]
    if messages:
        raise InvalidInput("the server answered: " + "; ".join(messages))
    return [_read_tensor(t, f"output {i}") for i, t in enumerate(response.tables(0))]


def write_metadata_response(metadata: Metadata) -> bytes:
    texts = (metadata.name, metadata.version, metadata.server, metadata.description)
    sides = (metadata.inputs, metadata.outputs)
    return Writer().finish(
        _table([*(_string(text) for text in texts), *(_refs([_io(tensor) for tensor in side]) for side in sides)])
    )


def read_metadata_response(body: bytes) -> Metadata:
    """Raises InvalidInput for a malformed answer."""
    table = Buffer(body).root()
    name, version, server, description = (_text(table.string(slot)) for slot in range(4))
    inputs, outputs = (tuple(_read_io(io) for io in table.tables(slot)) for slot in (4, 5))
    return Metadata(name, version, server, description, inputs, outputs)


def metadata_json(metadata: Metadata) -> bytes:
    """What a GET answers: the same as JSON, under the Go server's field names."""

    def side(listed: tuple[Tensor, ...]) -> list[dict[str, object]]:
        return [
            {"Name": t.name, "Description": "", "Shape": list(_sizes(t)), "Type": TYPES.get(t.dtype, 0)} for t in listed
        ]

    fields = {
        "Name": metadata.name,
        "Version": metadata.version,
        "Server": metadata.server,
        "Description": metadata.description,
        "Inputs": side(metadata.inputs),
        "Outputs": side(metadata.outputs),
    }
    return json.dumps(fields, indent=4, ensure_ascii=False).encode() + b"\n"


# ---- tensors


def _tensor(array: np.ndarray) -> Write:
    name = tensors.dtype_name(array)
    if name not in TYPES:
        raise Unsupported(f"GraphPipe has no type for {name}; cast it, or use the REST protocol")
    kind = Scalar("B", TYPES[name])
    shape = _longs(array.shape)
    if name == tensors.STRING:
        return _table([kind, shape, None, _refs([_string(value) for value in tensors.string_values(array)])])
    data = tensors.raw(array)
    return _table([kind, shape, lambda w: w.vector(len(data), data, align=16)])  # aligned for any reader's vector unit


def _read_tensor(table: Table, where: str) -> np.ndarray:
    code = table.byte(0)
    if code not in NAMES:
        raise Unsupported(
            f"{where}: tensor type {code} is none that carries data; use 1 (uint8) to 12 (string)", status=400
        )
    shape, data, values = table.longs(1), table.vector(2, 1), table.strings(3)
    try:
        if NAMES[code] != tensors.STRING:
            if values:
                raise InvalidInput(f"string_val is given, but the type is {NAMES[code]}; use data alone")
            return tensors.from_raw(NAMES[code], shape, memoryview(b"") if data is None else data)
        if data:
            raise InvalidInput("data is given, but the type is string; use string_val alone")
        return tensors.strings(values, shape)
    except InvalidInput as error:
        raise InvalidInput(f"{where}: {error}") from None


def _io(tensor: Tensor) -> Write:
    kind = Scalar("B", TYPES.get(tensor.dtype, 0))
    return _table([_string(tensor.name), _string(""), _longs(_sizes(tensor)), kind])


def _read_io(table: Table) -> Tensor:
    shape = tuple(None if size < 0 else size for size in table.longs(2))
    return Tensor(_text(table.string(0)), NAMES.get(table.byte(3), ""), shape)


def _sizes(tensor: Tensor) -> tuple[int, ...]:
    return tuple(-1 if size is None else size for size in tensor.shape)


def _text(raw: bytes) -> str:
    try:
        return raw.decode()
    except UnicodeDecodeError:
        raise InvalidInput(f"a name or text is not UTF-8: {raw[:40]!r}") from None


# ---- what the writer takes, said in fewer words


def _table(fields: Sequence[Field]) -> Write:
    return lambda writer: writer.table(fields)


def _refs(items: Sequence[Write]) -> Write:
    return lambda writer: writer.references(items)


def _string(text: str | bytes) -> Write:
    value = text.encode() if isinstance(text, str) else text
    return lambda writer: writer.string(value)


def _strings(texts: Sequence[str]) -> Write:
    return _refs([_string(text) for text in texts])


def _longs(values: Sequence[int]) -> Write:
    return lambda writer: writer.vector(len(values), np.asarray(values, "<i8").tobytes())
