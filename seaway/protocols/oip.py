"""The Open Inference Protocol v2 over HTTP, with Triton's binary tensor data: bytes ⇄ values, for servers and clients.

    GET  /v2, /v2/health/live, /v2/health/ready                          server_metadata
    GET  /v2/models/M[/versions/V | /labels/L][/ready]                   model_metadata ⇄ read_metadata
    POST /v2/models/M[/versions/V | /labels/L]/infer                     read, write ⇄ write_infer_request,
                                                                         read_infer_response
Labels in a path are Seaway's extension. NaN and the infinities, which strict JSON lacks, are the bare tokens NaN,
Infinity and -Infinity in both directions, as tritonclient writes and reads them.
"""

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any
from urllib.parse import unquote

import numpy as np

from seaway.artifacts.artifact_metadata import Tensor
from seaway.errors import InvalidInput, NotFound, SeawayError, Unsupported
from seaway.protocols import signatures, tensors
from seaway.protocols.calls import (
    BINARY,
    DEFAULT_SIGNATURE,
    JSON,
    Call,
    ModelVersionInfo,
    RawRequest,
    Reply,
    Signature,
    version_number,
)
from seaway.protocols.oiptensors import (
    DATATYPE_BY_NAME,
    NAME_BY_DATATYPE,
    best_classes,
    dump,
    parse,
    read_tensor,
    write_tensor,
)

HEADER_LENGTH = "inference-header-content-length"
EXTENSIONS = ("binary_tensor_data", "classification")


@dataclass(frozen=True, slots=True)
class Route:
    """A parsed path. Verbs of the server (model ""): server, live, ready; of a model: metadata, ready, infer.
    At most one of `version` and `label` is set."""

    verb: str
    model: str = ""
    version: int | None = None
    label: str | None = None


@dataclass(frozen=True, slots=True)
class RequestedOutput:
    """An output in a request; `classes` > 0 requests that many best classes instead of the numbers."""

    name: str
    binary: bool
    classes: int = 0


@dataclass(frozen=True, slots=True)
class ResponseFormat:
    """How to write the response; without `outputs`: all of the signature's, `binary` or not."""

    id: str
    binary: bool
    outputs: tuple[RequestedOutput, ...]


def read_path(method: str, target: str) -> Route:
    """A request's route from the raw path; a query is ignored. Raises NotFound, InvalidInput, or status 405."""
    path = target.partition("?")[0]
    parts = [unquote(part) for part in path.rstrip("/").split("/")[1:]]
    match parts:
        case ["v2"]:
            route = Route("server")
        case ["v2", "health", ("live" | "ready") as verb]:
            route = Route(verb)
        case ["v2", "models", model, *rest] if model:
            route = _model_route(path, model, rest)
        case _:
            raise _no_path(path)
    allowed = "POST" if route.verb == "infer" else "GET"
    if method != allowed and not (method == "HEAD" and allowed == "GET"):
        raise SeawayError(f"{method} is not allowed for {path[:200]}: use {allowed}", status=405)
    return route


def _model_route(path: str, model: str, rest: list[str]) -> Route:
    version: int | None = None
    label: str | None = None
    match rest:
        case ["versions", number, *rest]:
            version = version_number(number)
            if version is None:
                raise InvalidInput(f"version {number[:40]!r} is not a number; versions are 1, 2, …")
        case ["labels", name, *rest]:
            label = name
    match rest:
        case []:
            return Route("metadata", model, version, label)
        case [("ready" | "infer") as verb]:
            return Route(verb, model, version, label)
    raise _no_path(path)


def _no_path(path: str) -> NotFound:
    return NotFound(
        f"no such path {path[:200]}: use /v2, /v2/health/live, /v2/health/ready, or "
        "/v2/models/<model>[/versions/<number> | /labels/<label>][/ready | /infer]"
    )


# ---- infer, server side


