"""Trains a network on a dataset: dataset/ → checkpoint/ (weights.pt, history.json, card.json) and a report.

    python -m seaway.train --dataset dataset --checkpoint checkpoint --work work --report train.html

Killed and started again with the same settings and data, it continues where it was, whatever the output path; on a CPU
with the same number of threads it ends with the very same bits. Under torchrun several processes share the work: see
parallel.py.
"""

import dataclasses
import json
import math
from pathlib import Path

import numpy as np
import torch
from rich.console import Console

from seaway.artifacts import artifact_metadata, atomic
from seaway.artifacts.artifact_metadata import ArtifactMetadata
from seaway.data import datasets
from seaway.data.datasets import Dataset
from seaway.errors import DataError, InvalidInput, ModelError
from seaway.nets.build import build, fingerprint
from seaway.platform import cgroup, memory
from seaway.train import checkpoints, parallel
from seaway.train.evaluate import Normalisation, Result, measure, predict
from seaway.train.loop import Epoch, Loop
from seaway.train.progress import Progress
from seaway.train.settings import Settings

__all__ = ["HISTORY", "WEIGHTS", "Settings", "train"]

WEIGHTS = "weights.pt"
HISTORY = "history.json"
_NORMALISATION_SAMPLE = 20_000  # images: mean and deviation are exact to three digits with far fewer


def train(
    dataset: Path,
    checkpoint: Path,
    settings: Settings = Settings(),  # noqa: B008  frozen
    work: Path | None = None,
    report: Path | None = None,
) -> ArtifactMetadata:
    """Trains `settings.net` and writes the checkpoint artifact, and an HTML report if a path is given.

    `work` is a folder that outlives the task: the run's state is saved there, and removed when the run is finished.
    Returns the checkpoint's metadata; its metrics (accuracy, balanced_accuracy, loss) are those on the test set, which
    is used once, at the end. Raises InvalidInput, DataError, MetadataError, ModelError, Unavailable.
    """
    settings.check()
    with parallel.group(settings.device) as device:
        return _train(dataset, checkpoint, dataclasses.replace(settings, device=device), work, report)


def _train(
    dataset: Path, checkpoint: Path, settings: Settings, work: Path | None, report: Path | None
) -> ArtifactMetadata:
    first = parallel.rank() == 0
    if first:
        artifact_metadata.check_target(checkpoint, "checkpoint")  # before hours of training, not after
        checkpoint.parent.mkdir(parents=True, exist_ok=True)
    console = Console(stderr=True, highlight=False, soft_wrap=True, quiet=not first)
    images = datasets.load(dataset)
    parent = artifact_metadata.check(dataset, "dataset")
    normalise = normalisation(images, dataset)
    configure(settings)
    torch.manual_seed(settings.seed)
    height, width = images.train_images.shape[1:]
    net = build(settings.net, (height, width), len(images.labels))
    loop = Loop(net, images, normalise, settings)
    key = checkpoints.key(loop.settings.essential() | code_fingerprint(settings.net), parent.sha256)
    manager = checkpoints.CheckpointManager(work if first else None, key, settings.save_seconds)
    _resume(loop, manager, key, console)
    with Progress(console, loop.settings.epochs, loop.steps_per_epoch, loop.step) as progress:
        loop.run(manager, progress.step, progress.epoch)
    metadata = _finish(loop, manager, parent, checkpoint, report, console) if first else None
    return parallel.broadcast(metadata)


