"""Results as files: JSON for programs, Markdown for a pull request; and two of them compared."""

import dataclasses
import json
from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from seaway.artifacts import atomic
from seaway.errors import DataError
from seaway.load import gate, payloads
from seaway.load.gate import Line
from seaway.load.run import Generator, LoadResult, Replica, Second
from seaway.load.schedule import POISSON, UNIFORM

SCHEMA_VERSION = 2
JSON, MARKDOWN, HTML = "load.json", "load.md", "load.html"
NO_ANSWER = "n/a"  # a latency where no answer was right


def write_json(path: Path, results: Sequence[LoadResult], lines: Sequence[Line] = ()) -> None:
    document = {
        "schema_version": SCHEMA_VERSION,
        "measured_at": datetime.now(UTC).isoformat(timespec="seconds"),
        "verdict": gate.verdict(lines) if lines else None,
        "limits": [dataclasses.asdict(line) for line in lines],
        "runs": [dataclasses.asdict(result) for result in results],
    }
    with atomic.file(path) as part:
        part.write_text(json.dumps(document, indent=1, allow_nan=False) + "\n")


def read_json(path: Path) -> list[LoadResult]:
    """The runs in a file of `write_json`. Raises DataError for what is none."""
    try:
        document = json.loads(path.read_bytes())
        if document["schema_version"] != SCHEMA_VERSION:
            raise DataError(
                f"{path}: its schema is {document['schema_version']}, this is for {SCHEMA_VERSION}; measure again"
            )
        return [_result(raw) for raw in document["runs"]]
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise DataError(f"{path}: no result of `seaway load --report` ({type(error).__name__}: {error})") from None


def _result(raw: dict[str, Any]) -> LoadResult:
    raw = dict(raw)
    raw["replicas"] = tuple(Replica(**replica) for replica in raw["replicas"])
    raw["over_time"] = tuple(Second(**second) for second in raw["over_time"])
    raw["spread_ms"] = tuple((ms, count) for ms, count in raw["spread_ms"])
    raw["faults"] = {kind: tuple((at, times) for at, times in points) for kind, points in raw["faults"].items()}
    raw["server"] = {name: tuple((at, value) for at, value in points) for name, points in raw["server"].items()}
    raw["generator"] = Generator(**raw["generator"])
    if raw["rate"]:
        raw.setdefault("arrivals", UNIFORM)  # before there were others
    return LoadResult(**raw)


SIGNS = {"pass": "✅", "fail": "❌", "inconclusive": "❔"}


def markdown(title: str, results: Sequence[LoadResult], lines: Sequence[Line] = ()) -> str:
    """A table of the runs and one of the limits."""
    rows = [
        [
            r.title,
            load(r),
            str(r.batch),
            f"{r.requests_per_second:.0f}",
            *map(latency, (r.p50_ms, r.p95_ms, r.p99_ms)),
            farthest(r),
            f"{r.wrong:,}",
            f"{r.failed:,}",
        ]
        for r in results
    ]
    head = [
        "protocol",
        "load",
        "batch",
        "right answers/s",
        "p50 ms",
        "p95 ms",
        "p99 ms",
        "max abs Δ",
        "wrong",
        "failed",
    ]
    parts = [f"### {title}", _table(head, rows)]
    if lines:
        parts.append(_table(["", "limit", "measured"], [[SIGNS[li.state], li.limit, li.text] for li in lines]))
    parts += [f"> {text}" for text in compared(results)]
    parts += [f"> {r.generator.bottleneck}" for r in results if r.generator.bottleneck]
    return "\n\n".join(parts) + "\n"


def compare(before: Sequence[LoadResult], after: Sequence[LoadResult]) -> str:
    """Markdown: each run of `before` beside the one of `after` with the same protocol and batch. Raises DataError."""
    rows = []
    for one in before:
        others = [o for o in after if (o.protocol, o.batch) == (one.protocol, one.batch)]
        if not others:
            continue
        other = others[0]
        title = f"{one.title}, batch {one.batch}"
        for name, digits in (("requests_per_second", 0), ("p50_ms", 2), ("p95_ms", 2), ("p99_ms", 2)):
            a, b = getattr(one, name), getattr(other, name)
            shown = [NO_ANSWER if ms is None else f"{ms:.{digits}f}" for ms in (a, b)]
            rows.append([title, name, *shown, "" if not a or b is None else f"{b / a:.2f}"])
        for name in ("requests", "failed", "wrong"):
            rows.append([title, name, f"{getattr(one, name):,}", f"{getattr(other, name):,}", ""])
        asked = [(r.users, r.rate, r.shape, r.arrivals, r.seed) for r in (one, other)]
        if asked[0] != asked[1]:
            rows.append([title, "asked differently", *(load(r) for r in (one, other)), ""])
    if not rows:
        raise DataError("the two have no protocol and batch in common: nothing can be compared")
    return _table(["run", "", "A", "B", "B ÷ A"], rows) + "\n"


def load(result: LoadResult) -> str:
    """What was asked, in words: users who ask again when they are answered, or requests a second and how they come."""
    asked = f"{result.users} users"
    if result.rate:
        seed = f", seed {result.seed}" if result.arrivals == POISSON else ""
        asked = f"{result.rate:g}/s {result.arrivals}{seed}"
    return asked if result.shape == "constant" else f"{asked}, {result.shape}"


def latency(milliseconds: float | None, unit: str = "") -> str:
    """As people read it; `NO_ANSWER` where there was no right answer to take it from."""
    return NO_ANSWER if milliseconds is None else f"{milliseconds:.1f}{unit}"


def compared(results: Sequence[LoadResult]) -> list[str]:
    """What the answers were compared with, a sentence for each that there is; none where nothing was answered."""
    references = dict.fromkeys(result.reference for result in results if result.requests > result.failed)
    return [f"Every answer was compared with {payloads.REFERENCES[reference][0]}." for reference in references]


def distance(max_abs: float | None) -> str:
    """`max_abs` as people read it."""
    return "beyond measure" if max_abs is None else f"{max_abs:.2g}"


def farthest(result: LoadResult) -> str:
    """The largest distance of a run's answers as people read it; `NO_ANSWER` where none could be compared."""
    return distance(result.max_abs) if result.requests > result.failed else NO_ANSWER


def worst(distances: Sequence[float | None]) -> float | None:
    """The largest; None, beyond measure, where one is."""
    known = [one for one in distances if one is not None]
    return max(known, default=0.0) if len(known) == len(distances) else None


def short(identity: str) -> str:
    """name/version@digest with as much of the digest as tells versions apart."""
    name, at, digest = identity.partition("@")
    return name + at + digest[:12]


def _table(head: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    lines = ["| " + " | ".join(head) + " |", "|" + "---|" * len(head)]
    lines += ["| " + " | ".join(cell.replace("|", "\\|") for cell in row) + " |" for row in rows]
    return "\n".join(lines)
