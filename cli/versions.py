"""`seaway versions`: what the volume holds."""

import time
from pathlib import Path

from cli import options


def versions(volume: options.Volume = options.DEFAULT_VOLUME) -> None:
    """Lists the models and versions of a volume, with their labels, accuracy and age.

    [bold]Example[/bold]

      seaway versions --volume /models
    """
    from rich.console import Console
    from rich.table import Table

    from seaway import store
    from seaway.errors import CardError

    table = Table("model", "version", "labels", "accuracy", "MB", "published", "digest")
    for name in store.models(volume):
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