def normalisation(images: Dataset, folder: Path) -> Normalisation:
    """Mean and deviation of the training images. Raises DataError if the images or labels teach nothing."""
    if len(np.unique(images.train_labels)) < 2:
        raise DataError(f"{folder}: all training images are of one class; make a dataset with at least two")
    stride = -(-len(images.train_images) // _NORMALISATION_SAMPLE)
    sample = datasets.model_input(images.train_images[::stride])
    normalise = Normalisation(float(sample.mean(dtype=np.float64)), float(sample.std(dtype=np.float64)))
    if normalise.std < 1e-6:
        raise DataError(f"{folder}: all pixels of the training images are equal; look at them in the explore report")
    return normalise


def code_fingerprint(net: str) -> dict[str, str]:
    """The fingerprint of a user's own net, which determines the result as the settings do; empty for other nets."""
    code = fingerprint(net)
    return {"code": code} if code else {}


def configure(settings: Settings) -> None:
    """Prepares PyTorch. Raises InvalidInput if the device is not available, or cannot compile if that is asked for."""
    memory.retain_freed(memory.MAX_RETAINED_BYTES, memory.MAX_RETAINED_BYTES)  # the next step needs it again
    # PyTorch would start a thread for each core of the machine, whatever the container's limit.
    torch.set_num_threads(settings.threads or min(torch.get_num_threads(), cgroup.cores()))
    try:
        torch.empty(0, device=settings.device)
    except (RuntimeError, AssertionError) as error:  # torch's build without CUDA asserts
        reason = str(error).splitlines()[0]
        raise InvalidInput(f"--device {settings.device} cannot be used ({reason}); try --device cpu") from None
    if settings.compile:
        try:
            torch.compile(torch.neg)(torch.zeros(2, device=settings.device))
        except Exception as error:  # Dynamo and Inductor raise errors without a common base
            reason = str(error).strip().splitlines()[0]
            raise InvalidInput(
                f"--compile cannot be used ({reason}); install a C++ compiler, or leave it out"
            ) from None


def _resume(loop: Loop, manager: checkpoints.CheckpointManager, key: str, console: Console) -> None:
    """Resumes all processes from the state that process 0 loads.

    Raises InvalidInput if their settings or data differ, and for a state that does not fit this net.
    """
    state, problem = manager.load()
    if problem:
        console.print(problem)
    common_key, state = parallel.broadcast((key, state))
    if common_key != key:
        raise InvalidInput("the processes were started with different settings or data: give all of them the same")
    if state:
        try:
            loop.resume(state)
        except (RuntimeError, ValueError, KeyError) as error:
            reason = str(error).splitlines()[0].rstrip(":")
            raise InvalidInput(
                f"{manager.folder or '--work'}: the state does not fit {loop.settings.net} as it is now ({reason}): "
                "continue with the version that began it, or remove the folder to start from the beginning"
            ) from None
        epoch, step = divmod(loop.step, loop.steps_per_epoch)
        console.print(f"resumed from {manager.folder}: {epoch} epochs and {step} steps are done")


def _finish(
    loop: Loop,
    manager: checkpoints.CheckpointManager,
    parent: ArtifactMetadata,
    checkpoint: Path,
    report: Path | None,
    console: Console,
) -> ArtifactMetadata:
    images = loop.dataset
    loop.net.load_state_dict(loop.best)
    result = measure(predict(loop.net, images.test_images, loop.normalise, loop.device), images.test_labels)
    if not math.isfinite(result.loss):
        raise ModelError(f"the loss on the test set is {result.loss}: lower --learning-rate and train again")
    console.print(f"test accuracy {result.accuracy:.4f}, balanced {result.balanced_accuracy:.4f}")
    metadata = _write(checkpoint, loop, parent, result)
    if report:
        from seaway.train.report import page  # matplotlib takes seconds to load

        with atomic.file(report) as part:
            part.write_text(page.render(metadata, loop.history, result, images), encoding="utf-8")
    manager.remove()  # last, so that a full disk above loses no training
    return metadata


def _write(checkpoint: Path, loop: Loop, parent: ArtifactMetadata, result: Result) -> ArtifactMetadata:
    settings, images = loop.settings, loop.dataset
    folded = result.bymerge_accuracy(images.labels)
    metadata = ArtifactMetadata(
        kind="checkpoint",
        name=parent.name,
        labels=images.labels,
        metrics={
            "accuracy": result.accuracy,
            "balanced_accuracy": result.balanced_accuracy,
            "loss": result.loss,
            **({"bymerge_accuracy": folded} if folded is not None else {}),
        },
        settings={
            **settings.essential(),
            **code_fingerprint(settings.net),
            "image_size": list(images.train_images.shape[1:]),
            "classes": len(images.labels),
            "mean": loop.normalise.mean,
            "std": loop.normalise.std,
        },
        parents={"dataset": parent},
    )
    with atomic.folder(checkpoint) as part:
        checkpoints.save({name: value.contiguous() for name, value in loop.best.items()}, part / WEIGHTS)
        (part / HISTORY).write_text(_rows(loop.history))
        return artifact_metadata.write(part, metadata)


def _rows(history: list[Epoch]) -> str:
    return json.dumps(history, indent=1) + "\n"
