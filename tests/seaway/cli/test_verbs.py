"""Verbs that need no run before them."""

import ast
import importlib.metadata
import os
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

from seaway.artifacts import store
from seaway.cli import doctor

ROOT = Path(__file__).resolve().parents[3]
PRODUCT = ("seaway", "components", "pipelines", "loadtest", "sweep", "cli")
# PyTorch's exporter imports the first, tests/manifests the second; the third is tensorflow-cpu's name on other systems.
NOT_IMPORTED = {"onnxscript", "kubernetes-validate", "tensorflow"}


def seaway(folder: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    environment = os.environ | {"PYTHONPATH": str(ROOT), "COLUMNS": "160", "NO_COLOR": "1"}
    command = [sys.executable, "-m", "seaway.cli.main", *arguments]
    return subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True, timeout=200)


def test_doctor_finds_this_environment_whole(tmp_path: Path) -> None:
    found = seaway(tmp_path, "doctor")
    assert found.returncode == 0, found.stdout + found.stderr
    for what in ("Python 3.11 to 3.13", "onnx-tf", "torch and TensorFlow import"):
        assert f"│ ok │ {what}" in found.stdout
    assert "│ bad │" not in found.stdout


def test_what_doctor_asks_for_is_imported_somewhere() -> None:
    distributions = importlib.metadata.packages_distributions()
    imported = {name for package in PRODUCT for file in (ROOT / package).rglob("*.py") for name in imports(file)}
    used = {re.sub("[-_.]+", "-", name).lower() for module in imported for name in distributions.get(module, ())}
    assert set(doctor.NEEDED) - used == set()
    asked = (ROOT / "requirements" / "dev.in").read_text().partition("# the project's own house")[0]
    listed = re.findall(r"(?m)^[A-Za-z][\w-]*", asked)
    assert len(listed) == len(set(listed)) > 20, "each once"
    assert {name.lower() for name in listed} - used == NOT_IMPORTED


def imports(file: Path) -> Iterator[str]:
    """The first word of every module that it imports, at its top or within a function."""
    for node in ast.walk(ast.parse(file.read_bytes())):
        if isinstance(node, ast.Import):
            yield from (alias.name.partition(".")[0] for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.module:
            yield node.module.partition(".")[0]


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
