"""TensorFlow Serving's REST API, bytes ⇄ values, for the server and for clients.

    POST /v1/models/M[/versions/V | /labels/L]:predict      read, write ⇄ write_predict_request, read_predict_response
    POST /v1/models/M[/versions/V | /labels/L]:classify     read, write; so is :regress
    GET  /v1/models/M[/versions/V | /labels/L]              write_status ⇄ read_status
    GET  /v1/models/M[/versions/V | /labels/L]/metadata     write_metadata ⇄ read_metadata

Row format ("instances" → "predictions") is a list of examples, column format ("inputs" → "outputs") whole tensors.
TensorFlow Serving checks in this order: JSON, an object, signature_name, model and version, signature, instances or
inputs, tensors. So a server calls `check` before it reports an unknown model.
"""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any
from urllib.parse import unquote

import numpy as np
import orjson

from seaway.artifacts.artifact_metadata import Tensor
from seaway.errors import InvalidInput, SeawayError, Unsupported
from seaway.protocols import example, jsontensor, tensors
from seaway.protocols.calls import (
    DEFAULT_SIGNATURE,
    Call,
    ModelVersionInfo,
    RawRequest,
    Reply,
    Signature,
    version_number,
)
from seaway.protocols.jsonerrors import excerpt

ROW, COLUMN = "row", "column"  # response formats of predict; those of the others are their verbs

_MODEL = r"([^:/]+)(?:/versions/(\d+)|/labels/([^/:]+))?"
_POST = re.compile(rf"/v1/models/{_MODEL}:(predict|classify|regress)", re.IGNORECASE | re.DOTALL)
_GET = re.compile(rf"/v1/models/{_MODEL}(/metadata)?", re.IGNORECASE | re.DOTALL)
_VERBS = ("predict", "classify", "regress")  # in lower case, while the rest of the path matches in any case
_ORJSON_DTYPES = ("float32", "float64", "int32", "int64")
_DTYPES = {"DT_HALF": "float16", "DT_FLOAT": "float32", "DT_DOUBLE": "float64", "DT_STRING": tensors.STRING}


@dataclass(frozen=True, slots=True)
class Route:
    """A parsed path; at most one of `version` and `label` is set."""

    verb: str  # predict, classify, regress; status, metadata
    model: str
    version: int | None
    label: str | None


@dataclass(frozen=True, slots=True)
class PredictRequest:
    """A predict body, read as far as possible without the model; `read_inputs` reads the rest."""

    signature: str
    document: dict[str, Any]
    no_bools: bool  # no bool inside: numbers can be read in bulk


@dataclass(frozen=True, slots=True)
class VersionStatus:
    """`state`: START LOADING AVAILABLE UNLOADING END; `error` says why a version failed, or is ""."""

    version: int
    state: str
    error: str = ""


def read_path(method: str, target: str) -> Route:
    """A request's route from the raw path with its query, which is part of the name here. Raises InvalidInput."""
    match = (_POST if method == "POST" else _GET).fullmatch(target) if method in ("GET", "POST") else None
    if match is None:
        if method == "GET" and target.lower() == "/v1/models":
            raise InvalidInput("Missing model name in request")
        raise InvalidInput(f"Malformed request: {method} {target}")
    model, version, label, verb = match.groups()
    if method == "GET":
        verb = "metadata" if verb else "status"
    elif verb not in _VERBS:
        raise InvalidInput(f"Malformed request: {method} {target}")
    number = version_number(version) if version else None
    if version and number is None:
        raise InvalidInput(f"Failed to convert version: {version[:40]}")
    return Route(verb, unquote(model), number, unquote(label) if label else None)


# ---- server side


def read(raw_request: RawRequest, model: ModelVersionInfo) -> Call:
    """The call that a predict, classify or regress makes. Raises InvalidInput, Unsupported."""
    if raw_request.verb == "predict":
        return _read_regular(raw_request.body, model) or _read_any(raw_request.body, model)
    request = read_predict(raw_request.body)
    examples = example.read_examples(request.document)
    signature = model.signatures.get(request.signature)
    if signature is None:
        raise InvalidInput(f"No signature was found with the name: {request.signature}")
    output_names = example.required_outputs(raw_request.verb, signature)
    inputs = {example.INPUT: tensors.strings(examples, (len(examples),))}
    return Call(request.signature, inputs, output_names, raw_request.verb)


def check(body: bytes, verb: str = "predict") -> None:
    """Raises InvalidInput for an invalid body, as far as that shows without its model."""
    request = read_predict(body)
    if verb != "predict":
        example.read_examples(request.document)


def write(call: Call, outputs: Mapping[str, np.ndarray], model: ModelVersionInfo) -> Reply:
    """The response in the request's format. Raises InvalidInput if the outputs do not fit it."""
    if call.response_format in (ROW, COLUMN):
        return Reply(
            200, _write_regular(outputs, call.response_format) or write_predict(outputs, call.response_format == ROW)
        )
    return Reply(200, example.write_results(call.response_format, outputs, len(call.inputs[example.INPUT])))


