"""The Open Inference Protocol v2 over gRPC, bytes ⇄ values: GRPCInferenceService.

    ModelInfer                      read, write in a worker; `find` reads only which model is meant
    ModelReady, ModelMetadata       find_named, write_model_metadata; the others write constants

A request holds its tensors in `raw_input_contents`, as bytes like those of the binary extension over HTTP, or in the
typed `contents` of each; the response has the same form. A version is a number, or, as Seaway's extension, a label.
"""

from collections.abc import Mapping, Sequence
from itertools import zip_longest
from typing import Any

import numpy as np
from google.protobuf.message import DecodeError

from seaway.errors import InvalidInput
from seaway.protocols import messages, oip, oiptensors, protobuf_wire, signatures, tensors, tfs_grpc
from seaway.protocols.calls import Call, ModelVersionInfo, RawRequest, Reply, version_number
from seaway.protocols.tfs_grpc import TYPE, Spec

SERVICE = "inference.GRPCInferenceService"
_RAW_INPUTS, _RAW_OUTPUTS = 7, 6  # field numbers
# Datatype → the field of InferTensorContents
_CONTENTS = {
    "BOOL": "bool_contents",
    **dict.fromkeys(("INT8", "INT16", "INT32"), "int_contents"),
    "INT64": "int64_contents",
    **dict.fromkeys(("UINT8", "UINT16", "UINT32"), "uint_contents"),
    "UINT64": "uint64_contents",
    "FP32": "fp32_contents",
    "FP64": "fp64_contents",
    "BYTES": "bytes_contents",
}


def _class(name: str) -> Any:
    return messages.message(f"inference.{name}")


ModelInferRequest, ModelInferResponse = _class("ModelInferRequest"), _class("ModelInferResponse")


# ---- which model


def find(request: bytes) -> Spec:
    """The model of a ModelInferRequest, ModelReadyRequest or ModelMetadataRequest: fields 1 and 2 of each."""
    name = version = ""
    for number, value in protobuf_wire.fields(request):
        if number == 1:
            name = protobuf_wire.text(value, "the model's name")
        elif number == 2:
            version = protobuf_wire.text(value, "the model's version")
    if not name:
        raise InvalidInput("the request names no model; send model_name")
    if not version:
        return Spec(name)
    if not version.isdecimal():
        return Spec(name, label=version)
    number_ = version_number(version)
    if number_ is None:
        raise InvalidInput(f"version {version[:40]!r} is not a number; versions are 1, 2, …")
    return Spec(name, version=number_)


# ---- ModelInfer: in a worker


def read(raw_request: RawRequest, model: ModelVersionInfo) -> Call:
    """The call that a ModelInferRequest makes, raw tensors as views of it. Raises InvalidInput, Unsupported."""
    without, blocks = protobuf_wire.take_out(raw_request.body, _RAW_INPUTS)
    try:
        request = ModelInferRequest.FromString(without)
    except DecodeError as error:
        raise InvalidInput(f"the message is not a ModelInferRequest: {error}") from None
    if blocks and len(blocks) != len(request.inputs):
        raise InvalidInput(
            f"raw_input_contents has {len(blocks)} blocks for {len(request.inputs)} inputs; send one for each, in order"
        )
    pairs = zip_longest(request.inputs, blocks)

    def tensor(entry: dict[str, Any], where: str) -> np.ndarray:
        one, raw = next(pairs)
        block = _contents(one, entry, where) if raw is None else raw
        if raw is not None and one.HasField("contents"):
            raise InvalidInput(f"{where} has contents beside raw_input_contents; send one of them")
        size = {} if block is None else {"binary_data_size": len(block)}
        return oiptensors.read_tensor(entry, where, size, block or b"", 0)[0]

    document = {
        "id": request.id,
        "parameters": _parameters(request.parameters) | {"binary_data_output": bool(blocks)},
        "inputs": [
            {
                "name": one.name,
                "shape": list(one.shape),
                "datatype": one.datatype,
                "parameters": _parameters(one.parameters),
            }
            for one in request.inputs
        ],
    }
    if request.outputs:
        document["outputs"] = [{"name": one.name, "parameters": _parameters(one.parameters)} for one in request.outputs]
    return oip.read_document(document, tensor, model)


def _parameters(parameters: Any) -> dict[str, Any]:
    chosen = ((name, one, one.WhichOneof("parameter_choice")) for name, one in parameters.items())
    return {name: getattr(one, kind) for name, one, kind in chosen if kind}


def _contents(one: Any, entry: dict[str, Any], where: str) -> bytes | None:
    """Adds the numbers of the typed field to the entry, as the `data` of JSON; returns strings as a raw tensor."""
    field = _CONTENTS.get(one.datatype, "")
    filled = [descriptor.name for descriptor, _ in one.contents.ListFields()]
    if filled not in ([], [field]):
        suited = f"in {field}" if field else "as raw_input_contents"
        raise InvalidInput(f"{where} is {one.datatype[:40]}, which is sent {suited}, not in {', '.join(filled)}")
    values = list(getattr(one.contents, field)) if field else []
    if one.datatype == "BYTES":
        return b"".join(len(value).to_bytes(4, "little") + value for value in values)
    entry["data"] = values
    return None


