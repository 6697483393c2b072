"""Replays TensorFlow Serving's warm-up requests: `assets.extra/tf_serving_warmup_requests`, a TFRecord file.

A record is u64 length | u32 checksum of it | data | u32 checksum of the data, and its data a PredictionLog:

    PredictionLog   {classify_log = 2, regress_log = 3, multi_inference_log = 4, session_run_log = 5, predict_log = 6,
                     predict_streamed_log = 7}, each {request = 1, response = 2}

The requests are those of gRPC. Only the lengths' checksums are verified: those of the data would take longer than the
requests.
"""

import struct
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import BinaryIO

from seaway.artifacts import model_repository
from seaway.errors import InvalidInput, ModelError, SeawayError
from seaway.protocols import protobuf_wire, tfs_grpc
from seaway.protocols.calls import Call, ModelVersionInfo, RawRequest
from seaway.serve.backends.backend import Backend

FILE = "tf_serving_warmup_requests"
MAX_RECORDS = 1000  # TensorFlow Serving's

_VERBS, _MULTI_INFERENCE = {2: "Classify", 3: "Regress", 6: "Predict"}, 4
_NOT_REPLAYED = {5: "session_run_log", 7: "predict_streamed_log"}
_HEAD = struct.Struct("<QI")
_CHECKSUM_BYTES = 4


class _Damaged(Exception):
    """Not the format."""


def replay(folder: Path, backend: Backend, model: ModelVersionInfo, iterations: int = 1) -> int:
    """Runs each request of a version's folder `iterations` times. Returns the number of requests, 0 without the file.

    Raises ModelError for a damaged file, one with more than MAX_RECORDS, and a request that fails.
    """
    path = folder / model_repository.EXTRA / FILE
    if not iterations or not path.is_file():
        return 0
    count = 0  # with the request that is being read or run
    with path.open("rb") as file:
        records = _records(file, path.stat().st_size)
        try:
            while True:
                count += 1
                if (record := next(records, None)) is None:
                    return count - 1
                if count > MAX_RECORDS:
                    raise _Damaged(f"more than {MAX_RECORDS} requests")
                calls = list(_calls(record, model))
                for _ in range(iterations):
                    for call in calls:
                        backend.predict(call.signature, call.inputs, call.outputs)
        except (_Damaged, SeawayError, ValueError) as error:
            raise ModelError(f"{path}: warm-up request {count}: {error}; fix the file or remove it") from None


def _records(file: BinaryIO, size: int) -> Iterator[memoryview]:
    while head := file.read(_HEAD.size):
        if len(head) < _HEAD.size or _masked_crc32c(head[:8]) != _HEAD.unpack(head)[1]:
            raise _Damaged("not a TFRecord file, or a damaged one")
        length = _HEAD.unpack(head)[0]
        if length + _CHECKSUM_BYTES > size - file.tell():
            raise _Damaged("the file is truncated")
        yield memoryview(file.read(length))
        file.seek(_CHECKSUM_BYTES, 1)


def _calls(record: memoryview, model: ModelVersionInfo) -> Iterator[Call]:
    """The calls of a PredictionLog; several for multi-inference, none for a log without a request."""
    for kind, log in protobuf_wire.fields(record):
        if kind in _NOT_REPLAYED:
            raise InvalidInput(f"{_NOT_REPLAYED[kind]} cannot be replayed, as in TensorFlow Serving")
        if kind not in (*_VERBS, _MULTI_INFERENCE) or not isinstance(log, memoryview):
            continue
        request = protobuf_wire.embedded(log, 1)
        if request is None:
            continue
        parts = tfs_grpc.split(request)[0] if kind == _MULTI_INFERENCE else [(_VERBS[kind], request)]
        for verb, body in parts:
            yield tfs_grpc.read(RawRequest(verb, body), model)


@cache
def _crc32c_table() -> list[int]:
    table = []
    for byte in range(256):
        for _ in range(8):
            byte = byte >> 1 ^ (0x82F63B78 if byte & 1 else 0)
        table.append(byte)
    return table


def _masked_crc32c(data: bytes) -> int:
    """TFRecord's checksum: CRC-32C, rotated right by 15 bits, plus a constant."""
    crc = 0xFFFFFFFF
    for byte in data:
        crc = crc >> 8 ^ _crc32c_table()[(crc ^ byte) & 0xFF]
    crc ^= 0xFFFFFFFF
    return ((crc >> 15 | crc << 17) + 0xA282EAD8) & 0xFFFFFFFF
