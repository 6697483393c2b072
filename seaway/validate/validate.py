"""The gate: checks that ONNX Runtime and the SavedModel agree with the reference, or refuses with every reason at once.

    python -m seaway.validate --onnx onnx/ --saved-model saved_model/ --dataset dataset/ --parity parity/

It needs no torch: the onnx artifact contains the outputs of PyTorch, or of ONNX Runtime if the model came as an ONNX
file. Only models that pass are published. If the SavedModel differs, the refusal names the operator that is wrong.
"""

import json
import math
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from seaway import tensorflow_import
from seaway.artifacts import artifact_metadata, atomic, golden, interface, onnx_model
from seaway.artifacts.artifact_metadata import ArtifactMetadata
from seaway.artifacts.golden import Golden
from seaway.data import datasets
from seaway.errors import MetadataError, ModelError, Refused
from seaway.validate import checks, divergence, hops, page, runners, saved_file, sides
from seaway.validate.checks import Check
from seaway.validate.divergence import Divergence
from seaway.validate.hops import Hop
from seaway.validate.runners import Runner

MODEL = "model.onnx"
PARITY = "parity.json"
DIVERGENCE = ".divergence.json"  # in place of the report's suffix
SAVED_MODEL = "SavedModel"


def validate(
    onnx: Path, saved_model: Path, dataset: Path | None, parity: Path, report: Path | None = None
) -> ArtifactMetadata:
    """Writes parity/ (parity.json, card.json) and returns its metadata. Writes `report`, which has a date and so is not
    in parity/, even if a check fails; and beside it, if the SavedModel differs, at which node: report.divergence.json.

    Raises Refused, which lists every failed check, MetadataError for a folder that is not an artifact, DataError for a
    broken dataset.
    """
    artifact_metadata.check_target(parity, "parity")
    metadata, saved_metadata = _read_metadata(onnx, saved_model)
    tensorflow_import.import_tensorflow()
    gate = _Gate(onnx, saved_model, dataset, metadata)
    gate.run(saved_metadata)
    if report:
        _write_report(report, gate)
    faults = [f"{check.name}: {fault}" for check in gate.checks for fault in check.faults]
    if faults:
        named = f"\n{gate.divergence.sentence()}" if gate.divergence else ""
        raise Refused(f"{metadata.name} failed validation:\n  " + "\n  ".join(faults) + named)
    with atomic.folder(parity) as part:
        (part / PARITY).write_text(json.dumps(_as_json(gate), indent=1, allow_nan=False) + "\n", encoding="utf-8")
        return artifact_metadata.write(part, _parity_metadata(metadata, saved_metadata, gate))


