"""Messages between the supervisor and a worker, over a socket pair: frames of a JSON header and raw bytes.

    u32 header size | u64 payload size | header | payload

The supervisor sends an `op`: "load" or "unload" (with an `id`, which the response repeats), "quarantine", or "predict",
whose "requests" list [protocol, verb, headers, body bytes] of the bodies in the payload. The worker sends {id, …} or
{id, error, status}; {running, shapes} before a risky run; and {replies, runs}, where each reply is [status, content
type, headers, body bytes, times]. Frames are JSON, not pickle: a compromised worker can send wrong data, but no code.
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
    """One frame as pieces, so that large bodies are not copied."""
    head = orjson.dumps(header)
    return [_PREFIX.pack(len(head), sum(map(len, payload))) + head, *payload]


def receive(channel: socket.socket) -> Iterator[Message]:
    """Yields frames until the other side closes. Receives each frame directly into its own buffer."""
    prefix = bytearray(_PREFIX.size)
    while _fill(channel, memoryview(prefix)):
        header_bytes, payload_bytes = _PREFIX.unpack(prefix)
        frame = memoryview(bytearray(header_bytes + payload_bytes))
        if not _fill(channel, frame):
            return
        yield orjson.loads(frame[:header_bytes]), frame[header_bytes:]
        del frame  # or it would stay in memory until the next one arrives


def _fill(channel: socket.socket, into: memoryview) -> bool:
    """Fills the buffer; False if the other side closes first."""
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
            header_bytes, payload_bytes = _PREFIX.unpack_from(self._pending)
            self._needed = _PREFIX.size + header_bytes + payload_bytes
            if len(self._pending) < self._needed:
                return
            frame, self._pending = self._pending, self._pending[self._needed :]
            start, end = _PREFIX.size + header_bytes, self._needed
            self._needed = _PREFIX.size
            view = memoryview(frame)
            yield orjson.loads(view[_PREFIX.size : start]), view[start:end]
