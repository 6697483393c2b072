"""How many CPUs a container may really use: PyTorch counts the machine's and would start a thread for each."""

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