def error(error: SeawayError) -> Reply:
    return Reply(error.status, write_error(str(error)))


def _signature(name: str, model: ModelVersionInfo) -> Signature:
    signature = model.signatures.get(name)
    if signature is None:
        raise InvalidInput(f'Serving signature name: "{name}" not found in signature def')
    return signature


def _read_any(body: bytes, model: ModelVersionInfo) -> Call:
    request = read_predict(body)
    inputs, row = read_inputs(request, _signature(request.signature, model).inputs)
    return Call(request.signature, inputs, None, ROW if row else COLUMN)


def _read_regular(body: bytes, model: ModelVersionInfo) -> Call | None:
    """A shortcut for the body that most clients send, in a fifth of the time: one input's numbers, in a regular list.

    None for any other body, and for any error.
    """
    document = jsontensor.open_regular(body)
    if document is None:
        return None
    name: Any = ""
    match list(document):
        case [key]:
            pass
        case ["signature_name", key] | [key, "signature_name"]:
            name = document["signature_name"]
        case _:
            return None
    if key not in ("instances", "inputs") or not isinstance(name, str):
        return None
    name = name or DEFAULT_SIGNATURE
    signature = model.signatures.get(name)
    if signature is None or len(signature.inputs) != 1:
        return None
    only_input = signature.inputs[0]
    array = jsontensor.regular_array(document, key, body, only_input.dtype)
    return None if array is None else Call(name, {only_input.name: array}, None, ROW if key == "instances" else COLUMN)


def _write_regular(outputs: Mapping[str, np.ndarray], response_format: str) -> bytes | None:
    """A shortcut of `write_predict` for a sole output of finite numbers; None for others."""
    if len(outputs) != 1:
        return None
    (array,) = outputs.values()
    if array.dtype.name not in _ORJSON_DTYPES or not 0 < array.ndim <= tensors.MAX_RANK or not array.flags.c_contiguous:
        return None
    text = orjson.dumps(array, option=orjson.OPT_SERIALIZE_NUMPY)
    if b"n" in text:  # null, which is what orjson writes for NaN and the infinities
        return None
    return (b'{"predictions":%s}' if response_format == ROW else b'{"outputs":%s}') % text


def read_predict(body: bytes) -> PredictRequest:
    """Parses the body as far as the signature's name. Raises InvalidInput."""
    document = jsontensor.parse(body)
    if not isinstance(document, dict):
        raise InvalidInput(f"JSON Value: {excerpt(document)} Is not object")
    signature = document.get("signature_name", "")
    if not isinstance(signature, str):
        raise InvalidInput(
            f"JSON Value: {excerpt(document)} not formatted correctly. 'signature_name' key must be a string value."
        )
    return PredictRequest(signature or DEFAULT_SIGNATURE, document, jsontensor.has_no_bools(body))


def read_inputs(request: PredictRequest, inputs: Sequence[Tensor]) -> tuple[dict[str, np.ndarray], bool]:
    """The signature's input arrays, and whether they were in row format. Raises InvalidInput, Unsupported."""
    document = request.document
    if "instances" in document and "inputs" in document:
        raise InvalidInput(
            f"JSON Value: {excerpt(document)} Not formatted correctly expecting only one of 'inputs' or 'instances' "
            "keys to exist"
        )
    dtypes = {tensor.name: tensor.dtype for tensor in inputs}
    if "instances" in document:
        return _read_rows(document, dtypes, request.no_bools), True
    if "inputs" in document:
        return _read_columns(document["inputs"], dtypes, request.no_bools), False
    raise InvalidInput("Missing 'inputs' or 'instances' key")


def _read_columns(value: Any, dtypes: Mapping[str, str], no_bools: bool) -> dict[str, np.ndarray]:
    if _is_object(value):
        for name in dtypes:
            if name not in value:
                raise InvalidInput(f"Missing named input: {name} in 'inputs' object.")
        return {name: jsontensor.to_array(value[name], dtype, no_bools) for name, dtype in dtypes.items()}
    if len(dtypes) != 1:
        raise InvalidInput(
            "inputs is a plain value/list, but expecting an object as multiple input tensors required as per "
            f"tensorinfo_map: {', '.join(dtypes)}"
        )
    return {name: jsontensor.to_array(value, dtype, no_bools) for name, dtype in dtypes.items()}


