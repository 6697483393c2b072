"""The load test's reports: what was served, how fast over time, how latencies spread, what went wrong.

`page` is the evidence of one version; `load_page` is any load test's, with its limits.
"""

from collections import Counter
from collections.abc import Sequence
from statistics import median

from markupsafe import Markup

from seaway.load import gate, plots
from seaway.load.gate import Line
from seaway.load.payloads import FIRST
from seaway.load.results import NO_ANSWER, compared, distance, farthest, load, short
from seaway.load.run import LoadResult
from seaway.load.served import Served
from seaway.protocols import wire
from seaway.reporting import report
from seaway.reporting.report import Section


def page(model: str, served: Sequence[Served], runs: Sequence[LoadResult], lines: Sequence[Line] = ()) -> str:
    """The whole HTML page; `model` is name/version@digest, the one that should have answered."""
    wrong = sum(row.wrong for row in served) + sum(run.wrong for run in runs)
    failed = sum(run.failed for run in runs)
    foreign = strangers(model, served, runs)
    answered = sum(run.requests - run.failed for run in runs)
    sections = [
        Section("Verdict", [_verdict(wrong, failed, foreign, answered), *_warnings(runs)]),
        *([_limits(lines)] if lines else []),
        *([Section("Served against PyTorch", [_served(served)])] if served else []),
        Section("Under load", _load(runs)),
    ]
    sections += [*_errors(runs), *_servers(runs)]
    sections.append(Section("Who answered", [_answerers(model, served, runs)]))
    short, _, digest = model.partition("@")
    lead = " ".join([*compared(runs), f"Version digest {digest[:12]}."])
    return report.page(f"Load test of {short}", sections, lead)


def load_page(title: str, runs: Sequence[LoadResult], lines: Sequence[Line]) -> str:
    """The whole HTML page of some runs and their limits."""
    sections = [_limits(lines)] if lines else []
    bottlenecks = [run.generator.bottleneck for run in runs if run.generator.bottleneck]
    sections.append(Section("Under load", [*bottlenecks, *_warnings(runs), *_load(runs)]))
    sections += [*_errors(runs), *_servers(runs)]
    answerers: list[list[object]] = [
        [
            run.title,
            replica.pod or "does not say",
            short(replica.model) or "does not say",
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
    return report.page(title, sections, " ".join(compared(runs)))


def _limits(lines: Sequence[Line]) -> Section:
    state = gate.verdict(lines)
    said = {"pass": "every limit is kept", "fail": "a limit is broken", "inconclusive": "it cannot be told"}[state]
    rows = [[report.verdict(line.state, line.state == "pass"), line.limit, line.text] for line in lines]
    return Section("Limits", [report.verdict(said, state == "pass"), report.table(["", "limit", "measured"], rows)])


def _generators(runs: Sequence[LoadResult]) -> Markup:
    headers = ["protocol", "processes", "cores each", "own delay p99 ms", "due without a free user", "never sent"]
    rows = [
        [run.title, g.processes, g.cpu, "n/a" if g.late_p99_ms is None else g.late_p99_ms, g.unready, g.unsent]
        for run, g in ((r, r.generator) for r in runs)
    ]
    return report.table(
        headers, rows, "In an open loop latency counts from when a request was due, all delays included."
    )


def _load(runs: Sequence[LoadResult]) -> list[Markup]:
    parts = [_runs(runs)]
    if any(second.right for run in runs for second in run.over_time):
        parts += [plots.over_time(runs), _drift(runs)]
    if any(run.spread_ms for run in runs):
        parts += [plots.spread(runs), plots.distribution(runs)]
    return parts


def _drift(runs: Sequence[LoadResult]) -> Markup:
    """The first quarter of the measured time against the last: what a long run is for."""
    rows = []
    for run in runs:
        seconds = [s for s in run.over_time if s.second >= run.warmup]
        quarter = max(1, len(seconds) // 4)
        first, last = seconds[:quarter], seconds[-quarter:]
        cells: list[object] = [run.title]
        for name in ("right", "p50_ms", "p99_ms"):
            for part in (first, last):
                known = [value for s in part if (value := getattr(s, name)) is not None]
                cells.append(median(known) if known else NO_ANSWER)
        rows.append(cells)
    headers = ["protocol", "answers/s, first quarter", "last", "p50 ms, first quarter", "last"]
    headers += ["p99 ms, first quarter", "last"]
    return report.table(headers, rows, "Whether it drifts: medians of the seconds in the first and last quarter.")


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
    said = []
    if any(run.reference == FIRST for run in runs):
        said.append(
            "The examples hold no outputs: a server whose answers to a request are always wrong alike would pass."
        )
    if any(not run.telling and run.reference != FIRST for run in runs):
        said.append("The expected outputs are alike within the tolerance: a mixed-up or constant answer would pass.")
    return said


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
    headers = ["protocol", "load", "req/s", "p50 ms", "p90 ms", "p99 ms", "requests", "max |Δ|", "wrong", "failed"]
    rows = [
        [
            *(run.title, _asked(run), run.requests_per_second),
            *(NO_ANSWER if ms is None else ms for ms in (run.p50_ms, run.p90_ms, run.p99_ms)),
            *(run.requests, farthest(run)),
            *(run.wrong, run.failed),
        ]
        for run in runs
    ]
    caption = "Rates are of right answers that came after the warm-up, times of right answers to what was due after it."
    return report.table(headers, rows, caption)


def _asked(run: LoadResult) -> str:
    """The load in words, and how it was sent."""
    batch = f", {run.batch} examples each" if run.batch > 1 else ""
    return f"{load(run)}{batch}{', new connections' if run.new_connections else ''}"


def _errors(runs: Sequence[LoadResult]) -> list[Section]:
    rows = [[run.title, kind, count] for run in runs for kind, count in sorted(run.errors.items())]
    if not rows:
        return []
    return [Section("What went wrong", [report.table(["protocol", "kind", "times"], rows), plots.faults(runs)])]


def _servers(runs: Sequence[LoadResult]) -> list[Section]:
    drawn = [plots.server(run) for run in runs if run.server]
    return [Section("The server's own metrics", drawn)] if drawn else []


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
