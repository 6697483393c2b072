"""The Open Inference Protocol v2 over HTTP, with Triton's binary tensor data: bytes ⇄ values, for servers and clients.

    GET  /v2, /v2/health/live, /v2/health/ready                          server_metadata
    GET  /v2/models/M[/versions/V | /labels/L][/ready]                   model_metadata
    POST /v2/models/M[/versions/V | /labels/L]/infer                     read, write ⇄ write_infer_request,
                                                                         read_infer_answer
Labels in a path are an extension of ours. Where JSON has no word for a number (NaN, infinities), the bare tokens NaN,
Infinity and -Infinity stand, in both directions: strict JSON has none, and tritonclient writes and reads them so.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any
from urllib.parse import unquote

import numpy as np

from seaway.artifacts.card import Tensor
from seaway.errors import InvalidInput, NotFound, SeawayError, Unsupported
from seaway.protocols import signatures, tensors
from seaway.protocols.calls import BINARY, JSON, Asked, Call, Reply, Served, Signature
from seaway.protocols.oiptensors import DATATYPES, best_classes, dump, parse, read_tensor, write_tensor

HEADER_LENGTH = "inference-header-content-length"
EXTENSIONS = ("binary_tensor_data", "classification")


@dataclass(frozen=True, slots=True)
class Route:
    """What a path asks for: of the server (model "") server, live, ready; of a model metadata, ready, infer.
    At most one of `version` and `label` is set."""

    verb: str
    model: str = ""
    version: int | None = None
    label: str | None = None


@dataclass(frozen=True, slots=True)
class Wanted:
    """One output as asked for; `classes` > 0 asks for the so many best classes in place of the numbers."""

    name: str
    binary: bool
    classes: int = 0


@dataclass(frozen=True, slots=True)
class Form:
    """How the answer is to be written; no `outputs`: all of the signature's, `binary` or not."""

    id: str
    binary: bool
    outputs: tuple[Wanted, ...]


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
    needed = "POST" if route.verb == "infer" else "GET"
    if method != needed and not (method == "HEAD" and needed == "GET"):
        raise SeawayError(f"{method} is not for {path[:200]}: use {needed}", status=405)
    return route


def _model_route(path: str, model: str, rest: list[str]) -> Route:
    version: int | None = None
    label: str | None = None
    match rest:
        case ["versions", number, *rest]:
            if not (number.isascii() and number.isdecimal() and int(number[:40]) < 2**63):
                raise InvalidInput(f"version {number[:40]!r} is no number; versions are 1, 2, …")
            version = int(number)
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
        f"nothing is at {path[:200]}: use /v2, /v2/health/live, /v2/health/ready, or "
        "/v2/models/<model>[/versions/<number> | /labels/<label>][/ready | /infer]"
    )


# ---- infer, as the server reads and answers it


def read(asked: Asked, served: Served) -> Call:
    """The call that an infer request makes. Raises InvalidInput, Unsupported.

    The signature is the one that parameters {"signature_name": …} name, else serving_default, or where that does not
    have the inputs and outputs named, the first that has. Binary tensors are read-only views of the body. A header
    length of 0 means the raw form: the body is the sole input's data.
    """
    body, length = asked.body, asked.headers.get(HEADER_LENGTH)
    json_size = _json_size(length, body)
    if length is not None and json_size == 0:
        return _read_raw(body, served)
    document = parse(body[:json_size])
    parameters = _parameters(document, "the request")
    called = parameters.get("signature_name", "")
    if not isinstance(called, str):
        raise InvalidInput("parameter signature_name is not a string; give the name of one of the model's signatures")
    form = _read_form(document, parameters)
    listed = _objects(document, "inputs")
    names = [given["name"] for given in listed]
    wanted = [output.name for output in form.outputs]
    name = signatures.choose(served, called, len(listed), names, wanted)
    expected = {tensor.name: tensor.dtype for tensor in served.signatures[name].inputs}
    inputs: dict[str, np.ndarray] = {}
    at = json_size
    for given in listed:
        key = given["name"]
        where = f"input {key!r}"
        _check_datatype(given, where, expected[key], name)
        inputs[key], at = read_tensor(given, where, _parameters(given, where), body, at)
    if len(inputs) != len(expected):
        raise InvalidInput(f"an input is given twice: {names[:20]}; give each one once")
    if at != len(body):
        raise InvalidInput(f"{len(body) - at} bytes follow the last input; check each binary_data_size")
    signatures.check_shapes(served.signatures[name], inputs)
    return Call(name, inputs, wanted or None, form)


