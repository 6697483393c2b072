"""The load test's HTML reports: limits, latency by second and by percentile, throughput, errors, the server's stages.

`evidence_page` is the evidence of one version; `load_page` is any load test's, with its limits.
"""

from collections import Counter
from collections.abc import Mapping, Sequence
from itertools import chain
from statistics import median

from markupsafe import Markup

from seaway.artifacts.artifact_metadata import PYTORCH
from seaway.load import gate, metrics, plots
from seaway.load.formatting import (
    NOT_AVAILABLE,
    Pair,
    by_name,
    describe_load,
    describe_references,
    format_distance,
    format_max_abs,
    notes,
    rounds_by_protocol,
    shorten_identity,
    shown_runs,
)
from seaway.load.gate import LimitResult
from seaway.load.payloads import FIRST_RESPONSE
from seaway.load.result import LoadResult
from seaway.load.served_parity import ServedParity
from seaway.reporting import report
from seaway.reporting.report import Section

NOT_REPORTED = "not reported"
MAX_ROWS = 6  # of a table that is not folded
MIN_DRIFT_S = 40  # in less time a quarter has too few seconds to show drift


def evidence_page(
    model: str,
    parities: Sequence[ServedParity],
    results: Sequence[LoadResult],
    limit_results: Sequence[LimitResult] = (),
    pairs: Sequence[Pair] = (),
    reference: str = PYTORCH,
) -> str:
    """The whole HTML page; `model` is the name/version@digest under test, `pairs` the rounds of its comparison with the
    stable version, `reference` who computed its recorded outputs."""
    wrong = sum(parity.wrong for parity in parities) + sum(result.wrong for result in results)
    failed = sum(result.failed for result in results)
    unattributed = count_unattributed(model, parities, results)
    responses = sum(result.requests - result.failed for result in results)
    runs = by_name(results)
    sections = [
        Section("Verdict", [_verdict(wrong, failed, unattributed, responses), *_warnings(results)]),
        *([_limits(limit_results)] if limit_results else []),
        *([Section(f"Served parity with {reference}", [_served_parity(parities)])] if parities else []),
        Section("Under load", [*map(_note, notes(results)), *_load(runs)]),
        *([Section("Against the stable version", _comparison(pairs))] if pairs else []),
        *_errors(runs),
        *_server_metrics(runs),
        Section("Responses by model version", [_by_model(model, parities, results)]),
    ]
    title, _, digest = model.partition("@")
    lead = " ".join([*describe_references(results), f"Version digest: {digest[:12]}."])
    return report.page(f"Load test of {title}", sections, lead)


def load_page(
    title: str,
    results: Sequence[LoadResult],
    limit_results: Sequence[LimitResult],
    conclusion: str = "",
    pairs: Sequence[Pair] = (),
) -> str:
    """The whole HTML page of some runs, their limits, and a conclusion from all of them; `pairs`: the rounds of a
    comparison, whose candidates are `results`."""
    runs = shown_runs(results, pairs)
    measured = [result for pair in pairs for result in pair] or results
    load = [*gate.describe_rounds(pairs), *map(_note, notes(measured)), *_warnings(results), *_load(runs)]
    sections = [
        *([Section("Result", [report.paragraph(conclusion)])] if conclusion else []),
        *([_limits(limit_results)] if limit_results else []),
        Section("Baseline and candidate under load" if pairs else "Under load", load),
        *([Section("Rounds", _rounds(pairs))] if pairs else []),
        *_errors(runs),
        *_server_metrics(runs),
        Section("Responses by replica", [_by_replica(runs)]),
        Section("Load generator", [_generators(runs, "CPU and lag are the highest of the rounds." if pairs else "")]),
    ]
    return report.page(title, sections, " ".join(describe_references(results)))


def _limits(limit_results: Sequence[LimitResult]) -> Section:
    state = gate.verdict(limit_results)
    text = {"pass": "all limits met", "fail": "limits violated", "inconclusive": "inconclusive"}[state]
    rows = [[_judged(one.state, one.state), one.limit.replace("_ms", ""), one.text] for one in limit_results]
    table = report.table(["result", "limit", "measured"], rows)
    return Section("Limits", [report.paragraph(_judged(text, state)), table])


def _judged(text: str, state: gate.State) -> Markup | str:
    """Neither good nor bad if inconclusive."""
    return text if state == "inconclusive" else report.verdict(text, state == "pass")


