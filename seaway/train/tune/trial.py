"""One trial: the train stage's own loop on the training set alone, reporting every step and epoch; and the winner.

With the same settings a trial learns what `python -m seaway.train` learns, bit for bit. It never opens the test set.
"""

import dataclasses
import math
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

import numpy as np
import torch
from torch.nn import functional as F

from seaway.artifacts import artifact_metadata
from seaway.artifacts.artifact_metadata import ArtifactMetadata
from seaway.data import datasets
from seaway.data.datasets import Dataset
from seaway.errors import DataError, MetadataError, ModelError
from seaway.nets.build import build
from seaway.train import checkpoints
from seaway.train.evaluate import Normalisation, predict
from seaway.train.loop import Epoch, Loop, split
from seaway.train.settings import Settings, current
from seaway.train.train import code_fingerprint, configure, normalisation, train
from seaway.train.tune import folder as sweep_folder
from seaway.train.tune import results
from seaway.train.tune.results import Sweep
from seaway.train.tune.scores import Predictions

MIN_VALIDATION = 20  # images


@dataclass(frozen=True, slots=True)
class TrialContext:
    """What all trials share. `labels`, uint8 [N], are those of the validation images; `sha256` is the dataset's."""

    dataset: Dataset
    normalise: Normalisation
    sha256: str
    labels: np.ndarray
    train_size: int


class Paused(Exception):
    """The trial's state is saved, to be resumed later."""


class ProgressCallback(Protocol):
    """Receives a trial's progress, and decides whether it pauses."""

    def begin(self, step: int, steps: int) -> None:
        """Receives the number of steps already done, and the number of all steps."""

    def after_step(self) -> None: ...
    def after_epoch(self, row: Epoch) -> None: ...
    def stopping(self) -> bool:
        """Whether the trial should pause soon."""


def prepare(folder: Path, settings: Settings) -> TrialContext:
    """Opens the training set and draws the validation images. Raises DataError, MetadataError, InvalidInput."""
    dataset = datasets.load(folder, test=False)
    metadata = artifact_metadata.check(folder, "dataset")
    train_rows, validation_rows = split(len(dataset.train_labels), settings.validation, settings.seed)
    if len(validation_rows) < MIN_VALIDATION:
        raise DataError(
            f"{folder}: --validation {settings.validation:g} leaves only {len(validation_rows)} of "
            f"{len(dataset.train_labels):,} images for validation; at least {MIN_VALIDATION} are needed: raise "
            "--validation or use more images"
        )
    configure(settings)
    labels = dataset.train_labels[validation_rows]
    return TrialContext(dataset, normalisation(dataset, folder), metadata.sha256, labels, len(train_rows))


def check(settings: Settings, context: TrialContext) -> None:
    """Builds the net once. Raises ModelError if that fails."""
    build(settings.net, *_sizes(context))


def run(settings: Settings, context: TrialContext, work: Path, callback: ProgressCallback) -> Predictions:
    """Trains, resuming from the state in `work` if there is one, then predicts the validation images.

    Leaves the state in `work`. Raises Paused when the callback asks to stop, ModelError if training diverges or runs
    out of memory, and whatever the callback raises.
    """
    torch.manual_seed(settings.seed)
    loop = Loop(build(settings.net, *_sizes(context)), context.dataset, context.normalise, settings)
    manager = checkpoints.CheckpointManager(
        work,
        checkpoints.key(loop.settings.essential() | code_fingerprint(settings.net), context.sha256),
        settings.save_seconds,
    )
    state, _ = manager.load()
    if state:
        loop.resume(state)
    callback.begin(loop.step, loop.steps)

    def pause() -> None:
        if callback.stopping():
            manager.save(loop.state())
            raise Paused

    def after_step(_: float) -> None:
        callback.after_step()
        if loop.step % loop.steps_per_epoch:  # otherwise the epoch is closed first
            pause()

    def after_epoch(row: Epoch) -> None:
        callback.after_epoch(row)
        if loop.step < loop.steps:
            pause()

    try:
        loop.run(manager, after_step, after_epoch)
    except RuntimeError as error:  # only on a GPU does PyTorch have a class of its own for it
        if "memory" not in str(error):
            raise
        raise ModelError(f"there is not enough memory ({str(error).splitlines()[0]})") from None
    logits = predict(loop.averaged, context.dataset.train_images[loop.validation_rows], loop.normalise, loop.device)
    losses = F.cross_entropy(logits, torch.from_numpy(context.labels.astype(np.int64)), reduction="none").numpy()
    return Predictions(logits.argmax(dim=1).numpy().astype(np.uint8), losses)


def value(row: Epoch, metric: str) -> float:
    """The metric on the validation images after an epoch. Raises ModelError if it is not finite."""
    measured = row[f"validation_{metric}"]
    if not math.isfinite(measured):
        raise ModelError(f"the validation {metric} became {measured} in epoch {row['epoch']:.0f}")
    return measured


def train_best(sweep: Sweep, folder: Path) -> Sweep:
    """Trains the best settings on the training set, unless the folder's checkpoint has them, and evaluates them once.

    Returns the sweep with the test set's metrics.
    """
    settings = results.winner(sweep)
    checkpoint, dataset = folder / sweep_folder.CHECKPOINT, Path(sweep.dataset)
    metadata = _existing(checkpoint)
    if (
        not metadata
        or metadata.parents["dataset"] != artifact_metadata.read(dataset)
        or not settings.resolved().essential().items() <= current(metadata.settings).items()
    ):
        metadata = train(dataset, checkpoint, settings, folder / sweep_folder.WORK, folder / sweep_folder.REPORT)
    return dataclasses.replace(sweep, final=metadata.metrics)


def _existing(checkpoint: Path) -> ArtifactMetadata | None:
    try:
        return artifact_metadata.check(checkpoint, "checkpoint")
    except MetadataError:
        return None


def _sizes(context: TrialContext) -> tuple[tuple[int, int], int]:
    height, width = context.dataset.train_images.shape[1:]
    return (height, width), len(context.dataset.labels)
