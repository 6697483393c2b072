"""How well a published model reads real handwriting, and whether its probabilities are calibrated.

    python -m benchmarks.handwriting idx:../shared/data/handwriting [VERSION] [--writers report]

VERSION is a version's folder (default: the bundled example). The writers of the data's training set are `dev`, on which
the generator of strokes and the example's temperature are tuned; those of its test set, who are others, are `report`.
Each look at `report` is appended to benchmarks/handwriting.jsonl.
"""

import argparse
import datetime
import json
import tempfile
from pathlib import Path

import numpy as np

from seaway.artifacts import artifact_metadata, model_repository
from seaway.data import datasets, merged
from seaway.onnxruntime_import import import_onnxruntime

ROOT = Path(__file__).resolve().parents[1]
EXAMPLE = ROOT / "seaway" / "example" / "characters" / "1"
LOG = Path(__file__).with_suffix(".jsonl")
BINS = 15
TEMPERATURES = np.geomspace(0.7, 1.4, 71)


def main() -> None:
    parser = argparse.ArgumentParser("python -m benchmarks.handwriting", description=__doc__.split("\n\n")[0])
    parser.add_argument("source", help="data of writers, e.g. idx:../shared/data/handwriting")
    parser.add_argument("version", type=Path, nargs="?", default=EXAMPLE, help="default: the bundled example")
    parser.add_argument("--writers", choices=("dev", "report"), default="dev", help="default: %(default)s")
    args = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        labels = datasets.read(args.source, Path(folder))
        part = {"dev": "train", "report": "test"}[args.writers]
        images, classes = (np.load(Path(folder) / f"{part}_{kind}.npy") for kind in ("images", "labels"))
    logits = predict(args.version, images)
    confusion = np.zeros((len(labels), len(labels)), np.int64)
    np.add.at(confusion, (classes, logits.argmax(axis=1)), 1)
    row = {
        "date": datetime.date.today().isoformat(),
        "sha256": artifact_metadata.read(args.version, at=model_repository.METADATA_FILE).sha256,
        "writers": args.writers,
        "images": len(classes),
        "accuracy": round(float(np.trace(confusion) / confusion.sum()), 4),
        "accuracy_merged": round(merged.accuracy(confusion, merged.look_alikes(labels)) or 0, 4),
        "calibration_error": round(calibration_error(softmax(logits), classes), 4),
    }
    if args.writers == "report":
        with LOG.open("a", encoding="utf-8") as log:
            log.write(json.dumps(row) + "\n")
    print(json.dumps(row, indent=1))
    if args.writers == "dev":
        print(f"best temperature for these logits: {best_temperature(logits, classes):.2f}")


def predict(version: Path, images: np.ndarray) -> np.ndarray:
    """float32 [N, classes]: the logits of a version's ONNX graph."""
    session = import_onnxruntime().InferenceSession(version / model_repository.EXTRA / "model.onnx")
    name = session.get_inputs()[0].name
    parts = [images[start : start + 1000] for start in range(0, len(images), 1000)]
    return np.concatenate([session.run(["logits"], {name: datasets.model_input(part)})[0] for part in parts])


def softmax(logits: np.ndarray) -> np.ndarray:
    powers = np.exp(logits - logits.max(axis=1, keepdims=True))
    return np.asarray(powers / powers.sum(axis=1, keepdims=True))


def calibration_error(probabilities: np.ndarray, classes: np.ndarray) -> float:
    """Expected calibration error of the highest probability, in bins of equal mass (Nguyen and O'Connor 2015)."""
    highest, right = probabilities.max(axis=1), probabilities.argmax(axis=1) == classes
    bins = np.array_split(np.argsort(highest, kind="stable"), BINS)
    return float(sum(len(rows) * abs(highest[rows].mean() - right[rows].mean()) for rows in bins) / len(classes))


def best_temperature(logits: np.ndarray, classes: np.ndarray) -> float:
    """By which to divide the logits (Guo et al. 2017, arXiv:1706.04599), here for the least calibration error: a few
    labels of the data are wrong, and the likelihood of those would decide."""
    errors = [calibration_error(softmax(logits / temperature), classes) for temperature in TEMPERATURES]
    return float(TEMPERATURES[int(np.argmin(errors))])


if __name__ == "__main__":
    main()
