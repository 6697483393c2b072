"""Which Python `make` uses, and that it remakes an environment of another version; with stubs that install nothing."""

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
TEST_VARIABLES = ("PYTHON", "VIRTUAL", "MAKE", "MFLAGS")  # set by pytest and an outer make
ENVIRONMENT = {key: value for key, value in os.environ.items() if not key.startswith(TEST_VARIABLES)}
STAND_IN = """#!/bin/sh
case "$1 $2" in
"-m venv") for folder; do :; done
    mkdir -p "$folder/bin" && cp "$0" "$folder/bin/python" && ln -s /bin/true "$folder/bin/uv" ;;
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
    ("installed", "chosen"),
    [
        ({"python3.12": "3.12", "python3.13": "3.13"}, "python3.12"),
        ({"python3.13": "3.13", "python3": "3.9"}, "python3.13"),
        ({"python3": "3.12"}, "python3"),
    ],
)
def test_the_first_python_that_runs_is_used(tree: Path, installed: dict[str, str], chosen: str) -> None:
    for name, version in installed.items():
        python(tree, version, name)
    printed = make(tree, "--eval", "print: ; @echo $(PYTHON) $(PYTHON_VERSION)", "print")
    assert printed.stdout.split() == [chosen, installed[chosen]]


@pytest.mark.parametrize("goal", ["setup", "try", "demo", "test", "check", "docs"])
@pytest.mark.parametrize(("version", "reported"), [("3.10", "3.10"), ("3.14", "3.14"), (None, "none")])
def test_an_unsupported_python_is_refused_in_one_line(
    tree: Path, goal: str, version: str | None, reported: str
) -> None:
    interpreter = python(tree, version, "python") if version else tree / "bin" / "missing"
    refused = make(tree, goal, f"PYTHON={interpreter}")
    assert refused.returncode != 0
    assert refused.stdout == ""
    [line] = refused.stderr.splitlines()
    assert f'Seaway needs Python 3.11, 3.12 or 3.13, and "{interpreter}" is {reported}: make ' in line
    assert not (tree / ".venv").exists()


@pytest.mark.parametrize(
    ("folder", "goal"),
    [
        (".venv", "setup"),
        (".venv-try", ".venv-try/.ready-{version}"),
        (".venv-docs", ".venv-docs/.ready-{version}"),
    ],
)
def test_an_environment_of_another_python_is_remade(tree: Path, folder: str, goal: str) -> None:
    marker, environment = tree / folder / "marker", tree / folder
    python(tree, "3.11")
    for version, kept in (("3.12", False), ("3.12", True), ("3.13", False), ("3.13", True), ("3.12", False)):
        interpreter = python(tree, version)
        done = make(tree, goal.format(version=version), f"PYTHON={interpreter}")
        assert done.returncode == 0, done.stderr
        assert subprocess.check_output([environment / "bin" / "python"], text=True) == f"{version}\n"
        assert [path.name for path in environment.glob(".ready*")] == [f".ready-{version}"]
        assert marker.exists() == kept
        marker.touch()
    assert make(tree, goal.format(version="3.11")).returncode == 0  # without PYTHON: the first that runs again
    assert subprocess.check_output([environment / "bin" / "python"], text=True) == "3.11\n"


@pytest.mark.parametrize("text", [NOT_INSTALLED, '#!/bin/sh\ntest "$1" = -c && echo 3.12\n'], ids=["gone", "no pip"])
def test_an_environment_whose_python_is_gone_or_has_no_pip_is_remade(tree: Path, text: str) -> None:
    (tree / ".venv" / "bin").mkdir(parents=True)
    interpreter = script(tree / ".venv" / "bin" / "python", text)
    made = make(tree, "setup", f"PYTHON={python(tree, '3.12')}")
    assert made.returncode == 0
    assert ".venv is incomplete or not for Python 3.12: making it again" in made.stdout
    assert interpreter.read_text() == STAND_IN.format(version="3.12")


def test_makefile_doctor_and_pyproject_support_the_same_pythons() -> None:
    supported = re.search(r"(?m)^SUPPORTED := (.*)$", (ROOT / "Makefile").read_text())[1].split()
    assert [tuple(map(int, version.split("."))) for version in supported] == list(doctor.SUPPORTED)
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    major, minor = doctor.SUPPORTED[-1]
    assert project["requires-python"] == f">={supported[0]},<{major}.{minor + 1}"
    assert sys.version_info[:2] in doctor.SUPPORTED
    assert sorted(path.name for path in ROOT.glob("constraints-*")) == [f"constraints-{v}.txt" for v in supported]
