"""The plots of a load test: over time, by percentile, distribution, faults by kind, and the server's own metrics."""

import math
from collections.abc import Sequence
from typing import TYPE_CHECKING

from markupsafe import Markup

from seaway.load import metrics
from seaway.load.run import LoadResult, Second
from seaway.reporting import report

if TYPE_CHECKING:
    from matplotlib.axes import Axes

BINS = 60  # of the distribution
X_LABEL = "seconds from the start, warm-up included"


def over_time(runs: Sequence[LoadResult]) -> Markup:
    """Throughput, and latency at two percentiles, second by second."""
    from matplotlib.figure import Figure

    drawn = Figure(figsize=(9, 4.6), layout="constrained")
    rate, latency = drawn.subplots(2, 1, sharex=True)
    for run, colour in zip(runs, report.COLOURS, strict=False):
        _throughput(rate, run.over_time, colour, run.title)
        _latency(latency, run.over_time, colour)
    _bare(rate, latency)
    latency.set_xlabel(X_LABEL)
    drawn.legend(*rate.get_legend_handles_labels(), loc="outside upper right", frameon=False, ncols=max(1, len(runs)))
    return report.figure(
        drawn,
        "Throughput and latency over time",
        "Right answers by the second in which they came; latency at p50 (line) and p99 (dotted) by the second in which "
        "the request was due.",
    )


def server(run: LoadResult) -> Markup:
    """What the server said of itself, under what was measured from outside, on one axis of time."""
    from matplotlib.figure import Figure

    panels = [panel for panel in metrics.PANELS if any(f"{panel.title}: {name}" in run.server for name in panel.series)]
    drawn = Figure(figsize=(9, 1.7 * (len(panels) + 2)), layout="constrained")
    rate, latency, *rest = drawn.subplots(len(panels) + 2, 1, sharex=True)
    _throughput(rate, run.over_time, report.COLOURS[0], "")
    _latency(latency, run.over_time, report.COLOURS[0])
    _bare(rate, latency)
    for axes, panel in zip(rest, panels, strict=True):
        lines = {name: run.server.get(f"{panel.title}: {name}", ()) for name in panel.series}
        _panel(axes, {name: points for name, points in lines.items() if points}, panel.stacked)
        axes.set_title(panel.title, loc="left", fontsize="small")
        _bare(axes)
    rest[-1].set_xlabel(X_LABEL)
    caption = "Above as the load generator measured it, below as the server's own metrics have it."
    return report.figure(drawn, f"{run.title}: the server's own metrics over time", f"{run.title}. {caption}")


def _panel(axes: "Axes", lines: dict[str, tuple[tuple[float, float], ...]], stacked: bool) -> None:
    if stacked:
        seconds = sorted({at for points in lines.values() for at, _ in points})
        heights = [[dict(points).get(at, 0.0) for at in seconds] for points in lines.values()]
        axes.stackplot(seconds, heights, labels=list(lines), colors=report.COLOURS)
    else:
        for (name, points), colour in zip(lines.items(), report.COLOURS, strict=False):
            axes.plot(*zip(*points, strict=True), label=name, color=colour, linewidth=1.8)
    axes.legend(frameon=False, fontsize="small", loc="center left", bbox_to_anchor=(1.01, 0.5))


def faults(runs: Sequence[LoadResult]) -> Markup:
    """How often each kind of fault came, second by second."""
    from matplotlib.figure import Figure

    kinds = [(f"{run.title}: {kind}", points) for run in runs for kind, points in sorted(run.faults.items())]
    drawn = Figure(figsize=(9, 2.6), layout="constrained")
    axes = drawn.subplots()
    base: dict[int, int] = {}
    for number, (name, points) in enumerate(kinds):
        seconds, times = zip(*points, strict=True)
        bottoms = [base.get(second, 0) for second in seconds]
        axes.bar(
            seconds, times, bottom=bottoms, width=0.9, label=name, color=report.COLOURS[number % len(report.COLOURS)]
        )
        base.update({second: base.get(second, 0) + count for second, count in points})
    axes.set_ylabel("faults/s")
    axes.set_xlabel(X_LABEL)
    axes.set_xlim(-0.5, max(1, *(len(run.over_time) for run in runs)))
    _bare(axes)
    drawn.legend(loc="outside upper left", frameon=False, fontsize="small")
    return report.figure(
        drawn, "Faults over time by kind", "Failed and wrong answers, by the second in which they came."
    )


def spread(runs: Sequence[LoadResult]) -> Markup:
    """Latency by percentile."""
    from matplotlib.figure import Figure

    drawn = Figure(figsize=(9, 2.8), layout="constrained")
    axes = drawn.subplots()
    for run, colour in zip(runs, report.COLOURS, strict=False):
        known = {f"{100 * float(share):g}": ms for share, ms in run.percentiles.items() if ms is not None}
        if known:  # else there was no right answer
            axes.plot(list(known), list(known.values()), marker="o", color=colour, label=run.title)
    axes.set_xlabel("percentile")
    axes.set_ylabel("latency, ms")
    _bare(axes)
    axes.legend(frameon=False, fontsize="small")
    return report.figure(drawn, "Latency by percentile and protocol", "How latencies spread, after the warm-up.")


def distribution(runs: Sequence[LoadResult]) -> Markup:
    """A histogram of the latencies, on a logarithmic axis since their tails are long."""
    from matplotlib.figure import Figure

    drawn = Figure(figsize=(9, 2.8), layout="constrained")
    axes = drawn.subplots()
    for run, colour in zip(runs, report.COLOURS, strict=False):
        if not run.spread_ms:
            continue
        low, high = math.log10(run.spread_ms[0][0]), math.log10(run.spread_ms[-1][0] * 1.01)
        edges = [10 ** (low + (high - low) * i / BINS) for i in range(BINS + 1)]
        values, weights = zip(*run.spread_ms, strict=True)
        axes.hist(values, bins=edges, weights=weights, histtype="step", linewidth=1.8, color=colour, label=run.title)
    axes.set_xscale("log")
    axes.set_xlabel("latency, ms")
    axes.set_ylabel("answers")
    _bare(axes)
    axes.legend(frameon=False, fontsize="small")
    return report.figure(drawn, "Distribution of the latencies by protocol", "How often each latency was seen.")


def _throughput(axes: "Axes", seconds: Sequence[Second], colour: str, label: str) -> None:
    axes.plot([s.second for s in seconds], [s.right for s in seconds], color=colour, linewidth=1.8, label=label)
    axes.set_ylabel("right answers/s")


def _latency(axes: "Axes", seconds: Sequence[Second], colour: str) -> None:
    for name, style in (("p50_ms", "-"), ("p99_ms", ":")):
        known = [(s.second, getattr(s, name)) for s in seconds if getattr(s, name) is not None]
        axes.plot([at for at, _ in known], [ms for _, ms in known], color=colour, linewidth=1.8, linestyle=style)
    axes.set_ylabel("latency, ms")


def _bare(*drawn: "Axes") -> None:
    """Once all is drawn, since a limit ends the scaling to what is drawn."""
    for axes in drawn:
        axes.set_ylim(bottom=0)
        axes.spines[["top", "right"]].set_visible(False)
