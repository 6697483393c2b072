"""A tiny model, softmax(x · W), as the real artifacts that export, convert and validate would have written for it.

Its "saved_model.pb" is W as .npy, which is all that responder.py needs to serve it.
"""

from dataclasses import dataclass
from pathlib import Path

import numpy as np

from seaway.artifacts import artifact_metadata, golden
from seaway.artifacts.artifact_metadata import ArtifactMetadata, Tensor, Tolerance
from seaway.publish.publish import publish

LABELS = ("A", "b", "7")
TOLERANCES = {"scores": Tolerance(1e-5, 1e-4), "logits": Tolerance(1e-4, 1e-4)}
IMAGE_INPUT = {"image": (4, 4, 1)}
TABLE_INPUTS = {"age": (2,), "sensor": (3, 2)}


@dataclass(frozen=True)
class Artifacts:
    onnx: Path
    saved_model: Path
    parity: Path
    dataset: Path

    def publish(self, repository: Path) -> int:
        repository.mkdir(exist_ok=True)
        return publish(self.onnx, self.saved_model, self.parity, repository)


def infer(weights, inputs, second="logits"):
    """{input: [N, ...]} in the model's order → {"scores", second}, float32 [N, classes]."""
    flat = np.concatenate([np.asarray(array, np.float32).reshape(len(array), -1) for array in inputs.values()], axis=1)
    logits = flat @ weights
    exponent = np.exp(logits - logits.max(axis=1, keepdims=True))
    return {"scores": exponent / exponent.sum(axis=1, keepdims=True), second: logits}


def make(folder, shapes=IMAGE_INPUT, name="toy", seed=0, examples=16, second="logits", settings=None):
    """Writes onnx/, saved_model/, parity/ and dataset/ under `folder`; another seed is another model. `second`: the
    name of the logits, which makes them an output of the default signature too; `settings`: of the ONNX artifact."""
    random = np.random.default_rng(seed)
    size = sum(int(np.prod(shape)) for shape in shapes.values())
    weights = random.normal(size=(size, len(LABELS))).astype(np.float32)
    artifacts = Artifacts(*(folder / part for part in ("onnx", "saved_model", "parity", "dataset")))
    for path in (artifacts.onnx, artifacts.saved_model / "variables", artifacts.parity, artifacts.dataset):
        path.mkdir(parents=True)
    images = random.integers(0, 256, (40, 4, 4), dtype=np.uint8)
    true_classes = random.integers(0, len(LABELS), 40).astype(np.uint8)
    dataset = _dataset(artifacts.dataset, images, true_classes, name)
    interface = {
        "inputs": tuple(Tensor(key, "float32", (None, *shape)) for key, shape in shapes.items()),
        "outputs": tuple(Tensor(key, "float32", (None, len(LABELS))) for key in ("scores", second)),
        "labels": LABELS,
        "tolerances": dict(zip(("scores", second), TOLERANCES.values(), strict=True)),
    }
    inputs = {key: random.normal(size=(examples, *shape)).astype(np.float32) for key, shape in shapes.items()}
    golden.write(artifacts.onnx / golden.GOLDEN, golden.Golden(inputs, infer(weights, inputs, second)))
    pixels = {"image": images[..., np.newaxis] / np.float32(255)}
    test_outputs = infer(weights, pixels, second) if shapes == IMAGE_INPUT else {}
    golden.write(artifacts.onnx / golden.TEST_OUTPUTS, golden.Golden({}, test_outputs))
    (artifacts.onnx / "model.onnx").write_bytes(b"onnx" * 1000)
    for folder in (artifacts.onnx, artifacts.saved_model):
        (folder / "labels.txt").write_text("\n".join(LABELS) + "\n")
    onnx = artifact_metadata.write(
        artifacts.onnx,
        ArtifactMetadata(
            "onnx", name, **interface, settings=settings or {}, weights={"W": "0"}, parents={"dataset": dataset}
        ),
    )
    with (artifacts.saved_model / "saved_model.pb").open("wb") as file:
        np.save(file, weights)
    (artifacts.saved_model / "variables" / "variables.index").write_bytes(b"index")
    (artifacts.saved_model / "conversion.json").write_text('{"folded": 0}\n')
    saved_model = artifact_metadata.write(
        artifacts.saved_model, ArtifactMetadata("saved_model", name, **interface, parents={"onnx": onnx})
    )
    (artifacts.parity / "parity.json").write_text('{"rows": []}\n')
    parity = ArtifactMetadata(
        "parity", name, metrics={"accuracy": 0.5}, parents={"onnx": onnx, "saved_model": saved_model}
    )
    artifact_metadata.write(artifacts.parity, parity)
    return artifacts


def _dataset(folder, images, true_classes, name):
    for part in ("train", "test"):
        np.save(folder / f"{part}_images.npy", images)
        np.save(folder / f"{part}_labels.npy", true_classes)
    return artifact_metadata.write(folder, ArtifactMetadata("dataset", name, labels=LABELS))
