"""Uses each feature that only Linux has, and prints whether it is available or missing."""

import ctypes
import mmap
import os
import select
import socket
import struct
from pathlib import Path


def system():
    namespace = {"__package__": "seaway.platform"}
    exec("import sys", namespace)
    assert namespace["sys"].platform == "linux"


def packets():
    for end in socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET):
        end.close()


def socket_filter():
    take_all = ctypes.create_string_buffer(struct.pack("HBBI", 6, 0, 0, 1 << 16))
    with socket.create_server(("127.0.0.1", 0)) as listening:
        listening.setsockopt(socket.SOL_SOCKET, 26, struct.pack("HP", 1, ctypes.addressof(take_all)))


def large_socket():
    with socket.socket() as plain:
        plain.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 1 << 20)


FEATURES = {
    "system": system,
    "prctl": lambda: ctypes.CDLL(None).prctl,
    "mallopt": lambda: ctypes.CDLL(None).mallopt,
    "malloc_trim": lambda: ctypes.CDLL(None)["malloc_trim"],
    "packets": packets,
    "socket_filter": socket_filter,
    "large_socket": large_socket,
    "sched_getaffinity": lambda: os.sched_getaffinity(0),
    "memfd_create": lambda: os.close(os.memfd_create("name")),
    "pidfd_open": lambda: os.close(os.pidfd_open(os.getpid())),
    "epoll": lambda: select.epoll().close(),
    "madvise": lambda: mmap.MADV_DONTNEED,
    "open": lambda: Path("/proc/meminfo").read_text(),
    "os.open": lambda: os.close(os.open("/proc/self/cgroup", os.O_RDONLY)),
    "listdir": lambda: os.listdir("/proc/self"),
    "scandir": lambda: os.scandir("/sys/fs").close(),
}

for name, use in FEATURES.items():
    try:
        use()
        print(name, "available")
    except (AssertionError, AttributeError, OSError) as error:
        print(name, "missing", repr(error))
