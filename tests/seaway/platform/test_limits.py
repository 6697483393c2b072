"""Limits, each set in a separate process, and their fallbacks."""

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


def test_the_limit_on_open_files_is_raised_as_far_as_allowed() -> None:
    program = HEAD + "resource.setrlimit(NOFILE, (100, 200));"
    assert run(program + "print(limits.raise_open_files_limit(150), resource.getrlimit(NOFILE))") == "150 (150, 200)"
    assert run(program + "print(limits.raise_open_files_limit(300), resource.getrlimit(NOFILE))") == "200 (200, 200)"
    assert run(program + "print(limits.raise_open_files_limit(50), resource.getrlimit(NOFILE))") == "100 (100, 200)"


@pytest.mark.parametrize(
    "soft, maximum, wanted, expected",
    [(256, 10240, 16896, 10240), (256, 10240, 5000, 5000), (256, 256, 16896, 256), (12000, 10240, 16896, 12000)],
)
def test_a_system_whose_real_limit_is_lower_than_the_reported_one(
    monkeypatch: pytest.MonkeyPatch, soft: int, maximum: int, wanted: int, expected: int
) -> None:
    """macOS reports no hard limit, and refuses more than `maximum`."""
    now = soft

    def refuse(_: int, values: tuple[int, int]) -> None:
        nonlocal now
        if values[0] > maximum:
            raise ValueError("current limit exceeds maximum limit")
        now = values[0]

    monkeypatch.setattr(limits.resource, "getrlimit", lambda _: (soft, limits.resource.RLIM_INFINITY))
    monkeypatch.setattr(limits.resource, "setrlimit", refuse)
    assert limits.raise_open_files_limit(wanted) == expected == now


@pytest.mark.skipif(sys.platform != "linux", reason="only Linux has /proc")
def test_allocations_beyond_the_growth_fail() -> None:
    program = (
        "from seaway.platform import limits; assert limits.limit_memory_growth(64 << 20); kept = bytearray(16 << 20)\n"
        "try: bytearray(512 << 20)\nexcept MemoryError: print('refused')"
    )
    assert run(program) == "refused"


def test_growth_is_not_limited_if_the_size_is_unknown(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(memory, "peak_bytes", lambda: None)
    assert not limits.limit_memory_growth(1)
    assert len(bytearray(1 << 24)) == 1 << 24


def test_a_crash_leaves_no_core() -> None:
    program = "import resource; from seaway.platform import limits; limits.disable_core_dumps();"
    assert run(program + "print(resource.getrlimit(resource.RLIMIT_CORE))") == "(0, 0)"
