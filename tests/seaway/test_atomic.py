import errno
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from seaway import atomic

WRITER = """
import sys, time
from pathlib import Path
from seaway import atomic
with atomic.{kind}(Path(sys.argv[1])) as part:
    (part if "{kind}" == "file" else part / "inside").write_text("new")
    print("written", flush=True)
    time.sleep(60)
"""


def test_file_replaces_at_once(tmp_path: Path) -> None:
    target = tmp_path / "deep" / "target"
    with atomic.file(target) as part:
        part.write_text("first")
        assert not target.exists()
    with atomic.file(target) as part:
        part.write_text("second")
        assert target.read_text() == "first"
    assert target.read_text() == "second"
    assert os.listdir(target.parent) == ["target"]


def test_folder_replaces_a_full_one(tmp_path: Path) -> None:
    target = tmp_path / "target"
    for text in ("first", "second"):
        with atomic.folder(target) as part:
            (part / text).write_text(text)
    assert os.listdir(target) == ["second"]
    assert os.listdir(tmp_path) == ["target"]


@pytest.mark.parametrize("kind", ["file", "folder"])
def test_an_error_leaves_the_old_one(tmp_path: Path, kind: str) -> None:
    target = tmp_path / "target"
    with atomic.file(target) as part:
        part.write_text("old")
    with pytest.raises(RuntimeError), getattr(atomic, kind)(target):
        raise RuntimeError
    assert target.read_text() == "old"
    assert os.listdir(tmp_path) == ["target"]


@pytest.mark.parametrize("kind", ["file", "folder"])
def test_kill_9_midway_shows_nothing_and_is_cleaned_up_by_the_next(tmp_path: Path, kind: str) -> None:
    target = tmp_path / "target"
    writer = subprocess.Popen([sys.executable, "-c", WRITER.format(kind=kind), target], stdout=subprocess.PIPE)
    assert writer.stdout
    assert writer.stdout.readline() == b"written\n"
    left = os.listdir(tmp_path)
    assert len(left) == 1
    assert left[0].startswith(atomic.INCOMING)
    with atomic.file(tmp_path / "other") as part:
        part.write_text("other")
    assert left[0] in os.listdir(tmp_path), "a living writer's work was taken for an abandoned one's"
    writer.send_signal(signal.SIGKILL)
    writer.wait()
    writer.stdout.close()
    assert not target.exists()
    with atomic.folder(target) as part:
        (part / "inside").write_text("next")
    assert sorted(os.listdir(tmp_path)) == ["other", "target"]


def test_full_disk_is_an_error_that_leaves_nothing(small_disk: Path) -> None:
    with pytest.raises(OSError, match="No space left") as caught, atomic.folder(small_disk / "big") as part:
        (part / "data").write_bytes(bytes(2 << 20))
    assert caught.value.errno == errno.ENOSPC
    assert caught.value.filename == str(small_disk / "big"), "the system does not say where a disk is full"
    assert os.listdir(small_disk) == []


def test_many_writers_at_once_all_succeed(tmp_path: Path) -> None:
    program = (
        "import sys\nfrom pathlib import Path\nfrom seaway import atomic\n"
        "for i in range(50):\n with atomic.file(Path(sys.argv[1])) as p: p.write_text(sys.argv[2] * 1000)"
    )
    writers = [subprocess.Popen([sys.executable, "-c", program, tmp_path / "target", letter]) for letter in "abc"]
    deadline = time.monotonic() + 60
    while any(w.poll() is None for w in writers) and time.monotonic() < deadline:
        if (tmp_path / "target").exists():
            text = (tmp_path / "target").read_text()
            assert len(text) == 1000
            assert len(set(text)) == 1
    assert [w.wait() for w in writers] == [0, 0, 0]
    assert os.listdir(tmp_path) == ["target"]
