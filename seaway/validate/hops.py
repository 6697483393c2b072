"""The gate's checks that run the model: every hop against the reference's recorded outputs."""

from collections.abc import Iterator
from dataclasses import dataclass, field
from itertools import chain

import numpy as np
from rich.console import Console
from rich.progress import track

from seaway.artifacts import golden, interface
from seaway.artifacts.artifact_metadata import ArtifactMetadata, Tolerance
from seaway.artifacts.golden import Golden
from seaway.data import datasets
from seaway.data.datasets import Dataset
from seaway.errors import ModelError
from seaway.validate.checks import Check
from seaway.validate.runners import Runner, png

BATCH = 256  # test images at a time
UNUSUAL = "infinities and NaN, which need not agree"


@dataclass(slots=True)
class Hop:
    """One runtime compared with the reference. `distances`: output → the largest |Δ| of each example; `failing`: the
    first inputs at which it fails, or an output is out of tolerance."""

    name: str
    reference: str
    accuracy: float | None = None
    max_abs: dict[str, float] = field(default_factory=dict)
    max_rel: dict[str, float] = field(default_factory=dict)
    wrong: int = 0
    flipped: int = 0
    examples: int = 0
    distances: dict[str, list[np.ndarray]] = field(default_factory=dict)
    failing: dict[str, np.ndarray] | None = None

    def run(self, run: Runner, inputs: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
        """The outputs. Raises ModelError."""
        try:
            return run(inputs)
        except ModelError:
            self.failing = self.failing or inputs
            raise

    def add(
        self, outputs: dict[str, np.ndarray], expected: dict[str, np.ndarray], tolerances: dict[str, Tolerance]
    ) -> None:
        """Adds the comparison of all outputs of one batch."""
        for name, reference in expected.items():
            compared = golden.compare(outputs[name], reference, tolerances[name])
            self.max_abs[name] = max(self.max_abs.get(name, 0.0), compared.max_abs)
            self.max_rel[name] = max(self.max_rel.get(name, 0.0), compared.max_rel)
            self.wrong += compared.wrong
            self.flipped += compared.flipped
            if outputs[name].shape == reference.shape:
                with np.errstate(invalid="ignore"):  # equal infinities
                    distance = np.nan_to_num(np.abs(outputs[name].astype(np.float64) - reference), posinf=np.inf)
                rows = len(reference) if reference.ndim else 1
                self.distances.setdefault(name, []).append(distance.reshape(rows, -1).max(axis=1, initial=0))

    def faults(self, where: str) -> list[str]:
        """The reasons to refuse; empty if every output is within tolerance."""
        worst = ", ".join(f"{name} {value:.3g}" for name, value in self.max_abs.items())
        reasons = []
        if self.wrong:
            reasons.append(f"{self.name}, {where}: {self.wrong} outputs are out of tolerance; max |Δ|: {worst}")
        if self.flipped:
            reasons.append(
                f"{self.name}, {where}: {self.flipped} outputs choose a different class from {self.reference}'s"
            )
        return reasons


def count(examples: Golden) -> int:
    """Examples of a batch, and calls."""
    rows = len(next(iter(examples.inputs.values()))) if examples.inputs else 0
    return rows + len(examples.calls)


def on_golden(hop: Hop, run: Runner, examples: Golden, tolerances: dict[str, Tolerance]) -> Check:
    """The golden examples, one at a time and all at once; then those that are calls."""
    rows = count(examples) - len(examples.calls)
    alone, together = "golden examples one by one", "golden examples in one batch"
    faults: dict[str, list[str]] = {}
    for where, size in ((alone, 1), (together, rows)) if rows else ():
        current = Hop(hop.name, hop.reference)
        for part in (slice(start, start + size) for start in range(0, rows, size)):
            inputs = {name: array[part] for name, array in examples.inputs.items()}
            expected = {name: array[part] for name, array in examples.outputs.items()}
            current.add(hop.run(run, inputs), expected, tolerances)
            current.examples += size
            _note_failing(hop, current, inputs)
        faults[where] = current.faults(where)
        _merge(hop, current)
    if rows and faults[alone] and not faults[together]:
        faults[alone].append("alone, an example has other outputs than in a batch: rows depend on each other")
    for call in examples.calls:
        current = Hop(hop.name, hop.reference, examples=1)
        current.add(hop.run(run, call.inputs), call.outputs, tolerances)
        _note_failing(hop, current, call.inputs)
        shapes = ", ".join(f"{name} {list(array.shape)}" for name, array in call.inputs.items())
        faults.setdefault(shapes, []).extend(current.faults(f"golden call with {shapes}"))
        _merge(hop, current)
    notes = [f"{rows} examples, batch 1 and {rows}"] if rows else []
    if examples.calls:
        notes.append(f"{len(examples.calls)} calls of {'other sizes' if rows else 'their own'}")
    return Check(f"golden examples, {hop.name}", tuple(chain(*faults.values())), "; ".join(notes))


def on_unusual(runs: dict[str, Runner], examples: Golden, metadata: ArtifactMetadata) -> Check:
    """Infinities and NaN that the network does not let through, at which runtimes may differ: told, never a fault."""
    differences: dict[str, list[str]] = {}
    kinds = [str(kind) for kind in metadata.settings.get("unusual", [])]
    for kind, call in zip(kinds, examples.calls, strict=False):
        for name, run in runs.items():
            try:
                outputs = run(call.inputs)
            except ModelError as error:
                differences.setdefault(f"{name} fails ({error})", []).append(kind)
                continue
            other = [
                output
                for output, expected in call.outputs.items()
                if golden.compare(outputs[output], expected, metadata.tolerances[output]).wrong
            ]
            if other:
                differences.setdefault(f"{name} gives other {', '.join(other)}", []).append(kind)
    told = "; ".join(f"{' and '.join(kinds)}: {what}" for what, kinds in differences.items())
    return Check(UNUSUAL, (), told or f"{' and '.join(kinds)}: the same outputs as {metadata.reference}'s")


def on_test_set(
    hop: Hop, run: Runner, images: Dataset, expected: dict[str, np.ndarray], metadata: ArtifactMetadata
) -> Check:
    """The whole test set; sets the hop's accuracy."""
    count = len(images.test_labels)
    current = Hop(hop.name, hop.reference)
    hits = 0
    first = metadata.outputs[0].name
    for part in _parts(count, f"{hop.name} on the test set"):
        inputs = {metadata.inputs[0].name: datasets.model_input(images.test_images[part])}
        outputs = hop.run(run, inputs)
        current.add(outputs, {name: array[part] for name, array in expected.items()}, metadata.tolerances)
        _note_failing(hop, current, inputs)
        current.examples += len(outputs[first])
        hits += int((outputs[first].argmax(axis=1) == images.test_labels[part]).sum())
    _merge(hop, current)
    hop.accuracy = hits / count
    return Check(
        f"test set, {hop.name}", tuple(current.faults("test set")), f"{count:,} images, accuracy {hop.accuracy:.2%}"
    )


def on_pngs(hop: Hop, from_png: Runner, runtime: Runner, examples: Golden, metadata: ArtifactMetadata) -> Check:
    """The golden images as PNG files: scores as the reference's, and the label of the best score.

    A golden input that is not exactly an 8-bit image is rounded to one; ONNX Runtime is then the reference.
    """
    image, scores = metadata.inputs[0].name, metadata.outputs[0].name
    floats = examples.inputs[image]
    images = np.clip(np.rint(floats * 255), 0, 255).astype(np.uint8)
    kept = interface.from_png_keeps(images / 255)
    floats, images = floats[kept], images[kept]
    if not len(images):
        return Check(f"golden examples, {hop.name}", ("no golden example is an image with a dark border; add some",))
    quantized = images / np.float32(255)
    exact = np.abs(quantized - floats).max() < 1e-6
    expected = examples.outputs[scores][kept] if exact else runtime({image: quantized})[scores]
    outputs = from_png({"png": np.array([png(p) for p in images], object)})
    current = Hop(hop.name, hop.reference)
    current.add(outputs, {scores: expected}, metadata.tolerances)
    current.examples += len(images)
    faults = current.faults("golden images as PNG")
    expected_labels = [metadata.labels[i] for i in outputs[scores].argmax(axis=1)]
    returned_labels = [label.decode("utf-8", "replace") for label in outputs["label"]]
    wrong = [f"{a!r} for {b!r}" for a, b in zip(returned_labels, expected_labels, strict=True) if a != b]
    if wrong:
        faults.append(f"{hop.name} gives the wrong label for {len(wrong)} images: {', '.join(wrong[:3])}")
    if not np.array_equal(outputs["score"], outputs[scores].max(axis=1)):
        faults.append(f"{hop.name}: `score` is not the largest of `{scores}`")
    top_count = outputs["top_scores"].shape[1]
    if not np.array_equal(outputs["top_scores"], -np.sort(-outputs[scores], axis=1)[:, :top_count]):
        faults.append(f"{hop.name}: `top_scores` are not the {top_count} largest of `{scores}`")
    if not np.array_equal(_scores_of(outputs["top_labels"], outputs[scores], metadata.labels), outputs["top_scores"]):
        faults.append(f"{hop.name}: `top_labels` are not the labels of `top_scores`")
    _merge(hop, current)
    return Check(f"golden examples, {hop.name}", tuple(faults), f"{len(images)} images")


def _scores_of(names: np.ndarray, scores: np.ndarray, labels: tuple[str, ...]) -> np.ndarray:
    """Labels as UTF-8 [N, k], scores [N, C] → the score of each label [N, k]; NaN for a label that is none."""
    column = {label.encode(): i for i, label in enumerate(labels)}
    columns = np.array([[column.get(name, len(labels)) for name in row] for row in names])
    return np.take_along_axis(np.pad(scores, ((0, 0), (0, 1)), constant_values=np.nan), columns, axis=1)


def _parts(count: int, what: str) -> Iterator[slice]:
    starts = track(range(0, count, BATCH), what, console=Console(stderr=True))
    return (slice(start, min(start + BATCH, count)) for start in starts)


def _note_failing(hop: Hop, current: Hop, inputs: dict[str, np.ndarray]) -> None:
    if hop.failing is None and (current.wrong or current.flipped):
        hop.failing = inputs


def _merge(hop: Hop, part: Hop) -> None:
    for name in part.max_abs:
        hop.max_abs[name] = max(hop.max_abs.get(name, 0.0), part.max_abs[name])
        hop.max_rel[name] = max(hop.max_rel.get(name, 0.0), part.max_rel[name])
        hop.distances.setdefault(name, []).extend(part.distances.get(name, []))
    hop.wrong += part.wrong
    hop.flipped += part.flipped
    hop.examples += part.examples
