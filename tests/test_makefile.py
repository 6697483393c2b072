"""Which Python `make` takes, and that an environment of another is made anew; with stand-ins that install nothing."""

import os
import re
import shutil
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

from seaway.cli import doctor

ROOT = Path(__file__).resolve().parents[1]
NOT_A_USERS = ("PYTHON", "VIRTUAL", "MAKE", "MFLAGS")  # what pytest and an outer make leave behind
ENVIRONMENT = {key: value for key, value in os.environ.items() if not key.startswith(NOT_A_USERS)}
STAND_IN = """#!/bin/sh
case "$1 $2" in
"-m venv") mkdir -p "$3/bin" && cp "$0" "$3/bin/python" && ln -s /bin/true "$3/bin/uv" ;;
"-m pip") ;;
*) echo {version} ;;
esac
"""
NOT_INSTALLED = "#!/bin/sh\necho 'not installed: try another' >&2\nexit 127\n"
NAMES = ("python3.11", "python3.12", "python3.13", "python3")


@pytest.fixture
def tree(tmp_path: Path) -> Path:
    for name in ("Makefile", "pyproject.toml"):
        shutil.copy(ROOT / name, tmp_path)
    shutil.copytree(ROOT / "requirements", tmp_path / "requirements")
    (tmp_path / "bin").mkdir()
    for name in NAMES:
        script(tmp_path / "bin" / name, NOT_INSTALLED)
    return tmp_path


def script(path: Path, text: str) -> Path:
    path.write_text(text)
    path.chmod(0o755)
    return path


def python(tree: Path, version: str, name: str = "") -> Path:
    return script(tree / "bin" / (name or f"python{version}"), STAND_IN.format(version=version))


def make(tree: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    environment = ENVIRONMENT | {"PATH": f"{tree / 'bin'}:{os.environ['PATH']}"}
    command = ["make", "--no-print-directory", *arguments]
    return subprocess.run(command, cwd=tree, env=environment, capture_output=True, text=True, timeout=60)


@pytest.mark.parametrize(
    ("found", "taken"),
    [
        ({"python3.12": "3.12", "python3.13": "3.13"}, "python3.12"),
        ({"python3.13": "3.13", "python3": "3.9"}, "python3.13"),
        ({"python3": "3.12"}, "python3"),
    ],
)
def test_the_first_that_runs_is_taken(tree: Path, found: dict[str, str], taken: str) -> None:
    for name, version in found.items():
        python(tree, version, name)
    shown = make(tree, "--eval", "shown: ; @echo $(PYTHON) $(PYTHON_VERSION)", "shown")
    assert shown.stdout.split() == [taken, found[taken]]


@pytest.mark.parametrize("goal", ["setup", "try", "demo", "test", "check"])
@pytest.mark.parametrize(("version", "told"), [("3.10", "3.10"), ("3.14", "3.14"), (None, "none")])
def test_another_python_is_told_in_one_line(tree: Path, goal: str, version: str | None, told: str) -> None:
    given = python(tree, version, "python") if version else tree / "bin" / "missing"
    refused = make(tree, goal, f"PYTHON={given}")
    assert refused.returncode != 0
    assert refused.stdout == ""
    [line] = refused.stderr.splitlines()
    assert f'Seaway needs Python 3.11, 3.12 or 3.13, and "{given}" is {told}: make ' in line
    assert not (tree / ".venv").exists()


@pytest.mark.parametrize(("folder", "goal"), [(".venv", "setup"), (".venv-try", ".venv-try/.ready-{version}")])
def test_an_environment_of_another_python_is_made_anew(tree: Path, folder: str, goal: str) -> None:
    left, environment = tree / folder / "left", tree / folder
    python(tree, "3.11")
    for version, anew in (("3.12", False), ("3.12", False), ("3.13", True), ("3.13", False), ("3.12", True)):
        given = python(tree, version)
        made = make(tree, goal.format(version=version), f"PYTHON={given}")
        assert made.returncode == 0, made.stderr
        assert (f"{folder} is not of Python {version}: it is made anew" in made.stdout) == anew
        assert subprocess.check_output([environment / "bin" / "python"], text=True) == f"{version}\n"
        assert [path.name for path in environment.glob(".ready*")] == [f".ready-{version}"]
        if anew:
            assert not left.exists()
        left.touch()
    assert make(tree, goal.format(version="3.11")).returncode == 0  # none given: the first that runs, once more
    assert subprocess.check_output([environment / "bin" / "python"], text=True) == "3.11\n"


def test_an_environment_whose_python_is_gone_is_made_anew(tree: Path) -> None:
    (tree / ".venv" / "bin").mkdir(parents=True)
    (tree / ".venv" / "bin" / "python").symlink_to(tree / "gone")
    assert make(tree, "setup", f"PYTHON={python(tree, '3.12')}").returncode == 0
    assert subprocess.check_output([tree / ".venv" / "bin" / "python"], text=True) == "3.12\n"


def test_all_name_the_same_pythons() -> None:
    supported = re.search(r"(?m)^SUPPORTED := (.*)$", (ROOT / "Makefile").read_text())[1].split()
    assert [tuple(map(int, version.split("."))) for version in supported] == list(doctor.SUPPORTED)
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    major, minor = doctor.SUPPORTED[-1]
    assert project["requires-python"] == f">={supported[0]},<{major}.{minor + 1}"
    assert sys.version_info[:2] in doctor.SUPPORTED
    assert sorted(path.name for path in ROOT.glob("constraints-*")) == [f"constraints-{v}.txt" for v in supported]