def _by_replica(runs: Mapping[str, LoadResult]) -> Markup:
    headers = ["run", "replica", "model version", "engine", "responses", "wrong", "max |Δ|"]
    rows = [
        [
            name,
            replica.pod or NOT_REPORTED,
            shorten_identity(replica.model) or NOT_REPORTED,
            replica.backend or NOT_REPORTED,
            replica.responses,
            replica.wrong,
            format_distance(replica.max_abs),
        ]
        for name, result in runs.items()
        for replica in result.replicas
    ]
    return _table(headers, rows)


def _generators(runs: Mapping[str, LoadResult], remark: str) -> Markup:
    headers = ["run", "processes", "CPU cores per process", "lag p99 ms", "backlog", "not sent"]
    rows = [
        [
            *(name, stats.processes, stats.cpu),
            NOT_AVAILABLE if stats.lag_p99_ms is None else stats.lag_p99_ms,
            *(stats.backlog, stats.unsent),
        ]
        for name, stats in ((name, result.generator) for name, result in runs.items())
    ]
    caption = (
        "Open loop: latency counts from when a request was scheduled. Lag: how late the load generator sent requests "
        "while a user was free. Backlog: requests scheduled while all users were waiting for responses."
    )
    return _table(headers, rows, f"{caption} {remark}".strip())


def _table(headers: Sequence[str], rows: Sequence[Sequence[object]], caption: str = "", summary: str = "") -> Markup:
    """A table of details, folded if it is long."""
    table = report.table(headers, rows, caption)
    return table if len(rows) <= MAX_ROWS else report.fold(summary or f"{len(rows)} rows", [table])


def _note(text: str) -> str:
    return f"Note: {text}."


def _comparison(pairs: Sequence[Pair]) -> list[Markup | str]:
    measured = [result for pair in pairs for result in pair]
    sentences = [*gate.describe_rounds(pairs), *map(_note, notes(measured))]
    return [*sentences, _runs(shown_runs([], pairs)), *_rounds(pairs)]


def _rounds(pairs: Sequence[Pair]) -> list[Markup]:
    """A table for each protocol: latencies of baseline and candidate round by round, and their ratio."""
    percentiles = ("p50", "p95")
    columns = [[f"baseline {p} ms", f"candidate {p} ms", f"{p} ratio"] for p in percentiles]
    headers = ["round", *chain(*columns), ""]
    tables = []
    for title, own in rounds_by_protocol(pairs).items():
        rows = []
        for number, pair in enumerate(own, 1):
            row: list[object] = [number]
            for percentile in percentiles:
                baseline, candidate = (getattr(result, f"{percentile}_ms") for result in pair)
                ratio = candidate / baseline if baseline and candidate else None
                row += [NOT_AVAILABLE if value is None else value for value in (baseline, candidate, ratio)]
            rows.append([*row, "left out" if any(result.generator.starved for result in pair) else ""])
        caption = f"{title}. A round is left out of the ratios' mean if the load generator was too slow in it."
        tables.append(report.table(headers, rows, caption))
    return tables


def _load(runs: Mapping[str, LoadResult]) -> list[Markup]:
    parts = [_runs(runs)]
    if any(second.p50_ms is not None for result in runs.values() for second in result.over_time):
        parts.append(plots.latency_over_time(runs))
    if any(second.correct for result in runs.values() for second in result.over_time):
        parts.append(plots.throughput(runs))
    if any(result.latency_histogram for result in runs.values()):
        parts.append(plots.latency_percentiles(runs))
    long_runs = {name: result for name, result in runs.items() if result.duration_s >= MIN_DRIFT_S}
    return [*parts, _drift(long_runs)] if long_runs else parts


