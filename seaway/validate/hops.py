"""The gate's checks that run the model: every hop against PyTorch's recorded outputs."""

from collections.abc import Iterator
from dataclasses import dataclass, field

import numpy as np
from rich.console import Console
from rich.progress import track

from seaway.artifacts import golden
from seaway.artifacts.card import Card, Tolerance
from seaway.artifacts.golden import Golden
from seaway.data import data
from seaway.data.data import Dataset
from seaway.validate.checks import Check
from seaway.validate.runners import Runner, png

BATCH = 256  # test pictures at a time


@dataclass(slots=True)
class Hop:
    """What one runtime answered, against PyTorch. `distances`: output → the largest |Δ| of each example."""

    name: str
    accuracy: float | None = None
    max_abs: dict[str, float] = field(default_factory=dict)
    max_rel: dict[str, float] = field(default_factory=dict)
    wrong: int = 0
    flipped: int = 0
    examples: int = 0
    distances: dict[str, list[np.ndarray]] = field(default_factory=dict)

    def add(
        self, got: dict[str, np.ndarray], expected: dict[str, np.ndarray], tolerances: dict[str, Tolerance]
    ) -> None:
        """Compares one batch, all outputs of it."""
        for name, reference in expected.items():
            found = golden.compare(got[name], reference, tolerances[name])
            self.max_abs[name] = max(self.max_abs.get(name, 0.0), found.max_abs)
            self.max_rel[name] = max(self.max_rel.get(name, 0.0), found.max_rel)
            self.wrong += found.wrong
            self.flipped += found.flipped
            if got[name].shape == reference.shape:
                distance = np.abs(got[name].astype(np.float64) - reference).reshape(len(reference), -1)
                self.distances.setdefault(name, []).append(distance.max(axis=1))
        self.examples += len(next(iter(expected.values())))

    def faults(self, where: str) -> list[str]:
        """What the gate says of it; empty where every answer is within tolerance."""
        worst = ", ".join(f"{name} {value:.3g}" for name, value in self.max_abs.items())
        found = []
        if self.wrong:
            found.append(f"{self.name}, {where}: {self.wrong} outputs are out of tolerance; max |Δ|: {worst}")
        if self.flipped:
            found.append(f"{self.name}, {where}: {self.flipped} outputs choose another class than PyTorch")
        return found


def on_golden(hop: Hop, run: Runner, examples: Golden, tolerances: dict[str, Tolerance]) -> Check:
    """The golden examples, one at a time and all at once."""
    count = len(next(iter(examples.outputs.values())))
    faults: list[str] = []
    for where, size in (("golden examples one by one", 1), ("golden examples in one batch", count)):
        here = Hop(hop.name)
        for part in (slice(start, start + size) for start in range(0, count, size)):
            inputs = {name: array[part] for name, array in examples.inputs.items()}
            here.add(run(inputs), {name: array[part] for name, array in examples.outputs.items()}, tolerances)
        faults += here.faults(where)
        _merge(hop, here)
    return Check(f"golden examples, {hop.name}", tuple(faults), f"{count} examples, batch 1 and {count}")


def on_test_set(hop: Hop, run: Runner, pictures: Dataset, expected: dict[str, np.ndarray], card: Card) -> Check:
    """The whole test set; sets the hop's accuracy."""
    count = len(pictures.test_labels)
    here = Hop(hop.name)
    hits = 0
    first = card.outputs[0].name
    for part in _parts(count, f"{hop.name} on the test set"):
        got = run({card.inputs[0].name: data.model_input(pictures.test_images[part])})
        here.add(got, {name: array[part] for name, array in expected.items()}, card.tolerances)
        hits += int((got[first].argmax(axis=1) == pictures.test_labels[part]).sum())
    _merge(hop, here)
    hop.accuracy = hits / count
    return Check(
        f"test set, {hop.name}", tuple(here.faults("test set")), f"{count:,} pictures, accuracy {hop.accuracy:.2%}"
    )


