"""Exports PyTorch to ONNX: the graph, its metadata, and PyTorch's outputs, with which every later hop is compared."""

import hashlib
from collections import Counter
from collections.abc import Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from rich.console import Console
from rich.progress import track

from seaway.artifacts import artifact_metadata, atomic, model_repository, onnx_model
from seaway.artifacts import golden as goldens
from seaway.artifacts.artifact_metadata import ArtifactMetadata, Tensor
from seaway.artifacts.golden import Golden
from seaway.artifacts.interface import CLASSIFIER
from seaway.data import datasets
from seaway.errors import InvalidInput, MetadataError, ModelError
from seaway.export import calls, floats, from_onnx, graph, integers, model_file, tolerance, wrap
from seaway.export.floats import Further
from seaway.export.inputs import (
    Examples,
    bind,
    parse,
    parse_size,
    random_examples,
    read_examples,
    spread,
)
from seaway.export.outputs import check_names
from seaway.export.usernet import fill, load
from seaway.export.wrap import Characters, Observed, Wrapped
from seaway.nets import names
from seaway.nets.build import build

LABELS = "labels.txt"
WEIGHTS = "weights.pt"
BATCH = 256  # test images per forward pass
# Training scored the same images with the same weights, but another batch size may flip a near-tie or two.
ACCURACY_TOLERANCE = 2e-3


