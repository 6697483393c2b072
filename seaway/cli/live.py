"""The progress of a load test: one updating line on a terminal, a line every few seconds elsewhere."""

import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from seaway.load.progress import Progress, TitledProgressCallback

BARS = " ▁▂▃▄▅▆▇█"
SPARKLINE_LENGTH = 40  # updates, one each second
LOG_INTERVAL_S = 10.0  # where standard error is no terminal


@contextmanager
def show_progress(command: str) -> Iterator["TitledProgressCallback"]:
    """Yields a callback that shows the progress of each run on standard error, under `command` and the run's title."""
    from rich.console import Console
    from rich.live import Live

    console = Console(stderr=True)
    if not console.is_terminal:
        yield _logger(command)
        return
    rates: list[int] = []
    with Live(f"{command}: starting", console=console, transient=True, refresh_per_second=4) as live:

        def on_progress(title: str, progress: "Progress") -> None:
            rates.append(sum(histogram.total() for histogram in progress.latest.latencies.values()))
            live.update(f"{_join(command, title)}  {_status(progress)}  {_sparkline(rates[-SPARKLINE_LENGTH:])}")

        yield on_progress


def _logger(command: str) -> "TitledProgressCallback":
    logged_at = time.monotonic()

    def on_progress(title: str, progress: "Progress") -> None:
        nonlocal logged_at
        if time.monotonic() - logged_at >= LOG_INTERVAL_S:
            logged_at = time.monotonic()
            print(f"{_join(command, title)}: {_status(progress)}", file=sys.stderr, flush=True)

    return on_progress


def _join(command: str, title: str) -> str:
    return f"{command}, {title}" if title else command


def _status(progress: "Progress") -> str:
    from collections import Counter

    from seaway.load.counters import percentile
    from seaway.load.formatting import format_latency

    histogram: Counter[int] = Counter()
    for one in progress.latest.latencies.values():
        histogram.update(one)
    total = progress.total
    p50, p99 = (format_latency(percentile(histogram, quantile), " ms") for quantile in (0.5, 0.99))
    return (
        f"{progress.elapsed_s:4.0f} s  {progress.users} users  {histogram.total()}/s  p50 {p50}  p99 {p99}  "
        f"{total.wrong} wrong  {total.failed} failed"
    )


def _sparkline(rates: list[int]) -> str:
    highest = max(rates, default=0) or 1
    return "".join(BARS[round(rate / highest * (len(BARS) - 1))] for rate in rates)
