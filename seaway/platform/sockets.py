"""Sockets: pairs between our own processes, messages with descriptors over them, and a port that stops listening.

Messages keep their bounds by SOCK_SEQPACKET. Where there are no such pairs (macOS), each goes over a stream behind its
size. Which of the two a socket is, it tells itself: functions take either.
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


def stream_pair(held: int) -> tuple[socket.socket, socket.socket]:
    """Two ends of a stream, each of which holds up to `held` bytes on their way, or what the system gives."""
    pair = socket.socketpair()
    for end in pair:
        with contextlib.suppress(OSError):  # Linux gives less than was asked for, others refuse
            end.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, held)
    return pair


def message_pair() -> tuple[socket.socket, socket.socket]:
    """Two ends between which messages pass whole, and at each of which the other's end is noticed."""
    try:
        return socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    except (AttributeError, OSError):  # what is wrong beside the kind is so for a stream, and is raised there
        return socket.socketpair(socket.AF_UNIX, socket.SOCK_STREAM)


def send_message(channel: socket.socket, message: bytes, descriptors: Sequence[int] = ()) -> None:
    """Sends 1 to MAX_MESSAGE bytes; descriptors are to stay open until the other side has answered, because macOS may
    lose those that are closed on their way.

    Raises OSError; BlockingIOError where `channel` does not block and the other side has too much to read.
    """
    if not 0 < len(message) <= MAX_MESSAGE:
        raise ValueError(f"a message of {len(message)} bytes: 1 to {MAX_MESSAGE} can be sent")
    framed = message if _keeps_bounds(channel) else _SIZE.pack(len(message)) + message
    sent = socket.send_fds(channel, [framed], list(descriptors)) if descriptors else channel.send(framed)
    if sent < len(framed):
        if channel.getblocking():
            channel.sendall(framed[sent:])
        else:
            channel.shutdown(socket.SHUT_RDWR)  # the rest cannot be sent now, and nothing can follow a half
            raise BrokenPipeError("a message went over in part, so the channel was closed")


def receive_message(channel: socket.socket) -> tuple[bytes, list[int]]:
    """Waits for the next message and one descriptor at most; b"" where the other side is gone. Raises OSError."""
    if _keeps_bounds(channel):
        message, descriptors, _, _ = socket.recv_fds(channel, MAX_MESSAGE, 1)
        return message, descriptors
    # Descriptors come with a message's first byte, and are lost with a read that does not ask for them.
    head, descriptors, _, _ = socket.recv_fds(channel, _SIZE.size, 1)
    head = _rest(channel, head, _SIZE.size) if head else b""
    return _rest(channel, b"", _SIZE.unpack(head)[0]) if len(head) == _SIZE.size else b"", descriptors


async def messages(channel: socket.socket) -> AsyncIterator[bytes]:
    """The messages that come over a channel that does not block, until the other side is gone; no descriptors."""
    loop = asyncio.get_running_loop()
    if _keeps_bounds(channel):
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


def take_no_new(listening: socket.socket) -> None:
    """Drops packets that open a connection (SYN without ACK), and no others, so that clients try again while the queue
    is emptied; see socket(7), SO_ATTACH_FILTER. Only Linux has this: elsewhere who connects as the port is closed may
    be reset."""
    load_flags, mask, jump_if_equal, leave = 0x30, 0x54, 0x15, 0x06
    steps = [
        (load_flags, 0, 0, 13),
        (mask, 0, 0, 0x12),
        (jump_if_equal, 0, 1, 0x02),
        (leave, 0, 0, 0),
        (leave, 0, 0, 1 << 16),
    ]
    program = ctypes.create_string_buffer(b"".join(struct.pack("HBBI", *step) for step in steps))
    if sys.platform == "linux":  # else the option's number may mean anything
        with contextlib.suppress(OSError):  # where the kernel knows no filters
            listening.setsockopt(
                socket.SOL_SOCKET, _SO_ATTACH_FILTER, struct.pack("HP", len(steps), ctypes.addressof(program))
            )


def _keeps_bounds(channel: socket.socket) -> bool:
    return channel.type == getattr(socket, "SOCK_SEQPACKET", None)


def _rest(channel: socket.socket, begun: bytes, size: int) -> bytes:
    """`begun` and what follows, `size` bytes in all; b"" where the other side is gone before that."""
    while len(begun) < size:
        more = channel.recv(size - len(begun))
        if not more:
            return b""
        begun += more
    return begun
