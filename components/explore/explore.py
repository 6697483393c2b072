"""From a data source to the dataset artifact, and a first look at what is in it."""

from pathlib import Path

from rich import progress
from rich.console import Console

from seaway import atomic, data
from seaway import card as cards
from seaway.card import Card

NAME = "characters"


def explore(source: str, dataset: Path, report: Path | None = None, cache: Path = data.CACHE) -> Card:
    """Writes the folder `dataset`, whole or not at all, and the HTML file `report`. Returns the dataset's card.

    `source` is as in seaway.data; `cache` is where EMNIST's download is kept. Raises DataError.
    """
    card = _write(source, dataset, cache)
    if report:
        from components.explore import page  # matplotlib takes a second, which --help and errors need not wait for

        with atomic.file(report) as part:
            part.write_text(page.render(data.load(dataset), card), encoding="utf-8")
    return card


def _write(source: str, dataset: Path, cache: Path) -> Card:
    cards.check_target(dataset, "dataset")
    console = Console(stderr=True)
    fingerprint = data.fingerprint(source, cache)
    with (
        atomic.folder(dataset) as folder,
        progress.Progress(
            progress.TextColumn("reading"),
            progress.BarColumn(),
            progress.MofNCompleteColumn(),
            progress.TimeRemainingColumn(),
            console=console,
            transient=True,
            disable=not console.is_terminal,
        ) as bar,
    ):
        task = bar.add_task("reading", total=None)
        labels = data.read(source, folder, cache, lambda done, total: bar.update(task, completed=done, total=total))
        counts = {part: float(len(data.load_labels(folder, part))) for part in data.PARTS}
        card = Card(
            kind="dataset",
            name=NAME,
            labels=labels,
            metrics=counts,
            settings={"source": source, "fingerprint": fingerprint},
        )
        return cards.write(folder, card)