def write(call: Call, outputs: Mapping[str, np.ndarray], model: ModelVersionInfo) -> Reply:
    """The ModelInferResponse, raw if the request was. Raises InvalidInput, Unsupported."""
    response_format: oip.ResponseFormat = call.response_format
    response = ModelInferResponse(model_name=model.name, model_version=str(model.version), id=response_format.id)
    requested = response_format.outputs or [
        oip.RequestedOutput(tensor.name, response_format.binary) for tensor in model.signatures[call.signature].outputs
    ]
    arrays = {}
    for output in requested:
        array = outputs[output.name]
        if output.classes:
            array = oiptensors.best_classes(output.name, array, output.classes, model.labels)
        arrays[output.name] = array
    binary = response_format.binary or any(array.dtype == np.float16 for array in arrays.values())
    blocks: list[bytes | memoryview] = []
    for name, array in arrays.items():
        entry, block = oiptensors.write_tensor(name, array, True)
        tensor = response.outputs.add(name=name, datatype=entry["datatype"], shape=array.shape)
        if binary:
            blocks.append(block or b"")
        else:
            values = tensors.string_values(array) if entry["datatype"] == "BYTES" else array.reshape(-1).tolist()
            getattr(tensor.contents, _CONTENTS[entry["datatype"]]).extend(values)
    pieces: list[bytes | memoryview] = [response.SerializeToString()]
    for block in blocks:
        pieces += [
            protobuf_wire.varint(_RAW_OUTPUTS << 3 | protobuf_wire.BYTES) + protobuf_wire.varint(len(block)),
            block,
        ]
    return Reply(200, pieces, TYPE)


error = tfs_grpc.error


# ---- ModelInfer: client side


def write_infer_request(inputs: Mapping[str, np.ndarray], outputs: Sequence[str], signature: str) -> bytes:
    """A ModelInferRequest without its model, of which `name_model` gives the rest: joined, they are one message."""
    request = ModelInferRequest(outputs=[{"name": name} for name in outputs])
    if signature:
        request.parameters["signature_name"].string_param = signature
    blocks = []
    for name, array in inputs.items():
        entry, block = oiptensors.write_tensor(name, array, True)
        request.inputs.add(name=name, datatype=entry["datatype"], shape=array.shape)
        blocks.append(protobuf_wire.encode(_RAW_INPUTS, block or b""))
    return b"".join([request.SerializeToString(), *blocks])


def name_model(name: str, version: int | None) -> bytes:
    """The part of a request that names the model."""
    number = b"" if version is None else protobuf_wire.encode(2, str(version).encode())
    return protobuf_wire.encode(1, name.encode()) + number


def read_infer_response(body: bytes) -> dict[str, np.ndarray]:
    """Output arrays by name. Raises InvalidInput for anything but a ModelInferResponse with raw outputs."""
    without, blocks = protobuf_wire.take_out(body, _RAW_OUTPUTS)
    try:
        response = ModelInferResponse.FromString(without)
    except DecodeError as error:
        raise InvalidInput(f"not a ModelInferResponse: {error}") from None
    if not response.outputs or len(blocks) != len(response.outputs):
        raise InvalidInput(f"the response has {len(response.outputs)} outputs and {len(blocks)} raw tensors")
    arrays = {}
    for output, block in zip(response.outputs, blocks, strict=True):
        entry = {"shape": list(output.shape), "datatype": output.datatype}
        where = f"output {output.name!r}"
        arrays[output.name], _ = oiptensors.read_tensor(entry, where, {"binary_data_size": len(block)}, block, 0)
    return arrays


# ---- health and metadata: in the supervisor


def write_ready(ready: bool) -> bytes:
    """The response of ServerLive, ServerReady or ModelReady, which have the same form."""
    return b"\x08\x01" if ready else b""


def write_server_metadata(name: str, version: str, extensions: Sequence[str]) -> bytes:
    response = _class("ServerMetadataResponse")(name=name, version=version, extensions=extensions)
    return bytes(response.SerializeToString())


def write_model_metadata(model: ModelVersionInfo, versions: Sequence[str]) -> bytes:
    """The interface of the signature that a request without parameters calls; -1 is a free size."""
    response = _class("ModelMetadataResponse")(name=model.name, versions=versions, platform=model.platform)
    sides = oip.interface(model.signatures[signatures.by_preference(model)[0]])
    for field in ("inputs", "outputs"):
        for tensor in sides[field]:
            getattr(response, field).add(name=tensor["name"], datatype=tensor["datatype"], shape=tensor["shape"])
    return bytes(response.SerializeToString())
