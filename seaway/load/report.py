"""The load test's HTML reports: limits, latency by second and by percentile, throughput, errors, the server's stages.

`evidence_page` is the evidence of one version; `load_page` is any load test's, with its limits.
"""

from collections import Counter
from collections.abc import Mapping, Sequence
from statistics import median

from markupsafe import Markup

from seaway.load import gate, metrics, plots
from seaway.load.formatting import (
    NOT_AVAILABLE,
    by_name,
    describe_load,
    describe_references,
    format_distance,
    format_max_abs,
    shorten_identity,
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
) -> str:
    """The whole HTML page; `model` is the name/version@digest under test."""
    wrong = sum(parity.wrong for parity in parities) + sum(result.wrong for result in results)
    failed = sum(result.failed for result in results)
    unattributed = count_unattributed(model, parities, results)
    responses = sum(result.requests - result.failed for result in results)
    sections = [
        Section("Verdict", [_verdict(wrong, failed, unattributed, responses), *_warnings(results)]),
        *([_limits(limit_results)] if limit_results else []),
        *([Section("Served parity with PyTorch", [_served_parity(parities)])] if parities else []),
        Section("Under load", _load(results)),
        *_errors(results),
        *_server_metrics(results),
        Section("Responses by model version", [_by_model(model, parities, results)]),
    ]
    title, _, digest = model.partition("@")
    lead = " ".join([*describe_references(results), f"Version digest: {digest[:12]}."])
    return report.page(f"Load test of {title}", sections, lead)


def load_page(
    title: str, results: Sequence[LoadResult], limit_results: Sequence[LimitResult], conclusion: str = ""
) -> str:
    """The whole HTML page of some runs, their limits, and a conclusion from all of them."""
    sections = [
        *([Section("Result", [report.paragraph(conclusion)])] if conclusion else []),
        *([_limits(limit_results)] if limit_results else []),
        Section("Under load", [*_bottlenecks(results), *_warnings(results), *_load(results)]),
        *_errors(results),
        *_server_metrics(results),
        Section("Responses by replica", [_by_replica(results)]),
        Section("Load generator", [_generators(results)]),
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


def _by_replica(results: Sequence[LoadResult]) -> Markup:
    headers = ["run", "replica", "model version", "responses", "wrong", "max |Δ|"]
    rows = [
        [
            name,
            replica.pod or NOT_REPORTED,
            shorten_identity(replica.model) or NOT_REPORTED,
            replica.responses,
            replica.wrong,
            format_distance(replica.max_abs),
        ]
        for name, result in by_name(results).items()
        for replica in result.replicas
    ]
    return _table(headers, rows)


def _generators(results: Sequence[LoadResult]) -> Markup:
    headers = ["run", "processes", "CPU cores per process", "lag p99 ms", "backlog", "not sent"]
    rows = [
        [
            *(name, stats.processes, stats.cpu),
            NOT_AVAILABLE if stats.lag_p99_ms is None else stats.lag_p99_ms,
            *(stats.backlog, stats.unsent),
        ]
        for name, stats in ((name, result.generator) for name, result in by_name(results).items())
    ]
    caption = (
        "Open loop: latency counts from when a request was scheduled. Lag: how late the load generator sent requests "
        "while a user was free. Backlog: requests scheduled while all users were busy."
    )
    return _table(headers, rows, caption)


def _table(headers: Sequence[str], rows: Sequence[Sequence[object]], caption: str = "", summary: str = "") -> Markup:
    """A table of details, folded if it is long."""
    table = report.table(headers, rows, caption)
    return table if len(rows) <= MAX_ROWS else report.fold(summary or f"{len(rows)} rows", [table])


def _bottlenecks(results: Sequence[LoadResult]) -> list[Markup]:
    rows = [[name, run.generator.bottleneck] for name, run in by_name(results).items() if run.generator.bottleneck]
    summary = f"{len(rows)} of {len(results)} runs had a bottleneck"
    return [_table(["run", "bottleneck"], rows, summary=summary)] if rows else []


def _load(results: Sequence[LoadResult]) -> list[Markup]:
    runs = by_name(results)
    parts = [_runs(runs)]
    if any(second.correct for result in results for second in result.over_time):
        parts += [plots.latency_over_time(runs), plots.throughput(runs)]
    if any(result.latency_histogram for result in results):
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
    headers = ["hop", "examples", "accuracy", "max |Δ|", "wrong", "top-1 mismatches"]
    rows = [
        [
            parity.hop,
            parity.examples,
            NOT_AVAILABLE if parity.accuracy is None else f"{parity.accuracy:.2%}",
            format_distance(parity.max_abs),
            parity.wrong,
            parity.flipped,
        ]
        for parity in parities
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


def _errors(results: Sequence[LoadResult]) -> list[Section]:
    runs = by_name(results)
    rows = [[name, kind, count] for name, result in runs.items() for kind, count in sorted(result.errors.items())]
    if not rows:
        return []
    return [Section("Errors", [report.table(["run", "kind", "count"], rows), plots.errors(runs)])]


def _server_metrics(results: Sequence[LoadResult]) -> list[Section]:
    runs = {name: result for name, result in by_name(results).items() if result.server_metrics}
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
