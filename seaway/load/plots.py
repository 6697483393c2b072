"""The plots of a load test: latency and throughput over time, latency by percentile, errors, the server's stages.

`runs`: results by name (`formatting.by_name`).
"""

from collections.abc import Iterable, Mapping
from itertools import chain
from statistics import median
from typing import TYPE_CHECKING, Any

from markupsafe import Markup

from seaway.load import metrics
from seaway.load.result import LoadResult
from seaway.reporting import report

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

MAX_IN_THREES = 6  # runs that are drawn in rows of three, more of them in rows of four
LINE_STYLES = ("-", "--", ":")  # the next one when all colours have been used
X_LABEL = "seconds from the start, warm-up included"

Runs = Mapping[str, LoadResult]
Points = Iterable[tuple[Any, float]]


def latency_over_time(runs: Runs) -> Markup:
    """A plot for each run, all on one scale: latency at two percentiles, second by second."""
    from matplotlib.figure import Figure

    columns = min(3 if len(runs) <= MAX_IN_THREES else 4, len(runs))
    rows = -(-len(runs) // columns)
    figure = Figure(figsize=(9, 1.4 * rows + 0.6), layout="constrained")
    panels = figure.subplots(rows, columns, sharex=True, sharey=True, squeeze=False).flatten()
    shown = []
    for number, (axes, (name, result)) in enumerate(zip(panels, runs.items(), strict=False)):
        for field, style in (("p50_ms", "-"), ("p99_ms", ":")):
            points = [(s.second, ms) for s in result.over_time if (ms := getattr(s, field)) is not None]
            axes.plot(*_coordinates(points), style, color=report.COLOURS[0], linewidth=1.8)
            shown += [ms for _, ms in points]
        axes.set_title(name, loc="left", fontsize="small")
        axes.tick_params(labelbottom=number + columns >= len(runs))  # nothing is drawn below it
        _hide_frame(axes)
    report.log_scale(panels[0], "y", shown)
    panels[0].locator_params("x", nbins=5, integer=True)
    for axes in panels[len(runs) :]:
        axes.set_axis_off()
    figure.supxlabel(X_LABEL, fontsize="medium")
    figure.supylabel("latency, ms", fontsize="medium")
    caption = "Latency at p50 (solid) and p99 (dotted) by the second in which the request was scheduled."
    return report.figure(figure, "Latency over time", caption)


def throughput(runs: Runs) -> Markup:
    """Correct responses of each run, second by second."""
    figure, axes = _draw_lines({name: [(s.second, s.correct) for s in run.over_time] for name, run in runs.items()})
    axes.set_xlabel(X_LABEL)
    axes.locator_params("x", integer=True)
    axes.set_ylabel("correct\nresponses/s")
    axes.set_ylim(bottom=0)
    return report.figure(figure, "Throughput over time", "Correct responses by the second in which they arrived.")


def latency_percentiles(runs: Runs) -> Markup:
    """Latency of each run by percentile."""
    curves = {
        name: [(f"{100 * float(q):g}", ms) for q, ms in result.percentiles.items() if ms is not None]
        for name, result in runs.items()
    }
    curves = {name: points for name, points in curves.items() if points}  # else there was no correct response
    figure, axes = _draw_lines(curves, marker="o")
    report.log_scale(axes, "y", [ms for _, ms in chain(*curves.values())], max_ticks=10)
    axes.set_xlabel("percentile")
    axes.set_ylabel("latency, ms")
    return report.figure(figure, "Latency by percentile", "Latency percentiles after the warm-up.")


def server_stages(runs: Runs) -> Markup:
    """A bar for each run: its requests' time in each stage of the server, the median of the means of each second."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(9, 0.28 * len(runs) + 0.9), layout="constrained")
    axes = figure.subplots()
    ends = [0.0] * len(runs)
    for stage, colour in zip(metrics.STAGES, report.COLOURS, strict=True):
        series = [run.server_metrics.get(f"{metrics.IN_SERVER}: {stage}") for run in runs.values()]
        widths = [median(value for _, value in points) if points else 0.0 for points in series]
        bars = axes.barh(list(runs), widths, 0.6, ends, color=colour, label=stage)
        ends = [end + width for end, width in zip(ends, widths, strict=True)]
    axes.bar_label(bars, [f"{end:.3g}" for end in ends], padding=4)
    axes.margins(x=0.08)
    axes.invert_yaxis()
    axes.set_xlabel("time in the server, ms")
    _hide_frame(axes)
    figure.legend(loc="outside upper right", frameon=False, fontsize="small", ncols=len(metrics.STAGES))
    return report.figure(figure, "Time in the server by stage", "The median of the server's means of each second.")


def errors(runs: Runs) -> Markup:
    """The number of errors of each kind, second by second."""
    from matplotlib.figure import Figure

    kinds = [
        (f"{name}: {kind}", points)
        for name, run in runs.items()
        for kind, points in sorted(run.errors_over_time.items())
    ]
    figure = Figure(figsize=(9, 2.2 + 0.18 * len(kinds)), layout="constrained")
    axes = figure.subplots()
    base: dict[int, int] = {}
    for number, (name, points) in enumerate(kinds):
        seconds, counts = zip(*points, strict=True)
        bottoms = [base.get(second, 0) for second in seconds]
        axes.bar(
            seconds, counts, bottom=bottoms, width=0.9, label=name, color=report.COLOURS[number % len(report.COLOURS)]
        )
        base.update({second: base.get(second, 0) + count for second, count in points})
    axes.set_ylabel("errors/s")
    axes.set_xlabel(X_LABEL)
    axes.set_xlim(-0.5, max(1, *(len(result.over_time) for result in runs.values())))
    _hide_frame(axes)
    figure.legend(loc="outside upper left", frameon=False, fontsize="small")
    return report.figure(
        figure, "Errors over time by kind", "Failed requests and wrong responses, by the second in which they ended."
    )


def _draw_lines(lines: Mapping[str, Points], marker: str = "") -> "tuple[Figure, Axes]":
    from matplotlib.figure import Figure

    figure = Figure(figsize=(9, max(2.4, 0.18 * len(lines))), layout="constrained")
    axes = figure.subplots()
    for number, (name, points) in enumerate(lines.items()):
        style, colour = divmod(number, len(report.COLOURS))
        axes.plot(
            *_coordinates(points), LINE_STYLES[style % len(LINE_STYLES)], color=report.COLOURS[colour], label=name,
            marker=marker, markersize=5, linewidth=1.8,
        )  # fmt: skip
    _hide_frame(axes)
    figure.legend(loc="outside right upper", frameon=False, fontsize="small")
    return figure, axes


def _coordinates(points: Points) -> tuple[list[Any], list[float]]:
    points = list(points)
    return [x for x, _ in points], [y for _, y in points]


def _hide_frame(axes: "Axes") -> None:
    axes.spines[["top", "right"]].set_visible(False)
