import numpy as np
import pytest

from components.serve import wire
from seaway.errors import SeawayError
from seaway.protocols.tensors import strings

ARRAYS = {
    "image": np.arange(12, dtype=np.float32).reshape(2, 2, 3),
    "scalar": np.asarray(np.int64(-7)),
    "none": np.zeros((0, 5), np.uint8),
    "flags": np.array([[True, False]]),
    "words": strings([b"", b"a\0", b"\xff" * 300], (3, 1)),
    "complex": np.complex64([1 + 2j]),
}


def same(a, b):
    return a.keys() == b.keys() and all(
        a[n].shape == b[n].shape and a[n].dtype == b[n].dtype and a[n].tolist() == b[n].tolist() for n in a
    )


@pytest.mark.parametrize("step", [1, 7, 1_000_000])
def test_frames_arrive_whole_however_they_are_cut(step):
    stream = b"".join(map(bytes, [*wire.pack({"id": 1}, ARRAYS), *wire.pack({"id": 2, "key": "m/1"}, {})]))
    frames = wire.Frames()
    found = [message for at in range(0, len(stream), step) for message in frames.feed(stream[at : at + step])]
    assert [header for header, _ in found] == [{"id": 1}, {"id": 2, "key": "m/1"}]
    assert same(found[0][1], ARRAYS)


def test_a_dtype_that_cannot_be_carried():
    with pytest.raises(SeawayError, match="cannot carry"):
        wire.pack({}, {"x": np.array(["2026-01-01"], "datetime64[D]")})