class _Gate:
    """Runs the checks in order; later checks may use earlier results."""

    def __init__(self, onnx: Path, saved_model: Path, dataset: Path | None, metadata: ArtifactMetadata) -> None:
        self.onnx, self.saved_model, self.dataset, self.metadata = onnx, saved_model, dataset, metadata
        self.checks: list[Check] = []
        self.hops: list[Hop] = []
        self.divergence: Divergence | None = None

    def run(self, saved_metadata: ArtifactMetadata) -> None:
        self._add(checks.digests(self.onnx, self.saved_model, self.dataset))
        with self._part("files"):
            model = onnx_model.load(self.onnx / MODEL)
            saved = saved_file.read(self.saved_model)
            self._add(checks.weights(self.metadata, model, saved, self.saved_model, self._constants()))
            self._add(checks.interfaces(self.metadata, saved_metadata, onnx_model.interface(model), saved))
            self._add(checks.labels(self.onnx, self.saved_model, saved))
        with self._part("golden examples"):
            examples = golden.read(self.onnx / golden.GOLDEN)
            self._check_golden(examples)
            self._run_hops(examples)
            self._find_divergence(examples)

    def _find_divergence(self, examples: Golden) -> None:
        """At the first inputs at which the SavedModel is off; or, if only its weights are, at the golden examples."""
        failing = next((hop.failing for hop in self.hops if hop.name == SAVED_MODEL), None)
        weights_differ = any(check.name == checks.WEIGHTS and not check.passed for check in self.checks)
        if failing or weights_differ:
            found = _divergence(self.onnx / MODEL, self.saved_model, failing or examples.whole()[0].inputs)
            self.divergence = found if failing or found.guilty else None

    def _constants(self) -> list[Any] | None:
        constants = _conversion(self.saved_model).get("constants")
        return constants if isinstance(constants, list) else None

    def _check_golden(self, examples: Golden) -> None:
        outputs = {t.name for t in self.metadata.outputs}
        inputs, calls = {t.name for t in self.metadata.inputs}, examples.whole()
        if not calls or any((set(call.inputs), set(call.outputs)) != (inputs, outputs) for call in calls):
            raise MetadataError(
                f"{self.onnx / golden.GOLDEN} lacks inputs or outputs of the metadata, or has others; export the model "
                "again"
            )
        if not outputs <= self.metadata.tolerances.keys():
            raise MetadataError(f"the metadata of {self.onnx} lacks a tolerance for an output; export the model again")
        if examples.inputs and len({a.shape[:1] for a in (examples.inputs | examples.outputs).values()} - {(0,)}) != 1:
            raise MetadataError(
                f"{self.onnx / golden.GOLDEN} has no examples, or not one output for each; export the model again"
            )

    def _run_hops(self, examples: Golden) -> None:
        none = {tensor.name: 0.0 for tensor in self.metadata.outputs}
        name = self.metadata.reference
        reference = Hop(name, name, max_abs=none, max_rel=dict(none), examples=hops.count(examples))
        runtime, tensorflow, pngs = (Hop(n, name) for n in ("ONNX Runtime", SAVED_MODEL, f"{SAVED_MODEL} from_png"))
        self.hops = [reference, runtime, tensorflow]
        runs: dict[str, Runner] = {}
        with self._part("golden examples, ONNX Runtime"):
            runs[runtime.name] = runners.onnx_runtime(self.onnx / MODEL)
            self._add(hops.on_golden(runtime, runs[runtime.name], examples, self.metadata.tolerances))
        with self._part(f"golden examples, {SAVED_MODEL}"):
            signatures = runners.tensorflow(self.saved_model)
            default = interface.default_outputs(self.metadata.outputs)
            others = [tensor.name for tensor in self.metadata.outputs if tensor not in default]
            runs[tensorflow.name] = signatures([interface.DEFAULT, *others])
            self._add(hops.on_golden(tensorflow, runs[tensorflow.name], examples, self.metadata.tolerances))
            takes_images = interface.takes_images(self.metadata.inputs, self.metadata.outputs, self.metadata.labels)
            if takes_images and runtime.name in runs:
                self.hops.append(pngs)
                from_png = signatures([interface.FROM_PNG])
                self._add(hops.on_pngs(pngs, from_png, runs[runtime.name], examples, self.metadata))
        if (self.onnx / golden.UNUSUAL).is_file():
            with self._part(hops.UNUSUAL):
                self._add(hops.on_unusual(runs, golden.read(self.onnx / golden.UNUSUAL), self.metadata))
        if self.dataset:
            self._run_test_set(
                self.dataset, reference, [(h, runs[h.name]) for h in (runtime, tensorflow) if h.name in runs]
            )

    def _run_test_set(self, dataset: Path, reference: Hop, runs: list[tuple[Hop, Runner]]) -> None:
        images = datasets.load(dataset)
        first = self.metadata.outputs[0].name
        with self._part("test set"):
            expected = golden.read(self.onnx / golden.TEST_OUTPUTS).outputs
            if {t.name for t in self.metadata.outputs} != expected.keys() or len(expected[first]) != len(
                images.test_labels
            ):
                raise MetadataError(
                    f"{self.onnx / golden.TEST_OUTPUTS} is not from this dataset's test set; export the model again"
                )
            reference.accuracy = float((expected[first].argmax(axis=1) == images.test_labels).mean())
            reference.examples += len(images.test_labels)
            for hop, run in runs:
                self._add(hops.on_test_set(hop, run, images, expected, self.metadata))

    def _add(self, check: Check) -> None:
        print(f"validate: {'pass' if check.passed else 'FAIL'} {check.name}: {check.note}", flush=True)
        self.checks.append(check)

    @contextmanager
    def _part(self, name: str) -> Iterator[None]:
        """A part that raises becomes a failed check of its own; later parts still run."""
        try:
            yield
        except (ModelError, MetadataError) as error:
            self._add(Check(name, (str(error),), "could not be completed"))


