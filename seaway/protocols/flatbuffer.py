"""The subset of FlatBuffers that GraphPipe needs: a reader that checks every offset, and a writer.

The reader never allocates much more than the body's size: numbers are views, a string is read once however many
offsets point at it, and a body whose parts overlap, which could expand to far more than its size, is refused.
"""

import struct
from collections.abc import Sequence
from functools import cache

from seaway.errors import InvalidInput

MAX_TABLES = 4096  # in one vector; each costs an object, even if all of them point at the same bytes
MAX_FIELDS = 8  # of a table that are read; GraphPipe's largest has 6

_short, _unsigned, _signed, _long = (struct.Struct(code).unpack_from for code in ("<H", "<I", "<i", "<q"))
_put_unsigned = struct.Struct("<I").pack_into
_offsets = [struct.Struct(f"<{count}H").unpack_from for count in range(MAX_FIELDS + 1)]
_absent = [(0,) * (MAX_FIELDS - count) for count in range(MAX_FIELDS + 1)]


class Buffer:
    """A body being read. Every method raises InvalidInput if an offset leads out of it."""

    __slots__ = ("_strings", "_unclaimed_bytes", "bytes", "view")

    def __init__(self, body: bytes) -> None:
        self.bytes, self.view = body, memoryview(body)
        self._strings: dict[int, bytes] = {}
        self._unclaimed_bytes = len(body)

    def root(self) -> "Table":
        return Table(self, self.unsigned(0))

    def unsigned(self, at: int) -> int:
        try:
            value: int = _unsigned(self.bytes, at)[0]
        except struct.error:
            raise self.outside_error(at, 4) from None
        return value

    def claim(self, start: int, size: int) -> None:
        """Checks that the bytes lie inside the body and counts them: parts that do not overlap never add up to
        more than the body."""
        if start + size > len(self.bytes):
            raise self.outside_error(start, size)
        self._unclaimed_bytes -= size
        if self._unclaimed_bytes < 0:
            raise InvalidInput("not a FlatBuffer of GraphPipe: its strings or vectors overlap")

    def outside_error(self, start: int, size: int) -> InvalidInput:
        return InvalidInput(
            f"not a FlatBuffer of GraphPipe: an offset points at bytes {start} to {start + size}, "
            f"but the body has {len(self.bytes)}"
        )

    def string(self, at: int) -> bytes:
        value = self._strings.get(at)
        if value is None:
            size = self.unsigned(at)
            self.claim(at + 4, size)
            value = self._strings[at] = self.bytes[at + 4 : at + 4 + size]
        return value


