"""The progress of a running load test."""

from collections.abc import Callable
from dataclasses import dataclass, field
from functools import partial

from seaway.load.counters import Counters
from seaway.load.metrics import Page


@dataclass(slots=True)
class Progress:
    """The counters of a run so far: `total` since its start, `latest` since the update before, about a second ago."""

    elapsed_s: float = 0.0
    users: int = 0
    processes: int = 1
    total: Counters = field(default_factory=Counters)
    latest: Counters = field(default_factory=Counters)
    metrics_pages: list[tuple[float, Page]] = field(default_factory=list)  # (second of the run, page)


ProgressCallback = Callable[[Progress], None]
TitledProgressCallback = Callable[[str, Progress], None]  # (title of the run, its progress)


def with_title(on_progress: TitledProgressCallback | None, title: str) -> ProgressCallback | None:
    """The callback for the run of that title."""
    return None if on_progress is None else partial(on_progress, title)