def _divergence(model: Path, saved_model: Path, inputs: dict[str, Any]) -> Divergence:
    """Where the SavedModel parts from the ONNX file on these inputs. A search that fails never hides the refusal."""
    try:
        return divergence.find(sides.OnnxValues(model, inputs), sides.SavedModelValues(saved_model, inputs))
    except ModelError as error:
        return Divergence("the SavedModel", reason=str(error))
    except Exception as error:  # the model is known to be wrong: any of its parts may be
        return Divergence("the SavedModel", reason=f"the search failed ({type(error).__name__}: {error})")


def _read_metadata(onnx: Path, saved_model: Path) -> tuple[ArtifactMetadata, ArtifactMetadata]:
    pair = artifact_metadata.read(onnx), artifact_metadata.read(saved_model)
    for folder, metadata, kind in zip((onnx, saved_model), pair, ("onnx", "saved_model"), strict=True):
        if metadata.kind != kind:
            raise MetadataError(
                f"{folder}: expected an artifact of kind {kind!r}, but its metadata says {metadata.kind!r}"
            )
        if not metadata.inputs or not metadata.outputs:
            raise MetadataError(
                f"{folder}: its metadata names no inputs or outputs; {artifact_metadata.RERUN[metadata.kind]}"
            )
    return pair


def _write_report(path: Path, gate: _Gate) -> None:
    with atomic.file(path) as part:
        html = page.render(gate.metadata, gate.hops, gate.checks, _conversion(gate.saved_model), gate.divergence)
        part.write_text(html, encoding="utf-8")
    details = path.with_suffix(DIVERGENCE)
    details.unlink(missing_ok=True)
    if gate.divergence:
        with atomic.file(details) as part:
            text = json.dumps(gate.divergence.to_json(), indent=1, allow_nan=False, ensure_ascii=False)
            part.write_text(text + "\n", encoding="utf-8")


def _conversion(saved_model: Path) -> dict[str, Any]:
    """The convert stage's conversion.json; empty if it is missing or damaged."""
    try:
        content = json.loads((saved_model / sides.CONVERSION).read_bytes())
    except (OSError, ValueError):
        return {}
    return content if isinstance(content, dict) else {}


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
    """JSON has no infinity, which a relative |Δ| is if the reference's output is 0."""
    return {name: value if math.isfinite(value) else None for name, value in values.items()}


def _parity_metadata(metadata: ArtifactMetadata, saved_metadata: ArtifactMetadata, gate: _Gate) -> ArtifactMetadata:
    metrics = {"max_abs": max((v for hop in gate.hops for v in hop.max_abs.values()), default=0.0)}
    for hop in gate.hops:
        if hop.accuracy is not None:
            metrics[f"accuracy_{hop.name.lower().replace(' ', '_')}"] = hop.accuracy
    return ArtifactMetadata(
        kind="parity",
        name=metadata.name,
        inputs=metadata.inputs,
        outputs=metadata.outputs,
        labels=metadata.labels,
        tolerances=metadata.tolerances,
        metrics=metrics,
        parents={"onnx": metadata, "saved_model": saved_metadata},
    )
