"""The load test's report: what was served, how fast over time, how latencies spread, what went wrong."""

from collections import Counter
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

from markupsafe import Markup

from loadtest import wire
from loadtest.run import LoadResult, Second
from loadtest.served import Served
from seaway import report
from seaway.report import Section

if TYPE_CHECKING:
    from matplotlib.axes import Axes

BEYOND = "beyond measure"  # a distance with NaN, infinity or another shape in it


def page(model: str, served: Sequence[Served], runs: Sequence[LoadResult]) -> str:
    """The whole HTML page; `model` is name/version@digest, the one that should have answered."""
    wrong = sum(row.wrong for row in served) + sum(run.wrong for run in runs)
    failed = sum(run.failed for run in runs)
    foreign = strangers(model, served, runs)
    answered = sum(run.requests - run.failed for run in runs)
    sections = [
        Section("Verdict", [_verdict(wrong, failed, foreign, answered), *_warnings(runs)]),
        Section("Served against PyTorch", [_served(served)]),
        Section("Under load", [_runs(runs), _over_time(runs), _spread(runs)]),
    ]
    if errors := _errors(runs):
        sections.append(Section("What went wrong", [errors]))
    sections.append(Section("Who answered", [_answerers(model, served, runs)]))
    short, _, digest = model.partition("@")
    lead = f"Every answer was compared with PyTorch's recorded output for the same input. Version digest {digest[:12]}."
    return report.page(f"Load test of {short}", sections, lead)


def strangers(model: str, served: Sequence[Served], runs: Sequence[LoadResult]) -> int:
    """Answers that did not say that they came from `model`."""
    return sum(n for name, n in _answers(served, runs).items() if name != model)


def _verdict(wrong: int, failed: int, foreign: int, answered: int) -> Markup:
    faults = [
        f"{count:,} {what}"
        for count, what in (
            (wrong, "wrong answers"),
            (failed, "failed requests"),
            (foreign, "answers of another model"),
        )
        if count
    ]
    if not answered:
        faults.append("no answer at all")
    return report.verdict(", ".join(faults) or f"{answered:,} answers under load, none wrong, none failed", not faults)


def _warnings(runs: Sequence[LoadResult]) -> list[str]:
    if all(run.telling for run in runs):
        return []
    return ["The golden examples' outputs are alike within the tolerance: a mixed-up or constant answer would pass."]


def _served(served: Sequence[Served]) -> Markup:
    headers = ["hop", "examples", "accuracy", "max |Δ| vs PyTorch", "wrong", "other first choice"]
    rows = [
        [
            row.hop,
            row.examples,
            "not known" if row.accuracy is None else f"{row.accuracy:.2%}",
            distance(row.max_abs),
            row.wrong,
            row.flipped,
        ]
        for row in served
    ]
    return report.table(headers, rows)


def _runs(runs: Sequence[LoadResult]) -> Markup:
    headers = ["protocol", "req/s", "examples/s", "p50 ms", "p90 ms", "p99 ms"]
    headers += ["requests", "max |Δ|", "wrong", "failed"]
    rows = [
        [
            *(_title(run), run.requests_per_second, run.requests_per_second * run.batch),
            *(run.p50_ms, run.p90_ms, run.p99_ms, run.requests, distance(run.max_abs)),
            *(run.wrong, run.failed),
        ]
        for run in runs
    ]
    caption = (
        f"{runs[0].users} users, batch {runs[0].batch}; each user asks again when answered. "
        "Rates and times are of right answers after the warm-up."
    )
    return report.table(headers, rows, caption)


def _over_time(runs: Sequence[LoadResult]) -> Markup:
    from matplotlib.figure import Figure

    drawn = Figure(figsize=(9, 4.6), layout="constrained")
    rate, latency = drawn.subplots(2, 1, sharex=True)
    for run, colour in zip(runs, report.COLOURS, strict=False):
        _line(rate, run.over_time, lambda s: s.right, label=_title(run), color=colour)
        _line(latency, run.over_time, lambda s: s.p50_ms, label=f"{_title(run)} p50", color=colour)
        _line(latency, run.over_time, lambda s: s.p99_ms, label=f"{_title(run)} p99", color=colour, linestyle=":")
    rate.set_ylabel("right answers/s")
    latency.set_ylabel("latency, ms")
    latency.set_xlabel("seconds from the start, warm-up included")
    for axes in (rate, latency):
        axes.set_ylim(bottom=0)
        axes.spines[["top", "right"]].set_visible(False)
    drawn.legend(*latency.get_legend_handles_labels(), loc="outside upper right", frameon=False, ncols=2 * len(runs))
    return report.figure(
        drawn, "Throughput and latency over time by protocol", "Throughput and latency, second by second."
    )


def _line(axes: "Axes", seconds: Sequence[Second], value: Callable[[Second], float], **style: str) -> None:
    axes.plot([s.second for s in seconds], [value(s) for s in seconds], linewidth=1.8, **style)  # type: ignore[arg-type]


def _spread(runs: Sequence[LoadResult]) -> Markup:
    from matplotlib.figure import Figure

    drawn = Figure(figsize=(9, 2.8), layout="constrained")
    axes = drawn.subplots()
    for run, colour in zip(runs, report.COLOURS, strict=False):
        names = [f"{100 * float(share):g}" for share in run.percentiles]
        axes.plot(names, list(run.percentiles.values()), marker="o", color=colour, label=_title(run))
    axes.set_xlabel("percentile")
    axes.set_ylabel("latency, ms")
    axes.set_ylim(bottom=0)
    axes.spines[["top", "right"]].set_visible(False)
    axes.legend(frameon=False, fontsize="small")
    return report.figure(drawn, "Latency by percentile and protocol", "How latencies spread, after the warm-up.")


def _errors(runs: Sequence[LoadResult]) -> Markup | None:
    rows = [[_title(run), kind, count] for run in runs for kind, count in sorted(run.errors.items())]
    return report.table(["protocol", "kind", "times"], rows) if rows else None


def _answerers(model: str, served: Sequence[Served], runs: Sequence[LoadResult]) -> Markup:
    rows = [
        [name or "did not say", count, report.verdict("this version" if name == model else "not it", name == model)]
        for name, count in sorted(_answers(served, runs).items())
    ]
    return report.table([wire.SERVED_BY, "answers", ""], rows)


def _answers(served: Sequence[Served], runs: Sequence[LoadResult]) -> Counter[str]:
    """Seaway-Model header → answers that carried it, "" for none."""
    counts: Counter[str] = Counter()
    for found in (*(row.served_by for row in served), *(run.served_by for run in runs)):
        counts.update(found)
    return counts


def distance(max_abs: float | None) -> str:
    """`max_abs` as people read it."""
    return BEYOND if max_abs is None else f"{max_abs:.2g}"


def _title(run: LoadResult) -> str:
    return wire.named(run.protocol).title
