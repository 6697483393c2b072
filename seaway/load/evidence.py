"""Evidence: the results of a load test or `verify` of one version, bound to its digest, on which `promote` decides."""

import dataclasses
import json
import shutil
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from seaway.artifacts import artifact_metadata, atomic, model_repository, serving_profile
from seaway.artifacts.artifact_metadata import ArtifactMetadata
from seaway.load import gate, report
from seaway.load.formatting import Pair, max_distance
from seaway.load.gate import LimitResult
from seaway.load.result import LoadResult
from seaway.load.result_files import to_json
from seaway.load.served_parity import ServedParity

LOAD, REPORT = "load.json", "report.html"
_STATES = {"fail": "violated", "inconclusive": "inconclusive"}  # of limits that are not met


def write(
    folder: Path,
    name: str,
    version: int,
    metadata: ArtifactMetadata,
    parities: Sequence[ServedParity],
    results: Sequence[LoadResult],
    limit_results: Sequence[LimitResult] = (),
    pairs: Sequence[Pair] = (),
    profile: Mapping[str, str] | None = None,
) -> ArtifactMetadata:
    """Writes `folder` (load.json, report.html, metadata) and returns its metadata, a child of the version's `metadata`.

    `parities`: of whole test sets, by protocol; `results`: of the load; `pairs`: rounds of a comparison; `profile`: the
    settings of the version's serving profile. They count as measured if its engine is the one that responded.
    """
    backends = sorted({backend for result in results for backend in result.backends})
    measured = dict(profile or {})
    if backends != [measured.get(serving_profile.BACKEND)]:
        measured = {}
    model = f"{name}/{version}@{metadata.sha256}"
    measured_at = datetime.now(UTC).isoformat(timespec="milliseconds")
    by_protocol = {parity.protocol: parity for parity in parities}
    document: dict[str, Any] = {
        "model": model,
        "measured_at": measured_at,
        "rows": [_hop_row(result, by_protocol.get(result.protocol)) for result in results],
        "served": [dataclasses.asdict(parity) for parity in parities],
        "runs": [to_json(result) for result in results],
        "limits": [dataclasses.asdict(one) for one in limit_results],
    }
    settings = {
        "measured_at": measured_at,
        "url": results[0].url,
        "users": results[0].users,
        "rate": results[0].rate,
        "arrivals": results[0].arrivals,
        "seed": results[0].seed,
        "batch": results[0].batch,
        "protocols": [result.protocol for result in results],
        "backends": backends,
        "profile": measured,
        "verdict": gate.verdict(limit_results) if limit_results else "",
        "not_kept": [
            f"{one.limit} is {_STATES[one.state]}: {one.text}" for one in limit_results if one.state in _STATES
        ],
    }
    with atomic.folder(folder) as part:
        (part / LOAD).write_text(json.dumps(document, indent=1, allow_nan=False) + "\n")
        page = report.evidence_page(model, parities, results, limit_results, pairs, metadata.reference)
        (part / REPORT).write_text(page, encoding="utf-8")
        return artifact_metadata.write(
            part,
            ArtifactMetadata(
                kind="evidence",
                name=metadata.name,
                metrics=_metrics(model, parities, results),
                settings=settings,
                parents={"version": metadata},
            ),
        )


def store(repository: Path, name: str, folder: Path, metadata: ArtifactMetadata) -> Path:
    """Copies evidence into the model repository, beside the version's other evidence; returns the copy's folder."""
    version = metadata.parents["version"]
    stored = model_repository.evidence(repository, name, version.sha256) / f"load-{metadata.sha256[:12]}"
    with atomic.folder(stored) as part:
        shutil.copytree(folder, part, dirs_exist_ok=True)
    return stored


def _hop_row(result: LoadResult, parity: ServedParity | None) -> dict[str, Any]:
    """A row of the hop table: one protocol's results with the test set, if it was sent, and under load."""
    distances = [result.max_abs] if result.requests > result.failed else []  # else none was compared under load
    distances += [parity.max_abs] if parity else []
    return {
        "hop": f"served, {result.title}",
        "accuracy": parity.accuracy if parity else None,
        "max_abs": max_distance(distances) if distances else None,
        "requests_per_second": result.requests_per_second,
        "p50_ms": result.p50_ms,
        "p99_ms": result.p99_ms,
        "wrong": result.wrong + (parity.wrong if parity else 0),
        "failed": result.failed,
    }


def _metrics(model: str, parities: Sequence[ServedParity], results: Sequence[LoadResult]) -> dict[str, float]:
    """The metadata's metrics; promote requires that `failed`, `wrong` and `foreign`, the stored name of unattributed
    responses, are 0."""
    metrics: dict[str, float] = {
        "requests": sum(result.requests for result in results),
        "failed": sum(result.failed for result in results),
        "wrong": sum(result.wrong for result in results) + sum(parity.wrong for parity in parities),
        "foreign": report.count_unattributed(model, parities, results),
        "replicas": len({replica.pod for result in results for replica in result.replicas}),
    }
    for result in results:
        metrics[f"{result.protocol}_requests_per_second"] = result.requests_per_second
        for name, value in (("p50_ms", result.p50_ms), ("p99_ms", result.p99_ms)):
            if value is not None:  # else there was no correct response
                metrics[f"{result.protocol}_{name}"] = value
    for parity in parities:
        if parity.accuracy is not None:
            metrics[f"{parity.protocol}_accuracy"] = parity.accuracy
    return metrics
