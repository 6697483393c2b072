"""The environment that every report ends with."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

from seaway.reporting import environment, report
from seaway.reporting.report import Section

EXECUTOR_INPUT = {
    "inputs": {"parameterValues": {"net": "mlp", "epochs": 2}, "artifacts": {"dataset": {}}},
    "outputs": {"outputFile": "/tmp/outputs.json"},
}


def test_a_page_ends_with_its_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "argv", ["/usr/bin/seaway", "load", "http://me:secret@host/", "--limit", "p99_ms=<50>"])
    monkeypatch.setattr(sys.modules["__main__"], "__spec__", None)  # a console script
    page = report.page("A page", [Section("First", ["text"])])
    end = page.partition("<h2>Environment</h2>")[2]
    assert "First" in page.removesuffix(end)
    assert "<code>seaway load http://…@host/ --limit &#39;p99_ms=&lt;50&gt;&#39;</code>" in end
    assert "secret" not in page


def test_libraries_are_those_that_are_imported_already() -> None:
    program = "import numpy, sys; from seaway.reporting import environment; print(environment.describe()['libraries'])"
    shown = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True).stdout
    assert shown == f"numpy {sys.modules['numpy'].__version__}\n"


def test_a_module_s_command_line(tmp_path: Path) -> None:
    program = "import sys; from seaway.reporting import environment; print(environment.command_line(sys.argv))"
    (tmp_path / "mine.py").write_text(program)
    command = [sys.executable, "-m", "mine", "a b"]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=True)
    assert done.stdout == "python -m mine 'a b'\n"


def test_a_stage_s_command_line_is_its_name_and_parameters() -> None:
    argv = ["executor_main.py", "--component_module_path", "/tmp/component.py"]
    argv += ["--executor_input", json.dumps(EXECUTOR_INPUT), "--function_to_execute", "train"]
    assert environment.command_line(argv) == "train net=mlp epochs=2"


def test_the_commit_is_that_of_the_checkout(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def git(*arguments: str) -> str:
        identity = ["-c", "user.name=a", "-c", "user.email=a@example.com"]
        return subprocess.check_output(["git", *identity, *arguments], cwd=tmp_path, text=True)

    monkeypatch.setattr(environment, "ROOT", tmp_path)
    without = environment.describe()["Seaway"]
    git("init", "-q")
    git("commit", "-q", "--allow-empty", "-m", "first")
    commit = git("rev-parse", "--short=12", "HEAD").strip()
    assert environment.describe()["Seaway"] == f"{without}, commit {commit}"
    (tmp_path / "file").touch()
    git("add", "file")
    assert environment.describe()["Seaway"] == f"{without}, commit {commit}-dirty"
    (tmp_path / "installed").mkdir()
    monkeypatch.setattr(environment, "ROOT", tmp_path / "installed")  # in someone's own repository
    assert environment.describe()["Seaway"] == without
