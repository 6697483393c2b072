import errno
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from seaway.artifacts import atomic

WRITER = """
import sys, time
from pathlib import Path
from seaway.artifacts import atomic
with atomic.{kind}(Path(sys.argv[1])) as part:
    (part if "{kind}" == "file" else part / "inside").write_text("new")
    print("written", flush=True)
    time.sleep(60)
"""


def test_a_file_is_replaced_atomically(tmp_path: Path) -> None:
    target = tmp_path / "deep" / "target"
    with atomic.file(target) as part:
        part.write_text("first")
        assert not target.exists()
    with atomic.file(target) as part:
        part.write_text("second")
        assert target.read_text() == "first"
    assert target.read_text() == "second"
    assert os.listdir(target.parent) == ["target"]


def test_a_folder_replaces_one_with_content(tmp_path: Path) -> None:
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
def test_kill_9_midway_leaves_nothing_visible_and_the_next_writer_cleans_up(tmp_path: Path, kind: str) -> None:
    target = tmp_path / "target"
    writer = subprocess.Popen([sys.executable, "-c", WRITER.format(kind=kind), target], stdout=subprocess.PIPE)
    assert writer.stdout
    assert writer.stdout.readline() == b"written\n"
    left = os.listdir(tmp_path)
    assert len(left) == 1
    assert left[0].startswith(atomic.INCOMING)
    with atomic.file(tmp_path / "other") as part:
        part.write_text("other")
    assert left[0] in os.listdir(tmp_path), "a living writer's work was mistaken for an abandoned one's"
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
        "import sys\nfrom pathlib import Path\nfrom seaway.artifacts import atomic\n"
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


# ---- modes


@pytest.fixture(params=[0o000, 0o077], ids=["umask 0", "umask 077"])
def umask(request: pytest.FixtureRequest) -> Iterator[None]:
    before = os.umask(request.param)
    yield
    os.umask(before)


def modes(folder: Path) -> dict[str, str]:
    return {str(path.relative_to(folder)): f"{path.stat().st_mode & 0o7777:o}" for path in folder.rglob("*")}


def test_files_and_folders_have_their_modes_whatever_the_umask(umask: None, tmp_path: Path) -> None:
    with atomic.file(tmp_path / "deep" / "er" / "file") as part:
        part.write_text("x")
    with atomic.folder(tmp_path / "folder") as part:
        (part / "inside").mkdir()
        (part / "inside" / "file").write_text("x")
    with atomic.locked(tmp_path / "lock"):
        pass
    atomic.make_folder(tmp_path / "made" / "too")
    assert modes(tmp_path) == {
        "deep": "755",
        "deep/er": "755",
        "deep/er/file": "644",
        "folder": "755",
        "folder/inside": "755",
        "folder/inside/file": "644",
        "lock": "644",
        "made": "755",
        "made/too": "755",
    }


def test_an_existing_folder_keeps_its_mode_and_passes_the_group_bit_on(umask: None, tmp_path: Path) -> None:
    (tmp_path / "models").mkdir()
    (tmp_path / "models").chmod(0o2775)  # as Kubernetes' fsGroup leaves it
    with atomic.folder(tmp_path / "models" / "model" / "1") as part:
        (part / "file").write_text("x")
    modes_after = modes(tmp_path)
    assert modes_after["models"] == "2775"
    assert (modes_after["models/model"], modes_after["models/model/1/file"]) == ("2755", "644")


def test_a_file_system_without_modes_can_be_written(
    umask: None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refused(*_: object, **__: object) -> None:
        raise PermissionError(errno.EPERM, "Operation not permitted")

    monkeypatch.setattr(Path, "chmod", refused)
    with atomic.file(tmp_path / "new" / "file") as part:
        part.write_text("x")
    assert (tmp_path / "new" / "file").read_text() == "x"
