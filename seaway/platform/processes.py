"""Processes: children that die with their parent, adopted orphans, and watching processes that others started."""

import asyncio
import os
import signal
import sys
from collections.abc import Callable

from seaway.platform import libc

POLL_INTERVAL_S = 0.1
FORKING_IS_SAFE = sys.platform == "linux"  # of processes with PyTorch or TensorFlow; macOS's frameworks forbid it

_PR_SET_PDEATHSIG, _PR_SET_CHILD_SUBREAPER = 1, 36  # linux/prctl.h's


def die_with_parent() -> None:
    """Makes this process receive SIGTERM when its parent exits, even by kill -9. Linux only: elsewhere a killed parent
    leaves it behind."""
    libc.call("prctl", _PR_SET_PDEATHSIG, signal.SIGTERM)


def adopt_orphans() -> None:
    """Makes this process, instead of PID 1, the parent of orphaned grandchildren. Linux only: elsewhere their exit
    statuses are unknown."""
    libc.call("prctl", _PR_SET_CHILD_SUBREAPER, 1)


def watch_exit(pid: int, on_exit: Callable[[int | None], None]) -> None:
    """Makes the running event loop call `on_exit` when a process that another one started exits: with its exit status,
    negative for a signal, if it has become our child, else with None. Systems without pidfd_open are polled every
    POLL_INTERVAL_S."""
    loop = asyncio.get_running_loop()
    try:
        pidfd = os.pidfd_open(pid)
    except ProcessLookupError:
        on_exit(None)
        return
    except (AttributeError, OSError):
        _poll(pid, on_exit)
        return

    def on_readable() -> None:
        loop.remove_reader(pidfd)
        os.close(pidfd)
        try:
            on_exit(os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]))
        except ChildProcessError:
            on_exit(None)

    loop.add_reader(pidfd, on_readable)


def _poll(pid: int, on_exit: Callable[[int | None], None]) -> None:
    try:
        exited, status = os.waitpid(pid, os.WNOHANG)
        if exited:
            on_exit(os.waitstatus_to_exitcode(status))
            return
    except ChildProcessError:
        try:
            os.kill(pid, 0)
        except ProcessLookupError:
            on_exit(None)
            return
        except PermissionError:  # another user's: the PID was reused
            on_exit(None)
            return
    asyncio.get_running_loop().call_later(POLL_INTERVAL_S, _poll, pid, on_exit)
