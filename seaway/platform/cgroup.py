"""Cores and memory that this process may use, from its cgroups (versions 1 and 2) and its CPU affinity. The server,
training and benchmarks all use these functions, so that they agree.

A container is limited by its own cgroup and by all above it, so the smallest limit on the visible path applies. If a
container cannot see its own path, its limits are at the root of the mount.
"""

import math
import os
from collections.abc import Iterator
from pathlib import Path

ROOT = Path("/")
UNLIMITED = 1 << 60  # in version 1 "no limit" is the largest multiple of a page, about 2^63


def cores(root: Path | None = None, affinity: int | None = None) -> int:
    """Whole cores: the CPUs that the process may run on, or its CPU limit rounded down if that is less; at least 1.

    Down, because with one busy thread more than the limit allows, the kernel throttles all threads of the container for
    the rest of each period. That delays a server's requests, and every step of training, whose threads wait for each
    other. The remaining fraction of a core goes to other threads: the supervisor, the data loader. `root` replaces
    `ROOT`, and `affinity` the number of CPUs that the process may run on.
    """
    allowed = _allowed() if affinity is None else affinity
    return max(1, math.floor(min([allowed, *_cpu_limits(root or ROOT)])))


def memory_bytes(root: Path | None = None) -> int | None:
    """The memory limit of the process's cgroups; None if they set none."""
    root = root or ROOT
    limits = [read for folder in _folders(root, "memory") if (read := _number(folder, "memory.limit_in_bytes"))]
    limits += [read for folder in _folders(root, "") if (read := _number(folder, "memory.max"))]
    return min((limit for limit in limits if limit < UNLIMITED), default=None)


def _allowed() -> int:
    """CPUs that the process may run on; all of the machine's if the system has no CPU affinity."""
    try:
        return len(os.sched_getaffinity(0))
    except (AttributeError, OSError):
        return os.cpu_count() or 1


def _cpu_limits(root: Path) -> Iterator[float]:
    """In cores."""
    for folder in _folders(root, "cpu"):
        quota, period = _number(folder, "cpu.cfs_quota_us"), _number(folder, "cpu.cfs_period_us")
        if quota and period:
            yield quota / period
    for folder in _folders(root, ""):
        match _words(folder, "cpu.max"):  # "<microseconds or max> <period>"
            case [quota_text, period_text] if quota_text.isdecimal() and period_text.isdecimal() and int(period_text):
                yield int(quota_text) / int(period_text)


def _folders(root: Path, controller: str) -> Iterator[Path]:
    """The process's cgroup and those above it; `controller`: one of version 1, or "" for version 2."""
    mounts = root / "sys/fs/cgroup"
    for path, controllers in _memberships(root):
        if controller not in controllers.split(","):
            continue
        places = [mounts / controllers, mounts / controller] if controller else [mounts, mounts / "unified"]
        for place in places:
            for ancestor in (path, *path.parents):
                yield place / ancestor.relative_to("/")


def _memberships(root: Path) -> Iterator[tuple[Path, str]]:
    """(path, controllers) of /proc/self/cgroup's lines, "<number>:<controllers>:<path>"."""
    try:
        lines = (root / "proc/self/cgroup").read_text(errors="replace").splitlines()
    except OSError:
        return
    for line in lines:
        match line.split(":", 2):
            case [_, controllers, path] if path.startswith("/"):
                yield (
                    Path(os.path.normpath(path)),
                    controllers,
                )  # the path starts with "/.." if the cgroup is outside our view


def _words(folder: Path, name: str) -> list[str]:
    try:
        return (folder / name).read_text().split()
    except (OSError, ValueError):
        return []  # not mounted, not readable, or removed meanwhile


def _number(folder: Path, name: str) -> int:
    """The number in a file; 0 if it is absent or not a positive number (-1 and "max" mean no limit)."""
    match _words(folder, name):
        case [text] if text.isdecimal():
            return int(text)
    return 0
