"""Exports PyTorch to ONNX: the graph, its metadata, and PyTorch's outputs, with which every later hop is compared."""

import hashlib
from collections import Counter
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from rich.console import Console
from rich.progress import track

from seaway.artifacts import artifact_metadata, atomic, model_repository
from seaway.artifacts import golden as goldens
from seaway.artifacts.artifact_metadata import ArtifactMetadata, Tensor
from seaway.artifacts.golden import Golden
from seaway.data import datasets
from seaway.errors import InvalidInput, MetadataError, ModelError
from seaway.export import graph, integers, tolerance, wrap
from seaway.export.inputs import OUTPUTS, bind, parse, random_examples, read_examples, spread
from seaway.export.usernet import fill, load
from seaway.export.wrap import Characters, Shipped, Wrapped
from seaway.nets.build import build

MODEL = "model.onnx"
LABELS = "labels.txt"
WEIGHTS = "weights.pt"
BATCH = 256  # test images per forward pass
# Training scored the same images with the same weights, but another batch size may flip a near-tie or two.
ACCURACY_TOLERANCE = 2e-3


def export_checkpoint(checkpoint: Path, dataset: Path, onnx: Path, *, name: str = "characters") -> ArtifactMetadata:
    """Exports a trained net with its normalisation inside: `image` float32 [N, H, W, 1] in 0..1 → `scores`, `logits`.

    Golden examples come from the dataset's test set, and PyTorch's outputs for all of it go into test_outputs.npz.
    Raises ModelError, MetadataError or DataError.
    """
    trained = artifact_metadata.check(checkpoint, "checkpoint")
    images = datasets.load(dataset)
    parent = trained.parents.get("dataset")
    if parent is None or artifact_metadata.check(dataset, "dataset").sha256 != parent.sha256:
        raise InvalidInput(
            f"--dataset {dataset}: {checkpoint} was trained on another one; give that one, or train again on this one"
        )
    wrapped = _trained(checkpoint, trained)
    examples = {"image": datasets.model_input(images.test_images[spread(images.test_labels)])}
    artifact_metadata.check_target(onnx, "onnx")
    with atomic.folder(onnx) as part:
        metadata = _export(part, wrapped, examples, name, trained.labels, {})
        outputs = _test_outputs(wrapped, images.test_images)
        goldens.write(part / goldens.TEST_OUTPUTS, Golden({}, outputs))
        accuracy = float((outputs["scores"].argmax(axis=1) == images.test_labels).mean())
        _check_accuracy(accuracy, trained, len(images.test_labels))
        return artifact_metadata.write(
            part, replace(metadata, metrics={"accuracy": accuracy}, parents={"checkpoint": trained})
        )


def export_model(
    model: str,
    onnx: Path,
    *,
    weights: Path | None,
    inputs: list[str],
    labels: Path | None = None,
    activation: str = "softmax",
    golden: Path | None = None,
    name: str = "",
    exporter: str = "auto",
) -> ArtifactMetadata:
    """Exports any net that `python:module:function` builds, in its own layout; `inputs` in the syntax of `--input`.

    `labels` has one class per line; `golden` is an .npz of real examples by input name, instead of seeded random ones.
    `name` defaults to the function's. `exporter`: torchscript, dynamo, or auto, which is the former or, if it fails or
    its graph gives other outputs than PyTorch, the latter. Raises ModelError or InvalidInput.
    """
    if exporter not in graph.EXPORTERS:
        raise InvalidInput(f"--exporter {exporter}: choose {', '.join(graph.EXPORTERS)}")
    if activation not in wrap.ACTIVATIONS:
        raise InvalidInput(f"--activation {activation}: choose {', '.join(wrap.ACTIVATIONS)}")
    specs = [parse(text) for text in inputs]
    names = _read_labels(labels) if labels else ()
    net = load(model, weights)
    wrapped = Shipped(net, bind(net, specs), activation)
    settings: dict[str, Any] = {"model": model, "golden": "given" if golden else "random"}
    if golden:
        examples = read_examples(golden, wrapped.inputs)
    else:
        examples = random_examples(wrapped.inputs)
        with wrap.plain_attention():
            wrap.check(wrapped.eval(), examples)  # a net that does not run is reported before integers are tried
        examples, tried = integers.widen(wrapped, examples)
        if tried:
            settings["integers"] = tried
            print(f"export: {integers.line(tried)}", flush=True)
    if weights:
        settings["weights_sha256"] = hashlib.sha256(weights.read_bytes()).hexdigest()
    artifact_metadata.check_target(onnx, "onnx")
    with atomic.folder(onnx) as part:
        return artifact_metadata.write(
            part, _export(part, wrapped, examples, name or model.rpartition(":")[2], names, settings, exporter)
        )


