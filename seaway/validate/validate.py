"""The gate: proves ONNX Runtime and the SavedModel equal to PyTorch, or refuses with every reason at once.

    python -m seaway.validate --onnx onnx/ --saved-model saved_model/ --dataset dataset/ --parity parity/

It needs no torch: the onnx artifact carries what PyTorch answered. Nothing that has not passed here is published.
"""

import json
import math
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from seaway import quiet
from seaway.artifacts import atomic, golden
from seaway.artifacts import card as cards
from seaway.artifacts.card import Card
from seaway.artifacts.golden import Golden
from seaway.data import data
from seaway.errors import CardError, ModelError, Refused
from seaway.validate import checks, graph_file, hops, page, runners, saved_file
from seaway.validate.checks import Check
from seaway.validate.hops import Hop
from seaway.validate.runners import Runner

MODEL = "model.onnx"
PARITY = "parity.json"
REPORT = "report.html"
CONVERSION = "conversion.json"


def validate(onnx: Path, saved_model: Path, dataset: Path | None, parity: Path, report: Path | None = None) -> Card:
    """Writes parity/ (parity.json, report.html, card) and returns its card; `report` is written also where it refuses.

    Raises Refused listing every failed check, CardError for what is no artifact, DataError for a broken dataset.
    """
    cards.check_target(parity, "parity")
    card, saved_card = _read_cards(onnx, saved_model)
    quiet.import_tensorflow()
    gate = _Gate(onnx, saved_model, dataset, card)
    gate.run(saved_card)
    if report:
        _write_report(report, gate)
    faults = [f"{check.name}: {fault}" for check in gate.checks for fault in check.faults]
    if faults:
        raise Refused(f"{card.name} is refused:\n  " + "\n  ".join(faults))
    with atomic.folder(parity) as part:
        (part / PARITY).write_text(json.dumps(_as_json(gate), indent=1, allow_nan=False) + "\n", encoding="utf-8")
        _write_report(part / REPORT, gate)
        return cards.write(part, _card(card, saved_card, gate))


class _Gate:
    """The checks in order; what one check finds out, a later one may need."""

    def __init__(self, onnx: Path, saved_model: Path, dataset: Path | None, card: Card) -> None:
        self.onnx, self.saved_model, self.dataset, self.card = onnx, saved_model, dataset, card
        self.checks: list[Check] = []
        self.hops: list[Hop] = []

    def run(self, saved_card: Card) -> None:
        self._add(checks.digests(self.onnx, self.saved_model, self.dataset))
        with self._part("files"):
            model = graph_file.read(self.onnx / MODEL)
            saved = saved_file.read(self.saved_model)
            self._add(checks.weights(self.card, model, saved, self.saved_model))
            self._add(checks.interfaces(self.card, saved_card, graph_file.interface(model), saved))
            self._add(checks.labels(self.onnx, self.saved_model, saved))
        with self._part("golden examples"):
            examples = golden.read(self.onnx / golden.GOLDEN)
            self._check_golden(examples)
            self._run_hops(examples)

    def _check_golden(self, examples: Golden) -> None:
        outputs = {t.name for t in self.card.outputs}
        if set(examples.inputs) != {t.name for t in self.card.inputs} or set(examples.outputs) != outputs:
            raise CardError(f"{self.onnx / golden.GOLDEN} does not hold the card's inputs and outputs; export it again")
        if not outputs <= self.card.tolerances.keys():
            raise CardError(f"the card of {self.onnx} has no tolerance for each output; export the model again")
        if len({len(array) for array in (examples.inputs | examples.outputs).values()} - {0}) != 1:
            raise CardError(
                f"{self.onnx / golden.GOLDEN} holds no example, or not one output for each; export it again"
            )

    def _run_hops(self, examples: Golden) -> None:
        pytorch = Hop(
            "PyTorch", max_abs=dict.fromkeys(examples.outputs, 0.0), max_rel=dict.fromkeys(examples.outputs, 0.0)
        )
        pytorch.examples = len(next(iter(examples.outputs.values())))
        runtime, tensorflow, pngs = Hop("ONNX Runtime"), Hop("SavedModel"), Hop("SavedModel from_png")
        self.hops = [pytorch, runtime, tensorflow]
        runs: dict[str, Runner] = {}
        with self._part("golden examples, ONNX Runtime"):
            runs[runtime.name] = runners.onnx_runtime(self.onnx / MODEL)
            self._add(hops.on_golden(runtime, runs[runtime.name], examples, self.card.tolerances))
        with self._part("golden examples, SavedModel"):
            signatures = runners.tensorflow(self.saved_model)
            runs[tensorflow.name] = signatures(["serving_default", *(t.name for t in self.card.outputs[1:])])
            self._add(hops.on_golden(tensorflow, runs[tensorflow.name], examples, self.card.tolerances))
            if checks.takes_pictures(self.card) and runtime.name in runs:
                self.hops.append(pngs)
                from_png = signatures([checks.FROM_PNG])
                self._add(hops.on_pngs(pngs, from_png, runs[runtime.name], examples, self.card))
        if self.dataset:
            self._run_test_set(
                self.dataset, pytorch, [(h, runs[h.name]) for h in (runtime, tensorflow) if h.name in runs]
            )

    def _run_test_set(self, dataset: Path, pytorch: Hop, runs: list[tuple[Hop, Runner]]) -> None:
        pictures = data.load(dataset)
        first = self.card.outputs[0].name
        with self._part("test set"):
            expected = golden.read(self.onnx / golden.TEST_OUTPUTS).outputs
            if {t.name for t in self.card.outputs} != expected.keys() or len(expected[first]) != len(
                pictures.test_labels
            ):
                raise CardError(f"{self.onnx / golden.TEST_OUTPUTS} is not of this dataset's test set; export it again")
            pytorch.accuracy = float((expected[first].argmax(axis=1) == pictures.test_labels).mean())
            pytorch.examples += len(pictures.test_labels)
            for hop, run in runs:
                self._add(hops.on_test_set(hop, run, pictures, expected, self.card))

    def _add(self, check: Check) -> None:
        print(f"validate: {'ok     ' if check.passed else 'REFUSED'} {check.name}: {check.note}", flush=True)
        self.checks.append(check)

    @contextmanager
    def _part(self, name: str) -> Iterator[None]:
        """A part that cannot be finished is a failed check of its own; the parts after it still run."""
        try:
            yield
        except (ModelError, CardError) as error:
            self._add(Check(name, (str(error),), "could not be finished"))


