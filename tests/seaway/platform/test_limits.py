"""Limits, each set in a process of its own, and what is left of them where a system takes none."""

import subprocess
import sys
from pathlib import Path

import pytest

from seaway.platform import limits, memory

ROOT = Path(__file__).parents[3]


def run(program: str) -> str:
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, timeout=60, cwd=ROOT)
    assert done.returncode == 0, done.stderr
    return done.stdout.strip()


HEAD = "import resource; from seaway.platform import limits; NOFILE = resource.RLIMIT_NOFILE;"


def test_as_many_files_as_the_system_lets_it() -> None:
    program = HEAD + "resource.setrlimit(NOFILE, (100, 200));"
    assert run(program + "print(limits.allow_files(150), resource.getrlimit(NOFILE))") == "150 (150, 200)"
    assert run(program + "print(limits.allow_files(300), resource.getrlimit(NOFILE))") == "200 (200, 200)"
    assert run(program + "print(limits.allow_files(50), resource.getrlimit(NOFILE))") == "100 (100, 200)"


@pytest.mark.parametrize(
    "soft, most, wanted, expected",
    [(256, 10240, 16896, 10240), (256, 10240, 5000, 5000), (256, 256, 16896, 256), (12000, 10240, 16896, 12000)],
)
def test_a_system_that_takes_less_than_it_tells(
    monkeypatch: pytest.MonkeyPatch, soft: int, most: int, wanted: int, expected: int
) -> None:
    """macOS tells that there is no highest limit, and refuses more than `most`."""
    now = soft

    def refuse(_: int, values: tuple[int, int]) -> None:
        nonlocal now
        if values[0] > most:
            raise ValueError("current limit exceeds maximum limit")
        now = values[0]

    monkeypatch.setattr(limits.resource, "getrlimit", lambda _: (soft, limits.resource.RLIM_INFINITY))
    monkeypatch.setattr(limits.resource, "setrlimit", refuse)
    assert limits.allow_files(wanted) == expected == now


@pytest.mark.skipif(sys.platform != "linux", reason="only Linux tells a process's address space")
def test_allocations_beyond_the_growth_fail() -> None:
    program = (
        "from seaway.platform import limits; assert limits.limit_growth(64 << 20); kept = bytearray(16 << 20)\n"
        "try: bytearray(512 << 20)\nexcept MemoryError: print('refused')"
    )
    assert run(program) == "refused"


def test_where_no_size_is_told_growth_is_not_limited(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(memory, "peak_bytes", lambda: None)
    assert not limits.limit_growth(1)
    assert len(bytearray(1 << 24)) == 1 << 24


def test_a_crash_leaves_no_core() -> None:
    program = "import resource; from seaway.platform import limits; limits.leave_no_core();"
    assert run(program + "print(resource.getrlimit(resource.RLIMIT_CORE))") == "(0, 0)"
