"""Result files: JSON for programs, Markdown for a pull request; and the comparison of two results.

The keys of load.json are those of its first version, so that files of all versions can be read and compared.
`STORED_KEYS` lists the keys whose names differ from the fields' names; headings differ from both.
"""

import dataclasses
import json
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from seaway.artifacts import atomic
from seaway.errors import DataError
from seaway.load import gate
from seaway.load.formatting import (
    NOT_AVAILABLE,
    Pair,
    describe_load,
    describe_references,
    format_latency,
    format_max_abs,
    notes,
    shown_runs,
)
from seaway.load.gate import LimitResult
from seaway.load.result import GeneratorStats, LoadResult, Replica, Second
from seaway.load.schedule import UNIFORM

SCHEMA_VERSION = 2
JSON, MARKDOWN, HTML = "load.json", "load.md", "load.html"
STORED_KEYS: Mapping[type, Mapping[str, str]] = {  # field → key in load.json
    LoadResult: {
        "duration_s": "seconds",
        "warmup_s": "warmup",
        "discriminative": "telling",
        "errors_over_time": "faults",
        "latency_histogram": "spread_ms",
        "server_metrics": "server",
    },
    Second: {"correct": "right", "errors": "faults"},
    Replica: {"responses": "answers"},
    GeneratorStats: {"lag_p99_ms": "late_p99_ms", "backlog": "unready"},
}


def write_json(
    path: Path,
    results: Sequence[LoadResult],
    limit_results: Sequence[LimitResult] = (),
    pairs: Sequence[Pair] = (),
) -> None:
    """`pairs`: the rounds of a comparison, whose candidates are `results`."""
    document = {
        "schema_version": SCHEMA_VERSION,
        "measured_at": datetime.now(UTC).isoformat(timespec="seconds"),
        "verdict": gate.verdict(limit_results) if limit_results else None,
        "limits": [dataclasses.asdict(limit_result) for limit_result in limit_results],
        "runs": [to_json(result) for result in results],
    }
    if pairs:
        document["baseline_runs"] = [to_json(baseline) for baseline, _ in pairs]
    with atomic.file(path) as part:
        part.write_text(json.dumps(document, indent=1, allow_nan=False) + "\n")


def read_json(path: Path) -> list[LoadResult]:
    """The runs in a file of `write_json`. Raises DataError for any other file."""
    try:
        document = json.loads(path.read_bytes())
        if document["schema_version"] != SCHEMA_VERSION:
            raise DataError(
                f"{path} has schema {document['schema_version']}, but this is for {SCHEMA_VERSION}; measure again"
            )
        return [from_json(raw) for raw in document["runs"]]
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise DataError(f"{path} is not a result of `seaway load --report` ({type(error).__name__}: {error})") from None


def to_json(result: LoadResult) -> dict[str, Any]:
    """A run as load.json stores it."""
    return {
        **_stored(result),
        "replicas": [_stored_replica(replica) for replica in result.replicas],
        "generator": _stored(result.generator),
        "over_time": [_stored(second) for second in result.over_time],
    }


def from_json(stored: Mapping[str, Any]) -> LoadResult:
    raw = _renamed(LoadResult, stored)
    raw["replicas"] = tuple(Replica(**_renamed(Replica, replica)) for replica in raw["replicas"])
    raw["over_time"] = tuple(Second(**_renamed(Second, second)) for second in raw["over_time"])
    raw["latency_histogram"] = tuple((ms, count) for ms, count in raw["latency_histogram"])
    for name in ("errors_over_time", "server_metrics"):
        raw[name] = {key: tuple((at, value) for at, value in points) for key, points in raw[name].items()}
    raw["generator"] = GeneratorStats(**_renamed(GeneratorStats, raw["generator"]))
    if raw["rate"]:
        raw.setdefault("arrivals", UNIFORM)  # the only ones of earlier versions
    return LoadResult(**raw)


