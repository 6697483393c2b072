"""-h, --help and --version, of the command, every verb, and every stage's own command line."""

import importlib.metadata
import os
import re
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest
from typer.main import get_command
from typer.testing import CliRunner

from seaway.cli import version
from seaway.cli.main import VERBS, app

ROOT = Path(__file__).resolve().parents[3]
STAGES = sorted(path.parent.name for path in (ROOT / "seaway").glob("*/__main__.py"))


def verbs(command: object, before: tuple[str, ...] = ()) -> list[tuple[str, ...]]:
    """Every verb and, as `load capacity`, every one below a verb."""
    found = []
    for name, inner in getattr(command, "commands", {}).items():
        found += [(*before, name), *verbs(inner, (*before, name))]
    return found


ALL = [(), *verbs(get_command(app))]


def test_all_verbs_are_tried() -> None:
    assert len(ALL) > len(VERBS) + 2
    assert {("run",), ("convert",), ("serve",), ("load", "run"), ("load", "capacity")} < {*ALL}


@pytest.mark.parametrize("verb", ALL, ids=" ".join)
def test_h_is_help(verb: tuple[str, ...]) -> None:
    short, long = (CliRunner().invoke(app, [*verb, option], prog_name="seaway") for option in ("-h", "--help"))
    assert (short.exit_code, short.output) == (0, long.output)
    usage = re.sub(r"\s+", " ", short.output).strip()
    assert usage.startswith(" ".join(["Usage: seaway", *verb, "[OPTIONS]"]))


@pytest.mark.parametrize("stage", STAGES)
def test_a_stage_s_own_help(stage: str) -> None:
    done = subprocess.run([sys.executable, "-m", f"seaway.{stage}", "-h"], cwd=ROOT, capture_output=True, text=True)
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.startswith(f"usage: python -m seaway.{stage} [-h]")


@pytest.mark.parametrize("option", ["--version", "-V"])
def test_the_version_is_the_installed_one(option: str) -> None:
    done = CliRunner().invoke(app, [option])
    assert (done.exit_code, done.output) == (0, f"seaway {importlib.metadata.version('seaway')}\n")


def test_a_tree_that_is_not_installed_says_so() -> None:
    """-S: without site-packages, and so without what is installed there."""
    site = str(Path(importlib.metadata.distribution("typer").locate_file("")))
    program = f"import sys; sys.path.append({site!r})\nimport typer, rich\nsys.path.pop()\n" + (
        "from seaway.cli import version; print(version.text())"
    )
    environment = os.environ | {"PYTHONPATH": str(ROOT)}
    done = subprocess.run([sys.executable, "-S", "-c", program], env=environment, capture_output=True, text=True)
    number = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["version"]
    assert done.stdout == f"seaway {number} (not installed: it runs from {ROOT})\n", done.stderr


def test_a_folder_without_a_project_has_no_version(tmp_path: Path) -> None:
    assert version._of_tree(tmp_path) == "of an unknown version"
