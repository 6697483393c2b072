"""The fuzzer's seeds: valid requests, one of each form, and the words of the protocols.

input of tfserving    number of the verb (1 byte), body
input of oip          0, JSON; 1, header's length (uint16), JSON, tensors; 2, the tensor's raw bytes
input of graphpipe    the body
input of tfs_grpc     number of the method (1 byte), the message
input of oip_grpc     the message
"""

import json
import struct
from collections.abc import Iterator
from typing import Any

import numpy as np

from benchmarks.fuzz.model import TYPES
from seaway.protocols import graphpipe, oip_grpc, protobuf_wire, tfs_grpc
from seaway.protocols.calls import RawRequest

VERBS = ("predict", "classify", "regress")
METHODS = ("Predict", "Classify", "Regress")
IMAGE = [[[0.25], [1.5]], [[-3.0], [1e-3]]]
TFSERVING: list[dict[str, Any]] = [
    {"instances": [IMAGE]},
    {"instances": [IMAGE, IMAGE, IMAGE], "signature_name": "serving_default"},
    {"signature_name": "two", "instances": [{"a": [1, 2.5], "b": 3}, {"a": [0, 0], "b": -1}]},
    {"signature_name": "two", "inputs": {"a": [[1, 2.5]], "b": [3]}},
    {"signature_name": "text", "instances": ["plain", {"b64": "AAECAw=="}, "ü\u0000\U0001f600"]},
    {"signature_name": "unranked", "inputs": 1e300},
    *({"signature_name": name, "instances": [0, 1]} for name in TYPES if name not in ("bool", "uint16", "float16")),
    {"signature_name": "bool", "inputs": [True, False]},
    {"inputs": IMAGE},
    {"inputs": {"image": [IMAGE]}},
    {"instances": [{"image": IMAGE}, {"image": IMAGE}]},
]
CLASSIFY: list[dict[str, Any]] = [
    {"signature_name": "classify", "examples": [{"x": 1, "y": [1.5, 2.0], "z": {"b64": "AAE="}}, {"s": ["a", "b"]}]}
]
REGRESS: list[dict[str, Any]] = [{"signature_name": "regress", "context": {"c": [True]}, "examples": [{"x": -(2**63)}]}]
WORDS = {  # separated by blanks, in libFuzzer's syntax but for the quotes
    "tfserving": r"""
        "instances" "inputs" "signature_name" "examples" "context" "b64" "image" "a" "b" "two" "text" "unranked"
        "classify" "regress" "int8" "uint64" NaN Infinity -Infinity null true false [[ ]] ],[ {} [] 1e999 -0 1e-400
        18446744073709551616 \\ud800""",
    "oip": r"""
        "inputs" "outputs" "name" "shape" "datatype" "data" "parameters" "id" "image" "x" "scores" "binary_data_size"
        "binary_data" "binary_data_output" "classification" "signature_name" "FP32" "FP16" "FP64" "BF16" "BYTES" "BOOL"
        "INT8" "INT64" "UINT64" [-1] 4294967296 true false null NaN [] {} 9223372036854775807 18446744073709551616
        \\ud800""",
    "graphpipe": r"serving_default scores image signature_name \xff\xff\xff\xff \x00\x00\x00\x80",
    "tfs_grpc": r"""
        serving_default scores image two text unranked classify regress a b x inputs fuzzed \xff\xff\xff\xff\x0f""",
    "oip_grpc": r"""
        image scores text two signature_name classification binary_data_output FP32 FP16 BYTES BOOL INT64 fuzzed
        \xff\xff\xff\xff\x0f""",
}


def request_from(protocol: str, data: bytes) -> RawRequest:
    if protocol == "graphpipe":
        return RawRequest("infer", data)
    if protocol == "oip_grpc":
        return RawRequest("ModelInfer", data)
    kind = data[0] if data else 0
    if protocol == "tfs_grpc":
        return RawRequest(METHODS[kind % 3], data[1:])
    if protocol == "tfserving":
        return RawRequest(VERBS[kind % 3], data[1:])
    header = "inference-header-content-length"
    if kind % 3 == 0:
        return RawRequest("infer", data[1:])
    if kind % 3 == 1 and len(data) >= 3:
        return RawRequest("infer", data[3:], {header: str(struct.unpack_from("<H", data, 1)[0])})
    return RawRequest("infer", data[1:], {header: "0"})


def seeds(protocol: str) -> Iterator[bytes]:
    """Inputs in the format of `request_from`."""
    if protocol == "tfserving":
        for verb, documents in enumerate((TFSERVING, CLASSIFY, REGRESS)):
            for document in documents:
                yield bytes([verb]) + json.dumps(document).encode()
                yield bytes([verb]) + json.dumps(document, indent=1).encode()
    elif protocol == "oip":
        yield from _oip()
    elif protocol == "tfs_grpc":
        yield from _tfs_grpc()
    elif protocol == "oip_grpc":
        for inputs, outputs, signature in _calls():
            yield oip_grpc.name_model("fuzzed", 1) + oip_grpc.write_infer_request(inputs, outputs, signature)
    else:
        yield from _graphpipe()


