"""Sockets: pairs between our own processes, messages with descriptors over them, and a port that stops accepting.

SOCK_SEQPACKET preserves message boundaries. On systems without it (macOS), each message is sent over a stream after its
size. The functions accept both kinds of socket.
"""

import asyncio
import contextlib
import ctypes
import socket
import struct
import sys
from collections.abc import AsyncIterator, Sequence

MAX_MESSAGE = 4096
_SIZE = struct.Struct("<I")
_SO_ATTACH_FILTER = 26  # asm-generic/socket.h's


def stream_pair(buffer_bytes: int) -> tuple[socket.socket, socket.socket]:
    """Two ends of a stream with send buffers of `buffer_bytes`, or what the system allows."""
    pair = socket.socketpair()
    for end in pair:
        with contextlib.suppress(OSError):  # Linux then gives less, others refuse
            end.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, buffer_bytes)
    return pair


def message_pair() -> tuple[socket.socket, socket.socket]:
    """Two ends that exchange whole messages, each of which notices when the other closes."""
    try:
        return socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    except (AttributeError, OSError):  # if the kind is not the problem, the stream raises the same error
        return socket.socketpair(socket.AF_UNIX, socket.SOCK_STREAM)


def send_message(channel: socket.socket, message: bytes, descriptors: Sequence[int] = ()) -> None:
    """Sends 1 to MAX_MESSAGE bytes. Keep `descriptors` open until the other side has responded, because macOS may lose
    those that are closed in transit.

    Raises OSError; BlockingIOError if `channel` is non-blocking and the other side has too much to read.
    """
    if not 0 < len(message) <= MAX_MESSAGE:
        raise ValueError(f"cannot send a message of {len(message)} bytes: use 1 to {MAX_MESSAGE}")
    framed = message if _keeps_boundaries(channel) else _SIZE.pack(len(message)) + message
    sent = socket.send_fds(channel, [framed], list(descriptors)) if descriptors else channel.send(framed)
    if sent < len(framed):
        if channel.getblocking():
            channel.sendall(framed[sent:])
        else:
            channel.shutdown(socket.SHUT_RDWR)  # the rest cannot be sent now, and nothing can follow a partial message
            raise BrokenPipeError("a message was sent only in part, so the channel was closed")


def receive_message(channel: socket.socket, most: int = 1) -> tuple[bytes, list[int]]:
    """Waits for the next message, with at `most` so many descriptors; b"" if the other side has closed. Raises
    OSError."""
    if _keeps_boundaries(channel):
        message, descriptors, _, _ = socket.recv_fds(channel, MAX_MESSAGE, most)
        return message, descriptors
    # Descriptors arrive with a message's first byte, and are lost if that read does not request them.
    head, descriptors, _, _ = socket.recv_fds(channel, _SIZE.size, most)
    head = _receive_exactly(channel, head, _SIZE.size) if head else b""
    return _receive_exactly(channel, b"", _SIZE.unpack(head)[0]) if len(head) == _SIZE.size else b"", descriptors


async def messages(channel: socket.socket) -> AsyncIterator[bytes]:
    """Yields messages from a non-blocking channel until the other side closes; no descriptors."""
    loop = asyncio.get_running_loop()
    if _keeps_boundaries(channel):
        while message := await loop.sock_recv(channel, MAX_MESSAGE):
            yield message
        return
    pending = b""
    while more := await loop.sock_recv(channel, MAX_MESSAGE):
        pending += more
        while len(pending) >= _SIZE.size:
            end = _SIZE.size + _SIZE.unpack_from(pending)[0]
            if len(pending) < end:
                break
            yield pending[_SIZE.size : end]
            pending = pending[end:]


def stop_accepting(listening: socket.socket) -> None:
    """Drops only packets that open a connection (SYN without ACK), so that clients retry while the queue is emptied;
    see socket(7), SO_ATTACH_FILTER. Linux only: elsewhere clients that connect as the port closes may be reset."""
    load_flags, mask, jump_if_equal, leave = 0x30, 0x54, 0x15, 0x06
    steps = [
        (load_flags, 0, 0, 13),
        (mask, 0, 0, 0x12),
        (jump_if_equal, 0, 1, 0x02),
        (leave, 0, 0, 0),
        (leave, 0, 0, 1 << 16),
    ]
    program = ctypes.create_string_buffer(b"".join(struct.pack("HBBI", *step) for step in steps))
    if sys.platform == "linux":  # elsewhere the option's number may mean anything
        with contextlib.suppress(OSError):  # the kernel may lack filters
            listening.setsockopt(
                socket.SOL_SOCKET, _SO_ATTACH_FILTER, struct.pack("HP", len(steps), ctypes.addressof(program))
            )


def _keeps_boundaries(channel: socket.socket) -> bool:
    return channel.type == getattr(socket, "SOCK_SEQPACKET", None)


def _receive_exactly(channel: socket.socket, begun: bytes, size: int) -> bytes:
    """`begun` plus the following bytes, `size` in all; b"" if the other side closes first."""
    while len(begun) < size:
        more = channel.recv(size - len(begun))
        if not more:
            return b""
        begun += more
    return begun
