"""The progress of a load test: one updating line on a terminal, a line every few seconds elsewhere."""

import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from seaway.load.progress import Progress, ProgressCallback

BARS = " ▁▂▃▄▅▆▇█"
SPARKLINE_LENGTH = 40  # updates, one each second
LOG_INTERVAL_S = 10.0  # where standard error is no terminal


@contextmanager
def show_progress(title: str) -> Iterator["ProgressCallback"]:
    """Yields a callback that shows a run's progress on standard error."""
    from rich.console import Console
    from rich.live import Live

    console = Console(stderr=True)
    if not console.is_terminal:
        yield _logger(title)
        return
    rates: list[int] = []
    with Live(f"{title}: starting", console=console, transient=True, refresh_per_second=4) as live:

        def on_progress(progress: "Progress") -> None:
            rates.append(sum(histogram.total() for histogram in progress.latest.latencies.values()))
            live.update(f"{title}  {_status(progress)}  {_sparkline(rates[-SPARKLINE_LENGTH:])}")

        yield on_progress


def _logger(title: str) -> "ProgressCallback":
    logged_at = time.monotonic()

    def on_progress(progress: "Progress") -> None:
        nonlocal logged_at
        if time.monotonic() - logged_at >= LOG_INTERVAL_S:
            logged_at = time.monotonic()
            print(f"{title}: {_status(progress)}", file=sys.stderr, flush=True)

    return on_progress


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
