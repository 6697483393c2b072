"""Limits of this process, which its children inherit."""

import resource

from seaway.platform import memory

MACOS_MAX_FILES = 10240  # macOS accepts no more, whatever it reports as the hard limit


def raise_open_files_limit(wanted: int) -> int:
    """Raises the limit on open files to `wanted`, or as far as the system allows. Returns the limit."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft >= wanted:
        return soft
    highest = wanted if hard == resource.RLIM_INFINITY else min(wanted, hard)
    for limit in (highest, min(highest, MACOS_MAX_FILES)):
        if limit > soft and _set(resource.RLIMIT_NOFILE, limit, hard):
            return limit
    return soft


def disable_core_dumps() -> None:
    """Prevents core files on a crash."""
    _set(resource.RLIMIT_CORE, 0, 0)


def limit_memory_growth(more: int) -> bool:
    """Makes allocations fail beyond the peak address space plus `more` bytes. Returns False, without any effect, if the
    system does not report that size or does not support the limit."""
    peak = memory.peak_bytes()
    return peak is not None and _set(resource.RLIMIT_AS, peak + more, peak + more)


def _set(limit: int, soft: int, hard: int) -> bool:
    try:
        resource.setrlimit(limit, (soft, hard))
    except (OSError, ValueError):
        return False
    return True