def _stored(record: "LoadResult | Second | Replica | GeneratorStats") -> dict[str, Any]:
    keys = STORED_KEYS[type(record)]
    return {keys.get(field.name, field.name): getattr(record, field.name) for field in dataclasses.fields(record)}


def _stored_replica(replica: Replica) -> dict[str, Any]:
    """Without `backend` if it is not known, as in files of earlier versions."""
    stored = _stored(replica)
    return stored if replica.backend else {key: value for key, value in stored.items() if key != "backend"}


def _renamed(kind: type, stored: Mapping[str, Any]) -> dict[str, Any]:
    fields = {key: field for field, key in STORED_KEYS[kind].items()}
    return {fields.get(key, key): value for key, value in stored.items()}


SIGNS = {"pass": "✅", "fail": "❌", "inconclusive": "❔"}


def markdown(
    title: str,
    results: Sequence[LoadResult],
    limit_results: Sequence[LimitResult] = (),
    conclusion: str = "",
    pairs: Sequence[Pair] = (),
) -> str:
    """A conclusion from all runs, a table of the runs and one of the limits; `pairs`: the rounds of a comparison, whose
    candidates are `results`."""
    rows = [
        [
            name,
            describe_load(r),
            str(r.batch),
            f"{r.requests_per_second:.0f}",
            *map(format_latency, (r.p50_ms, r.p95_ms, r.p99_ms)),
            format_max_abs(r),
            f"{r.wrong:,}",
            f"{r.failed:,}",
        ]
        for name, r in shown_runs(results, pairs).items()
    ]
    latencies = ["p50 ms", "p95 ms", "p99 ms"]
    head = ["run", "load", "batch", "correct responses/s", *latencies, "max \\|Δ\\|", "wrong", "failed"]
    parts = [f"### {title}", *([conclusion] if conclusion else []), _table(head, rows)]
    if limit_results:
        rows = [[SIGNS[one.state], one.limit, one.text] for one in limit_results]
        parts.append(_table(["", "limit", "measured"], rows))
    parts += [f"> {text}" for text in (*gate.describe_rounds(pairs), *describe_references(results))]
    parts += [f"> Note: {text}." for text in notes([result for pair in pairs for result in pair] or results)]
    return "\n\n".join(parts) + "\n"


_COMPARED = (  # field, row, digits
    ("requests_per_second", "correct responses/s", 0),
    ("p50_ms", "p50 ms", 2),
    ("p95_ms", "p95 ms", 2),
    ("p99_ms", "p99 ms", 2),
)


def compare(before: Sequence[LoadResult], after: Sequence[LoadResult]) -> str:
    """Markdown: each run of `before` beside the one of `after` with the same protocol and batch. Raises
    DataError if there is no such pair."""
    rows = []
    for one in before:
        matches = [o for o in after if (o.protocol, o.batch) == (one.protocol, one.batch)]
        if not matches:
            continue
        other = matches[0]
        title = f"{one.title}, batch {one.batch}"
        for name, row, digits in _COMPARED:
            a, b = getattr(one, name), getattr(other, name)
            cells = [NOT_AVAILABLE if value is None else f"{value:.{digits}f}" for value in (a, b)]
            rows.append([title, row, *cells, "" if not a or b is None else f"{b / a:.2f}"])
        for name in ("requests", "failed", "wrong"):
            rows.append([title, name, f"{getattr(one, name):,}", f"{getattr(other, name):,}", ""])
        loads = [(r.users, r.rate, r.shape, r.arrivals, r.seed) for r in (one, other)]
        if loads[0] != loads[1]:
            rows.append([title, "load (differs)", *(describe_load(r) for r in (one, other)), ""])
    if not rows:
        raise DataError("the two results have no protocol and batch in common, so they cannot be compared")
    return _table(["run", "metric", "before", "after", "after ÷ before"], rows) + "\n"


def _table(head: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    lines = ["| " + " | ".join(head) + " |", "|" + "---|" * len(head)]
    lines += ["| " + " | ".join(cell.replace("|", "\\|") for cell in row) + " |" for row in rows]
    return "\n".join(lines)
