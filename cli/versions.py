"""`seaway versions`: what the volume holds."""

import time
from pathlib import Path
from typing import Annotated

import typer

from cli import options


def versions(
    volume: options.Volume = options.DEFAULT_VOLUME,
    prune: Annotated[
        int | None, typer.Option(help="Remove of each model all but the newest so many, and those with a label.", min=1)
    ] = None,
) -> None:
    """Lists the models and versions of a volume, with their labels, accuracy and age.

    [bold]Examples[/bold]

      seaway versions --volume /models

      seaway versions --volume /models --prune 10
    """
    from rich.console import Console
    from rich.table import Table

    from seaway import store
    from seaway.errors import CardError

    table = Table("model", "version", "labels", "accuracy", "MB", "published", "digest")
    for name in store.models(volume):
        if prune:
            typer.echo("".join(f"removed {name}/{version}\n" for version in store.prune(volume, name, prune)), nl=False)
        labels = store.labels(volume, name)
        for version in reversed(store.versions(volume, name)):
            folder = store.path(volume, name, version)
            try:
                card = store.read_card(volume, name, version)
                accuracy, digest = card.metrics.get("accuracy_savedmodel"), card.sha256[:12]
            except CardError:
                accuracy, digest = None, "no card: not published by Seaway"
            table.add_row(
                name,
                str(version),
                ", ".join(label for label, v in sorted(labels.items()) if v == version),
                f"{accuracy:.2%}" if accuracy is not None else "",
                f"{_size(folder) / 1e6:.1f}",
                time.strftime("%Y-%m-%d %H:%M", time.localtime(folder.stat().st_mtime)),
                digest,
            )
    console = Console()
    if table.row_count:
        console.print(table)
    else:
        console.print(f"{volume} holds no model yet. Make one: seaway run, or seaway ship")


def _size(folder: Path) -> int:
    return sum(p.stat().st_size for p in folder.rglob("*") if p.is_file())
