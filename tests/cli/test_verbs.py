"""Verbs that need no run before them."""

import os
import subprocess
import sys
from pathlib import Path

from seaway import store

ROOT = Path(__file__).resolve().parents[2]


def seaway(folder: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    environment = os.environ | {"PYTHONPATH": str(ROOT), "COLUMNS": "160", "NO_COLOR": "1"}
    command = [sys.executable, "-m", "cli.main", *arguments]
    return subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True, timeout=200)


def test_doctor_finds_this_environment_whole(tmp_path: Path) -> None:
    found = seaway(tmp_path, "doctor")
    assert found.returncode == 0, found.stdout + found.stderr
    for what in ("Python 3.11", "onnx-tf", "torch and TensorFlow import"):
        assert f"│ ok │ {what}" in found.stdout
    assert "│ bad │" not in found.stdout


def test_serve_says_what_is_wrong_with_its_volume(tmp_path: Path) -> None:
    (tmp_path / "models").touch()
    found = seaway(tmp_path, "serve", "--volume", "models", "--port", "1")
    assert found.returncode == 1
    assert "--volume models: a file" in found.stderr


def test_versions_removes_old_ones_but_no_labelled_one(tmp_path: Path) -> None:
    def fill(folder: Path) -> None:
        (folder / "weights").write_bytes(os.urandom(8))

    for _ in range(4):
        store.publish(tmp_path, "m", fill)
    store.set_label(tmp_path, "m", "stable", 1)
    found = seaway(tmp_path, "versions", "--volume", ".", "--prune", "2")
    assert found.returncode == 0, found.stderr
    assert found.stdout.startswith("removed m/2\n")
    assert store.versions(tmp_path, "m") == [1, 3, 4]
    assert seaway(tmp_path, "versions", "--volume", ".", "--prune", "0").returncode == 2
