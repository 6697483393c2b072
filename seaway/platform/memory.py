"""A process's memory: what the allocator keeps, what goes back to the system, and how much there is."""

import mmap
from pathlib import Path

from seaway.platform import libc

ALL = 2**31 - 1  # bytes: mallopt takes an int
_M_TRIM_THRESHOLD, _M_MMAP_THRESHOLD = -1, -3  # malloc.h's


def keep_freed(total: int, block: int) -> None:
    """Has the allocator keep up to `total` bytes of what is freed, in blocks of up to `block` bytes: given back to the
    system and asked for again, every 4 kB cost a page fault. Only glibc has this switch; elsewhere nothing changes."""
    libc.call("mallopt", _M_MMAP_THRESHOLD, block)
    libc.call("mallopt", _M_TRIM_THRESHOLD, total)


def give_back() -> None:
    """Has the allocator give free memory back to the system, some of which it keeps. Only glibc has this; elsewhere
    the process stays as large as the allocator has it."""
    libc.call("malloc_trim", 0)


def let_go(mapped: mmap.mmap) -> None:
    """The pages of a file mapped for reading that were read count as this process's memory: gives them back. Where
    there is no such advice, the system takes them when it is short of memory."""
    advice = getattr(mmap, "MADV_DONTNEED", None)
    if advice is not None:
        mapped.madvise(advice)


def available_bytes() -> int | None:
    """What the whole machine could still give to programs; None where the system does not say so in /proc/meminfo."""
    return _kilobytes(Path("/proc/meminfo"), "MemAvailable:")


def peak_bytes() -> int | None:
    """This process's largest address space so far; None where the system does not say so in /proc/self/status."""
    return _kilobytes(Path("/proc/self/status"), "VmPeak:")


def _kilobytes(path: Path, name: str) -> int | None:
    """In bytes, what a line "<name> <number> kB" says; None where there is none."""
    try:
        lines = path.read_text(encoding="ascii", errors="replace").splitlines()
    except OSError:
        return None
    return next((int(line.split()[1]) * 1024 for line in lines if line.startswith(name)), None)
