"""What this process may use: cores and memory, from its cgroups (versions 1 and 2) and its CPU affinity. The server,
training and benchmarks ask here, so that all of them count alike.

A container is limited by its own cgroup or by any above it, so all of the path that can be seen counts, and the
smallest limit holds. Where a container cannot see its own path, its limits stand at the mount's root.
"""

import math
import os
from collections.abc import Iterator
from pathlib import Path

ROOT = Path("/")
UNLIMITED = 1 << 60  # version 1 writes "no limit" as the largest multiple of a page, about 2^63


def cores(root: Path | None = None, affinity: int | None = None) -> int:
    """Whole cores: the CPUs that the process may run on, or its CPU limit rounded down where that is less; at least 1.

    Down, because the limit is of the container: one busy thread more than it allows, and the kernel halts all of them
    for the rest of each period. A server's requests wait for that, and so does every step of training, whose threads
    wait for each other. What is left of a core goes to what runs beside them: the supervisor, the loader of batches.
    `root` stands for `ROOT`, `affinity` for the number of CPUs that the process may run on.
    """
    allowed = _allowed() if affinity is None else affinity
    return max(1, math.floor(min([allowed, *_cpu_limits(root or ROOT)])))


def memory_bytes(root: Path | None = None) -> int | None:
    """The most memory that the process's cgroups allow; None where they set no limit."""
    root = root or ROOT
    limits = [read for folder in _folders(root, "memory") if (read := _number(folder, "memory.limit_in_bytes"))]
    limits += [read for folder in _folders(root, "") if (read := _number(folder, "memory.max"))]
    return min((limit for limit in limits if limit < UNLIMITED), default=None)


def _allowed() -> int:
    """CPUs that the process may run on; all of the machine's where the system does not tell those."""
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
    """The process's cgroup and those above it, for a controller of version 1, or "" for version 2."""
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
                yield Path(os.path.normpath(path)), controllers  # "/.." starts the path of who is above our view


def _words(folder: Path, name: str) -> list[str]:
    try:
        return (folder / name).read_text().split()
    except (OSError, ValueError):
        return []  # not mounted, not ours to see, or removed meanwhile


def _number(folder: Path, name: str) -> int:
    """0 where it is absent, or no positive number (-1 and "max" say that there is no limit)."""
    match _words(folder, name):
        case [text] if text.isdecimal():
            return int(text)
    return 0
