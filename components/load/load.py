"""Load-tests a served version and writes the evidence that `promote` asks for.

Two proofs over each protocol: the test set (or the golden examples) once, every answer compared with PyTorch's for it;
then Locust with many users at a time, again every answer compared.
"""

import dataclasses
import json
import shutil
from collections.abc import Iterator, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np

from loadtest import report as reports
from loadtest import run as locust
from loadtest.results import distance
from loadtest.run import LoadResult, Plan
from loadtest.served import Inputs, Served, Take, served_parity
from seaway import atomic, data, golden, store
from seaway import card as cards
from seaway.card import Card, Kind
from seaway.errors import CardError, DataError, InvalidInput
from seaway.golden import TEST_OUTPUTS

LOAD, REPORT = "load.json", "report.html"
PROTOCOLS = ("tfs", "graphpipe")


@dataclasses.dataclass(frozen=True, slots=True)
class Examples:
    """What to ask and PyTorch's answers: `expected` [N, …] of the first output; `labels` [N] where they are known."""

    take: Take | Inputs
    expected: np.ndarray
    labels: np.ndarray | None


def load(
    url: str,
    volume: Path,
    name: str,
    version: int,
    evidence: Path,
    dataset: Path | None = None,
    onnx: Path | None = None,
    seconds: int = 10,
    users: int = 8,
    batch: int = 1,
    report: Path | None = None,
    protocols: Sequence[str] = PROTOCOLS,
) -> Card:
    """Writes `evidence` (load.json, report.html, card) and a copy in the volume; returns its card.

    `dataset` and `onnx` together ask for the whole test set; without them the version's golden examples are the test.
    Wrong answers and failed requests are written down, not raised. Raises NotFound and Unavailable where the version or
    the server is not there, DataError where `onnx` or `dataset` is not what the version was made from.
    """
    cards.check_target(evidence, "evidence")
    folder = store.existing(volume, name, version)
    card = cards.check(folder, "version", at=store.CARD)
    output = card.outputs[0].name
    examples = _examples(card, folder, dataset, onnx)
    served, runs = [], []
    for protocol in protocols:
        whole = served_parity(
            *(url, name, version, examples.take, examples.expected, examples.labels),
            *(card.tolerances[output], protocol, output),
        )
        worst = distance(whole.max_abs)
        print(f"{whole.hop}: {whole.examples:,} examples, {whole.wrong} wrong, max |Δ| {worst}", flush=True)
        served.append(whole)
    for protocol in protocols:
        print(f"Locust over {protocol}: {users} users for {seconds} s", flush=True)
        plan = Plan(protocol, users, seconds=seconds, batch=batch, model=name, version=version)
        run = locust.run(url, folder, plan)
        latency = f"p50 {run.p50_ms:.1f} ms, p99 {run.p99_ms:.1f} ms"
        print(f"  {run.requests_per_second:.0f} req/s, {latency}, {run.wrong} wrong, {run.failed} failed", flush=True)
        runs.append(run)
    written = _write(evidence, f"{name}/{version}@{card.sha256}", card, served, runs)
    kept = store.evidence(volume, name, card.sha256) / f"load-{written.sha256[:12]}"
    with atomic.folder(kept) as part:
        shutil.copytree(evidence, part, dirs_exist_ok=True)
    if report:
        with atomic.file(report) as copy:
            shutil.copyfile(evidence / REPORT, copy)
    return written


# ---- what to ask