class Table:
    """One table; an absent field reads as its default, as the format says."""

    __slots__ = ("_at", "_buffer", "_fields")

    def __init__(self, buffer: Buffer, at: int) -> None:
        self._buffer, self._at = buffer, at
        body = buffer.bytes
        try:
            vtable = at - _signed(body, at)[0]  # the only signed offset: it can point before the body
            size = _short(body, vtable)[0] if vtable >= 0 else 0
        except struct.error:
            raise buffer.outside_error(at, 4) from None
        if size < 4 or vtable + size > len(body):
            raise InvalidInput(f"not a FlatBuffer of GraphPipe: no table at byte {at}")
        count = min((size - 4) // 2, MAX_FIELDS)
        self._fields: tuple[int, ...] = _offsets[count](body, vtable + 4) + _absent[count]

    def byte(self, slot: int) -> int:
        offset = self._fields[slot]
        if not offset:
            return 0
        at = self._at + offset
        if at >= len(self._buffer.bytes):
            raise self._buffer.outside_error(at, 1)
        return self._buffer.bytes[at]

    def long(self, slot: int) -> int:
        offset = self._fields[slot]
        if not offset:
            return 0
        try:
            value: int = _long(self._buffer.bytes, self._at + offset)[0]
        except struct.error:
            raise self._buffer.outside_error(self._at + offset, 8) from None
        return value

    def table(self, slot: int) -> "Table | None":
        at = self._target(slot)
        return Table(self._buffer, at) if at else None

    def string(self, slot: int) -> bytes:
        at = self._target(slot)
        return self._buffer.string(at) if at else b""

    def vector(self, slot: int, item_size: int) -> memoryview:
        """The bytes of a vector of scalars; empty if it is absent."""
        start, end = self._extent(slot, item_size)
        return self._buffer.view[start:end]

    def longs(self, slot: int) -> tuple[int, ...]:
        start, end = self._extent(slot, 8)
        return struct.unpack_from(f"<{(end - start) // 8}q", self._buffer.bytes, start)

    def strings(self, slot: int) -> list[bytes]:
        return [self._buffer.string(at) for at in self._targets(slot)]

    def tables(self, slot: int) -> list["Table"]:
        targets = self._targets(slot)
        if len(targets) > MAX_TABLES:
            raise InvalidInput(
                f"{len(targets)} tensors or descriptions in one message: at most {MAX_TABLES} are allowed"
            )
        return [Table(self._buffer, at) for at in targets]

    def _target(self, slot: int) -> int:
        """Where the field points, 0 for absent."""
        offset = self._fields[slot]
        if not offset:
            return 0
        at = self._at + offset
        return at + self._buffer.unsigned(at)

    def _extent(self, slot: int, item_size: int) -> tuple[int, int]:
        """Start and end of a vector's items, checked and counted by `take`."""
        offset = self._fields[slot]
        if not offset:
            return 0, 0
        buffer = self._buffer
        at = self._at + offset
        try:
            at += _unsigned(buffer.bytes, at)[0]
            size = _unsigned(buffer.bytes, at)[0] * item_size
        except struct.error:
            raise buffer.outside_error(at, 4) from None
        at += 4
        buffer.claim(at, size)
        return at, at + size

    def _targets(self, slot: int) -> Sequence[int]:
        start, end = self._extent(slot, 4)
        if start == end:
            return ()
        if end - start == 4:  # one tensor, one name: the case of most requests
            return (start + self._buffer.unsigned(start),)
        offsets = struct.unpack_from(f"<{(end - start) // 4}I", self._buffer.bytes, start)
        return [at + offset for at, offset in zip(range(start, end, 4), offsets, strict=True)]


class Writer:
    """Writes front to back, parents before children, because offsets in FlatBuffers point forward.

    Each method appends a part and returns its position; `link` then points a field at it. The caller writes scalars
    into `head`. Data comes last and is not copied.
    """

    def __init__(self) -> None:
        self.head = bytearray(4)
        self._data: list[tuple[int, bytes | memoryview]] = []

    def table(self, *sizes: int) -> tuple[int, ...]:
        """Appends a table with fields of these sizes in bytes, 0 if absent; returns its position and each field's."""
        block, vtable_size, offsets = _layout(sizes)
        self._align(8, ahead=vtable_size)
        at = len(self.head) + vtable_size
        self.head += block
        return (at, *map(at.__add__, offsets))

    def link(self, field: int, target: int) -> None:
        _put_unsigned(self.head, field, target - field)

    def longs(self, values: Sequence[int]) -> int:
        self._align(8, ahead=4)
        at = len(self.head)
        self.head += struct.pack(f"<I{len(values)}q", len(values), *values)
        return at

    def string(self, value: bytes) -> int:
        self._align(4)
        at = len(self.head)
        self.head += len(value).to_bytes(4, "little")
        self.head += value
        self.head.append(0)  # C readers rely on it
        return at

    def references(self, count: int) -> tuple[int, range]:
        """Appends a vector of tables or strings; returns its position, and those of the entries to link."""
        self._align(4)
        at = len(self.head)
        self.head += count.to_bytes(4, "little") + bytes(4 * count)
        return at, range(at + 4, at + 4 + 4 * count, 4)

    def data(self, field: int, value: bytes | memoryview) -> None:
        """Adds a vector of bytes, which `finish` aligns to 16 bytes, enough for any reader's SIMD loads."""
        self._data.append((field, value))

    def finish(self, root: int) -> list[bytes | memoryview]:
        """The message in pieces, with `root` as its root table; a writer writes one message."""
        self.link(0, root)
        gaps, size = [], len(self.head)
        for field, value in self._data:
            padding = -(size + 4) % 16
            self.link(field, size + padding)
            gaps.append(bytes(padding) + len(value).to_bytes(4, "little"))
            size += padding + 4 + len(value)
        pieces: list[bytes | memoryview] = [bytes(self.head)]
        for gap, (_, value) in zip(gaps, self._data, strict=True):
            pieces += (gap, value)
        return pieces

    def _align(self, to: int, ahead: int = 0) -> None:
        padding = -(len(self.head) + ahead) % to
        if padding:
            self.head += bytes(padding)


@cache
def _layout(sizes: tuple[int, ...]) -> tuple[bytes, int, tuple[int, ...]]:
    """A table's vtable with its zeroed body, the vtable's size, and each field's offset in the body."""
    offsets, end = [0] * len(sizes), 4
    for slot in sorted(range(len(sizes)), key=lambda s: -sizes[s]):  # widest first: less padding
        if sizes[slot]:
            offsets[slot] = end + -end % sizes[slot]
            end = offsets[slot] + sizes[slot]
    vtable = struct.pack(f"<HH{len(sizes)}H", 4 + 2 * len(sizes), end, *offsets)
    return vtable + struct.pack("<i", len(vtable)) + bytes(end - 4), len(vtable), tuple(offsets)