def on_pngs(hop: Hop, from_png: Runner, runtime: Runner, examples: Golden, card: Card) -> Check:
    """The golden pictures as PNG files: scores as PyTorch's, and the label of the best score.

    A golden input that is not exactly a picture of 8 bits is rounded to one; ONNX Runtime then stands for PyTorch.
    """
    image, scores = card.inputs[0].name, card.outputs[0].name
    floats = examples.inputs[image]
    pictures = np.clip(np.rint(floats * 255), 0, 255).astype(np.uint8)
    if floats.shape[-1] == 1:  # from_png inverts a light border
        dark = np.array([_border(p[..., 0]) <= 127 for p in pictures], bool)
        floats, pictures = floats[dark], pictures[dark]
    else:
        dark = np.ones(len(pictures), bool)
    if not len(pictures):
        return Check(f"golden examples, {hop.name}", ("no golden example is a picture with a dark border; give some",))
    rounded = pictures / np.float32(255)
    exact = np.abs(rounded - floats).max() < 1e-6
    expected = examples.outputs[scores][dark] if exact else runtime({image: rounded})[scores]
    got = from_png({"png": np.array([png(p) for p in pictures], object)})
    here = Hop(hop.name)
    here.add(got, {scores: expected}, card.tolerances)
    faults = here.faults("golden pictures as PNG")
    named = [card.labels[i] for i in got[scores].argmax(axis=1)]
    told = [label.decode("utf-8", "replace") for label in got["label"]]
    wrong = [f"{a!r} for {b!r}" for a, b in zip(told, named, strict=True) if a != b]
    if wrong:
        faults.append(f"{hop.name} gives the wrong label for {len(wrong)} pictures: {', '.join(wrong[:3])}")
    if not np.array_equal(got["score"], got[scores].max(axis=1)):
        faults.append(f"{hop.name}: `score` is not the largest of `{scores}`")
    best = got["top_scores"].shape[1]
    if not np.array_equal(got["top_scores"], -np.sort(-got[scores], axis=1)[:, :best]):
        faults.append(f"{hop.name}: `top_scores` are not the {best} largest of `{scores}`")
    if not np.array_equal(_scores_of(got["top_labels"], got[scores], card.labels), got["top_scores"]):
        faults.append(f"{hop.name}: `top_labels` are not the labels of `top_scores`")
    _merge(hop, here)
    return Check(f"golden examples, {hop.name}", tuple(faults), f"{len(pictures)} pictures")


def _scores_of(names: np.ndarray, scores: np.ndarray, labels: tuple[str, ...]) -> np.ndarray:
    """Labels as UTF-8 [N, k], scores [N, C] → the score of each label [N, k]; NaN for a label that is none."""
    column = {label.encode(): i for i, label in enumerate(labels)}
    columns = np.array([[column.get(name, len(labels)) for name in row] for row in names])
    return np.take_along_axis(np.pad(scores, ((0, 0), (0, 1)), constant_values=np.nan), columns, axis=1)


def _parts(count: int, what: str) -> Iterator[slice]:
    starts = track(range(0, count, BATCH), what, console=Console(stderr=True))
    return (slice(start, min(start + BATCH, count)) for start in starts)


def _border(picture: np.ndarray) -> float:
    return float(np.concatenate([picture[0], picture[-1], picture[:, 0], picture[:, -1]]).mean())


def _merge(hop: Hop, part: Hop) -> None:
    for name in part.max_abs:
        hop.max_abs[name] = max(hop.max_abs.get(name, 0.0), part.max_abs[name])
        hop.max_rel[name] = max(hop.max_rel.get(name, 0.0), part.max_rel[name])
        hop.distances.setdefault(name, []).extend(part.distances.get(name, []))
    hop.wrong += part.wrong
    hop.flipped += part.flipped
    hop.examples += part.examples
