"""A tiny model, softmax(x · W), as real artifacts: what export, convert and validate would have written for it.

Its "saved_model.pb" is W as .npy, which is all that the responder beside this file needs to answer with it.
"""

from dataclasses import dataclass
from pathlib import Path

import numpy as np

from seaway.artifacts import card as cards
from seaway.artifacts import golden
from seaway.artifacts.card import Card, Tensor, Tolerance
from seaway.publish.publish import publish

LABELS = ("A", "b", "7")
TOLERANCES = {"scores": Tolerance(1e-5, 1e-4), "logits": Tolerance(1e-4, 1e-4)}
PICTURE = {"image": (4, 4, 1)}
TABLE = {"age": (2,), "sensor": (3, 2)}


@dataclass(frozen=True)
class Artifacts:
    onnx: Path
    saved_model: Path
    parity: Path
    dataset: Path

    def publish(self, volume: Path) -> int:
        volume.mkdir(exist_ok=True)
        return publish(self.onnx, self.saved_model, self.parity, volume)


def answer(weights, inputs):
    """{input: [N, ...]} in the order of the card → {"scores", "logits"}, float32 [N, classes]."""
    flat = np.concatenate([np.asarray(array, np.float32).reshape(len(array), -1) for array in inputs.values()], axis=1)
    logits = flat @ weights
    exponent = np.exp(logits - logits.max(axis=1, keepdims=True))
    return {"scores": exponent / exponent.sum(axis=1, keepdims=True), "logits": logits}


def make(folder, shapes=PICTURE, name="toy", seed=0, examples=16):
    """Writes onnx/, saved_model/, parity/ and dataset/ under `folder`; another seed is another model."""
    random = np.random.default_rng(seed)
    size = sum(int(np.prod(shape)) for shape in shapes.values())
    weights = random.normal(size=(size, len(LABELS))).astype(np.float32)
    made = Artifacts(*(folder / part for part in ("onnx", "saved_model", "parity", "dataset")))
    for path in (made.onnx, made.saved_model / "variables", made.parity, made.dataset):
        path.mkdir(parents=True)
    images = random.integers(0, 256, (40, 4, 4), dtype=np.uint8)
    truth = random.integers(0, len(LABELS), 40).astype(np.uint8)
    dataset = _dataset(made.dataset, images, truth, name)
    interface = {
        "inputs": tuple(Tensor(key, "float32", (None, *shape)) for key, shape in shapes.items()),
        "outputs": tuple(Tensor(key, "float32", (None, len(LABELS))) for key in ("scores", "logits")),
        "labels": LABELS,
        "tolerances": TOLERANCES,
    }
    inputs = {key: random.normal(size=(examples, *shape)).astype(np.float32) for key, shape in shapes.items()}
    golden.write(made.onnx / golden.GOLDEN, golden.Golden(inputs, answer(weights, inputs)))
    tested = answer(weights, {"image": images[..., np.newaxis] / np.float32(255)}) if shapes == PICTURE else {}
    golden.write(made.onnx / golden.TEST_OUTPUTS, golden.Golden({}, tested))
    (made.onnx / "model.onnx").write_bytes(b"onnx" * 1000)
    for folder in (made.onnx, made.saved_model):
        (folder / "labels.txt").write_text("\n".join(LABELS) + "\n")
    onnx = cards.write(made.onnx, Card("onnx", name, **interface, weights={"W": "0"}, parents={"dataset": dataset}))
    with (made.saved_model / "saved_model.pb").open("wb") as file:
        np.save(file, weights)
    (made.saved_model / "variables" / "variables.index").write_bytes(b"index")
    (made.saved_model / "conversion.json").write_text('{"folded": 0}\n')
    saved_model = cards.write(made.saved_model, Card("saved_model", name, **interface, parents={"onnx": onnx}))
    (made.parity / "parity.json").write_text('{"rows": []}\n')
    proved = Card("parity", name, metrics={"accuracy": 0.5}, parents={"onnx": onnx, "saved_model": saved_model})
    cards.write(made.parity, proved)
    return made


def _dataset(folder, images, truth, name):
    for part in ("train", "test"):
        np.save(folder / f"{part}_images.npy", images)
        np.save(folder / f"{part}_labels.npy", truth)
    return cards.write(folder, Card("dataset", name, labels=LABELS))