def _json_size(length: str | None, body: bytes) -> int:
    if length is None:
        return len(body)
    if length.isascii() and length.isdecimal() and len(length) < 19 and int(length) <= len(body):
        return int(length)
    raise InvalidInput(f"Inference-Header-Content-Length is {length[:40]!r}; the body has {len(body)} bytes")


def _check_datatype(given: Mapping[str, Any], where: str, dtype: str, signature: str) -> None:
    datatype = given.get("datatype")
    if datatype == DATATYPES.get(dtype, ""):
        return
    if datatype not in DATATYPES.values():
        raise InvalidInput(
            f"{where}: datatype {str(datatype)[:40]!r} is not offered; use one of {', '.join(DATATYPES.values())}"
        )
    raise InvalidInput(
        f"{where} is {datatype}, but {signature} takes {DATATYPES.get(dtype, dtype)}; send it as that: nothing is cast"
    )


def _read_form(document: Mapping[str, Any], parameters: Mapping[str, Any]) -> Form:
    id_ = document.get("id", "")
    if not isinstance(id_, str):
        raise InvalidInput("id is not a string; give a string, or leave it out")
    if not id_.isascii() and any("\ud800" <= character <= "\udfff" for character in id_):
        raise InvalidInput("id holds half a surrogate pair, which no answer can repeat; give another one")
    binary = _flag(parameters, "binary_data_output", False)
    outputs = []
    for given in _objects(document, "outputs") if document.get("outputs") is not None else ():
        name = given["name"]
        options = _parameters(given, f"output {name!r}")
        classes = options.get("classification", 0)
        if type(classes) is not int or classes < 0:
            raise InvalidInput(f"output {name!r}: classification is the number of classes to give, 1 or more")
        outputs.append(Wanted(name, _flag(options, "binary_data", binary), classes))
    if len({output.name for output in outputs}) < len(outputs):
        raise InvalidInput("an output is asked for twice; name each one once")
    return Form(id_, binary, tuple(outputs))


def _objects(document: Mapping[str, Any], key: str) -> list[dict[str, Any]]:
    """The tensors listed under `key`, each with a name."""
    listed = document.get(key)
    if not isinstance(listed, list):
        raise InvalidInput(f'{key} is not a list; give {{"{key}": [{{"name": …}}]}}')
    for given in listed:
        if not isinstance(given, dict) or not isinstance(given.get("name"), str):
            raise InvalidInput(f"each of {key} is an object with a name, a string")
    return listed


def _parameters(given: Mapping[str, Any], where: str) -> dict[str, Any]:
    found = given.get("parameters")
    if found is None:
        return {}
    if not isinstance(found, dict):
        raise InvalidInput(f"parameters of {where[:80]} are not an object")
    if "shared_memory_region" in found:
        raise Unsupported(f"{where[:80]}: shared memory is not offered; send the data in the body", status=400)
    return found


def _flag(parameters: Mapping[str, Any], key: str, default: bool) -> bool:
    value = parameters.get(key, default)
    if not isinstance(value, bool):
        raise InvalidInput(f"parameter {key} is {str(value)[:40]!r}; give true or false")
    return value