def _export(
    part: Path,
    wrapped: Wrapped,
    examples: dict[str, np.ndarray],
    name: str,
    labels: tuple[str, ...],
    settings: dict[str, Any],
    exporter: str = "auto",
) -> ArtifactMetadata:
    """Writes the graph, the golden examples and the labels; returns the metadata, which the caller writes."""
    model_repository.check_name(name)
    wrapped.eval()
    with wrap.plain_attention():
        classes = wrap.check(wrapped, examples)
        if labels and len(labels) != classes:
            raise ModelError(
                f"--labels names {len(labels)} classes, but the model has {classes} scores; give one label each"
            )
        outputs = wrap.run(wrapped, examples)
        tolerances = tolerance.derive(wrapped, examples, outputs)
        exported = graph.export_right(wrapped, examples, classes, tolerances, exporter)
        wrap.check_rows(wrapped, examples, outputs["logits"])
    for refused, reason in exported.refused.items():
        print(f"export: not by {graph.TITLES[refused]}: {reason}; by {graph.TITLES[exported.exporter]}", flush=True)
    (part / MODEL).write_bytes(exported.model.SerializeToString(deterministic=True))
    goldens.write(part / goldens.GOLDEN, Golden(examples, outputs))
    if labels:
        (part / LABELS).write_text("".join(f"{label}\n" for label in labels), encoding="utf-8")
    return ArtifactMetadata(
        kind="onnx",
        name=name,
        inputs=wrapped.inputs,
        outputs=tuple(Tensor(output, "float32", (None, classes)) for output in OUTPUTS),
        labels=labels,
        tolerances=tolerances,
        weights=exported.weights,
        settings={
            "opset": next(entry.version for entry in exported.model.opset_import if not entry.domain),
            "exporter": graph.TITLES[exported.exporter],
            **({"refused_exporters": exported.refused} if exported.refused else {}),
            "torch": torch.__version__,
            "activation": wrapped.activation,
            "unused_weights": exported.unused,
            **settings,
        },
    )


def _trained(checkpoint: Path, metadata: ArtifactMetadata) -> Characters:
    try:
        height, width = metadata.settings["image_size"]
        net = build(metadata.settings["net"], (height, width), metadata.settings["classes"])
        mean, std = float(metadata.settings["mean"]), float(metadata.settings["std"])
    except KeyError as error:
        raise MetadataError(f"{checkpoint}: its metadata lacks {error}; train again with this version") from None
    fill(net, checkpoint / WEIGHTS, "--checkpoint")
    return Characters(net.eval(), (height, width), mean, std)


def _test_outputs(wrapped: Wrapped, images: np.ndarray) -> dict[str, np.ndarray]:
    """PyTorch's outputs for all test images, in batches, so that the images themselves stay on the disk."""
    starts = range(0, len(images), BATCH)
    batches = [
        wrap.run(wrapped, {"image": datasets.model_input(images[start : start + BATCH])})
        for start in track(starts, "PyTorch on the test set", console=Console(stderr=True))
    ]
    return {name: np.concatenate([batch[name] for batch in batches]) for name in OUTPUTS}


def _check_accuracy(accuracy: float, trained: ArtifactMetadata, count: int) -> None:
    expected = trained.metrics.get("accuracy")
    if expected is not None and abs(accuracy - expected) > max(ACCURACY_TOLERANCE, 2 / count):
        raise ModelError(
            f"the model's accuracy on the test set is {accuracy:.2%}, but the checkpoint's metadata says "
            f"{expected:.2%}: the weights, mean and std in the checkpoint do not belong together; train again"
        )


def _read_labels(path: Path) -> tuple[str, ...]:
    try:
        labels = tuple(line.strip() for line in path.read_text(encoding="utf-8").splitlines())
    except FileNotFoundError:
        raise InvalidInput(f"--labels {path}: no such file") from None
    except UnicodeDecodeError:
        raise InvalidInput(f"--labels {path}: not UTF-8 text; write one class per line") from None
    if "" in labels or not labels:
        line = labels.index("") + 1 if labels else 1
        raise InvalidInput(f"--labels {path}: line {line} is empty; write one class per line")
    duplicates = [label for label, count in Counter(labels).items() if count > 1]
    if duplicates:
        raise InvalidInput(f"--labels {path}: {duplicates[0]!r} appears twice; every class needs its own name")
    return labels
