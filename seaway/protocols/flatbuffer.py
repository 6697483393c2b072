"""FlatBuffers, as much as GraphPipe needs: a reader that checks every offset, and a writer.

The reader never makes more than the body holds: numbers are views, a string is decoded once wherever it is pointed at
from, and a body whose parts overlap, so that it would unfold to far more than its size, is refused.
"""

import struct
from collections.abc import Callable, Sequence
from typing import TypeVar

from seaway.errors import InvalidInput

MAX_TABLES = 4096  # in one vector; each costs an object, however often the same bytes are pointed at


class Buffer:
    """A body being read. Every method raises InvalidInput where an offset leads out of it."""

    def __init__(self, body: bytes) -> None:
        self.bytes = memoryview(body)
        self._strings: dict[int, bytes] = {}
        self._charged = 0

    def root(self) -> "Table":
        return Table(self, self.unsigned(0))

    def span(self, start: int, size: int) -> memoryview:
        if start < 0 or start + size > len(self.bytes):
            raise InvalidInput(
                f"not a FlatBuffer of GraphPipe: bytes {start} to {start + size} are pointed at, "
                f"but the body has {len(self.bytes)}"
            )
        return self.bytes[start : start + size]

    def unsigned(self, at: int) -> int:
        return int.from_bytes(self.span(at, 4), "little")

    def short(self, at: int) -> int:
        return int.from_bytes(self.span(at, 2), "little")

    def charge(self, size: int) -> None:
        """Counts bytes that become objects: in all no more than the body has, as long as nothing in it overlaps."""
        self._charged += size
        if self._charged > len(self.bytes):
            raise InvalidInput("not a FlatBuffer of GraphPipe: its strings or vectors overlap")

    def string(self, at: int) -> bytes:
        if at not in self._strings:
            size = self.unsigned(at)
            value = self.span(at + 4, size)
            self.charge(size)
            self._strings[at] = bytes(value)
        return self._strings[at]


class Table:
    """One table; a field that is absent reads as its default, as the format says."""

    def __init__(self, buffer: Buffer, at: int) -> None:
        self._buffer, self._at = buffer, at
        self._vtable = at - int.from_bytes(buffer.span(at, 4), "little", signed=True)
        self._vtable_size = buffer.short(self._vtable)
        if self._vtable_size < 4:
            raise InvalidInput(f"not a FlatBuffer of GraphPipe: no table at byte {at}")
        buffer.span(self._vtable, self._vtable_size)

    def byte(self, slot: int) -> int:
        at = self._field(slot)
        return self._buffer.span(at, 1)[0] if at else 0

    def long(self, slot: int) -> int:
        at = self._field(slot)
        return int.from_bytes(self._buffer.span(at, 8), "little", signed=True) if at else 0

    def table(self, slot: int) -> "Table | None":
        at = self._target(slot)
        return Table(self._buffer, at) if at else None

    def string(self, slot: int) -> bytes:
        at = self._target(slot)
        return self._buffer.string(at) if at else b""

    def vector(self, slot: int, item_size: int) -> memoryview | None:
        """The bytes of a vector of scalars; None where it is absent."""
        at = self._target(slot)
        if not at:
            return None
        return self._buffer.span(at + 4, self._buffer.unsigned(at) * item_size)

    def longs(self, slot: int) -> tuple[int, ...]:
        found = self.vector(slot, 8)
        self._buffer.charge(len(found or b""))
        return struct.unpack(f"<{len(found) // 8}q", found) if found else ()

    def strings(self, slot: int) -> list[bytes]:
        return [self._buffer.string(at) for at in self._targets(slot)]

    def tables(self, slot: int) -> list["Table"]:
        targets = self._targets(slot)
        if len(targets) > MAX_TABLES:
            raise InvalidInput(
                f"{len(targets)} tensors or descriptions in one message: at most {MAX_TABLES} are allowed"
            )
        return [Table(self._buffer, at) for at in targets]

    def _field(self, slot: int) -> int:
        entry = 4 + 2 * slot
        if entry + 2 > self._vtable_size:
            return 0
        offset = self._buffer.short(self._vtable + entry)
        return self._at + offset if offset else 0

    def _target(self, slot: int) -> int:
        at = self._field(slot)
        return at + self._buffer.unsigned(at) if at else 0

    def _targets(self, slot: int) -> list[int]:
        found = self.vector(slot, 4)
        if not found:
            return []
        self._buffer.charge(len(found))
        start = self._target(slot) + 4
        return [start + 4 * i + offset for i, (offset,) in enumerate(struct.iter_unpack("<I", found))]


class Scalar:
    """A number in a table: `code` is struct's ("B", "q")."""

    def __init__(self, code: str, value: int) -> None:
        self.code, self.value = code, value
        self.size = struct.calcsize(code)


Part = TypeVar("Part", bytes, bytearray, memoryview, bytes | memoryview)
Write = Callable[["Writer"], int]  # writes itself and returns its position
Field = Scalar | Write | None  # None: absent, which reads as the default


class Writer:
    """Writes front to back, parents before children: offsets in FlatBuffers point forward. Data is copied once."""

    def __init__(self) -> None:
        self._parts: list[bytes | bytearray | memoryview] = []
        self._size = 0

    def finish(self, root: Write) -> bytes:
        """The whole message with `root` as its root table; one writer makes one message."""
        first = self._append(bytearray(4))
        struct.pack_into("<I", first, 0, root(self))
        return b"".join(self._parts)

    def table(self, fields: Sequence[Field]) -> int:
        sizes = [0 if f is None else f.size if isinstance(f, Scalar) else 4 for f in fields]
        offsets, end = [0] * len(fields), 4
        for slot in sorted(range(len(fields)), key=lambda s: -sizes[s]):  # widest first: less padding
            if sizes[slot]:
                offsets[slot] = end + -end % sizes[slot]
                end = offsets[slot] + sizes[slot]
        vtable = struct.pack(f"<HH{len(fields)}H", 4 + 2 * len(fields), end, *offsets)
        self._align(8, ahead=len(vtable))
        self._append(vtable)
        at, body = self._size, bytearray(end)
        self._append(body)
        struct.pack_into("<i", body, 0, len(vtable))
        for field, offset in zip(fields, offsets, strict=True):
            if isinstance(field, Scalar):
                struct.pack_into(f"<{field.code}", body, offset, field.value)
            elif field is not None:
                struct.pack_into("<I", body, offset, field(self) - (at + offset))
        return at

    def vector(self, count: int, data: bytes | memoryview, align: int = 8) -> int:
        """Scalars as raw bytes, the first of them at a multiple of `align`."""
        self._align(align, ahead=4)
        at = self._size
        self._append(struct.pack("<I", count))
        self._append(data)
        return at

    def string(self, value: bytes) -> int:
        at = self.vector(len(value), value, align=4)
        self._append(b"\0")  # readers in C rely on it
        return at

    def references(self, items: Sequence[Write]) -> int:
        """A vector of tables or strings."""
        self._align(4)
        at = self._size
        body = bytearray(4 + 4 * len(items))
        self._append(body)
        struct.pack_into("<I", body, 0, len(items))
        for i, item in enumerate(items):
            slot = 4 + 4 * i
            struct.pack_into("<I", body, slot, item(self) - (at + slot))
        return at

    def _align(self, to: int, ahead: int = 0) -> None:
        self._append(bytes(-(self._size + ahead) % to))

    def _append(self, part: Part) -> Part:
        self._parts.append(part)
        self._size += len(part)
        return part
