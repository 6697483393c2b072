"""The gate's checks that read files and run nothing: digests, weights, interfaces, labels."""

from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from seaway.artifacts import card as cards
from seaway.artifacts import onnx_file
from seaway.artifacts.card import Card, Tensor
from seaway.errors import CardError
from seaway.validate import saved_file

LABELS = "labels.txt"
FROM_PNG = "from_png"
BEST = 3  # classes that from_png names in order


@dataclass(frozen=True, slots=True)
class Check:
    """One thing the gate looked at; it passed where `faults` is empty."""

    name: str
    faults: tuple[str, ...]
    note: str = ""

    @property
    def passed(self) -> bool:
        return not self.faults


def digests(onnx: Path, saved_model: Path, dataset: Path | None) -> Check:
    """Every byte is as its card says, and the SavedModel was made from this ONNX model, trained on this dataset."""
    faults = []
    kinds: list[tuple[Path, cards.Kind]] = [(onnx, "onnx"), (saved_model, "saved_model")]
    if dataset:
        kinds.append((dataset, "dataset"))
    for folder, kind in kinds:
        try:
            cards.check(folder, kind)
        except CardError as error:
            faults.append(str(error))
    exported = cards.read(onnx)
    parent = cards.read(saved_model).parents.get("onnx")
    if parent is None or parent.sha256 != exported.sha256:
        faults.append(f"{saved_model} was not made from {onnx} as it is now; convert it again")
    trained_on = next((c for c in _lineage(exported) if c.kind == "dataset"), None)
    if dataset and trained_on and trained_on.sha256 != cards.read(dataset).sha256:
        faults.append(f"{dataset} is not the dataset that the model was trained on; give that one")
    return Check("digests", tuple(faults), f"{exported.sha256[:12]} → {cards.read(saved_model).sha256[:12]}")


def weights(card: Card, model: Any, saved: Any, saved_model: Path) -> Check:
    """Each weight of the card is in the ONNX model under its name, and in the SavedModel with all its values."""
    own = {i.name: cards.checksum(onnx_file.array(i)) for i in model.graph.initializer if i.name in card.weights}
    faults = [
        f"weight {name!r} is not in model.onnx" if name not in own else f"weight {name!r} in model.onnx was changed"
        for name, checksum in card.weights.items()
        if own.get(name) != checksum
    ]
    found = Counter(cards.checksum(w) for w in saved_file.constants(saved))
    shared = {cards.checksum(w) for w in saved_file.variables(saved_model)}  # equal weights are one variable
    for name, checksum in card.weights.items():
        found[checksum] -= 1
        if found[checksum] < 0 and checksum not in shared:
            faults.append(f"weight {name!r} is not in the SavedModel with the values that it had in PyTorch")
    return Check("weights", tuple(faults), f"{len(card.weights)} weights, each in ONNX and SavedModel")


def interfaces(card: Card, saved_card: Card, graph: saved_file.Signature, saved: Any) -> Check:
    """Names, dtypes and shapes of the ONNX graph and of each signature are those of the card."""
    faults = []
    if (saved_card.inputs, saved_card.outputs) != (card.inputs, card.outputs):
        faults.append("the SavedModel's card has other inputs or outputs than the ONNX model's")
    for side, promised, found in (("input", card.inputs, graph[0]), ("output", card.outputs, graph[1])):
        faults += _differences(f"model.onnx: {side}", promised, found)
    signatures = saved_file.signatures(saved)
    for name, (inputs, outputs) in expected_signatures(card).items():
        if name not in signatures:
            faults.append(f"the SavedModel has no signature {name!r}")
            continue
        faults += _differences(f"signature {name}: input", inputs, signatures[name][0])
        faults += _differences(f"signature {name}: output", outputs, signatures[name][1])
    return Check("interface", tuple(faults), f"signatures {', '.join(expected_signatures(card))}")


def labels(onnx: Path, saved_model: Path, saved: Any) -> Check:
    """The same labels in the same order in every card of the lineage, beside both models, and in the graph."""
    card = cards.read(onnx)
    named = {f"the card of the {c.kind}": c.labels for c in _lineage(cards.read(saved_model)) if c.labels}
    if card.labels:
        named |= {str(folder / LABELS): _read_labels(folder / LABELS) for folder in (onnx, saved_model)}
    differences = {where: _first_difference(found, card.labels) for where, found in named.items()}
    faults = [f"{difference} in {where}" for where, difference in differences.items() if difference]
    if takes_pictures(card) and card.labels not in saved_file.string_constants(saved):
        faults.append("the labels in the SavedModel's graph (from_png) are others than the card's, or in another order")
    return Check("labels", tuple(faults), f"{len(card.labels)} labels")


def expected_signatures(card: Card) -> dict[str, saved_file.Signature]:
    """Signature → its inputs and outputs, as the card promises them."""
    expected: dict[str, saved_file.Signature] = {"serving_default": (card.inputs, card.outputs[:1])}
    for output in card.outputs[1:]:
        expected[output.name] = (card.inputs, (output,))
    if takes_pictures(card):
        best = min(BEST, len(card.labels))
        told = (
            Tensor("label", "str", (None,)),
            Tensor("score", "float32", (None,)),
            Tensor("top_labels", "str", (None, best)),
            Tensor("top_scores", "float32", (None, best)),
        )
        expected[FROM_PNG] = ((Tensor("png", "str", (None,)),), (*told, card.outputs[0]))
    return expected


def takes_pictures(card: Card) -> bool:
    """One float32 input [N, height, width, 1 or 3], and a label for each score: the model answers PNGs."""
    shape = card.inputs[0].shape
    sizes = len(shape) == 4 and shape[0] is None and None not in shape[1:] and shape[3] in (1, 3)
    return len(card.inputs) == 1 and card.inputs[0].dtype == "float32" and sizes and bool(card.labels)


def _lineage(card: Card) -> Iterator[Card]:
    yield card
    for parent in card.parents.values():
        yield from _lineage(parent)


def _read_labels(path: Path) -> tuple[str, ...]:
    try:
        return tuple(path.read_text(encoding="utf-8").splitlines())
    except (OSError, UnicodeDecodeError):
        return ()


def _first_difference(found: tuple[str, ...], expected: tuple[str, ...]) -> str:
    """ "label 3 is 'b' instead of 'c'"; empty where they agree."""
    if len(found) != len(expected):
        return f"{len(found)} labels instead of {len(expected)}"
    wrong = [i for i, (a, b) in enumerate(zip(found, expected, strict=True)) if a != b]
    return f"label {wrong[0]} is {found[wrong[0]]!r} instead of {expected[wrong[0]]!r}" if wrong else ""


def _differences(where: str, promised: tuple[Tensor, ...], found: tuple[Tensor, ...]) -> list[str]:
    by_name = {t.name: t for t in found}
    faults = [
        f"{where} {_shown(t)} of the card is {_shown(by_name[t.name]) if t.name in by_name else 'missing'}"
        for t in promised
        if by_name.get(t.name) != t
    ]
    extra = sorted(by_name.keys() - {t.name for t in promised})
    return faults + [f"{where} {name!r} is not in the card" for name in extra]


def _shown(tensor: Tensor) -> str:
    return f"{tensor.name}: {tensor.dtype} {list(tensor.shape)}"