def _oip() -> Iterator[bytes]:
    image = {"name": "image", "shape": [1, 2, 2, 1], "datatype": "FP32", "data": [0.25, 1.5, -3, float("nan")]}
    yield b"\x00" + json.dumps({"inputs": [image], "id": "\U0001f600"}).encode()
    yield b"\x00" + json.dumps({"inputs": [{**image, "data": [IMAGE]}], "outputs": [{"name": "scores"}]}).encode()
    best = {"name": "scores", "parameters": {"classification": 2}}
    yield b"\x00" + json.dumps({"inputs": [image], "outputs": [best]}).encode()
    two = [
        {"name": "a", "shape": [2, 2], "datatype": "FP32", "data": [[1, 2], [3, 4]]},
        {"name": "b", "shape": [2], "datatype": "INT32", "data": [1, 2]},
    ]
    yield b"\x00" + json.dumps({"inputs": two, "parameters": {"binary_data_output": True}}).encode()
    words = {"name": "text", "shape": [2], "datatype": "BYTES", "data": ["a", "ü\U0001f600"]}
    yield b"\x00" + json.dumps({"inputs": [words], "parameters": {"signature_name": "text"}}).encode()
    for name in TYPES:
        datatype = {"bool": "BOOL"}.get(name, name.upper().replace("FLOAT", "FP"))
        numbers = np.array([0, 1]).astype(name).tobytes()
        yield _binary({"name": "x", "shape": [2], "datatype": datatype}, numbers, name)
    strings = struct.pack("<I3sI", 3, b"abc", 0)
    yield _binary({"name": "text", "shape": [2], "datatype": "BYTES"}, strings, "text")
    yield b"\x02" + np.array([1, 2, 3, 4], np.float32).tobytes()


def _binary(tensor: dict[str, object], data: bytes, signature: str) -> bytes:
    tensor["parameters"] = {"binary_data_size": len(data)}
    document = {"inputs": [tensor], "parameters": {"signature_name": signature, "binary_data_output": True}}
    header = json.dumps(document).encode()
    return b"\x01" + struct.pack("<H", len(header)) + header + data


def _graphpipe() -> Iterator[bytes]:
    yield graphpipe.write_metadata_request()
    image = np.array([IMAGE], np.float32)
    yield graphpipe.write_infer_request([("", image)])
    yield graphpipe.write_infer_request([("image", image)], ["scores"])
    yield graphpipe.write_infer_request({"a": image[:, 0, :, 0], "b": np.array([1], np.int32)}, ["image", "scores"])
    for name in TYPES[1:]:
        array = np.array([0, 1]).astype(name)
        yield graphpipe.write_infer_request([("x", array)], (), json.dumps({"signature_name": name}))
    words = np.array([b"a", b"", "ü".encode()], object)
    yield graphpipe.write_infer_request([("text", words)], ["text_bytes"], '{"signature_name": "text"}')


def _calls() -> Iterator[tuple[dict[str, np.ndarray], list[str], str]]:
    """Inputs, outputs and signature of some calls."""
    image = np.array([IMAGE], np.float32)
    yield {"image": image}, [], ""
    yield {"image": image}, ["scores"], "serving_default"
    yield {"a": image[:, 0, :, 0], "b": np.array([1], np.int32)}, ["image", "scores"], "two"
    yield {"text": np.array([b"a", b"", "ü".encode()], object)}, ["text_bytes"], "text"
    yield {"x": np.array(1e300)}, [], "unranked"
    for name in TYPES:
        yield {"x": np.array([0, 1]).astype(name)}, [], name


def _tfs_grpc() -> Iterator[bytes]:
    for inputs, outputs, signature in _calls():
        body = tfs_grpc.write_predict_request(inputs, outputs, signature)
        yield b"\x00" + tfs_grpc.name_model("fuzzed", 1) + body
    feature = protobuf_wire.encode(1, b"x") + protobuf_wire.encode(2, protobuf_wire.encode(2, b"\n\x04\x00\x00\x80?"))
    example = protobuf_wire.encode(1, protobuf_wire.encode(1, feature))
    for method, name in enumerate(METHODS[1:], start=1):
        spec = protobuf_wire.encode(
            1, protobuf_wire.encode(1, b"fuzzed") + protobuf_wire.encode(3, name.lower().encode())
        )
        for kind in (1, 2):  # a list of examples, and one with a context
            examples = protobuf_wire.encode(1, example) + (protobuf_wire.encode(2, example) if kind == 2 else b"")
            yield bytes([method]) + spec + protobuf_wire.encode(2, protobuf_wire.encode(kind, examples))
