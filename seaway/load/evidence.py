"""Evidence: what a load test or `verify` found of one version, bound to its digest, on which `promote` decides."""

import dataclasses
import json
import shutil
from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from seaway.artifacts import atomic, store
from seaway.artifacts import card as cards
from seaway.artifacts.card import Card
from seaway.load import gate, report
from seaway.load.gate import Line
from seaway.load.results import worst
from seaway.load.run import LoadResult
from seaway.load.served import Served

LOAD, REPORT = "load.json", "report.html"


def write(
    folder: Path,
    name: str,
    version: int,
    card: Card,
    served: Sequence[Served],
    runs: Sequence[LoadResult],
    lines: Sequence[Line] = (),
) -> Card:
    """Writes `folder` (load.json, report.html, card) and returns its card, a child of the version's `card`.

    `served`: what whole test sets found, by protocol; `runs`: what was found under load; `lines`: the limits.
    """
    model = f"{name}/{version}@{card.sha256}"
    measured_at = datetime.now(UTC).isoformat(timespec="milliseconds")
    whole = {row.protocol: row for row in served}
    found: dict[str, Any] = {
        "model": model,
        "measured_at": measured_at,
        "rows": [_hop(run, whole.get(run.protocol)) for run in runs],
        "served": [dataclasses.asdict(row) for row in served],
        "runs": [dataclasses.asdict(run) for run in runs],
        "limits": [dataclasses.asdict(line) for line in lines],
    }
    settings = {
        "measured_at": measured_at,
        "url": runs[0].url,
        "users": runs[0].users,
        "rate": runs[0].rate,
        "arrivals": runs[0].arrivals,
        "seed": runs[0].seed,
        "batch": runs[0].batch,
        "protocols": [run.protocol for run in runs],
        "verdict": gate.verdict(lines) if lines else "",
        "not_kept": [f"{line.limit} is {line.state}: {line.text}" for line in lines if line.state != "pass"],
    }
    with atomic.folder(folder) as part:
        (part / LOAD).write_text(json.dumps(found, indent=1, allow_nan=False) + "\n")
        (part / REPORT).write_text(report.page(model, served, runs, lines), encoding="utf-8")
        metrics = _metrics(model, served, runs)
        return cards.write(
            part, Card(kind="evidence", name=card.name, metrics=metrics, settings=settings, parents={"version": card})
        )


def keep(volume: Path, name: str, folder: Path, card: Card) -> Path:
    """A copy in the volume, beside what else was found of the version; returns where."""
    kept = store.evidence(volume, name, card.parents["version"].sha256) / f"load-{card.sha256[:12]}"
    with atomic.folder(kept) as part:
        shutil.copytree(folder, part, dirs_exist_ok=True)
    return kept


def _hop(run: LoadResult, whole: Served | None) -> dict[str, Any]:
    """A row of the hop table: what one protocol did with the test set, where it was sent, and under load."""
    distances = [run.max_abs] if run.requests > run.failed else []  # else no answer was compared under load
    distances += [whole.max_abs] if whole else []
    return {
        "hop": f"served, {run.title}",
        "accuracy": whole.accuracy if whole else None,
        "max_abs": worst(distances) if distances else None,
        "requests_per_second": run.requests_per_second,
        "p50_ms": run.p50_ms,
        "p99_ms": run.p99_ms,
        "wrong": run.wrong + (whole.wrong if whole else 0),
        "failed": run.failed,
    }


def _metrics(model: str, served: Sequence[Served], runs: Sequence[LoadResult]) -> dict[str, float]:
    """`foreign`: answers that did not say that they came from this version; promote asks for none of these three."""
    metrics: dict[str, float] = {
        "requests": sum(run.requests for run in runs),
        "failed": sum(run.failed for run in runs),
        "wrong": sum(run.wrong for run in runs) + sum(row.wrong for row in served),
        "foreign": report.strangers(model, served, runs),
        "replicas": len({replica.pod for run in runs for replica in run.replicas}),
    }
    for run in runs:
        metrics[f"{run.protocol}_requests_per_second"] = run.requests_per_second
        for name, value in (("p50_ms", run.p50_ms), ("p99_ms", run.p99_ms)):
            if value is not None:  # else there was no right answer
                metrics[f"{run.protocol}_{name}"] = value
    for row in served:
        if row.accuracy is not None:
            metrics[f"{row.protocol}_accuracy"] = row.accuracy
    return metrics
