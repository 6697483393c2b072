"""What PyTorch should know of the machine, and does not: how many CPUs a container may really use (it counts the
machine's and would start a thread for each), and that memory is needed again at the next step."""

import ctypes
import math
from pathlib import Path

QUOTA = Path("/sys/fs/cgroup/cpu.max")  # cgroup v2: "<microseconds or max> <period>"


def limit(threads: int, quota: Path = QUOTA) -> int:
    """`threads`, or as many as the container's CPU limit allows where that is fewer; at least 1."""
    try:
        allowed, period = quota.read_text().split()
        return max(1, min(threads, math.ceil(int(allowed) / int(period))))
    except (OSError, ValueError, ZeroDivisionError):
        return threads  # no limit, or none that is told


def keep_memory() -> None:
    """Has glibc keep what is freed: given back to the system, a batch's tensors cost a page fault for every 4 kB at
    the next step. Elsewhere nothing changes."""
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None)
    if mallopt:
        mallopt(_MMAP_THRESHOLD, _LARGEST)
        mallopt(_TRIM_THRESHOLD, _LARGEST)


_MMAP_THRESHOLD, _TRIM_THRESHOLD, _LARGEST = -3, -1, 2**31 - 1  # malloc.h's numbers
