"""`seaway --version`: of what is installed, or of the checkout that this runs from."""

import importlib.metadata
import tomllib
from pathlib import Path

import typer

ROOT = Path(__file__).resolve().parents[2]


def text() -> str:
    """ "seaway 0.1.0"; where nothing is installed, what the tree itself says, and where it lies."""
    try:
        return f"seaway {importlib.metadata.version('seaway')}"
    except importlib.metadata.PackageNotFoundError:
        return f"seaway {_of_tree(ROOT)} (not installed: it runs from {ROOT})"


def _of_tree(root: Path) -> str:
    """pyproject.toml is the one place that has the number."""
    try:
        return str(tomllib.loads((root / "pyproject.toml").read_text(encoding="utf-8"))["project"]["version"])
    except (OSError, KeyError):
        return "of an unknown version"


def show(wanted: bool) -> None:
    """The callback of --version."""
    if wanted:
        typer.echo(text())
        raise typer.Exit
