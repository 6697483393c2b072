"""Load-tests a served version and writes the evidence that `promote` asks for.

Two proofs over each protocol that the server speaks: the test set (or the golden examples) once, every answer compared
with PyTorch's for it; then Locust with many users at a time, again every answer compared.
"""

import dataclasses
import shutil
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from seaway.artifacts import atomic, golden, store
from seaway.artifacts import card as cards
from seaway.artifacts.card import Card, Kind
from seaway.artifacts.golden import TEST_OUTPUTS
from seaway.data import data
from seaway.errors import CardError, DataError, InvalidInput
from seaway.load import evidence as proofs
from seaway.load import gate, spoken
from seaway.load import run as locust
from seaway.load.gate import Line, Target
from seaway.load.results import distance, latency
from seaway.load.run import LoadResult, Plan
from seaway.load.served import Inputs, Served, Take, served_parity
from seaway.protocols import wire


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
    protocols: Sequence[str] = (),
    rate: float = 0.0,
    limits: Mapping[str, Any] | None = None,
    metrics: str = "",
    baseline: str = "",
) -> Card:
    """Writes `evidence` (load.json, report.html, card) and a copy in the volume; returns its card.

    `dataset` and `onnx` together ask for the whole test set; without them the version's golden examples are the test.
    `protocols`: all that the server speaks, where none is named. `rate` above 0: an open loop of so many requests a
    second, Poisson arrivals, for which as many users as it takes stand ready. `limits` as `gate.of_stage` reads them.
    `metrics`: address of the server's Prometheus page, for the report.
    A limit `slower` is against the version that is stable in the volume, in rounds by turns, at `baseline` (the address
    of what serves it; where none is given, at `url`); it needs a rate, and is not asked where nothing is stable yet.
    Wrong answers, failed requests and broken limits are written down, not raised. Raises NotFound and Unavailable where
    the version or the server is not there, InvalidInput for limits that cannot be met, DataError where `onnx` or
    `dataset` is not what the version was made from.
    """
    cards.check_target(evidence, "evidence")
    wanted, plan = gate.of_stage(limits or {}, users, rate, seconds)
    plan = dataclasses.replace(plan, batch=batch, model=name, version=version, metrics=metrics)
    folder = store.existing(volume, name, version)
    card = cards.check(folder, "version", at=store.CARD)
    examples = _examples(card, folder, dataset, onnx)
    chosen = list(protocols) or spoken.spoken(url, folder, plan)
    # A light picture is inverted by from_png, so the test set is not its test.
    served = [_whole(url, card, plan, examples, protocol) for protocol in chosen if protocol != wire.PNG.key]
    runs = [_loaded(url, folder, dataclasses.replace(plan, protocol=protocol)) for protocol in chosen]
    lines = [
        dataclasses.replace(line, limit=f"{run.title}, {line.limit}")
        for run in runs
        for line in gate.judge(run, wanted)
    ]
    stable = store.labels(volume, name).get(store.STABLE, version)
    if wanted.slower is not None and stable != version:
        before = Target(baseline or url, store.existing(volume, name, stable), None if baseline else stable)
        lines += _versus(before, Target(url, folder, version), plan, wanted.slower)
    written = proofs.write(evidence, name, version, card, served, runs, lines)
    proofs.keep(volume, name, evidence, written)
    if report:
        with atomic.file(report) as copy:
            shutil.copyfile(evidence / proofs.REPORT, copy)
    return written


def _whole(url: str, card: Card, plan: Plan, examples: Examples, protocol: str) -> Served:
    """The whole test set over one protocol."""
    output = card.outputs[0].name
    found = served_parity(
        *(url, plan.model, plan.version, examples.take, examples.expected, examples.labels),
        *(card.tolerances[output], protocol, output),
    )
    worst = distance(found.max_abs)
    print(f"{found.hop}: {found.examples:,} examples, {found.wrong} wrong, max |Δ| {worst}", flush=True)
    return found


def _loaded(url: str, folder: Path, plan: Plan) -> LoadResult:
    asked = f"{plan.rate:g} requests/s" if plan.rate else f"{plan.users} users"
    print(f"Locust over {plan.protocol}: {asked}, {plan.seconds} s", flush=True)
    run = locust.run(url, folder, plan)
    took = f"p50 {latency(run.p50_ms, ' ms')}, p99 {latency(run.p99_ms, ' ms')}"
    print(f"  {run.requests_per_second:.0f} req/s, {took}, {run.wrong} wrong, {run.failed} failed", flush=True)
    return run


def _versus(before: Target, candidate: Target, plan: Plan, slower: float) -> list[Line]:
    print(f"in turn with {before.source.name}, which is stable, at {before.url}", flush=True)
    pairs = gate.rounds(before, candidate, plan, slower)
    lines = gate.against(pairs, slower)
    for line in lines:
        print(f"  {line.limit}: {line.state}: {line.text}", flush=True)
    return lines


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
