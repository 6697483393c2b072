"""Requests that are alike but for one tensor's numbers are taken apart once: what most binary requests of a client are.

Of such a request everything but the tensor's bytes is kept, with what was read from it. Another one of the same length,
whose bytes before and behind the tensor are the same, says the same with other numbers, which are where they were.
"""

from collections.abc import Callable
from dataclasses import dataclass, replace

import numpy as np

from seaway.errors import SeawayError
from seaway.protocols.calls import Asked, Call, Reply, Served

MOST = 64  # lengths of bodies whose readings are kept, the newest, and
MOST_ALIKE = 4  # of each length the first, so that a client with a new id in each request costs nothing for long
LARGEST = 4096  # bytes beside the tensor

Read = Callable[[Asked, Served], Call | Reply]


@dataclass(frozen=True, slots=True)
class _Reading:
    """`call` without its sole input `name`, which lies in the body from `start` to `end`."""

    start: int
    end: int
    before: bytes
    behind: bytes
    name: str
    dtype: np.dtype[np.generic]
    shape: tuple[int, ...]
    call: Call


class Readings:
    """Those of one version, whose signatures they depend on."""

    def __init__(self) -> None:
        self._kept: dict[tuple[object, ...], list[_Reading]] = {}

    def read(self, read: Read, asked: Asked, served: Served) -> Call | Reply:
        """The same as `read(asked, served)`."""
        body = asked.body
        key = (read, asked.verb, len(body), *asked.headers.values())
        kept = self._kept.get(key, ())
        for known in kept:
            if body.startswith(known.before) and body.endswith(known.behind):
                array = np.ndarray(known.shape, known.dtype, body, known.start)
                return Call(known.call.signature, {known.name: array}, known.call.outputs, known.call.form)
        call = read(asked, served)
        if len(kept) < MOST_ALIKE and isinstance(call, Call) and (reading := _reading(call, body)):
            self._keep(key, reading, read, asked, served)
        return call

    def _keep(self, key: tuple[object, ...], reading: _Reading, read: Read, asked: Asked, served: Served) -> None:
        """Unless other numbers in the same place change what else is read, as where a message's parts overlap."""
        body = asked.body
        other = bytes(byte ^ 0xFF for byte in body[reading.start : reading.end])
        changed = replace(asked, body=reading.before + other + reading.behind)
        try:
            again = read(changed, served)
        except SeawayError:
            return
        if not isinstance(again, Call) or _reading(again, changed.body) != reading:
            return
        if key not in self._kept and len(self._kept) >= MOST:
            del self._kept[next(iter(self._kept))]
        self._kept.setdefault(key, []).append(reading)


def _reading(call: Call, body: bytes) -> _Reading | None:
    """None where there is no sole input that is a view of the body, and nearly all of it."""
    if len(call.inputs) != 1:
        return None
    ((name, array),) = call.inputs.items()
    if array.flags.owndata or array.dtype.hasobject or not array.flags.c_contiguous:
        return None
    start = _address(array) - _address(np.frombuffer(body, np.uint8))
    end = start + array.nbytes
    if not 0 <= start < end <= len(body) or len(body) - array.nbytes > LARGEST:
        return None
    without = Call(call.signature, {}, call.outputs, call.form)
    return _Reading(start, end, body[:start], body[end:], name, array.dtype, array.shape, without)


def _address(array: np.ndarray) -> int:
    address: int = array.__array_interface__["data"][0]
    return address