def _read_rows(document: Mapping[str, Any], dtypes: Mapping[str, str], no_bools: bool) -> dict[str, np.ndarray]:
    rows = document["instances"]
    if not isinstance(rows, list):
        raise InvalidInput(f"JSON Value: {excerpt(document)} Expecting 'instances' to be an list/array")
    if not rows:
        raise InvalidInput(f"JSON Value: {excerpt(document)} No values in 'instances' array")
    if _is_object(rows[0]):
        return {name: _stack(values, name, dtypes[name], no_bools) for name, values in _columns(rows, dtypes).items()}
    if len(dtypes) != 1:
        raise InvalidInput(
            "instances is a plain list, but expecting list of objects as multiple input tensors required as per "
            f"tensorinfo_map: {', '.join(dtypes)}"
        )
    return {name: _stack(rows, None, dtype, no_bools) for name, dtype in dtypes.items()}


def _columns(rows: list[Any], dtypes: Mapping[str, str]) -> dict[str, list[Any]]:
    """Row objects turned into one list a name; the keys must be exactly the signature's inputs."""
    names = dtypes.keys()
    for i, row in enumerate(rows):
        if not _is_object(row):
            raise InvalidInput(f"Expecting object but got list at 'instances' element: {i}")
        for key in row.keys() - names:
            raise InvalidInput(
                f"Failed to process element: {i} key: {key} of 'instances' list. "
                f"Error: INVALID_ARGUMENT: JSON object: does not have named input: {key}"
            )
        if row.keys() != names:
            raise InvalidInput(
                f"Failed to process element: {i} of 'instances' list. JSON object: {excerpt(row)} "
                f"keys must be equal to: {','.join(sorted(names))}"
            )
    return {name: [row[name] for row in rows] for name in dtypes}


def _stack(values: list[Any], name: str | None, dtype: str, no_bools: bool) -> np.ndarray:
    """One array of all elements' tensors. If that fails, they are read one by one, to name the one at fault."""
    if name is None and any(map(_is_object, values)):
        raise InvalidInput("Expecting value/list but got object in 'instances'")
    try:
        return jsontensor.to_array(values, dtype, no_bools)
    except InvalidInput as error:
        batch_error = error
    except Unsupported as error:
        raise InvalidInput(f"{_element_prefix(0, name)} Error: UNIMPLEMENTED: {error}") from None
    first = None
    for i, value in enumerate(values):
        try:
            array = jsontensor.to_array(value, dtype)
        except InvalidInput as error:
            raise InvalidInput(f"{_element_prefix(i, name)} Error: INVALID_ARGUMENT: {error}") from None
        first = array if first is None else first
        if array.size != first.size:
            reason = f"Expecting tensor size: {first.size} but got: {array.size}"
        elif array.shape != first.shape:
            reason = f"Expecting shape {list(first.shape)} but got: {list(array.shape)}"
        else:
            continue
        raise InvalidInput(f"{_element_prefix(i, name)} Error: INVALID_ARGUMENT: {reason}")
    raise batch_error


def _element_prefix(i: int, name: str | None) -> str:
    return f"Failed to process element: {i} {f'key: {name} ' if name is not None else ''}of 'instances' list."


def _is_object(value: Any) -> bool:
    return isinstance(value, dict) and not jsontensor.is_base64(value)


def write_predict(outputs: Mapping[str, np.ndarray], row: bool) -> bytes:
    """The response in row or column format. Raises InvalidInput if the outputs do not fit rows."""
    if row:
        return jsontensor.dump({"predictions": _rows(outputs)})
    values = {name: _value(name, array) for name, array in outputs.items()}
    return jsontensor.dump({"outputs": values if len(values) > 1 else next(iter(values.values()), [])})


def _rows(outputs: Mapping[str, np.ndarray]) -> Any:
    for name, array in outputs.items():
        if not array.ndim:
            raise InvalidInput(
                f"Tensor name: {name} has no shape information, so it cannot be given in rows; use 'inputs'"
            )
    counts = {name: len(array) for name, array in outputs.items()}
    if len(set(counts.values())) > 1:
        raise InvalidInput(f"Tensors have inconsistent batch size: {counts}; use 'inputs' instead of 'instances'")
    values = {name: _value(name, array) for name, array in outputs.items()}
    if len(values) == 1:
        return next(iter(values.values()))
    return [dict(zip(values, row, strict=True)) for row in zip(*values.values(), strict=True)]


def _value(name: str, array: np.ndarray) -> Any:
    # As in TensorFlow Serving, strings are {"b64": …} only if the output's name ends in "_bytes".
    return jsontensor.from_array(array, as_bytes=name.endswith("_bytes"))


def write_error(message: str) -> bytes:
    return orjson.dumps({"error": message.encode("utf-8", "replace").decode()}, option=orjson.OPT_INDENT_2)


# ---- predict, client side


