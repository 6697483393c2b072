import pytest

from components.serve import wire


def frames(*messages):
    return b"".join(b"".join(wire.pack(header, payload)) for header, payload in messages)


SENT = [({"op": "answer", "sizes": [3, 0]}, [b"abc", b""]), ({"id": 1}, []), ({"é": None}, [memoryview(b"x" * 5000)])]


@pytest.mark.parametrize("step", [1, 7, 1000, 1 << 20])
def test_frames_come_out_whole_however_they_are_cut(step):
    stream, reader, got = frames(*SENT), wire.Frames(), []
    for at in range(0, len(stream), step):
        got += [(header, bytes(payload)) for header, payload in reader.feed(stream[at : at + step])]
    assert got == [(header, b"".join(payload)) for header, payload in SENT]


def test_a_payload_outlives_the_next_frame():
    reader = wire.Frames()
    [(_, first)] = reader.feed(frames(({}, [b"first"])))
    [(_, second)] = reader.feed(frames(({}, [b"second"])))
    assert (bytes(first), bytes(second)) == (b"first", b"second")
