"""`seaway --version`: the version, and where a checkout that is not installed lies."""

import importlib.metadata
from pathlib import Path

import typer

from seaway.version import VERSION


def text() -> str:
    """ "seaway 0.2.0"; if the package is not installed, with the path that it runs from."""
    try:
        importlib.metadata.version("seaway")
    except importlib.metadata.PackageNotFoundError:
        return f"seaway {VERSION} (not installed: it runs from {Path(__file__).resolve().parents[2]})"
    return f"seaway {VERSION}"


def show(requested: bool) -> None:
    """The callback of --version."""
    if requested:
        typer.echo(text())
        raise typer.Exit
