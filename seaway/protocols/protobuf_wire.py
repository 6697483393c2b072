"""Protobuf's wire format, as far as it is needed without a message class: the fields of one message, and back.

    field      varint number << 3 | type, then by type
    types      0 varint | 1 eight bytes | 2 varint length and that many bytes | 5 four bytes

A process that must not fail on any bytes reads only what it needs of a request, here, within limits.
"""

from collections.abc import Iterator

from seaway.errors import InvalidInput

MAX_FIELDS = 10_000  # of one message; a request has as many as tensors and names
VARINT, BYTES = 0, 2
_MAX_VARINT_BYTES = 10
_SIZES = {1: 8, 5: 4}  # of the other types


def fields(message: bytes | memoryview) -> Iterator[tuple[int, int | memoryview]]:
    """The fields of a message in order: their numbers, and a varint or the bytes of any other type.

    Nothing is parsed inside of fields, and bytes are views. Raises InvalidInput for a broken message.
    """
    return ((number, value) for number, value, _, _ in _fields(message))


def _fields(message: bytes | memoryview) -> Iterator[tuple[int, int | memoryview, int, int]]:
    """Also where each field begins and ends."""
    view, at, end = memoryview(message), 0, len(message)
    for _ in range(MAX_FIELDS):
        if at == end:
            return
        begin = at
        key, at = _varint(view, at)
        number, kind = key >> 3, key & 7
        if not 0 < number < 1 << 29:
            raise InvalidInput(f"the message is not protobuf: a field has the number {number}")
        if kind == VARINT:
            value, at = _varint(view, at)
            yield number, value, begin, at
            continue
        if kind == BYTES:
            size, at = _varint(view, at)
        elif kind in _SIZES:
            size = _SIZES[kind]
        else:
            raise InvalidInput(f"the message is not protobuf: field {number} has wire type {kind}")
        if size > end - at:
            raise InvalidInput(f"the message is cut off: field {number} needs {size} bytes, and {end - at} are left")
        yield number, view[at : at + size], begin, at + size
        at += size
    if at != end:
        raise InvalidInput(f"the message has more than {MAX_FIELDS} fields")


def _varint(view: memoryview, at: int) -> tuple[int, int]:
    value = 0
    for shift in range(0, 7 * _MAX_VARINT_BYTES, 7):
        if at == len(view):
            raise InvalidInput("the message is cut off inside a number")
        byte = view[at]
        at += 1
        value |= (byte & 127) << shift
        if byte < 128:
            return value & (1 << 64) - 1, at
    raise InvalidInput(f"the message is not protobuf: a number has more than {_MAX_VARINT_BYTES} bytes")


def take_out(message: bytes, number: int) -> tuple[bytes, list[memoryview]]:
    """The message without a field of bytes, and that field's values, as views. Raises InvalidInput."""
    kept, taken = [], []
    for found, value, begin, end in _fields(message):
        if found == number and isinstance(value, memoryview):
            taken.append(value)
        else:
            kept.append(message[begin:end])
    return b"".join(kept), taken


def embedded(message: bytes | memoryview, number: int) -> bytes | None:
    """The embedded message in a field, None if there is none; several are merged, which in this format is joining."""
    found = [value for n, value in fields(message) if n == number and isinstance(value, memoryview)]
    return b"".join(found) if found else None


def text(value: int | memoryview, what: str) -> str:
    """A string field. Raises InvalidInput if it is not one, in UTF-8."""
    try:
        return bytes(value).decode() if isinstance(value, memoryview) else _not_text(what)
    except UnicodeDecodeError:
        raise InvalidInput(f"{what} is not UTF-8") from None


def bytes_of(value: int | memoryview | None, what: str) -> memoryview:
    """A field of bytes. Raises InvalidInput if it is missing or another one."""
    if not isinstance(value, memoryview):
        raise InvalidInput(f"{what!r} has no value")
    return value


def _not_text(what: str) -> str:
    raise InvalidInput(f"{what} is not a string")


def encode(number: int, content: bytes | memoryview) -> bytes:
    """A field of bytes, a string or an embedded message."""
    return varint(number << 3 | BYTES) + varint(len(content)) + content


def varint(value: int) -> bytes:
    """Seven bits a byte, the lowest first; negative numbers as 64-bit two's complement."""
    value &= (1 << 64) - 1
    encoded = bytearray()
    while value > 127:
        encoded.append(value & 127 | 128)
        value >>= 7
    encoded.append(value)
    return bytes(encoded)