def _read_raw(body: bytes, served: Served) -> Call:
    """The sole input's data alone. Its shape is the signature's: the sole free size follows from the length; of
    several, the first counts as 1. A string is one element, without a length before it."""
    name = signatures.choose(served, "", 1, (), ())
    [tensor] = served.signatures[name].inputs
    shape = list(tensor.shape)
    if tensor.dtype == tensors.STRING:
        if any(size not in (None, 1) for size in shape):
            raise InvalidInput(f"input {tensor.name!r} takes strings of shape {shape}; the raw form carries one string")
        return _raw_call(name, tensor.name, tensors.strings([body], [1] * len(shape)))
    if shape.count(None) > 1 and shape[0] is None:
        shape[0] = 1
    if shape.count(None) > 1 or tensor.dtype not in DATATYPES or tensor.name in served.signatures[name].unranked:
        raise InvalidInput(f"the shape of input {tensor.name!r} cannot be told from raw data; send it with a header")
    row = math.prod(size for size in shape if size is not None) * tensors.DTYPES[tensor.dtype].itemsize
    sizes = [(len(body) // row if row else 0) if size is None else size for size in shape]
    given = {"shape": sizes, "datatype": DATATYPES[tensor.dtype]}
    where = f"input {tensor.name!r}, raw"
    array, _ = read_tensor(given, where, {"binary_data_size": len(body)}, body, 0)
    return _raw_call(name, tensor.name, array)


def _raw_call(signature: str, name: str, array: np.ndarray) -> Call:
    return Call(signature, {name: array}, None, Form("", True, ()))


def write(call: Call, outputs: Mapping[str, np.ndarray], served: Served) -> Reply:
    """The answer: JSON alone, or followed by the binary tensors in pieces. Raises Unsupported, InvalidInput."""
    form: Form = call.form
    wanted = form.outputs or [Wanted(t.name, form.binary) for t in served.signatures[call.signature].outputs]
    listed: list[dict[str, Any]] = []
    blocks: list[bytes | memoryview] = []
    for output in wanted:
        array = outputs[output.name]
        if output.classes:
            array = best_classes(output.name, array, output.classes, served.labels)
        entry, block = write_tensor(output.name, array, output.binary)
        listed.append(entry)
        if block is not None:
            blocks.append(block)
    document: dict[str, Any] = {"model_name": served.name, "model_version": str(served.version)}
    if form.id:
        document["id"] = form.id
    document["outputs"] = listed
    header = dump(document)
    if any(output.binary for output in wanted):
        return Reply(200, [header, *blocks], BINARY, {"Inference-Header-Content-Length": str(len(header))})
    return Reply(200, header)


def error(error: SeawayError) -> Reply:
    return Reply(error.status, dump({"error": str(error).encode(errors="replace").decode()}))


# ---- metadata and health


def server_metadata(name: str, version: str, extensions: Sequence[str] = EXTENSIONS) -> bytes:
    return dump({"name": name, "version": version, "extensions": list(extensions)})


def model_metadata(served: Served, versions: Sequence[str]) -> bytes:
    """The interface of the signature that a request without parameters gets; the others are under parameters.

    -1 is a size that is free; an unknown rank is written as [-1].
    """
    name, *others = signatures.by_preference(served)
    document = {"name": served.name, "versions": list(versions), "platform": served.platform}
    listed = {other: _interface(served.signatures[other]) for other in others}
    parameters = {"signature_name": name, "signatures": listed}
    return dump({**document, **_interface(served.signatures[name]), "parameters": parameters})


def _interface(signature: Signature) -> dict[str, Any]:
    def side(listed: Sequence[Tensor]) -> list[dict[str, Any]]:
        return [
            {
                "name": tensor.name,
                "datatype": DATATYPES.get(tensor.dtype, tensor.dtype.upper()),
                "shape": [-1]
                if tensor.name in signature.unranked
                else [-1 if size is None else size for size in tensor.shape],
            }
            for tensor in listed
        ]

    return {"inputs": side(signature.inputs), "outputs": side(signature.outputs)}


# ---- as a client writes and reads


def write_infer_request(
    inputs: Mapping[str, np.ndarray],
    outputs: Sequence[str] = (),
    binary: bool = False,
    id: str = "",
    signature: str = "",
) -> tuple[bytes, dict[str, str]]:
    """An infer body and its headers; `binary` sends the numbers, and asks for them, as bytes. Raises Unsupported."""
    written = [write_tensor(name, array, binary) for name, array in inputs.items()]
    document: dict[str, Any] = {"id": id} if id else {}
    parameters = ({"binary_data_output": True} if binary else {}) | ({"signature_name": signature} if signature else {})
    document |= {"parameters": parameters} if parameters else {}
    document["inputs"] = [entry for entry, _ in written]
    document |= {"outputs": [{"name": name} for name in outputs]} if outputs else {}
    header = dump(document)
    if not binary:
        return header, {"Content-Type": JSON}
    headers = {"Content-Type": BINARY, "Inference-Header-Content-Length": str(len(header))}
    return b"".join([header, *(block for _, block in written if block is not None)]), headers


def read_infer_answer(body: bytes, headers: Mapping[str, str]) -> dict[str, np.ndarray]:
    """Output arrays by name, numbers as read-only views of `body` where they came as bytes, strings as bytes.

    Raises InvalidInput for {"error": …} and for what is no infer answer.
    """
    lengths = [value for key, value in headers.items() if key.lower() == HEADER_LENGTH]
    at = _json_size(lengths[0] if lengths else None, body)
    document = parse(body[:at])
    if isinstance(document.get("error"), str):
        raise InvalidInput(f"the server answered: {document['error']}")
    outputs = {}
    for given in _objects(document, "outputs"):
        where = f"output {given['name']!r}"
        outputs[given["name"]], at = read_tensor(given, where, _parameters(given, where), body, at)
    return outputs
