import gzip
import os
import re
import signal
import struct
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest

from seaway.artifacts import artifact_metadata
from seaway.data import datasets
from seaway.errors import DataError
from seaway.explore.explore import explore

ROOT = Path(__file__).parents[3]


def command(*arguments: object) -> list[str]:
    return [sys.executable, "-m", "seaway.explore", *map(str, arguments)]


def run(*arguments: object) -> subprocess.CompletedProcess[str]:
    return subprocess.run(command(*arguments), cwd=ROOT, capture_output=True, text=True, timeout=120)


def write_digits(folder: Path, mapping: str, train: list[int], test: list[int]) -> Path:
    folder.mkdir()
    for part, labels in (("train", train), ("test", test)):
        images = struct.pack(">4I", 0x0803, len(labels), 28, 28) + bytes(range(196)) * 4 * len(labels)
        label_bytes = struct.pack(">2I", 0x0801, len(labels)) + bytes(labels)
        for kind, content in (("images-idx3", images), ("labels-idx1", label_bytes)):
            (folder / f"emnist-own-{part}-{kind}-ubyte.gz").write_bytes(gzip.compress(content))
    lines = [f"{label} {ord(name)}\n" for label, name in enumerate(mapping)]
    (folder / "emnist-own-mapping.txt").write_text("".join(lines))
    return folder


def test_the_artifact_is_complete_and_names_its_source(tmp_path: Path) -> None:
    written = explore("strokes:500", tmp_path / "dataset")
    metadata = artifact_metadata.check(tmp_path / "dataset", "dataset")
    assert metadata == written
    assert metadata.name == "characters"
    assert len(metadata.labels) == 62
    assert metadata.settings == {"source": "strokes:500", "fingerprint": datasets.fingerprint("strokes:500")}
    assert metadata.metrics == {"train": 429, "test": 71}
    assert len(datasets.load(tmp_path / "dataset").test_labels) == 71


def test_the_report_shows_counts_and_images(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    explore("strokes:500", tmp_path / "dataset", tmp_path / "report.html")
    page = (tmp_path / "report.html").read_text("utf-8")
    assert "From strokes:500, fingerprint" in page
    counts = np.bincount(datasets.load(tmp_path / "dataset").train_labels, minlength=62)
    rows = dict(re.findall(r'<td class="short">(\w)</td>\s*<td class="number">([\d,]+)</td>', page))
    assert {label: int(rows[label]) for label in "05Aez"} == {
        label: counts[index] for label, index in zip("05Aez", (0, 5, 10, 40, 61), strict=True)
    }
    assert page.count('alt="samples of ') == page.count('alt="mean of ') == 62
    output = capsys.readouterr()
    for group in ("digits", "upper case", "lower case"):
        assert group in page
        assert group in output.out
    assert "without test images" not in page
    assert output.err == ""


def test_any_characters_and_a_class_without_test_images(tmp_path: Path) -> None:
    folder = write_digits(tmp_path / "idx", "$<é", [0, 1, 2, 2], [0, 0])
    explore(f"idx:{folder}", tmp_path / "dataset", tmp_path / "report.html")
    page = (tmp_path / "report.html").read_text("utf-8")
    assert "2 classes without test images: &lt; é" in page
    assert '<td class="short">$</td>' in page
    assert "other" in page


def test_from_the_command_line(tmp_path: Path) -> None:
    done = run("--source", "strokes:434", "--dataset", tmp_path / "new/dataset", "--report", tmp_path / "a/b.html")
    assert done.stderr == ""
    assert done.returncode == 0
    assert "372 train, 62 test" in done.stdout
    assert "lower case" in done.stdout
    assert artifact_metadata.check(tmp_path / "new/dataset").kind == "dataset"
    assert (tmp_path / "a/b.html").stat().st_size > 10_000
    assert "--source strokes:14000 --dataset work/dataset" in " ".join(run("--help").stdout.split())


def test_torch_is_not_imported(tmp_path: Path) -> None:
    script = (
        "import sys; from pathlib import Path; from seaway.explore.explore import explore\n"
        f"explore('strokes:434', Path({str(tmp_path / 'd')!r}), Path({str(tmp_path / 'r.html')!r}))\n"
        "sys.exit(', '.join({'torch', 'torchvision', 'tensorflow', 'onnx'} & set(sys.modules)) or 0)"
    )
    done = subprocess.run([sys.executable, "-c", script], cwd=ROOT, capture_output=True, text=True, timeout=120)
    assert (done.returncode, done.stderr) == (0, "")


def test_a_failure_leaves_the_old_dataset_and_nothing_else(tmp_path: Path) -> None:
    before = explore("strokes:434", tmp_path / "dataset")
    folder = write_digits(tmp_path / "idx", "ab", [0, 1, 1], [0])
    images = folder / "emnist-own-test-images-idx3-ubyte.gz"
    images.write_bytes(images.read_bytes()[:-9])
    done = run("--source", f"idx:{folder}", "--dataset", tmp_path / "dataset", "--report", tmp_path / "report.html")
    assert done.returncode == 1
    assert done.stderr.startswith(f"python -m seaway.explore: {images}: truncated")
    assert len(done.stderr.splitlines()) == 1
    assert artifact_metadata.check(tmp_path / "dataset") == before
    assert sorted(entry.name for entry in tmp_path.iterdir()) == ["dataset", "idx"]
    with pytest.raises(DataError, match="no training image of b"):
        explore(f"idx:{write_digits(tmp_path / 'idx2', 'ab', [0], [1])}", tmp_path / "dataset")
    assert artifact_metadata.check(tmp_path / "dataset") == before


def test_a_full_disk_is_reported_and_left_clean(small_disk: Path) -> None:
    done = run("--source", "strokes:14000", "--dataset", small_disk / "dataset")
    assert done.returncode == 1
    assert done.stderr.startswith(f"python -m seaway.explore: {small_disk}")
    assert "the disk is full: free some space and run again" in done.stderr
    assert list(small_disk.iterdir()) == []
    assert run("--source", "strokes:434", "--dataset", small_disk / "dataset").returncode == 0


def test_a_read_only_folder_is_reported(small_disk: Path) -> None:
    subprocess.run(["mount", "-o", "remount,ro", small_disk], check=True)
    done = run("--source", "strokes:434", "--dataset", small_disk / "dataset")
    assert done.returncode == 1
    assert re.search(rf"{small_disk}.*read-only: mount it writable or choose another folder", done.stderr)


def test_killed_midway_nothing_is_visible_and_the_next_run_succeeds(tmp_path: Path) -> None:
    killed = subprocess.Popen(
        command("--source", "strokes:400000", "--dataset", tmp_path / "dataset"), cwd=ROOT, stderr=subprocess.DEVNULL
    )
    deadline = time.monotonic() + 60
    while not [p for p in tmp_path.rglob("train_images.npy") if p.stat().st_size > 1_000_000]:
        assert killed.poll() is None
        assert time.monotonic() < deadline
        time.sleep(0.02)
    os.kill(killed.pid, signal.SIGKILL)
    killed.wait(timeout=10)
    assert not (tmp_path / "dataset").exists()
    assert list(tmp_path.glob(".incoming-*"))
    explore("strokes:434", tmp_path / "dataset")
    assert [entry.name for entry in tmp_path.iterdir()] == ["dataset"]
    artifact_metadata.check(tmp_path / "dataset")