def _read_cards(onnx: Path, saved_model: Path) -> tuple[Card, Card]:
    pair = cards.read(onnx), cards.read(saved_model)
    for folder, card, kind in zip((onnx, saved_model), pair, ("onnx", "saved_model"), strict=True):
        if card.kind != kind:
            raise CardError(f"{folder}: expected an artifact of kind {kind!r}, but its card says {card.kind!r}")
        if not card.inputs or not card.outputs:
            raise CardError(f"{folder}: its card names no inputs or outputs; make the artifact again")
    return pair


def _write_report(path: Path, gate: _Gate) -> None:
    with atomic.file(path) as part:
        html = page.render(gate.card, gate.hops, gate.checks, _conversion(gate.saved_model))
        part.write_text(html, encoding="utf-8")


def _conversion(saved_model: Path) -> dict[str, Any]:
    """What the convert stage counted; empty where that is not there, or not as it was written."""
    try:
        read = json.loads((saved_model / CONVERSION).read_bytes())
    except (OSError, ValueError):
        return {}
    return read if isinstance(read, dict) else {}


def _as_json(gate: _Gate) -> dict[str, Any]:
    rows = [
        {
            "hop": hop.name,
            "accuracy": hop.accuracy,
            "max_abs": _finite(hop.max_abs),
            "max_rel": _finite(hop.max_rel),
            "examples": hop.examples,
            "wrong": hop.wrong,
            "flipped": hop.flipped,
        }
        for hop in gate.hops
    ]
    return {"rows": rows, "checks": [{"name": c.name, "passed": c.passed, "note": c.note} for c in gate.checks]}


def _finite(values: dict[str, float]) -> dict[str, float | None]:
    """JSON has no infinity, which a relative |Δ| is where PyTorch answered 0."""
    return {name: value if math.isfinite(value) else None for name, value in values.items()}


def _card(card: Card, saved_card: Card, gate: _Gate) -> Card:
    metrics = {"max_abs": max((v for hop in gate.hops for v in hop.max_abs.values()), default=0.0)}
    for hop in gate.hops:
        if hop.accuracy is not None:
            metrics[f"accuracy_{hop.name.lower().replace(' ', '_')}"] = hop.accuracy
    return Card(
        kind="parity",
        name=card.name,
        inputs=card.inputs,
        outputs=card.outputs,
        labels=card.labels,
        tolerances=card.tolerances,
        metrics=metrics,
        parents={"onnx": card, "saved_model": saved_card},
    )