def write_predict_request(inputs: Mapping[str, np.ndarray], signature: str | None = None, row: bool = True) -> bytes:
    """A predict body. In row format every input is [N, …] with the same N. Bytes are sent as base64."""
    values = {name: _client_value(array) for name, array in inputs.items()}
    document: dict[str, Any] = {"signature_name": signature} if signature else {}
    if not row:
        document["inputs"] = values
    elif len(values) == 1:
        document["instances"] = next(iter(values.values()))
    else:
        if len({len(array) for array in inputs.values()}) > 1:
            raise InvalidInput("row format needs inputs of equal length; use row=False")
        document["instances"] = [dict(zip(values, row, strict=True)) for row in zip(*values.values(), strict=True)]
    return jsontensor.dump(document)


def _client_value(array: np.ndarray) -> Any:
    binary = array.dtype.kind == "S" or any(isinstance(v, bytes) for v in array.reshape(-1)[:1])
    return jsontensor.from_array(array, as_bytes=binary)


def read_predict_response(body: bytes) -> dict[str, np.ndarray]:
    """Output arrays by name; "" is the name of a sole output. Integers are int64, other numbers float64, text bytes.

    Raises InvalidInput for {"error": …} and for anything but a predict response.
    """
    document = jsontensor.parse(body)
    if type(document) is dict and isinstance(document.get("error"), str):
        raise InvalidInput(f"the server responded: {document['error']}")
    if type(document) is dict and "predictions" in document:
        rows = document["predictions"]
        if isinstance(rows, list) and rows and _is_object(rows[0]):
            if not all(_is_object(row) and row.keys() == rows[0].keys() for row in rows):
                raise InvalidInput("the response's rows do not have the same names")
            return {name: _response_array([row[name] for row in rows]) for name in rows[0]}
        return {"": _response_array(rows)}
    if type(document) is dict and "outputs" in document:
        outputs = document["outputs"]
        if _is_object(outputs):
            return {name: _response_array(value) for name, value in outputs.items()}
        return {"": _response_array(outputs)}
    raise InvalidInput(f"not a predict response: {excerpt(document)}")


def _response_array(value: Any) -> np.ndarray:
    first = value
    while isinstance(first, list) and first:
        first = first[0]
    if isinstance(first, str) or jsontensor.is_base64(first):
        return jsontensor.to_array(value, tensors.STRING)
    if isinstance(first, bool):
        return jsontensor.to_array(value, "bool")
    array = jsontensor.to_array(value, "float64", no_bools=True)
    if type(first) is int:
        try:
            return jsontensor.to_array(value, "int64", no_bools=True)
        except InvalidInput:
            pass
    return array


# ---- status and metadata


def write_status(statuses: Sequence[VersionStatus]) -> bytes:
    """Newest version first, as TensorFlow Serving lists them."""
    rows = [
        {
            "version": str(status.version),
            "state": status.state,
            "status": {"error_code": "UNKNOWN" if status.error else "OK", "error_message": status.error},
        }
        for status in sorted(statuses, key=lambda s: -s.version)
    ]
    return orjson.dumps({"model_version_status": rows}, option=orjson.OPT_INDENT_2)


def read_status(body: bytes) -> list[VersionStatus]:
    """Raises InvalidInput for anything but a status response."""
    try:
        rows = orjson.loads(body)["model_version_status"]
        return [VersionStatus(int(r["version"]), r["state"], r["status"]["error_message"]) for r in rows]
    except (ValueError, KeyError, TypeError):
        raise InvalidInput(f"not a status response of TensorFlow Serving: {body[:120]!r}") from None


def write_metadata(model: str, version: int, signature_defs: Mapping[str, Any]) -> bytes:
    """`signature_defs`: name → SignatureDef as protobuf JSON."""
    document = {
        "model_spec": {"name": model, "signature_name": "", "version": str(version)},
        "metadata": {"signature_def": {"signature_def": dict(signature_defs)}},
    }
    return orjson.dumps(document, option=orjson.OPT_INDENT_2)


def read_metadata(body: bytes) -> dict[str, Signature]:
    """The signatures by name. Raises InvalidInput for anything but a metadata response."""

    def tensor_specs(infos: Mapping[str, Any]) -> tuple[Tensor, ...]:
        specs = []
        for name, info in infos.items():
            sizes = [int(dim["size"]) for dim in info["tensor_shape"].get("dim", ())]
            dtype = _DTYPES.get(info["dtype"], info["dtype"].removeprefix("DT_").lower())
            specs.append(Tensor(name, dtype, tuple(None if size < 0 else size for size in sizes)))
        return tuple(specs)

    try:
        definitions = orjson.loads(body)["metadata"]["signature_def"]["signature_def"]
        return {
            name: Signature(tensor_specs(definition["inputs"]), tensor_specs(definition["outputs"]))
            for name, definition in definitions.items()
            if not name.startswith("__")  # TensorFlow's own
        }
    except (ValueError, LookupError, TypeError, AttributeError):
        raise InvalidInput(f"not a metadata response of TensorFlow Serving: {body[:120]!r}") from None
