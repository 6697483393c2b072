"""Verbs that need no earlier run."""

import ast
import importlib.metadata
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace

import pytest
from typer.testing import CliRunner, Result

from seaway.artifacts import artifact_metadata, model_repository
from seaway.artifacts.artifact_metadata import ArtifactMetadata
from seaway.cli import doctor
from seaway.cli.main import app
from seaway.platform import cgroup, memory

ROOT = Path(__file__).resolve().parents[3]
PRODUCT = ("seaway", "components", "pipelines", "loadtest", "sweep", "cli")
# PyTorch's exporter imports the first, tests/manifests the second; the third is tensorflow-cpu's name on other systems.
NOT_IMPORTED = {"kubernetes-validate", "tensorflow"}


def seaway(folder: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    environment = os.environ | {"PYTHONPATH": str(ROOT), "COLUMNS": "160", "NO_COLOR": "1"}
    command = [sys.executable, "-m", "seaway.cli.main", *arguments]
    return subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True, timeout=200)


def run_doctor(monkeypatch: pytest.MonkeyPatch, disk_gb: float, memory_gb: float) -> Result:
    """`seaway doctor` on a machine with this much free disk space and memory."""
    monkeypatch.setattr(shutil, "disk_usage", lambda path: SimpleNamespace(free=disk_gb * 1e9))
    monkeypatch.setattr(memory, "available_bytes", lambda: int(memory_gb * 1e9))
    monkeypatch.setattr(cgroup, "memory_bytes", lambda: None)
    return CliRunner().invoke(app, ["doctor"], env={"COLUMNS": "160", "NO_COLOR": "1"})


def test_doctor_passes_in_this_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    done = run_doctor(monkeypatch, disk_gb=2, memory_gb=3)
    assert done.exit_code == 0, done.output
    for check in ("Python 3.11 to 3.13", "onnx-tf", "torch", "2 GB of free disk", "3 GB of free"):
        assert re.search(rf"│ ok +│ {check}", done.output), check
    assert not re.search(r"│ fail +│", done.output)


@pytest.mark.parametrize("checks", ["_check_checkout", "_check_package"])
def test_doctor_imports_nothing_that_it_checks(checks: str) -> None:
    program = f"import sys; from seaway.cli import doctor; doctor.{checks}(); print(*sys.modules)"
    done = subprocess.run([sys.executable, "-c", program], cwd=ROOT, capture_output=True, text=True, check=True)
    assert {"torch", "tensorflow", "kfp", "kubernetes", "locust", "onnx"} & {*done.stdout.split()} == set()


@pytest.mark.parametrize(
    ("disk_gb", "memory_gb", "check"), [(1.9, 3, "2 GB of free disk space"), (2, 2.9, "3 GB of free memory")]
)
def test_doctor_fails_without_enough_disk_or_memory(
    monkeypatch: pytest.MonkeyPatch, disk_gb: float, memory_gb: float, check: str
) -> None:
    done = run_doctor(monkeypatch, disk_gb, memory_gb)
    assert done.exit_code == 1, done.output
    assert re.findall(r"│ fail +│ (.*?) +│", done.output) == [check]


def test_every_required_package_is_imported_somewhere() -> None:
    distributions = importlib.metadata.packages_distributions()
    imported = {name for package in PRODUCT for file in (ROOT / package).rglob("*.py") for name in imports(file)}
    used = {re.sub("[-_.]+", "-", name).lower() for module in imported for name in distributions.get(module, ())}
    assert set(doctor.REQUIRED) - used == set()
    product = (ROOT / "requirements" / "dev.in").read_text().partition("# the project's own house")[0]
    listed = re.findall(r"(?m)^[A-Za-z][\w-]*", product)
    assert len(listed) == len(set(listed)) > 20, "a package is listed twice"
    assert {name.lower() for name in listed} - used == NOT_IMPORTED


def imports(file: Path) -> Iterator[str]:
    """The top-level package of every import, at the module's top or within a function."""
    for node in ast.walk(ast.parse(file.read_bytes())):
        if isinstance(node, ast.Import):
            yield from (alias.name.partition(".")[0] for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.module:
            yield node.module.partition(".")[0]


def test_errors_of_the_server_name_the_command_that_started_it(tmp_path: Path) -> None:
    (tmp_path / "models").touch()
    done = seaway(tmp_path, "serve", "--model-repository", "models", "--port", "1")
    assert done.returncode == 1
    assert done.stderr.startswith("seaway serve: --model-repository models: this is a file")
    unknown = seaway(tmp_path, "serve", "--drian-s", "1", "--port", "1")
    assert unknown.stderr == (
        "seaway serve: there is no option --drian-s: did you mean --drain-s? See `seaway serve --help`\n"
    )
    command = [sys.executable, "-m", "seaway.serve", "--model-repository", "models"]
    module = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, timeout=200)
    assert module.stderr.startswith("python -m seaway.serve: --model-repository models: this is a file")


def test_versions_fits_80_columns(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    name = "handwritten-characters-and-digits"
    model_repository.publish(tmp_path, name, lambda folder: (folder / "weights").write_bytes(b"x"))
    for label in ("stable", "canary"):
        model_repository.set_label(tmp_path, name, label, 1)
    options = ["versions", "--model-repository", str(tmp_path)]
    shown = CliRunner().invoke(app, options, env={"COLUMNS": "80", "NO_COLOR": "1"}).output
    assert "…" not in shown
    assert max(map(len, shown.splitlines())) <= 80
    first_column = "".join(line.split()[0] for line in shown.splitlines() if re.match(r"\s?\S*[-/\d]", line))
    assert f"{name}/1" in first_column


def test_lineage_prints_every_value_whole(tmp_path: Path) -> None:
    def fill(folder: Path) -> None:
        settings = {"augment": {"affine": 1.0, "noise": {"std": 0.5}}, "classes": ["a"] * 40, "none": {}}
        (folder / "assets.extra").mkdir()
        artifact_metadata.write(
            folder, ArtifactMetadata("version", "m", settings=settings), at=model_repository.METADATA_FILE
        )

    model_repository.publish(tmp_path, "m", fill)
    options = ["lineage", "1", "--model-repository", str(tmp_path)]
    shown = CliRunner().invoke(app, options, env={"COLUMNS": "80", "NO_COLOR": "1"}).output
    lines = [line.strip() for line in shown.splitlines()]
    assert {"augment.affine=1", "augment.noise.std=0.5", "none={}"} <= {*lines}
    assert shown.count("'a'") == 40


def test_versions_prunes_old_versions_but_no_labelled_one(tmp_path: Path) -> None:
    def fill(folder: Path) -> None:
        (folder / "weights").write_bytes(os.urandom(8))

    for _ in range(4):
        model_repository.publish(tmp_path, "m", fill)
    model_repository.set_label(tmp_path, "m", "stable", 1)
    done = seaway(tmp_path, "versions", "--model-repository", ".", "--prune", "2")
    assert done.returncode == 0, done.stderr
    assert done.stdout.startswith("removed m/2\n")
    assert model_repository.versions(tmp_path, "m") == [1, 3, 4]
    again = seaway(tmp_path, "versions", "--model-repository", ".", "--prune", "2")
    assert again.stdout.startswith(
        "nothing to remove of m: every version is one of the newest 2, or labelled or deployed"
    )
    assert seaway(tmp_path, "versions", "--model-repository", ".", "--prune", "0").returncode == 2
