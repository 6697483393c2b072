"""Exits of real processes, and how they are noticed."""

import asyncio
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from seaway.platform import libc, processes

ROOT = Path(__file__).parents[3]
LINUX = pytest.mark.skipif(sys.platform != "linux", reason="only Linux has it")

# A parent that starts a child, prints its PID, and waits to be killed.
PARENT = """
import subprocess, sys, time
from seaway.platform import processes
child = subprocess.Popen(["sleep", "600"], preexec_fn=processes.die_with_parent)
print(child.pid, flush=True)
time.sleep(600)
"""


def exit_of(pid: int, act: str = "") -> int | None:
    """The reported exit status of a process, which `act` may kill once it is watched."""

    async def run() -> int | None:
        exited: asyncio.Future[int | None] = asyncio.get_running_loop().create_future()
        processes.watch_exit(pid, exited.set_result)
        if act == "kill":
            assert not exited.done()
            os.kill(pid, signal.SIGKILL)
        async with asyncio.timeout(60):
            return await exited

    return asyncio.run(run())


@pytest.fixture(params=[True, False], ids=["pidfd", "polling"])
def pidfd(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> bool:
    """Whether the system has pidfd_open."""
    if not request.param:
        monkeypatch.delattr(os, "pidfd_open", raising=False)
    elif not hasattr(os, "pidfd_open"):
        pytest.skip("this system has none")
    return request.param


@pytest.mark.usefixtures("pidfd")
def test_the_exit_status_of_our_child_is_reported() -> None:
    with subprocess.Popen(["sleep", "600"]) as child:
        assert exit_of(child.pid, "kill") == -signal.SIGKILL
        child.returncode = -signal.SIGKILL  # it was reaped above
    with subprocess.Popen([sys.executable, "-c", "raise SystemExit(3)"]) as child:
        assert exit_of(child.pid) == 3
        child.returncode = 3


@pytest.mark.usefixtures("pidfd")
def test_the_exit_status_of_another_s_child_is_unknown() -> None:
    with subprocess.Popen(["sh", "-c", "sleep 600 & echo $!; wait"], stdout=subprocess.PIPE, text=True) as parent:
        pid = int(parent.stdout.readline())
        assert exit_of(pid, "kill") is None
    assert exit_of(pid) is None  # the same if it has exited before


@LINUX
def test_a_child_dies_with_its_parent() -> None:
    with subprocess.Popen([sys.executable, "-c", PARENT], stdout=subprocess.PIPE, text=True, cwd=ROOT) as parent:
        child = int(parent.stdout.readline())
        os.kill(child, 0)
        parent.kill()
    deadline = time.monotonic() + 60
    while running(child):
        assert time.monotonic() < deadline
        time.sleep(0.01)


def running(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except (FileNotFoundError, ProcessLookupError):
        return False


@LINUX
def test_orphans_are_adopted() -> None:
    program = (
        "import os, subprocess; from seaway.platform import processes; processes.adopt_orphans();"
        "found = subprocess.run(['sh', '-c', 'sleep 0.1 & echo $!'], stdout=subprocess.PIPE, text=True).stdout;"
        "print(os.waitpid(int(found), 0) == (int(found), 0))"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, timeout=60, cwd=ROOT)
    assert done.stdout == "True\n", done.stderr


def test_a_function_that_the_c_library_lacks_is_not_called() -> None:
    assert not libc.call("seaway_has_no_such_function", 1)
    assert libc.call("abs", -1)
