import socket
import threading

import pytest

from seaway.serve import ipc


def frames(*messages):
    return b"".join(b"".join(ipc.pack(header, payload)) for header, payload in messages)


SENT = [({"op": "predict", "sizes": [3, 0]}, [b"abc", b""]), ({"id": 1}, []), ({"é": None}, [memoryview(b"x" * 5000)])]


@pytest.mark.parametrize("step", [1, 7, 1000, 1 << 20])
def test_frames_are_complete_however_the_stream_is_split(step):
    stream, reader, got = frames(*SENT), ipc.Frames(), []
    for at in range(0, len(stream), step):
        got += [(header, bytes(payload)) for header, payload in reader.feed(stream[at : at + step])]
    assert got == [(header, b"".join(payload)) for header, payload in SENT]


def test_a_payload_outlives_the_next_frame():
    reader = ipc.Frames()
    [(_, first)] = reader.feed(frames(({}, [b"first"])))
    [(_, second)] = reader.feed(frames(({}, [b"second"])))
    assert (bytes(first), bytes(second)) == (b"first", b"second")


@pytest.mark.parametrize("step", [1, 7, 1000, 1 << 20])
def test_frames_are_received_completely_however_they_are_sent(step):
    ours, theirs = socket.socketpair()
    stream = frames(*SENT)

    def send():
        for at in range(0, len(stream), step):
            ours.sendall(stream[at : at + step])
        ours.close()

    sender = threading.Thread(target=send)
    sender.start()
    with theirs:
        got = [(header, bytes(payload)) for header, payload in ipc.receive(theirs)]
    sender.join(10)
    assert got == [(header, b"".join(payload)) for header, payload in SENT]


@pytest.mark.parametrize("missing", [1, 3, 5003, 5012])
def test_an_incomplete_frame_is_not_received(missing):
    ours, theirs = socket.socketpair()
    with theirs:
        ours.sendall(frames(*SENT)[:-missing])
        ours.close()
        assert len(list(ipc.receive(theirs))) == 2