def _examples(card: Card, folder: Path, dataset: Path | None, onnx: Path | None) -> Examples:
    output = card.outputs[0].name
    if dataset is None and onnx is None:
        recorded = golden.read(folder / store.EXTRA / golden.GOLDEN)
        return Examples(recorded.inputs, recorded.outputs[output], None)
    if dataset is None or onnx is None:
        missing = "--dataset" if dataset is None else "--onnx"
        raise InvalidInput(f"{missing} is missing: the test set needs both, the golden examples neither")
    _check_origin(card, "onnx", onnx)
    _check_origin(card, "dataset", dataset)
    if len(card.inputs) != 1:
        raise InvalidInput(f"--dataset holds pictures, but {card.name} has {len(card.inputs)} inputs; leave it out")
    opened, name = data.load(dataset), card.inputs[0].name
    images, labels = opened.test_images, np.asarray(opened.test_labels)
    expected = _test_outputs(onnx / TEST_OUTPUTS, output)
    return Examples(lambda part: {name: data.model_input(images[part])}, expected, labels)


def _check_origin(card: Card, role: Kind, folder: Path) -> None:
    """That `folder` is whole, and what the version was made from where its lineage names that."""
    digest = cards.check(folder, role).sha256
    known = {ancestor.sha256 for ancestor in _ancestors(card) if ancestor.kind == role}
    if known and digest not in known:
        raise DataError(f"{folder}: not the {role} that {card.name}@{card.sha256[:12]} was made from; give that one")


def _ancestors(card: Card) -> Iterator[Card]:
    for parent in card.parents.values():
        yield parent
        yield from _ancestors(parent)


def _test_outputs(path: Path, output: str) -> np.ndarray:
    recorded = golden.read(path).outputs
    if output not in recorded:
        raise CardError(f"{path}: no {output!r} among PyTorch's outputs for the test set; export again")
    return recorded[output]


# ---- what was found


def _write(evidence: Path, model: str, card: Card, served: Sequence[Served], runs: Sequence[LoadResult]) -> Card:
    measured_at = datetime.now(UTC).isoformat(timespec="milliseconds")
    found: dict[str, Any] = {
        "model": model,
        "measured_at": measured_at,
        "rows": [_hop(row, run) for row, run in zip(served, runs, strict=True)],
        "served": [dataclasses.asdict(row) for row in served],
        "runs": [dataclasses.asdict(run) for run in runs],
    }
    with atomic.folder(evidence) as folder:
        (folder / LOAD).write_text(json.dumps(found, indent=1, allow_nan=False) + "\n")
        (folder / REPORT).write_text(reports.page(model, served, runs), encoding="utf-8")
        settings = {"measured_at": measured_at, "url": runs[0].url, "users": runs[0].users, "batch": runs[0].batch}
        return cards.write(
            folder,
            Card(
                kind="evidence",
                name=card.name,
                metrics=_metrics(model, served, runs),
                settings=settings,
                parents={"version": card},
            ),
        )


def _hop(row: Served, run: LoadResult) -> dict[str, Any]:
    """A row of the hop table: what one protocol did with the test set and under load."""
    distances = [row.max_abs, run.max_abs]
    return {
        "hop": row.hop,
        "accuracy": row.accuracy,
        "max_abs": None if None in distances else max(d for d in distances if d is not None),
        "requests_per_second": run.requests_per_second,
        "p50_ms": run.p50_ms,
        "p99_ms": run.p99_ms,
        "wrong": row.wrong + run.wrong,
        "failed": run.failed,
    }


def _metrics(model: str, served: Sequence[Served], runs: Sequence[LoadResult]) -> dict[str, float]:
    """`foreign`: answers that did not say that they came from this version; promote asks for none of these three."""
    metrics: dict[str, float] = {
        "requests": sum(run.requests for run in runs),
        "failed": sum(run.failed for run in runs),
        "wrong": sum(run.wrong for run in runs) + sum(row.wrong for row in served),
        "foreign": reports.strangers(model, served, runs),
    }
    for run in runs:
        metrics[f"{run.protocol}_requests_per_second"] = run.requests_per_second
        metrics[f"{run.protocol}_p50_ms"] = run.p50_ms
        metrics[f"{run.protocol}_p99_ms"] = run.p99_ms
    for run, row in zip(runs, served, strict=True):
        if row.accuracy is not None:
            metrics[f"{run.protocol}_accuracy"] = row.accuracy
    return metrics
