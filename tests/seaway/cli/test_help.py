"""-h, --help and --version, of the command, every verb, and every stage's own command line."""

import importlib.metadata
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest
from typer.main import get_command
from typer.testing import CliRunner

from seaway.cli.main import VERBS, app
from seaway.version import VERSION

ROOT = Path(__file__).resolve().parents[3]
STAGES = sorted(path.parent.name for path in (ROOT / "seaway").glob("*/__main__.py"))


def verbs(command: object, before: tuple[str, ...] = ()) -> list[tuple[str, ...]]:
    """Every verb and subcommand, e.g. ("load", "capacity")."""
    names = []
    for name, inner in getattr(command, "commands", {}).items():
        names += [(*before, name), *verbs(inner, (*before, name))]
    return names


ALL = [(), *verbs(get_command(app))]


def test_all_verbs_are_tested() -> None:
    assert len(ALL) > len(VERBS) + 2
    assert {("run",), ("convert",), ("serve",), ("load", "run"), ("load", "capacity")} < {*ALL}


@pytest.mark.parametrize("verb", ALL, ids=" ".join)
def test_h_is_help(verb: tuple[str, ...]) -> None:
    short, long = (CliRunner().invoke(app, [*verb, option], prog_name="seaway") for option in ("-h", "--help"))
    assert (short.exit_code, short.output) == (0, long.output)
    usage = re.sub(r"\s+", " ", short.output).strip()
    assert usage.startswith(" ".join(["Usage: seaway", *verb, "[OPTIONS]"]))


@pytest.mark.parametrize(
    ("verb", "name", "former"), [("versions", "--model-repository", "--repository"), ("sweep", "--data", "--source")]
)
def test_a_former_name_of_an_option_works_but_is_not_in_the_help(verb: str, name: str, former: str) -> None:
    shown = CliRunner().invoke(app, [verb, "--help"]).output
    assert (name in shown, re.search(rf"(?<![\w-]){former}\b", shown)) == (True, None)
    assert CliRunner().invoke(app, [verb, former, "x", "--help"]).output == shown


def test_the_help_has_no_types_of_python() -> None:
    for verb in ALL:
        shown = CliRunner().invoke(app, [*verb, "--help"]).output
        assert not re.search(r"<(bool|str|int|float|list\[|path)", shown), verb


def test_no_word_of_the_help_is_cut_off_at_80_columns() -> None:
    for verb in ALL:
        shown = CliRunner().invoke(app, [*verb, "--help"], env={"COLUMNS": "80"}).output
        assert [line for line in shown.splitlines() if re.search(r"--\S*…", line)] == [], verb


@pytest.mark.parametrize("stage", STAGES)
def test_a_stage_s_own_help(stage: str) -> None:
    done = subprocess.run([sys.executable, "-m", f"seaway.{stage}", "-h"], cwd=ROOT, capture_output=True, text=True)
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.startswith(f"usage: python -m seaway.{stage} [-h]")


@pytest.mark.parametrize("option", ["--version", "-V"])
def test_the_version_is_the_installed_one(option: str) -> None:
    done = CliRunner().invoke(app, [option])
    assert (done.exit_code, done.output) == (0, f"seaway {importlib.metadata.version('seaway')}\n")


def test_a_checkout_that_is_not_installed_says_so() -> None:
    """-S: without site-packages and the packages there."""
    site = str(Path(importlib.metadata.distribution("typer").locate_file("")))
    program = f"import sys; sys.path.append({site!r})\nimport typer, rich\nsys.path.pop()\n" + (
        "from seaway.cli import version; print(version.text())"
    )
    environment = os.environ | {"PYTHONPATH": str(ROOT)}
    done = subprocess.run([sys.executable, "-S", "-c", program], env=environment, capture_output=True, text=True)
    assert done.stdout == f"seaway {VERSION} (not installed: it runs from {ROOT})\n", done.stderr
