"""From a data source to the dataset artifact, and a first look at what is in it."""

from pathlib import Path

from rich import progress
from rich.console import Console

from seaway.artifacts import atomic
from seaway.artifacts import card as cards
from seaway.artifacts.card import Card
from seaway.data import data

NAME = "characters"


def explore(source: str, dataset: Path, report: Path | None = None, cache: Path = data.CACHE) -> Card:
    """Writes the folder `dataset`, whole or not at all. Returns its card.

    With `report`, also looks at the pictures, writes that HTML file and prints a summary. `source` is as in
    seaway.data; `cache` is where EMNIST's download is kept. Raises DataError.
    """
    card = _write(source, dataset, cache)
    if report:
        look(dataset, card, report)
    return card


def look(dataset: Path, card: Card, report: Path) -> None:
    """Analyses a dataset artifact, writes the HTML file `report` and prints a summary on stdout."""
    from seaway.explore import page, summary  # matplotlib takes a second, which --help and errors need not wait for
    from seaway.explore.analysis import analyse

    opened = data.load(dataset)
    with _bar() as bar:
        findings = analyse(opened, lambda what: _follow(bar, what))
    with atomic.file(report) as part:
        part.write_text(page.render(opened, card, findings), encoding="utf-8")
    console = Console(highlight=False)
    if not console.is_terminal:
        console.width = 100  # a log has no width of its own
    summary.tell(findings, console)


def _write(source: str, dataset: Path, cache: Path) -> Card:
    cards.check_target(dataset, "dataset")
    fingerprint = data.fingerprint(source, cache)
    with atomic.folder(dataset) as folder, _bar() as bar:
        labels = data.read(source, folder, cache, _follow(bar, "reading"))
        counts = {part: float(len(data.load_labels(folder, part))) for part in data.PARTS}
        card = Card(
            kind="dataset",
            name=NAME,
            labels=labels,
            metrics=counts,
            settings={"source": source, "fingerprint": fingerprint},
        )
        return cards.write(folder, card)


def _bar() -> progress.Progress:
    console = Console(stderr=True)
    return progress.Progress(
        progress.TextColumn("{task.description}"),
        progress.BarColumn(),
        progress.MofNCompleteColumn(),
        progress.TimeRemainingColumn(),
        console=console,
        transient=True,
        disable=not console.is_terminal,
    )


def _follow(bar: progress.Progress, what: str) -> data.Progress:
    task = bar.add_task(what, total=None)
    return lambda done, total: bar.update(task, completed=done, total=total)
