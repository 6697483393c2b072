"""Reads a data source into a dataset artifact, and reports on it."""

from pathlib import Path

from rich import progress
from rich.console import Console

from seaway.artifacts import artifact_metadata, atomic
from seaway.artifacts.artifact_metadata import ArtifactMetadata
from seaway.data import datasets

NAME = "characters"


def explore(source: str, dataset: Path, report: Path | None = None, cache: Path = datasets.CACHE) -> ArtifactMetadata:
    """Writes the folder `dataset`, whole or not at all. Returns its metadata.

    With `report`, also analyses the images, writes that HTML file and prints a summary. `source` is as in
    seaway.data; `cache` keeps EMNIST's download. Raises DataError.
    """
    metadata = _write(source, dataset, cache)
    if report:
        report_on(dataset, metadata, report)
    return metadata


def report_on(dataset: Path, metadata: ArtifactMetadata, report: Path) -> None:
    """Analyses a dataset artifact, writes the HTML file `report` and prints a summary on stdout."""
    from seaway.explore import summary
    from seaway.explore.analysis import analyse
    from seaway.explore.report import page  # loads matplotlib, a second that --help and errors need not wait

    images = datasets.load(dataset)
    with _bar() as bar:
        findings = analyse(images, lambda task: _progress(bar, task))
    with atomic.file(report) as part:
        part.write_text(page.render(images, metadata, findings), encoding="utf-8")
    console = Console(highlight=False)
    if not console.is_terminal:
        console.width = 100  # a log has no width
    summary.print_summary(findings, console)


def _write(source: str, dataset: Path, cache: Path) -> ArtifactMetadata:
    artifact_metadata.check_target(dataset, "dataset")
    fingerprint = datasets.fingerprint(source, cache)
    with atomic.folder(dataset) as folder, _bar() as bar:
        labels = datasets.read(source, folder, cache, _progress(bar, "reading"))
        counts = {part: float(len(datasets.load_labels(folder, part))) for part in datasets.PARTS}
        metadata = ArtifactMetadata(
            kind="dataset",
            name=NAME,
            labels=labels,
            metrics=counts,
            settings={"source": source, "fingerprint": fingerprint},
        )
        return artifact_metadata.write(folder, metadata)


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


def _progress(bar: progress.Progress, description: str) -> datasets.ProgressCallback:
    task = bar.add_task(description, total=None)
    return lambda done, total: bar.update(task, completed=done, total=total)