def export_checkpoint(
    checkpoint: Path, dataset: Path, onnx: Path, *, name: str = "characters", converter: str = ""
) -> ArtifactMetadata:
    """Exports a trained net with its normalisation inside: `image` float32 [N, H, W, 1] in 0..1 → `scores`, `logits`.

    Golden examples come from the dataset's test set, and PyTorch's outputs for all of it go into test_outputs.npz.
    `converter`: of the next stage; onnx-tf takes older opsets only. Raises ModelError, MetadataError or DataError.
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
        with wrap.plain_attention():
            observed = wrap.check(wrapped, examples)
        metadata = _export(part, wrapped, examples, name, trained.labels, {}, observed, Further(), converter=converter)
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
    sizes: Sequence[str] = (),
    batch: bool = True,
    outputs: Sequence[str] = (),
    labels: Path | None = None,
    activation: str = "",
    golden: Path | None = None,
    name: str = "",
    exporter: str = "",
    second_opinion: bool = False,
    converter: str = "",
) -> ArtifactMetadata:
    """Exports any net that `python:module:function` builds, in its own layout; for an .onnx file, see `export_onnx`.

    `inputs`, `sizes` and `outputs` are in the syntax of `--input`, `--size` and `--output`; `batch`: whether every
    input has a batch as its first axis, which `inputs` leave out. `labels` has one class per line; with labels or an
    `activation` (with labels, softmax by default) the first outputs are `scores` and `logits`. `golden` is an .npz of
    real examples by input name, instead of seeded random ones. `name` defaults to the function's. `exporter`:
    torchscript, dynamo, or auto (default), which is the latter or, if it fails or its graph gives other outputs than
    PyTorch, the former; with `second_opinion` the other one is tried too, and the metadata says what became of it.
    `converter`: of the next stage; onnx-tf takes older opsets only, which the tracing exporter writes. Raises
    ModelError or InvalidInput.
    """
    if model.endswith(names.ONNX):
        of_python = names.of_python(
            inputs=inputs, batch=batch, weights=weights, activation=activation, exporter=exporter,
            second_opinion=second_opinion,
        )  # fmt: skip
        names.check_file(model, of_python)
        file = Path(model)
        return export_onnx(file, onnx, sizes=sizes, outputs=outputs, labels=labels, golden=golden, name=name)
    exporter = exporter or "auto"
    if exporter not in graph.EXPORTERS:
        raise InvalidInput(f"--exporter {exporter}: choose {', '.join(graph.EXPORTERS)}")
    if activation not in ("", *wrap.ACTIVATIONS):
        raise InvalidInput(f"--activation {activation}: choose {', '.join(wrap.ACTIVATIONS)}")
    specs, ranges = [parse(text) for text in inputs], [parse_size(text) for text in sizes]
    check_names(list(outputs))
    class_names = _read_labels(labels) if labels else ()
    if not activation and class_names:
        activation = "softmax"
    net = load(model, weights)
    wrapped = Wrapped(net, bind(net, specs, ranges, batch), activation, tuple(outputs)).eval()
    _check_input_names(wrapped)
    settings: dict[str, Any] = {"model": model, "golden": "given" if golden else "random"}
    with wrap.plain_attention():
        examples = read_examples(golden, wrapped.inputs) if golden else random_examples(wrapped.inputs)
        further = Further()
        if golden:
            observed = wrap.check(wrapped, examples)
        else:
            # First, so that a net that does not run is reported before integers are tried.
            examples, observed = calls.that_run(wrapped, examples)
            examples, tried = integers.widen(wrapped, examples)
            if tried:
                settings["integers"] = tried
                print(f"export: {integers.line(tried)}", flush=True)
            further = floats.widen(wrapped, examples)
    if weights:
        with weights.open("rb") as opened:
            settings["weights_sha256"] = hashlib.file_digest(opened, "sha256").hexdigest()
    artifact_metadata.check_target(onnx, "onnx")
    with atomic.folder(onnx) as part:
        return artifact_metadata.write(
            part,
            _export(
                part,
                wrapped,
                examples,
                name or model.rpartition(":")[2],
                class_names,
                settings,
                observed,
                further,
                exporter=exporter,
                converter=converter,
                second_opinion=second_opinion,
            ),
        )


def export_onnx(
    file: Path,
    onnx: Path,
    *,
    sizes: Sequence[str] = (),
    outputs: Sequence[str] = (),
    labels: Path | None = None,
    golden: Path | None = None,
    name: str = "",
) -> ArtifactMetadata:
    """Makes an onnx artifact of an ONNX file from elsewhere; ONNX Runtime's outputs are the reference of later hops.

    Arguments as of `export_model`; `name` defaults to the file's. Raises ModelError, InvalidInput, or Unsupported for
    inputs and outputs that golden examples cannot hold.
    """
    ranges = [parse_size(text) for text in sizes]
    check_names(list(outputs))
    class_names = _read_labels(labels) if labels else ()
    name = name or names.of_file(str(file))
    model_repository.check_name(name)
    artifact_metadata.check_target(onnx, "onnx")
    model, inputs = from_onnx.read(file, ranges, tuple(outputs))
    settings = from_onnx.settings(file) | {"golden": "given" if golden else "random"}
    examples = read_examples(golden, inputs) if golden else random_examples(inputs)
    with atomic.folder(onnx) as part:
        run = from_onnx.runner(model, part)
        observed = Observed()
        for batch in wrap.BATCHES if inputs.batch else ():
            observed.add(batch, run(wrap.batch_of(examples, batch)))
        if not inputs.batch:
            observed.add(0, run(examples))
        pairs = calls.with_outputs(inputs, examples, observed, run, settings)
        tensors = observed.tensors()
        if class_names:
            _check_labels(class_names, tensors[0])
        if observed.batched:
            wrap.check_rows(run, *pairs[0])
        for value, tensor in zip(model.graph.output, tensors, strict=True):
            onnx_model.set_shape(value, tensor, {0: "batch"} if inputs.batch else {})
        model_file.write(model, part)
        calls.write(part, pairs, observed.batched)
        _write_labels(part, class_names)
        settings |= {"opset": onnx_model.opset(model)}
        metadata = ArtifactMetadata(
            kind="onnx",
            name=name,
            inputs=inputs.tensors,
            outputs=tensors,
            labels=class_names,
            tolerances=tolerance.from_outputs([results for _, results in pairs]),
            weights=from_onnx.weights(model),
            settings=settings,
        )
        return artifact_metadata.write(part, metadata)


def _export(
    part: Path,
    wrapped: Wrapped,
    examples: Examples,
    name: str,
    labels: tuple[str, ...],
    settings: dict[str, Any],
    observed: Observed,
    further: Further,
    **how: Any,
) -> ArtifactMetadata:
    """Writes the graph, the golden examples and the labels; returns the metadata, which the caller writes. `observed`:
    of the check on these examples; `further` are as of `floats.widen`, `how` as of `graph.export_right`."""
    model_repository.check_name(name)
    with wrap.plain_attention():
        run = partial(calls.by_pytorch, wrapped)
        pairs = calls.with_outputs(wrapped.inputs, examples, observed, run, settings, further.accepted)
        tensors = observed.tensors()
        if labels:
            _check_labels(labels, tensors[0])
        tolerances = tolerance.derive(wrapped, pairs)
        exported = graph.export_right(wrapped, pairs, tensors, tolerances, part, **how)
        if observed.batched:
            wrap.check_rows(lambda call: wrap.run(wrapped, call), *pairs[0])
        unusual = tuple(Golden(call, wrap.run(wrapped, call)) for call in further.unusual.values())
    for refused, reason in exported.refused.items():
        print(f"export: not by {graph.TITLES[refused]}: {reason}; by {graph.TITLES[exported.exporter]}", flush=True)
    for other, opinion in exported.second_opinion.items():
        print(f"export: second opinion: {graph.TITLES[other]}: {opinion}", flush=True)
    calls.write(part, pairs, observed.batched)
    if unusual:
        goldens.write(part / goldens.UNUSUAL, Golden({}, {}, unusual))
    _write_labels(part, labels)
    sizes = {size.name: [size.low, size.high, size.step] for size in wrapped.inputs.sizes.values()}
    return ArtifactMetadata(
        kind="onnx",
        name=name,
        inputs=wrapped.inputs.tensors,
        outputs=tensors,
        labels=labels,
        tolerances=tolerances,
        weights=exported.weights,
        settings={
            "opset": onnx_model.opset(exported.model),
            "exporter": graph.TITLES[exported.exporter],
            **({"refused_exporters": exported.refused} if exported.refused else {}),
            **({"second_opinion": exported.second_opinion} if exported.second_opinion else {}),
            "torch": torch.__version__,
            **({"activation": wrapped.activation} if wrapped.activation else {}),
            **({"sizes": sizes} if sizes else {}),
            "unused_weights": exported.unused,
            **({"floats": further.said} if further.said else {}),
            **({"unusual": list(further.unusual)} if further.unusual else {}),
            **settings,
        },
    )


def _write_labels(part: Path, labels: tuple[str, ...]) -> None:
    if labels:
        (part / LABELS).write_text("".join(f"{label}\n" for label in labels), encoding="utf-8")


def _check_input_names(wrapped: Wrapped) -> None:
    names = {text.partition("=")[0] for text in wrapped.requested} | {*(CLASSIFIER if wrapped.activation else ())}
    for tensor in wrapped.inputs.tensors:
        if tensor.name in names:
            raise InvalidInput(f"--input: the name {tensor.name!r} is an output's name; give another: NAME:SHAPE")


def _check_labels(labels: tuple[str, ...], scores: Tensor) -> None:
    if scores.shape[1:] != (len(labels),):
        raise ModelError(
            f"--labels names {len(labels)} classes, but the model has {scores.shape[1]} scores; give one label each"
        )


def _trained(checkpoint: Path, metadata: ArtifactMetadata) -> Characters:
    try:
        height, width = metadata.settings["image_size"]
        net = build(metadata.settings["net"], (height, width), metadata.settings["classes"])
        mean, std = float(metadata.settings["mean"]), float(metadata.settings["std"])
    except KeyError as error:
        raise MetadataError(f"{checkpoint}: its metadata lacks {error}; train again with this version") from None
    fill(net, checkpoint / WEIGHTS, "--checkpoint")
    return Characters(net, (height, width), mean, std).eval()


def _test_outputs(wrapped: Wrapped, images: np.ndarray) -> dict[str, np.ndarray]:
    """PyTorch's outputs for all test images, in batches, so that the images themselves stay on the disk."""
    starts = range(0, len(images), BATCH)
    batches = [
        wrap.run(wrapped, {"image": datasets.model_input(images[start : start + BATCH])})
        for start in track(starts, "PyTorch on the test set", console=Console(stderr=True))
    ]
    return {name: np.concatenate([batch[name] for batch in batches]) for name in batches[0]}


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
