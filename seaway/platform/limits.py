"""Limits of this process, which its children inherit."""

import resource

from seaway.platform import memory

FILES_ANYWHERE = 10240  # that may be open: macOS takes no more, whatever it tells as the highest limit


def allow_files(wanted: int) -> int:
    """Lets the process have so many files open, or as many as the system lets it; returns how many that are."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft >= wanted:
        return soft
    highest = wanted if hard == resource.RLIM_INFINITY else min(wanted, hard)
    for limit in (highest, min(highest, FILES_ANYWHERE)):
        if limit > soft and _set(resource.RLIMIT_NOFILE, limit, hard):
            return limit
    return soft


def leave_no_core() -> None:
    """A crash writes no core file."""
    _set(resource.RLIMIT_CORE, 0, 0)


def limit_growth(more: int) -> bool:
    """Has allocations fail beyond the largest address space so far and `more` bytes. False where the system does not
    tell that size, or takes no such limit: then only the machine's memory is one."""
    peak = memory.peak_bytes()
    return peak is not None and _set(resource.RLIMIT_AS, peak + more, peak + more)


def _set(limit: int, soft: int, hard: int) -> bool:
    try:
        resource.setrlimit(limit, (soft, hard))
    except (OSError, ValueError):
        return False
    return True
