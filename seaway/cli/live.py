"""A load test as it runs: one line a run on a terminal, a line every few seconds elsewhere."""

import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from seaway.load.run import Progress

BARS = " ▁▂▃▄▅▆▇█"
SHOWN = 40  # seconds of the throughput's picture
PLAIN_SECONDS = 10.0


@contextmanager
def watching(title: str) -> Iterator[Callable[["Progress"], None]]:
    """Yields what is to be told of a run's progress."""
    from rich.console import Console
    from rich.live import Live

    console = Console(stderr=True)
    if not console.is_terminal:
        yield _plain(title)
        return
    rates: list[int] = []
    with Live(f"{title}: starting", console=console, transient=True, refresh_per_second=4) as live:

        def told(progress: "Progress") -> None:
            rates.append(sum(bins.total() for bins in progress.last.seconds.values()))
            live.update(f"{title}  {_line(progress)}  {_picture(rates[-SHOWN:])}")

        yield told


def _plain(title: str) -> "Callable[[Progress], None]":
    said = time.monotonic()

    def told(progress: "Progress") -> None:
        nonlocal said
        if time.monotonic() - said >= PLAIN_SECONDS:
            said = time.monotonic()
            print(f"{title}: {_line(progress)}", file=sys.stderr, flush=True)

    return told


def _line(progress: "Progress") -> str:
    from collections import Counter

    from seaway.load.results import latency
    from seaway.load.tally import percentile

    bins: Counter[int] = Counter()
    for second in progress.last.seconds.values():
        bins.update(second)
    total = progress.total
    p50, p99 = (latency(percentile(bins, share), " ms") for share in (0.5, 0.99))
    return (
        f"{progress.elapsed:4.0f} s  {progress.users} users  {bins.total()}/s  p50 {p50}  p99 {p99}  "
        f"{total.wrong} wrong  {total.failed} failed"
    )


def _picture(rates: list[int]) -> str:
    most = max(rates, default=0) or 1
    return "".join(BARS[round(rate / most * (len(BARS) - 1))] for rate in rates)