def _drift(runs: Mapping[str, LoadResult]) -> Markup:
    """The first quarter of the measured time against the last, which shows drift in a long run."""
    rows = []
    for name, result in runs.items():
        seconds = [second for second in result.over_time if second.second >= result.warmup_s]
        quarter = max(1, len(seconds) // 4)
        cells: list[object] = [name]
        for field in ("correct", "p50_ms", "p99_ms"):
            for part in (seconds[:quarter], seconds[-quarter:]):
                values = [value for second in part if (value := getattr(second, field)) is not None]
                cells.append(median(values) if values else NOT_AVAILABLE)
        rows.append(cells)
    columns = ("correct responses/s", "p50 ms", "p99 ms")
    headers = ["run", *(f"{column}, {part} quarter" for column in columns for part in ("first", "last"))]
    return report.table(headers, rows, "Drift: medians over the seconds of the first and last quarter of the run.")


def count_unattributed(model: str, parities: Sequence[ServedParity], results: Sequence[LoadResult]) -> int:
    """The number of responses that did not report that they came from `model`."""
    return sum(count for name, count in _count_by_model(parities, results).items() if name != model)


def _verdict(wrong: int, failed: int, unattributed: int, responses: int) -> Markup:
    problems = [
        f"{count:,} {what}"
        for count, what in (
            (wrong, "wrong responses"),
            (failed, "failed requests"),
            (unattributed, "responses not attributed to this version"),
        )
        if count
    ]
    if not responses:
        problems.append("no response at all")
    return report.verdict(
        ", ".join(problems) or f"{responses:,} responses under load, none wrong, none failed", not problems
    )


def _warnings(results: Sequence[LoadResult]) -> list[str]:
    warnings = []
    if any(result.reference == FIRST_RESPONSE for result in results):
        warnings.append("The examples have no outputs: a server that always gives the same wrong response would pass.")
    if any(not result.discriminative and result.reference != FIRST_RESPONSE for result in results):
        warnings.append(
            "The expected outputs are equal within the tolerance: a response to another request, or a constant one, "
            "would pass."
        )
    return warnings


def _served_parity(parities: Sequence[ServedParity]) -> Markup:
    headers = ["hop", "output", "examples", "accuracy", "max |Δ|", "wrong", "top-1 mismatches"]
    rows = [
        [
            parity.hop,
            output.name,
            parity.examples,
            NOT_AVAILABLE if parity.accuracy is None or number else f"{parity.accuracy:.2%}",  # the first output's
            format_distance(output.max_abs),
            output.wrong,
            output.flipped,
        ]
        for parity in parities
        for number, output in enumerate(parity.outputs)
    ]
    return report.table(headers, rows)


def _runs(runs: Mapping[str, LoadResult]) -> Markup:
    latencies = ["p50 ms", "p95 ms", "p99 ms"]
    headers = ["run", "load", "correct responses/s", *latencies, "requests", "max |Δ|", "wrong", "failed"]
    rows = [
        [
            *(name, _describe_run(result), result.requests_per_second),
            *(NOT_AVAILABLE if ms is None else ms for ms in (result.p50_ms, result.p95_ms, result.p99_ms)),
            *(result.requests, format_max_abs(result)),
            *(result.wrong, result.failed),
        ]
        for name, result in runs.items()
    ]
    caption = (
        "Rates count correct responses that arrived after the warm-up; latencies are those of correct responses to "
        "requests that were scheduled after it. Requests, max |Δ|, wrong and failed include the warm-up."
    )
    return report.table(headers, rows, caption)


def _describe_run(result: LoadResult) -> str:
    batch = f", batch {result.batch}" if result.batch > 1 else ""
    return f"{describe_load(result)}{batch}{', new connections' if result.new_connections else ''}"


def _errors(runs: Mapping[str, LoadResult]) -> list[Section]:
    rows = [[name, kind, count] for name, result in runs.items() for kind, count in sorted(result.errors.items())]
    if not rows:
        return []
    return [Section("Errors", [report.table(["run", "kind", "count"], rows), plots.errors(runs)])]


def _server_metrics(all_runs: Mapping[str, LoadResult]) -> list[Section]:
    runs = {name: result for name, result in all_runs.items() if result.server_metrics}
    if not runs:
        return []
    collected = set().union(*(result.server_metrics for result in runs.values()))
    keys = [key for key in metrics.HEADINGS if key in collected]
    rows = [[name, *(_median(result.server_metrics.get(key)) for key in keys)] for name, result in runs.items()]
    caption = "Medians over the seconds of the run. CPU and memory are those of the process that responds at /metrics."
    stages = [plots.server_stages(runs)] if collected - set(keys) else []
    table = _table(["run", *(metrics.HEADINGS[key] for key in keys)], rows, caption)
    return [Section("The server's own metrics", [*stages, table])]


def _median(points: Sequence[tuple[float, float]] | None) -> float | str:
    return median(value for _, value in points) if points else NOT_AVAILABLE


def _by_model(model: str, parities: Sequence[ServedParity], results: Sequence[LoadResult]) -> Markup:
    rows = [
        [
            name or NOT_REPORTED,
            count,
            report.verdict("this version" if name == model else "not this version", name == model),
        ]
        for name, count in sorted(_count_by_model(parities, results).items())
    ]
    return report.table(["model version", "responses", ""], rows)


def _count_by_model(parities: Sequence[ServedParity], results: Sequence[LoadResult]) -> Counter[str]:
    """Seaway-Model header → responses, "" for those without it."""
    counts: Counter[str] = Counter()
    for served_by in (*(parity.served_by for parity in parities), *(result.served_by for result in results)):
        counts.update(served_by)
    return counts
