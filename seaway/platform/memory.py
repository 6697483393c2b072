"""A process's memory: what the allocator retains and returns to the system, how much is available, files in it."""

import mmap
import os
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from seaway.platform import libc

MAX_RETAINED_BYTES = 2**31 - 1  # mallopt takes an int
_M_TRIM_THRESHOLD, _M_MMAP_THRESHOLD = -1, -3  # malloc.h's


def retain_freed(total: int, block: int) -> None:
    """Makes the allocator retain up to `total` freed bytes, in blocks of up to `block` bytes, because memory that is
    returned to the system and requested again costs a page fault per 4 kB. glibc only; elsewhere it has no effect."""
    libc.call("mallopt", _M_MMAP_THRESHOLD, block)
    libc.call("mallopt", _M_TRIM_THRESHOLD, total)


def trim() -> None:
    """Makes the allocator return free memory to the system. glibc only; elsewhere it has no effect."""
    libc.call("malloc_trim", 0)


def drop_pages(mapped: mmap.mmap) -> None:
    """Releases the pages of a file mapped for reading, which count as this process's memory once read. Without madvise,
    the system reclaims them when it is short of memory."""
    advice = getattr(mmap, "MADV_DONTNEED", None)
    if advice is not None:
        mapped.madvise(advice)


@contextmanager
def file_of(content: bytes) -> Iterator[str]:
    """A path at which `content` can be read, for libraries that take only files; without memfd_create a temporary file
    of this user alone."""
    try:
        file = os.fdopen(os.memfd_create("content"), "wb")
    except (AttributeError, OSError):
        with tempfile.NamedTemporaryFile() as temporary:
            temporary.write(content)
            temporary.flush()
            yield temporary.name
        return
    with file:
        file.write(content)
        file.flush()
        yield f"/proc/self/fd/{file.fileno()}"


def available_bytes() -> int | None:
    """Available memory of the whole machine; None if the system has no /proc/meminfo."""
    return _kilobytes(Path("/proc/meminfo"), "MemAvailable:")


def peak_bytes() -> int | None:
    """This process's peak address space; None if the system has no /proc/self/status."""
    return _kilobytes(Path("/proc/self/status"), "VmPeak:")


def _kilobytes(path: Path, name: str) -> int | None:
    """The bytes in a line "<name> <number> kB"; None if there is no such line."""
    try:
        lines = path.read_text(encoding="ascii", errors="replace").splitlines()
    except OSError:
        return None
    return next((int(line.split()[1]) * 1024 for line in lines if line.startswith(name)), None)
