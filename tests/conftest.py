"""Shared fixtures. Some test processes load both torch and TensorFlow, which no product process does."""

import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
sys.path.append(str(Path(__file__).parent / "fixtures"))  # modules that several folders' tests import
# A shell that starts tests in the background makes them, and every process that they start, ignore Ctrl-C.
signal.signal(signal.SIGINT, signal.default_int_handler)

ROOT = Path(__file__).resolve().parent.parent
HANDWRITING = ROOT.parent / "shared" / "data" / "handwriting"


@pytest.fixture(scope="session")
def handwriting() -> Path:
    """The folder of real handwriting in EMNIST's format; skips the test if there is none."""
    if not HANDWRITING.is_dir():
        pytest.skip(f"no real handwriting at {HANDWRITING.relative_to(ROOT.parent)}")
    return HANDWRITING


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A real file system of 1 MB, for tests of a full disk."""
    disk = tmp_path / "disk"
    disk.mkdir()
    mount = shutil.which("mount")
    if (
        not mount
        or subprocess.run([mount, "-t", "tmpfs", "-o", "size=1m", "tmpfs", disk], capture_output=True).returncode
    ):
        pytest.skip("a small tmpfs cannot be mounted here")
    yield disk
    subprocess.run(["umount", "-l", disk], check=True)
