"""Simulates a non-Linux system for every Python whose PYTHONPATH has this folder, and for its children.

Linux features are missing, or raise as on macOS, for the whole process. Seaway's own modules see the platform "darwin";
libraries do not, because they are built for this system. Each refused call becomes a line in the file REFUSED.
"""

import builtins
import errno
import mmap
import os
import resource
import select
import socket
import sys
import types

C_FUNCTIONS = ("prctl", "mallopt", "malloc_trim")
FOLDERS = ("/proc", "/sys")
EVENTS = ("open", "os.listdir", "os.scandir")
if hasattr(os, "process_cpu_count"):  # Python 3.13; it would use sched_getaffinity
    os.process_cpu_count = os.cpu_count  # type: ignore[assignment]
MISSING = {
    os: (
        *("sched_getaffinity", "sched_setaffinity", "pidfd_open", "posix_fadvise", "memfd_create", "eventfd"),
        *("copy_file_range", "splice", "O_TMPFILE", "getrandom"),
    ),
    select: ("epoll",),
    mmap: ("MADV_DONTNEED",),
}
MAX_FILES = 10240  # that macOS lets a process open
SEND_BUFFER_BYTES = 1 << 18  # the limit of some systems
ATTACH_FILTER = 26


class System(types.ModuleType):
    """`sys` as Seaway's modules see it."""

    platform = "darwin"

    def __getattr__(self, name: str):
        return getattr(sys, name)


def refused(what: str, error: BaseException) -> BaseException:
    if path := os.environ.get("REFUSED"):
        log = os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o644)
        os.write(log, f"{what}\n".encode())
        os.close(log)
    return error


def watch(event: str, arguments: tuple) -> None:
    if event == "ctypes.dlsym" and arguments[1] in C_FUNCTIONS:
        raise refused(arguments[1], AttributeError(f"no symbol {arguments[1]}"))
    if event in EVENTS and arguments and isinstance(arguments[0], str | bytes | os.PathLike):
        path = os.fsdecode(arguments[0])
        if path.startswith(FOLDERS):
            raise refused(path, FileNotFoundError(errno.ENOENT, os.strerror(errno.ENOENT), path))


def remove(module: types.ModuleType, names: tuple[str, ...]) -> None:
    for name in names:
        vars(module).pop(name, None)

    def missing(name: str):
        error = AttributeError(f"module {module.__name__!r} has no attribute {name!r}")
        raise refused(name, error) if name in names else error

    module.__getattr__ = missing


def socketpair(family=socket.AF_UNIX, kind=socket.SOCK_STREAM, proto=0, pair=socket.socketpair):
    if kind == socket.SOCK_SEQPACKET:
        raise refused("SOCK_SEQPACKET", OSError(errno.EPROTONOSUPPORT, os.strerror(errno.EPROTONOSUPPORT)))
    return pair(family, kind, proto)


def setsockopt(self, level, option, *value, plain=socket.socket.setsockopt):
    if (level, option) == (socket.SOL_SOCKET, ATTACH_FILTER):
        raise refused("SO_ATTACH_FILTER", OSError(errno.ENOPROTOOPT, os.strerror(errno.ENOPROTOOPT)))
    if (level, option) == (socket.SOL_SOCKET, socket.SO_SNDBUF) and value[0] > SEND_BUFFER_BYTES:
        raise refused("SO_SNDBUF", OSError(errno.ENOBUFS, os.strerror(errno.ENOBUFS)))
    return plain(self, level, option, *value)


def setrlimit(limit, values, plain=resource.setrlimit):
    if limit == resource.RLIMIT_NOFILE and values[0] > MAX_FILES:
        raise refused("RLIMIT_NOFILE", ValueError("not allowed to raise maximum limit"))
    return plain(limit, values)


def load(name, globals=None, locals=None, fromlist=(), level=0, plain=builtins.__import__):
    module = plain(name, globals, locals, fromlist, level)
    importer = (globals or {}).get("__package__") or ""
    return System("sys") if name == "sys" and importer.split(".")[0] == "seaway" else module


for module, names in MISSING.items():
    remove(module, names)
socket.socketpair = socketpair
socket.socket.setsockopt = setsockopt
resource.setrlimit = setrlimit
builtins.__import__ = load
sys.addaudithook(watch)
