"""Processes: what becomes of a child without its parent, and how the end of another's child is noticed."""

import asyncio
import os
import signal
from collections.abc import Callable

from seaway.platform import libc

LOOK_SECONDS = 0.1

_PR_SET_PDEATHSIG, _PR_SET_CHILD_SUBREAPER = 1, 36  # linux/prctl.h's


def end_with_parent() -> None:
    """This process gets SIGTERM when its parent is gone, be it by kill -9. Only Linux has this: elsewhere a parent that
    is killed so leaves it behind."""
    libc.call("prctl", _PR_SET_PDEATHSIG, signal.SIGTERM)


def adopt_orphans() -> None:
    """Grandchildren whose parent has died become this process's children, else those of PID 1. Only Linux has this:
    elsewhere nobody knows how they ended."""
    libc.call("prctl", _PR_SET_CHILD_SUBREAPER, 1)


def watch_end(pid: int, ended: Callable[[int | None], None]) -> None:
    """Has the running event loop call `ended` when a process that another one started has ended, with its exit status,
    a signal's as negative, where it has become our child, else None. Where the system has no descriptors for processes
    (pidfd_open), it looks every LOOK_SECONDS."""
    loop = asyncio.get_running_loop()
    try:
        watched = os.pidfd_open(pid)
    except ProcessLookupError:
        ended(None)
        return
    except (AttributeError, OSError):
        _look(pid, ended)
        return

    def told() -> None:
        loop.remove_reader(watched)
        os.close(watched)
        try:
            ended(os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]))
        except ChildProcessError:
            ended(None)

    loop.add_reader(watched, told)


def _look(pid: int, ended: Callable[[int | None], None]) -> None:
    try:
        found, status = os.waitpid(pid, os.WNOHANG)
        if found:
            ended(os.waitstatus_to_exitcode(status))
            return
    except ChildProcessError:
        try:
            os.kill(pid, 0)
        except ProcessLookupError:
            ended(None)
            return
        except PermissionError:  # another user's: the number was given to another process
            ended(None)
            return
    asyncio.get_running_loop().call_later(LOOK_SECONDS, _look, pid, ended)
