import struct

import pytest

from seaway.errors import InvalidInput
from seaway.protocols.flatbuffer import Buffer, Scalar, Writer


def write(fields):
    return Writer().finish(lambda w: w.table(fields))


def test_absent_fields_read_as_their_defaults():
    table = Buffer(write([None, None])).root()
    assert table.byte(0) == 0
    assert table.long(1) == 0
    assert table.string(0) == b""
    assert table.table(0) is None
    assert table.vector(5, 8) is None
    assert table.longs(0) == ()
    assert table.strings(0) == table.tables(0) == []


def test_scalars_of_different_widths_in_any_order():
    table = Buffer(write([Scalar("B", 200), Scalar("q", -(2**63)), Scalar("B", 3)])).root()
    assert (table.byte(0), table.long(1), table.byte(2)) == (200, -(2**63), 3)


def test_everything_lies_at_a_multiple_of_its_size():
    body = write(
        [Scalar("B", 1), lambda w: w.vector(3, struct.pack("<3q", 1, 2, 3)), Scalar("q", 7), lambda w: w.string(b"abc")]
    )
    root = int.from_bytes(body[:4], "little")
    vtable = root - struct.unpack_from("<i", body, root)[0]
    offsets = struct.unpack_from("<4H", body, vtable + 4)
    assert (root + offsets[2]) % 8 == 0
    vector = root + offsets[1] + struct.unpack_from("<I", body, root + offsets[1])[0]
    assert (vector + 4) % 8 == 0
    assert Buffer(body).root().longs(1) == (1, 2, 3)


def test_strings_may_hold_anything():
    values = [b"", b"a\0b", b"\xff" * 70_000]
    table = Buffer(write([lambda w: w.references([lambda w, v=v: w.string(v) for v in values])])).root()
    assert table.strings(0) == values


def test_a_string_that_is_pointed_at_twice_is_one_object():
    body = bytearray(write([lambda w: w.references([lambda w: w.string(b"one"), lambda w: w.string(b"two")])]))
    root = int.from_bytes(body[:4], "little")
    vector = root + 4 + int.from_bytes(body[root + 4 : root + 8], "little")
    second = int.from_bytes(body[vector + 8 : vector + 12], "little")
    struct.pack_into("<I", body, vector + 4, second + 4)  # the first entry now points where the second does
    first, other = Buffer(bytes(body)).root().strings(0)
    assert first == b"two"
    assert first is other


def test_overlapping_strings_cannot_unfold_to_more_than_the_body():
    """Each of 1,000 offsets points at another byte of a run of lengths that reach far: 1,000 strings of 64 KiB."""
    lengths = struct.pack("<I", 65_536) * 1_000 + bytes(70_000)
    count = 1_000
    offsets = struct.pack(f"<{count}I", *(4 * (count - i) + 4 * i for i in range(count)))
    body = write([lambda w: w.vector(count, offsets + lengths, align=4)])
    with pytest.raises(InvalidInput, match="overlap"):
        Buffer(body).root().strings(0)


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"\x04\0\0",
        bytes(64),  # a table whose vtable has no size
        b"\xff\xff\xff\xff" * 8,
        struct.pack("<Ii", 4, -(2**31)),  # a vtable far behind the end
        struct.pack("<IiHH", 4, -4, 6, 4),  # a vtable longer than the body
    ],
)
def test_a_body_that_is_none(body):
    with pytest.raises(InvalidInput):
        Buffer(body).root()
