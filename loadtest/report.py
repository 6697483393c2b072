"""The load test's reports: what was served, how fast over time, how latencies spread, what went wrong.

`page` is the evidence of one version; `load_page` is any load test's, with its limits.
"""

from collections import Counter
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

from markupsafe import Markup

from loadtest import gate, wire
from loadtest.gate import Line
from loadtest.results import distance
from loadtest.run import LoadResult, Second
from loadtest.served import Served
from seaway import report
from seaway.report import Section

if TYPE_CHECKING:
    from matplotlib.axes import Axes


def page(model: str, served: Sequence[Served], runs: Sequence[LoadResult]) -> str:
    """The whole HTML page; `model` is name/version@digest, the one that should have answered."""
    wrong = sum(row.wrong for row in served) + sum(run.wrong for run in runs)
    failed = sum(run.failed for run in runs)
    foreign = strangers(model, served, runs)
    answered = sum(run.requests - run.failed for run in runs)
    sections = [
        Section("Verdict", [_verdict(wrong, failed, foreign, answered), *_warnings(runs)]),
        Section("Served against PyTorch", [_served(served)]),
        Section("Under load", _load(runs)),
    ]
    if errors := _errors(runs):
        sections.append(Section("What went wrong", [errors]))
    sections.append(Section("Who answered", [_answerers(model, served, runs)]))
    short, _, digest = model.partition("@")
    lead = f"Every answer was compared with PyTorch's recorded output for the same input. Version digest {digest[:12]}."
    return report.page(f"Load test of {short}", sections, lead)


def load_page(title: str, runs: Sequence[LoadResult], lines: Sequence[Line]) -> str:
    """The whole HTML page of some runs and their limits."""
    sections = []
    if lines:
        state = gate.verdict(lines)
        said = {"pass": "every limit is kept", "fail": "a limit is broken", "inconclusive": "it cannot be told"}[state]
        rows = [[report.verdict(line.state, line.state == "pass"), line.limit, line.text] for line in lines]
        sections.append(
            Section("Limits", [report.verdict(said, state == "pass"), report.table(["", "limit", "measured"], rows)])
        )
    bottlenecks = [run.generator.bottleneck for run in runs if run.generator.bottleneck]
    sections.append(Section("Under load", [*bottlenecks, *_warnings(runs), *_load(runs)]))
    if errors := _errors(runs):
        sections.append(Section("What went wrong", [errors]))
    answerers: list[list[object]] = [
        [
            _title(run),
            replica.pod or "does not say",
            _short(replica.model) or "does not say",
            replica.answers,
            replica.wrong,
            distance(replica.max_abs),
        ]
        for run in runs
        for replica in run.replicas
    ]
    headers = ["protocol", "replica", wire.SERVED_BY, "answers", "wrong", "max |Δ|"]
    sections.append(Section("Who answered", [report.table(headers, answerers)]))
    sections.append(Section("The load generator", [_generators(runs)]))
    return report.page(title, sections, "Every answer was compared with PyTorch's recorded output for the same input.")


def _short(identity: str) -> str:
    """name/version@digest with as much of the digest as tells versions apart."""
    name, at, digest = identity.partition("@")
    return name + at + digest[:12]


def _generators(runs: Sequence[LoadResult]) -> Markup:
    headers = ["protocol", "processes", "cores each", "own delay p99 ms", "due without a free user", "never sent"]
    rows = [
        [_title(run), g.processes, g.cpu, g.late_p99_ms, g.unready, g.unsent]
        for run, g in ((r, r.generator) for r in runs)
    ]
    return report.table(
        headers, rows, "In an open loop latency counts from when a request was due, all delays included."
    )


def _load(runs: Sequence[LoadResult]) -> list[Markup]:
    parts = [_runs(runs)]
    if any(run.requests > run.failed for run in runs):
        parts += [_over_time(runs), _spread(runs)]
    if any(run.spread_ms for run in runs):
        parts.append(_distribution(runs))
    return parts


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
    headers = ["protocol", "load", "batch", "req/s", "examples/s", "p50 ms", "p90 ms", "p99 ms"]
    headers += ["requests", "max |Δ|", "wrong", "failed"]
    rows = [
        [
            *(_title(run), _asked(run), run.batch, run.requests_per_second, run.requests_per_second * run.batch),
            *(run.p50_ms, run.p90_ms, run.p99_ms, run.requests, distance(run.max_abs)),
            *(run.wrong, run.failed),
        ]
        for run in runs
    ]
    return report.table(headers, rows, "Rates and times are of right answers after the warm-up.")


def _asked(run: LoadResult) -> str:
    """The load in words: users who ask again when they are answered, or requests a second."""
    load = f"{run.rate:g}/s" if run.rate else f"{run.users} users"
    shape = "" if run.shape == "constant" else f", {run.shape}"
    return f"{load}{shape}{', new connections' if run.new_connections else ''}"


def _over_time(runs: Sequence[LoadResult]) -> Markup:
    from matplotlib.figure import Figure

    drawn = Figure(figsize=(9, 4.6), layout="constrained")
    rate, latency = drawn.subplots(2, 1, sharex=True)
    for run, colour in zip(runs, report.COLOURS, strict=False):
        _line(rate, run.over_time, lambda s: s.right, label=_title(run), color=colour)
        _line(latency, run.over_time, lambda s: s.p50_ms, label=f"{_title(run)} p50", color=colour)
        _line(latency, run.over_time, lambda s: s.p99_ms, label=f"{_title(run)} p99", color=colour, linestyle=":")
        if any(second.faults for second in run.over_time):
            _line(rate, run.over_time, lambda s: s.faults, color=colour, linestyle=":", label=f"{_title(run)} faults")
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


def _distribution(runs: Sequence[LoadResult]) -> Markup:
    """A histogram of the latencies, on a logarithmic axis since their tails are long."""
    import math

    from matplotlib.figure import Figure

    drawn = Figure(figsize=(9, 2.8), layout="constrained")
    axes = drawn.subplots()
    for run, colour in zip(runs, report.COLOURS, strict=False):
        if not run.spread_ms:
            continue
        low, high = math.log10(run.spread_ms[0][0]), math.log10(run.spread_ms[-1][0] * 1.01)
        edges = [10 ** (low + (high - low) * i / 60) for i in range(61)]
        values, weights = zip(*run.spread_ms, strict=True)
        axes.hist(values, bins=edges, weights=weights, histtype="step", linewidth=1.8, color=colour, label=_title(run))
    axes.set_xscale("log")
    axes.set_xlabel("latency, ms")
    axes.set_ylabel("answers")
    axes.spines[["top", "right"]].set_visible(False)
    axes.legend(frameon=False, fontsize="small")
    return report.figure(drawn, "Distribution of the latencies by protocol", "How often each latency was seen.")


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


def _title(run: LoadResult) -> str:
    return wire.named(run.protocol).title
