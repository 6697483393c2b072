"""Memory that the allocator retains and returns, measured in the process itself."""

import mmap
import os
import platform
import subprocess
import sys
from pathlib import Path

import pytest

from seaway.platform import memory

ROOT = Path(__file__).parents[3]
LINUX = pytest.mark.skipif(sys.platform != "linux", reason="only Linux has /proc")

# 64 blocks of 1 MB at the end of the heap, which the allocator would return by default.
PROGRAM = """
from pathlib import Path
from seaway.platform import memory
def resident():
    return next(int(line.split()[1]) for line in Path("/proc/self/status").open() if line.startswith("VmRSS")) >> 10
memory.retain_freed(memory.MAX_RETAINED_BYTES, memory.MAX_RETAINED_BYTES)
before = resident()
blocks = [bytearray(b"x") * (1 << 20) for _ in range(64)]
full = resident()
del blocks
kept = resident()
memory.trim()
print(full - before >= 60, kept - before >= 60, resident() - before <= 30)
"""


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="only glibc has these functions")
def test_freed_memory_is_retained_until_trim() -> None:
    done = subprocess.run([sys.executable, "-c", PROGRAM], capture_output=True, text=True, timeout=60, cwd=ROOT)
    assert done.stdout == "True True True\n", done.stdout + done.stderr


@LINUX
def test_memory_sizes_on_linux() -> None:
    total = int(Path("/proc/meminfo").read_text().split()[1]) << 10
    assert 0 < memory.available_bytes() <= total
    assert memory.peak_bytes() > 1 << 20


def test_memory_sizes_are_unknown_without_proc(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(memory, "Path", lambda path: tmp_path / path.lstrip("/"))
    assert memory.available_bytes() is None
    assert memory.peak_bytes() is None
    (tmp_path / "proc").mkdir()
    (tmp_path / "proc" / "meminfo").write_text("MemTotal: 10 kB\n")  # as kernels before 3.14 did
    assert memory.available_bytes() is None


@pytest.mark.parametrize("advised", [True, False])
def test_dropped_pages_can_be_read_again(monkeypatch: pytest.MonkeyPatch, tmp_path: Path, advised: bool) -> None:
    path = tmp_path / "file"
    path.write_bytes(b"seaway" * 10_000)
    if not advised:
        monkeypatch.delattr(mmap, "MADV_DONTNEED", raising=False)
    with path.open("rb") as opened, mmap.mmap(opened.fileno(), 0, access=mmap.ACCESS_READ) as mapped:
        assert mapped[:6] == b"seaway"
        memory.drop_pages(mapped)
        assert mapped[-6:] == b"seaway"


@pytest.mark.parametrize("in_memory", [True, False])
def test_content_as_a_file(monkeypatch: pytest.MonkeyPatch, in_memory: bool) -> None:
    if not in_memory:
        monkeypatch.delattr(os, "memfd_create", raising=False)
    with memory.file_of(b"content") as path:
        assert Path(path).read_bytes() == b"content"
    assert not Path(path).is_file()
