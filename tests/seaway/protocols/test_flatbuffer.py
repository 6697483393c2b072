import struct

import pytest

from seaway.errors import InvalidInput
from seaway.protocols.flatbuffer import Buffer, Writer


def written(writer, root):
    return b"".join(writer.finish(root))


def test_absent_fields_read_as_their_defaults():
    writer = Writer()
    root = writer.table(0, 0)[0]
    table = Buffer(written(writer, root)).root()
    assert table.byte(0) == 0
    assert table.long(1) == 0
    assert table.string(0) == b""
    assert table.table(0) is None
    assert table.vector(5, 8) == b""
    assert table.longs(0) == ()
    assert table.strings(0) == table.tables(0) == []


def test_scalars_of_different_widths_in_any_order():
    writer = Writer()
    root, first, second, third = writer.table(1, 8, 1)
    writer.head[first], writer.head[third] = 200, 3
    struct.pack_into("<q", writer.head, second, -(2**63))
    table = Buffer(written(writer, root)).root()
    assert (table.byte(0), table.long(1), table.byte(2)) == (200, -(2**63), 3)


def test_everything_is_aligned_to_its_size():
    writer = Writer()
    root, byte, longs, number, string, data = writer.table(1, 4, 8, 4, 4)
    writer.head[byte] = 1
    writer.link(longs, writer.longs([1, 2, 3]))
    writer.link(string, writer.string(b"abc"))
    writer.data(data, b"0123456789")
    assert longs % 4 == number % 8 == string % 4 == 0
    body = written(writer, root)
    vector = longs + struct.unpack_from("<I", body, longs)[0]
    assert (vector + 4) % 8 == 0
    assert (data + struct.unpack_from("<I", body, data)[0] + 4) % 16 == 0
    table = Buffer(body).root()
    assert (table.longs(1), table.string(3), table.vector(4, 1)) == ((1, 2, 3), b"abc", b"0123456789")


def test_data_is_not_copied():
    writer = Writer()
    root, first, second = writer.table(4, 4)
    large, other = memoryview(bytes(1000)), memoryview(b"1234")
    writer.data(first, large)
    writer.data(second, other)
    pieces = writer.finish(root)
    assert any(piece is large for piece in pieces)
    table = Buffer(b"".join(pieces)).root()
    assert (table.vector(0, 1), table.vector(1, 1)) == (large, other)


def strings(values):
    writer = Writer()
    root, field = writer.table(4)
    at, entries = writer.references(len(values))
    writer.link(field, at)
    for entry, value in zip(entries, values, strict=True):
        writer.link(entry, writer.string(value))
    return written(writer, root), entries


def test_strings_may_hold_anything():
    values = [b"", b"a\0b", b"\xff" * 70_000]
    assert Buffer(strings(values)[0]).root().strings(0) == values


def test_two_offsets_to_a_string_read_one_object():
    body, [first, second] = strings([b"one", b"two"])
    changed = bytearray(body)
    target = second + struct.unpack_from("<I", body, second)[0]
    struct.pack_into("<I", changed, first, target - first)
    one, other = Buffer(bytes(changed)).root().strings(0)
    assert one == b"two"
    assert one is other


def test_overlapping_strings_cannot_expand_beyond_the_body():
    """1,000 offsets point at as many bytes of a run of large lengths: 1,000 strings of 64 KiB."""
    body, entries = strings([b""] * 1_000)
    runs = len(body) + -len(body) % 4
    changed = bytearray(body.ljust(runs, b"\0") + struct.pack("<I", 65_536) * 1_000 + bytes(70_000))
    for i, entry in enumerate(entries):
        struct.pack_into("<I", changed, entry, runs + 4 * i - entry)
    with pytest.raises(InvalidInput, match="overlap"):
        Buffer(bytes(changed)).root().strings(0)


def test_vectors_that_overlap_are_refused():
    writer = Writer()
    root, first, second = writer.table(4, 4)
    at = writer.string(bytes(1_000))
    writer.link(first, at)
    writer.link(second, at)
    table = Buffer(written(writer, root)).root()
    assert len(table.vector(0, 1)) == 1_000
    with pytest.raises(InvalidInput, match="overlap"):
        table.vector(1, 1)


def test_a_table_with_more_fields_than_are_read():
    writer = Writer()
    root, *fields = writer.table(*[1] * 30)
    writer.head[fields[7]] = 9
    assert Buffer(written(writer, root)).root().byte(7) == 9


def test_too_many_tables():
    writer = Writer()
    root, field = writer.table(4)
    at, entries = writer.references(5_000)
    writer.link(field, at)
    table = writer.table()[0]
    for entry in entries:
        writer.link(entry, table)
    with pytest.raises(InvalidInput, match="5000 tensors"):
        Buffer(written(writer, root)).root().tables(0)


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"\x04\0\0",
        bytes(64),  # a table whose vtable has no size
        b"\xff\xff\xff\xff" * 8,
        struct.pack("<Ii", 4, -(2**31)),  # a vtable far behind the end
        struct.pack("<Ii", 4, 2**31 - 1),  # a vtable before the start
        struct.pack("<IiHH", 4, -4, 6, 4),  # a vtable longer than the body
    ],
)
def test_invalid_bodies(body):
    with pytest.raises(InvalidInput):
        Buffer(body).root()


@pytest.mark.parametrize(
    "read", [lambda t: t.byte(0), lambda t: t.long(0), lambda t: t.string(0), lambda t: t.table(0)]
)
def test_a_field_outside_the_body(read):
    body = struct.pack("<IiHHH", 4, -4, 6, 4, 60_000)
    with pytest.raises(InvalidInput, match="an offset points at bytes"):
        read(Buffer(body).root())