def read(raw_request: RawRequest, model: ModelVersionInfo) -> Call:
    """The call that an infer request makes. Raises InvalidInput, Unsupported.

    The parameters may name the signature: {"signature_name": …}. Without it serving_default is called, or if that lacks
    the named inputs and outputs, the first signature that has them. Binary tensors are read-only views of the body. A
    header length of 0 means raw data: the whole body is the data of the only input.
    """
    body, length = raw_request.body, raw_request.headers.get(HEADER_LENGTH)
    json_size = _json_size(length, body)
    if length is not None and json_size == 0:
        return _read_raw(body, model)
    document = parse(body[:json_size])
    at = json_size

    def tensor(entry: dict[str, Any], where: str) -> np.ndarray:
        nonlocal at
        array, at = read_tensor(entry, where, _parameters(entry, where), body, at)
        return array

    call = read_document(document, tensor, model)
    if at != len(body):
        raise InvalidInput(f"{len(body) - at} bytes follow the last input; check each binary_data_size")
    return call


def read_document(
    document: Mapping[str, Any], tensor: Callable[[dict[str, Any], str], np.ndarray], model: ModelVersionInfo
) -> Call:
    """The call of a request without its tensors, of which `tensor` reads each, in order, from its entry and name in
    errors. Raises InvalidInput, Unsupported."""
    parameters = _parameters(document, "the request")
    requested = parameters.get("signature_name", "")
    if not isinstance(requested, str):
        raise InvalidInput("parameter signature_name is not a string; send the name of one of the model's signatures")
    response_format = _read_response_format(document, parameters)
    entries = _tensor_entries(document, "inputs")
    names = [entry["name"] for entry in entries]
    output_names = [output.name for output in response_format.outputs]
    name = signatures.choose(model, requested, len(entries), names, output_names)
    expected = {tensor.name: tensor.dtype for tensor in model.signatures[name].inputs}
    inputs: dict[str, np.ndarray] = {}
    for entry in entries:
        key = entry["name"]
        where = f"input {key!r}"
        _check_datatype(entry, where, expected[key], name)
        inputs[key] = tensor(entry, where)
    if len(inputs) != len(expected):
        raise InvalidInput(f"an input is sent twice: {names[:20]}; send each one once")
    signatures.check_shapes(model.signatures[name], inputs)
    return Call(name, inputs, output_names or None, response_format)


def _json_size(length: str | None, body: bytes) -> int:
    if length is None:
        return len(body)
    if length.isascii() and length.isdecimal() and len(length) < 19 and int(length) <= len(body):
        return int(length)
    raise InvalidInput(f"Inference-Header-Content-Length is {length[:40]!r}; the body has {len(body)} bytes")


def _check_datatype(entry: Mapping[str, Any], where: str, dtype: str, signature: str) -> None:
    datatype = entry.get("datatype")
    if datatype == DATATYPE_BY_NAME.get(dtype, ""):
        return
    if datatype not in DATATYPE_BY_NAME.values():
        raise InvalidInput(
            f"{where}: datatype {str(datatype)[:40]!r} is not supported; "
            f"use one of {', '.join(DATATYPE_BY_NAME.values())}"
        )
    raise InvalidInput(
        f"{where} is {datatype}, but {signature} takes {DATATYPE_BY_NAME.get(dtype, dtype)}; send that: nothing is cast"
    )


def _read_response_format(document: Mapping[str, Any], parameters: Mapping[str, Any]) -> ResponseFormat:
    id_ = document.get("id", "")
    if not isinstance(id_, str):
        raise InvalidInput("id is not a string; send a string, or leave it out")
    if not id_.isascii() and any("\ud800" <= character <= "\udfff" for character in id_):
        raise InvalidInput("id holds half a surrogate pair, which no response can repeat; send another one")
    binary = _flag(parameters, "binary_data_output", False)
    outputs = []
    for entry in _tensor_entries(document, "outputs") if document.get("outputs") is not None else ():
        name = entry["name"]
        options = _parameters(entry, f"output {name!r}")
        classes = options.get("classification", 0)
        if type(classes) is not int or classes < 0:
            raise InvalidInput(f"output {name!r}: classification is the number of best classes to return, 1 or more")
        outputs.append(RequestedOutput(name, _flag(options, "binary_data", binary), classes))
    if len({output.name for output in outputs}) < len(outputs):
        raise InvalidInput("an output is requested twice; name each one once")
    return ResponseFormat(id_, binary, tuple(outputs))


