"""From PyTorch to ONNX: the graph, its card, and what PyTorch answered, which every later hop is held to."""

import hashlib
from collections import Counter
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from rich.console import Console
from rich.progress import track

from seaway.artifacts import atomic, store
from seaway.artifacts import card as cards
from seaway.artifacts import golden as goldens
from seaway.artifacts.card import Card, Tensor
from seaway.artifacts.golden import Golden
from seaway.data import data
from seaway.errors import CardError, InvalidInput, ModelError
from seaway.export import graph, integers, tolerance, wrap
from seaway.export.inputs import OUTPUTS, bind, parse, random_examples, read_examples, spread
from seaway.export.usernet import fill, load
from seaway.export.wrap import Characters, Shipped, Wrapped
from seaway.nets.build import build

MODEL = "model.onnx"
LABELS = "labels.txt"
WEIGHTS = "weights.pt"
BATCH = 256  # pictures at a time through the test set
# Training scored the same pictures with the same weights, but batches of another size may flip a near-tie or two.
SAME_ACCURACY = 2e-3


def export_checkpoint(checkpoint: Path, dataset: Path, onnx: Path, *, name: str = "characters") -> Card:
    """Exports a trained net with its normalisation inside: `image` float32 [N, H, W, 1] in 0..1 → `scores`, `logits`.

    Golden examples come from the dataset's test set, and PyTorch's outputs for all of it go into test_outputs.npz.
    Raises ModelError, CardError or DataError.
    """
    trained = cards.check(checkpoint, "checkpoint")
    pictures = data.load(dataset)
    parent = trained.parents.get("dataset")
    if parent is None or cards.check(dataset, "dataset").sha256 != parent.sha256:
        raise InvalidInput(
            f"--dataset {dataset}: {checkpoint} was trained on another one; give that one, or train again on this one"
        )
    wrapped = _trained(checkpoint, trained)
    examples = {"image": data.model_input(pictures.test_images[spread(pictures.test_labels)])}
    cards.check_target(onnx, "onnx")
    with atomic.folder(onnx) as part:
        card = _export(part, wrapped, examples, name, trained.labels, {})
        outputs = _test_outputs(wrapped, pictures.test_images)
        goldens.write(part / goldens.TEST_OUTPUTS, Golden({}, outputs))
        accuracy = float((outputs["scores"].argmax(axis=1) == pictures.test_labels).mean())
        _check_accuracy(accuracy, trained, len(pictures.test_labels))
        return cards.write(part, replace(card, metrics={"accuracy": accuracy}, parents={"checkpoint": trained}))


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
) -> Card:
    """Exports any net that `python:module:function` builds, in its own layout; `inputs` as `--input` takes them.

    `labels` holds one class a line; `golden` is an .npz of real examples by input name, in place of seeded random ones.
    `name` is the function's where it is empty. Raises ModelError or InvalidInput.
    """
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
        examples, tried = integers.widen(wrapped.eval(), random_examples(wrapped.inputs))
        if tried:
            settings["integers"] = tried
            print(f"export: {integers.line(tried)}", flush=True)
    if weights:
        settings["weights_sha256"] = hashlib.sha256(weights.read_bytes()).hexdigest()
    cards.check_target(onnx, "onnx")
    with atomic.folder(onnx) as part:
        return cards.write(part, _export(part, wrapped, examples, name or model.rpartition(":")[2], names, settings))


def _export(
    part: Path,
    wrapped: Wrapped,
    examples: dict[str, np.ndarray],
    name: str,
    labels: tuple[str, ...],
    settings: dict[str, Any],
) -> Card:
    """Writes the graph, the golden examples and the labels; returns the card, still to be written."""
    store.check_name(name)
    wrapped.eval()
    with wrap.plain_attention():
        classes = wrap.check(wrapped, examples)
        if labels and len(labels) != classes:
            raise ModelError(
                f"--labels names {len(labels)} classes, but the net gives {classes} scores; name each of them"
            )
        outputs = wrap.run(wrapped, examples)
        tolerances = tolerance.derive(wrapped, examples, outputs)
        model = graph.export(wrapped, examples, classes)
        graph.compare(model, wrapped, examples, tolerances)
        weights, unused = graph.weights(model, wrapped, examples)
    (part / MODEL).write_bytes(model.SerializeToString(deterministic=True))
    goldens.write(part / goldens.GOLDEN, Golden(examples, outputs))
    if labels:
        (part / LABELS).write_text("".join(f"{label}\n" for label in labels), encoding="utf-8")
    return Card(
        kind="onnx",
        name=name,
        inputs=wrapped.inputs,
        outputs=tuple(Tensor(output, "float32", (None, classes)) for output in OUTPUTS),
        labels=labels,
        tolerances=tolerances,
        weights=weights,
        settings={
            "opset": model.opset_import[0].version,
            "exporter": graph.EXPORTER,
            "torch": torch.__version__,
            "activation": wrapped.activation,
            "unused_weights": unused,
            **settings,
        },
    )


def _trained(checkpoint: Path, card: Card) -> Characters:
    try:
        height, width = card.settings["image_size"]
        net = build(card.settings["net"], (height, width), card.settings["classes"])
        mean, std = float(card.settings["mean"]), float(card.settings["std"])
    except KeyError as error:
        raise CardError(f"{checkpoint}: its card does not say {error}; train again with this version") from None
    fill(net, checkpoint / WEIGHTS, "--checkpoint")
    return Characters(net.eval(), (height, width), mean, std)


def _test_outputs(wrapped: Wrapped, images: np.ndarray) -> dict[str, np.ndarray]:
    """PyTorch's outputs for all test pictures, a few at a time, so that the pictures themselves stay on the disk."""
    starts = range(0, len(images), BATCH)
    batches = [
        wrap.run(wrapped, {"image": data.model_input(images[start : start + BATCH])})
        for start in track(starts, "PyTorch on the test set", console=Console(stderr=True))
    ]
    return {name: np.concatenate([batch[name] for batch in batches]) for name in OUTPUTS}


def _check_accuracy(accuracy: float, trained: Card, count: int) -> None:
    expected = trained.metrics.get("accuracy")
    if expected is not None and abs(accuracy - expected) > max(SAME_ACCURACY, 2 / count):
        raise ModelError(
            f"the net gets {accuracy:.2%} of the test set right here, but its checkpoint's card says {expected:.2%}: "
            "the weights, mean and std in the checkpoint do not belong together; train again"
        )


def _read_labels(path: Path) -> tuple[str, ...]:
    try:
        labels = tuple(line.strip() for line in path.read_text(encoding="utf-8").splitlines())
    except FileNotFoundError:
        raise InvalidInput(f"--labels {path}: there is no such file") from None
    except UnicodeDecodeError:
        raise InvalidInput(f"--labels {path}: not UTF-8 text; write one class a line") from None
    if "" in labels or not labels:
        line = labels.index("") + 1 if labels else 1
        raise InvalidInput(f"--labels {path}: line {line} is empty; write one class a line")
    twice = [label for label, count in Counter(labels).items() if count > 1]
    if twice:
        raise InvalidInput(f"--labels {path}: {twice[0]!r} stands there twice; every class needs a name of its own")
    return labels
