"""Messages over both kinds of pairs: whole, in order, each with its descriptor, until the other side is gone."""

import asyncio
import errno
import os
import socket
import threading
from collections.abc import Iterator

import pytest

from seaway.platform import sockets
from seaway.platform.sockets import MAX_MESSAGE

MESSAGES = [b"a", b"{}" * 100, bytes(MAX_MESSAGE), b"last"]
Pair = tuple[socket.socket, socket.socket]


def pair_of_streams() -> Pair:
    return socket.socketpair(socket.AF_UNIX, socket.SOCK_STREAM)


@pytest.fixture(params=[sockets.message_pair, pair_of_streams])
def pair(request: pytest.FixtureRequest) -> Iterator[Pair]:
    ours, theirs = request.param()
    with ours, theirs:
        theirs.settimeout(60)
        yield ours, theirs


def test_messages_arrive_one_by_one_then_the_end(pair: Pair) -> None:
    for message in MESSAGES:
        sockets.send_message(pair[0], message)
    pair[0].close()
    assert [sockets.receive_message(pair[1]) for _ in range(len(MESSAGES) + 2)] == [
        *((message, []) for message in MESSAGES),
        (b"", []),
        (b"", []),
    ]


def test_each_message_carries_its_own_descriptor(pair: Pair) -> None:
    """Even if all are queued when the first is read."""
    for number in range(3):
        read, write = os.pipe()
        sockets.send_message(pair[0], b"read this", [read])
        os.close(read)
        os.write(write, b"%d" % number)
        os.close(write)
    for number in range(3):
        message, [descriptor] = sockets.receive_message(pair[1])
        assert (message, os.read(descriptor, 10)) == (b"read this", b"%d" % number)
        os.close(descriptor)


def listen(channel: socket.socket, send: threading.Thread) -> list[bytes]:
    async def run() -> list[bytes]:
        send.start()
        return [message async for message in sockets.messages(channel)]

    channel.setblocking(False)
    try:
        return asyncio.run(run())
    finally:
        send.join()


def test_an_event_loop_gets_the_same(pair: Pair) -> None:
    def send() -> None:
        for message in MESSAGES:
            sockets.send_message(pair[0], message)
        pair[0].close()

    assert listen(pair[1], threading.Thread(target=send)) == MESSAGES


def test_a_stream_that_comes_byte_by_byte_and_ends_within_a_message() -> None:
    sender, receiver = pair_of_streams()
    with sender, receiver:
        for message in MESSAGES:
            sockets.send_message(sender, message)
        whole = receiver.recv(1 << 16)

        def send(count: int) -> None:
            for byte in whole[:count]:
                sender.send(bytes([byte]))
            sender.close()

        assert listen(receiver, threading.Thread(target=send, args=[len(whole) - 1])) == MESSAGES[:-1]
    ours, theirs = pair_of_streams()
    with ours, theirs:
        ours.sendall(whole[:-1])
        ours.close()
        received = [sockets.receive_message(theirs)[0] for _ in range(len(MESSAGES))]
        assert received == [*MESSAGES[:-1], b""]


def fill(channel: socket.socket) -> int:
    """Sends until the buffer is full; returns the number of messages sent."""
    channel.setblocking(False)
    for sent in range(1 << 20):
        try:
            sockets.send_message(channel, bytes(MAX_MESSAGE))
        except (BlockingIOError, BrokenPipeError):
            return sent
    raise AssertionError("nothing was refused")


def test_a_reader_that_is_slow_does_not_block_the_sender(pair: Pair) -> None:
    sent = fill(pair[0])
    assert sent
    for _ in range(sent):
        assert len(sockets.receive_message(pair[1])[0]) == MAX_MESSAGE


class Short(socket.socket):
    """Sends only half of the data, as a system may if its buffer is nearly full."""

    def send(self, data: bytes, flags: int = 0) -> int:
        return super().send(data[: len(data) // 2], flags)


@pytest.mark.parametrize("blocks", [True, False])
def test_a_message_sent_in_parts_arrives_whole_or_is_the_last(blocks: bool) -> None:
    """Or the next message would be mistaken for the rest."""
    ours, theirs = pair_of_streams()
    with Short(fileno=ours.detach()) as short, theirs:
        short.setblocking(blocks)
        theirs.settimeout(60)
        if blocks:
            sockets.send_message(short, b"whole")
            assert sockets.receive_message(theirs) == (b"whole", [])
        else:
            with pytest.raises(BrokenPipeError):
                sockets.send_message(short, b"whole")
            assert sockets.receive_message(theirs) == (b"", [])


@pytest.mark.parametrize("size", [0, MAX_MESSAGE + 1])
def test_sizes_that_cannot_be_sent(pair: Pair, size: int) -> None:
    with pytest.raises(ValueError, match=f"a message of {size} bytes"):
        sockets.send_message(pair[0], bytes(size))


@pytest.mark.parametrize("missing", [True, False])
def test_without_packets_a_pair_is_a_stream(monkeypatch: pytest.MonkeyPatch, missing: bool) -> None:
    def refuse(family: int, kind: int, plain=socket.socketpair) -> Pair:
        if kind != socket.SOCK_STREAM:
            raise OSError(errno.EPROTONOSUPPORT, "Protocol not supported")
        return plain(family, kind)

    if missing:
        monkeypatch.delattr(socket, "SOCK_SEQPACKET", raising=False)
    else:
        monkeypatch.setattr(socket, "socketpair", refuse)
    ours, theirs = sockets.message_pair()
    with ours, theirs:
        assert ours.type == theirs.type == socket.SOCK_STREAM
        sockets.send_message(ours, b"hello")
        assert sockets.receive_message(theirs) == (b"hello", [])


def test_what_is_wrong_beside_the_kind_is_raised(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: object) -> Pair:
        raise OSError(errno.EMFILE, "Too many open files")

    monkeypatch.setattr(socket, "socketpair", refuse)
    with pytest.raises(OSError, match="Too many open files"):
        sockets.message_pair()


def test_a_stream_pair_holds_a_large_body() -> None:
    ours, theirs = sockets.stream_pair(1 << 17)
    with ours, theirs:
        ours.setblocking(False)
        assert ours.send(bytes(1 << 17)) == 1 << 17