def _tensor_entries(document: Mapping[str, Any], key: str) -> list[dict[str, Any]]:
    """The tensors listed under `key`, each with a name."""
    entries = document.get(key)
    if not isinstance(entries, list):
        raise InvalidInput(f'{key} is not a list; send {{"{key}": [{{"name": …}}]}}')
    for entry in entries:
        if not isinstance(entry, dict) or not isinstance(entry.get("name"), str):
            raise InvalidInput(f"each of {key} must be an object with a name, a string")
    return entries


def _parameters(document: Mapping[str, Any], where: str) -> dict[str, Any]:
    parameters = document.get("parameters")
    if parameters is None:
        return {}
    if not isinstance(parameters, dict):
        raise InvalidInput(f"parameters of {where[:80]} are not an object; send {{}} or leave them out")
    if "shared_memory_region" in parameters:
        raise Unsupported(f"{where[:80]}: shared memory is not supported; send the data in the body", status=400)
    return parameters


def _flag(parameters: Mapping[str, Any], key: str, default: bool) -> bool:
    value = parameters.get(key, default)
    if not isinstance(value, bool):
        raise InvalidInput(f"parameter {key} is {str(value)[:40]!r}; send true or false")
    return value


def _read_raw(body: bytes, model: ModelVersionInfo) -> Call:
    """The only input's data without JSON. Its shape is the signature's: a single free size follows from the length; of
    several, the first counts as 1. A string is one element, without a length prefix."""
    name = signatures.choose(model, "", 1, (), ())
    [tensor] = model.signatures[name].inputs
    shape = list(tensor.shape)
    if tensor.dtype == tensors.STRING:
        if any(size not in (None, 1) for size in shape):
            raise InvalidInput(
                f"input {tensor.name!r} takes strings of shape {shape}, but raw data is one string; send JSON"
            )
        return _raw_call(name, tensor.name, tensors.strings([body], [1] * len(shape)))
    if shape.count(None) > 1 and shape[0] is None:
        shape[0] = 1
    if shape.count(None) > 1 or tensor.dtype not in DATATYPE_BY_NAME or tensor.name in model.signatures[name].unranked:
        raise InvalidInput(
            f"the shape of input {tensor.name!r} does not follow from raw data; send it with a JSON header"
        )
    row = math.prod(size for size in shape if size is not None) * tensors.DTYPES[tensor.dtype].itemsize
    sizes = [(len(body) // row if row else 0) if size is None else size for size in shape]
    entry = {"shape": sizes, "datatype": DATATYPE_BY_NAME[tensor.dtype]}
    where = f"input {tensor.name!r}, raw"
    array, _ = read_tensor(entry, where, {"binary_data_size": len(body)}, body, 0)
    return _raw_call(name, tensor.name, array)


def _raw_call(signature: str, name: str, array: np.ndarray) -> Call:
    return Call(signature, {name: array}, None, ResponseFormat("", True, ()))


def write(call: Call, outputs: Mapping[str, np.ndarray], model: ModelVersionInfo) -> Reply:
    """The response: JSON alone, or followed by the binary tensors in pieces. Raises Unsupported, InvalidInput."""
    response_format: ResponseFormat = call.response_format
    requested_outputs = response_format.outputs or [
        RequestedOutput(t.name, response_format.binary) for t in model.signatures[call.signature].outputs
    ]
    entries: list[dict[str, Any]] = []
    blocks: list[bytes | memoryview] = []
    for output in requested_outputs:
        array = outputs[output.name]
        if output.classes:
            array = best_classes(output.name, array, output.classes, model.labels)
        entry, block = write_tensor(output.name, array, output.binary)
        entries.append(entry)
        if block is not None:
            blocks.append(block)
    document: dict[str, Any] = {"model_name": model.name, "model_version": str(model.version)}
    if response_format.id:
        document["id"] = response_format.id
    document["outputs"] = entries
    header = dump(document)
    if any(output.binary for output in requested_outputs):
        return Reply(200, [header, *blocks], BINARY, {"Inference-Header-Content-Length": str(len(header))})
    return Reply(200, header)


def error(error: SeawayError) -> Reply:
    return Reply(error.status, dump({"error": str(error).encode(errors="replace").decode()}))


# ---- metadata and health


def server_metadata(name: str, version: str, extensions: Sequence[str] = EXTENSIONS) -> bytes:
    return dump({"name": name, "version": version, "extensions": list(extensions)})


def model_metadata(model: ModelVersionInfo, versions: Sequence[str]) -> bytes:
    """The interface of the signature that a request without parameters calls; the others are under parameters.

    -1 is a free size; an unknown rank is written as [-1].
    """
    name, *others = signatures.by_preference(model)
    document = {"name": model.name, "versions": list(versions), "platform": model.platform}
    interfaces = {other: interface(model.signatures[other]) for other in others}
    parameters = {"signature_name": name, "signatures": interfaces}
    return dump({**document, **interface(model.signatures[name]), "parameters": parameters})


def interface(signature: Signature) -> dict[str, Any]:
    def described(specs: Sequence[Tensor]) -> list[dict[str, Any]]:
        return [
            {
                "name": tensor.name,
                "datatype": DATATYPE_BY_NAME.get(tensor.dtype, tensor.dtype.upper()),
                "shape": [-1]
                if tensor.name in signature.unranked
                else [-1 if size is None else size for size in tensor.shape],
            }
            for tensor in specs
        ]

    return {"inputs": described(signature.inputs), "outputs": described(signature.outputs)}


# ---- client side


def read_metadata(body: bytes) -> dict[str, Signature]:
    """The described signature, as serving_default. Raises InvalidInput for anything but a model's metadata."""
    document = parse(body)

    def tensor_specs(key: str) -> tuple[Tensor, ...]:
        return tuple(
            Tensor(
                entry["name"],
                NAME_BY_DATATYPE.get(entry["datatype"], ""),
                tuple(None if int(size) < 0 else int(size) for size in entry["shape"]),
            )
            for entry in document[key]
        )

    try:
        return {DEFAULT_SIGNATURE: Signature(tensor_specs("inputs"), tensor_specs("outputs"))}
    except (ValueError, LookupError, TypeError):
        raise InvalidInput(f"not a model's metadata in the Open Inference Protocol: {body[:120]!r}") from None


def write_infer_request(
    inputs: Mapping[str, np.ndarray],
    outputs: Sequence[str] = (),
    binary: bool = False,
    id: str = "",
    signature: str = "",
) -> tuple[bytes, dict[str, str]]:
    """An infer body and its headers; `binary` sends and requests the numbers as bytes. Raises Unsupported."""
    encoded = [write_tensor(name, array, binary) for name, array in inputs.items()]
    document: dict[str, Any] = {"id": id} if id else {}
    parameters = ({"binary_data_output": True} if binary else {}) | ({"signature_name": signature} if signature else {})
    document |= {"parameters": parameters} if parameters else {}
    document["inputs"] = [entry for entry, _ in encoded]
    document |= {"outputs": [{"name": name} for name in outputs]} if outputs else {}
    header = dump(document)
    if not binary:
        return header, {"Content-Type": JSON}
    headers = {"Content-Type": BINARY, "Inference-Header-Content-Length": str(len(header))}
    return b"".join([header, *(block for _, block in encoded if block is not None)]), headers


def read_infer_response(body: bytes, headers: Mapping[str, str]) -> dict[str, np.ndarray]:
    """Output arrays by name, numbers sent as bytes as read-only views of `body`, strings as bytes.

    Raises InvalidInput for {"error": …} and for anything but an infer response.
    """
    lengths = [value for key, value in headers.items() if key.lower() == HEADER_LENGTH]
    at = _json_size(lengths[0] if lengths else None, body)
    document = parse(body[:at])
    if isinstance(document.get("error"), str):
        raise InvalidInput(f"the server responded: {document['error']}")
    outputs = {}
    for entry in _tensor_entries(document, "outputs"):
        where = f"output {entry['name']!r}"
        outputs[entry["name"]], at = read_tensor(entry, where, _parameters(entry, where), body, at)
    return outputs
