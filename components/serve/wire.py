"""What passes between the supervisor and a worker: frames of a JSON header and raw tensors, over a socket pair.

    u32 header size | u64 payload size | header | payload

The header's "tensors" lists [name, dtype, shape, bytes] in the payload's order; strings are u32 lengths, then bytes.
No pickle: a worker that a model has taken over can send wrong numbers, but no code.
"""

import struct
from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np
import orjson

from seaway.errors import SeawayError
from seaway.protocols import tensors

_PREFIX = struct.Struct("<IQ")

Message = tuple[dict[str, Any], dict[str, np.ndarray]]


def pack(header: Mapping[str, Any], arrays: Mapping[str, np.ndarray]) -> list[bytes | memoryview]:
    """One frame in pieces, so that large tensors are not copied. Raises SeawayError for a dtype it cannot carry."""
    blocks = [_bytes_of(name, array) for name, array in arrays.items()]
    listed = [
        (name, tensors.dtype_name(array), array.shape, len(block))
        for (name, array), block in zip(arrays.items(), blocks, strict=True)
    ]
    head = orjson.dumps({**header, "tensors": listed})
    return [_PREFIX.pack(len(head), sum(map(len, blocks))) + head, *blocks]


def _bytes_of(name: str, array: np.ndarray) -> bytes | memoryview:
    if tensors.dtype_name(array) == tensors.STRING:
        values = tensors.string_values(array)
        return np.array([len(v) for v in values], "<u4").tobytes() + b"".join(values)
    if array.dtype.kind not in "biufc":
        raise SeawayError(
            f"tensor {name!r} is of type {array.dtype}, which the protocols cannot carry: cast it in the model"
        )
    return tensors.raw(array)


def unpack(head: bytes, payload: bytes) -> Message:
    """A frame's header and its arrays, read-only views of `payload`."""
    header = orjson.loads(head)
    view, arrays, at = memoryview(payload), {}, 0
    for name, dtype, shape, size in header.pop("tensors"):
        arrays[name] = _array_of(dtype, shape, view[at : at + size])
        at += size
    return header, arrays


def _array_of(dtype: str, shape: list[int], data: memoryview) -> np.ndarray:
    if dtype != tensors.STRING:
        return tensors.from_raw(dtype, shape, data)
    count = int(np.prod(shape, dtype=np.int64))
    sizes = np.frombuffer(data, "<u4", count).tolist()
    values, at = [], 4 * count
    for size in sizes:
        values.append(bytes(data[at : at + size]))
        at += size
    return tensors.strings(values, shape)


class Frames:
    """Cuts a stream of bytes into frames."""

    def __init__(self) -> None:
        self._pending = bytearray()

    def feed(self, data: bytes) -> Iterator[Message]:
        self._pending += data
        while len(self._pending) >= _PREFIX.size:
            head, payload = _PREFIX.unpack_from(self._pending)
            end = _PREFIX.size + head + payload
            if len(self._pending) < end:
                return
            with memoryview(self._pending) as view:
                header, raw = bytes(view[_PREFIX.size : end - payload]), bytes(view[end - payload : end])
            del self._pending[:end]
            yield unpack(header, raw)
