"""What passes between the supervisor and a worker, over a socket pair: frames of a JSON header and raw bytes.

    u32 header size | u64 payload size | header | payload

To the worker, `op` says what is wanted: "load" and "unload" of a version, or "answer", which carries requests as they
came from clients, their bodies one after another as the payload: "requests" lists [protocol, verb, headers, size]. The
answer lists [status, type, headers, size] of each reply. No pickle: a worker that a model has taken over can send wrong
numbers, but no code.
"""

import socket
import struct
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import orjson

_PREFIX = struct.Struct("<IQ")

Message = tuple[dict[str, Any], memoryview]
Piece = bytes | memoryview


def pack(header: Mapping[str, Any], payload: Sequence[Piece] = ()) -> list[Piece]:
    """One frame in pieces, so that large bodies are not copied."""
    head = orjson.dumps(header)
    return [_PREFIX.pack(len(head), sum(map(len, payload))) + head, *payload]


def receive(channel: socket.socket) -> Iterator[Message]:
    """The frames that come, as they come, until the other side closes; what is large is received where it stays."""
    prefix = bytearray(_PREFIX.size)
    while _fill(channel, memoryview(prefix)):
        head, size = _PREFIX.unpack(prefix)
        frame = memoryview(bytearray(head + size))
        if not _fill(channel, frame):
            return
        yield orjson.loads(frame[:head]), frame[head:]
        del frame  # or it would be held until the next one is there


def _fill(channel: socket.socket, into: memoryview) -> bool:
    """False where the other side closed before that."""
    while into:
        count = channel.recv_into(into)
        if not count:
            return False
        into = into[count:]
    return True


class Frames:
    """Cuts a stream of bytes into frames."""

    def __init__(self) -> None:
        self._pending = bytearray()
        self._needed = _PREFIX.size

    def feed(self, data: bytes) -> Iterator[Message]:
        self._pending += data
        while len(self._pending) >= self._needed:
            head, payload = _PREFIX.unpack_from(self._pending)
            self._needed = _PREFIX.size + head + payload
            if len(self._pending) < self._needed:
                return
            taken, self._pending = self._pending, self._pending[self._needed :]
            start, end = _PREFIX.size + head, self._needed
            self._needed = _PREFIX.size
            view = memoryview(taken)
            yield orjson.loads(view[_PREFIX.size : start]), view[start:end]
