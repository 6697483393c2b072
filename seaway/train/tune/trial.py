"""One trial: the train stage's own loop on the training set alone, told of every step and judged after every epoch.

With the same settings it learns what `python -m seaway.train` learns, to the bit. The test set is not opened.
"""

import math
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

import numpy as np
import torch
from torch.nn import functional as F

from seaway.artifacts import card as cards
from seaway.data import data
from seaway.data.data import Dataset
from seaway.errors import DataError, ModelError
from seaway.nets.build import build
from seaway.train import state
from seaway.train.evaluate import Normalisation, predict
from seaway.train.loop import Epoch, Loop, split
from seaway.train.settings import Settings
from seaway.train.train import code, configure, normalisation
from seaway.train.tune.scores import Outcome

FEWEST = 20  # validation pictures


@dataclass(frozen=True, slots=True)
class Ground:
    """What all trials stand on. `labels` are the validation pictures', uint8 [held]; `sha256` is the dataset's."""

    dataset: Dataset
    normalise: Normalisation
    sha256: str
    labels: np.ndarray
    learnt_from: int


class Paused(Exception):
    """The trial's state is saved, and it goes on another time."""


class Told(Protocol):
    """Who a trial tells of its course."""

    def begin(self, step: int, steps: int) -> None:
        """How many steps are done, and how many there are."""

    def after_step(self) -> None: ...
    def after_epoch(self, row: Epoch) -> None: ...
    def stopping(self) -> bool:
        """Whether the trial is to pause, soon."""


def ground(folder: Path, settings: Settings) -> Ground:
    """Opens the training set and draws the validation pictures from it. Raises DataError, CardError, InvalidInput."""
    dataset = data.load(folder, test=False)
    card = cards.check(folder, "dataset")
    rows, held = split(len(dataset.train_labels), settings.validation, settings.seed)
    if len(held) < FEWEST:
        raise DataError(
            f"{folder}: --validation {settings.validation:g} of {len(dataset.train_labels):,} pictures are "
            f"{len(held)}, and fewer than {FEWEST} tell nothing: give a larger share, or more pictures"
        )
    configure(settings)
    return Ground(dataset, normalisation(dataset, folder), card.sha256, dataset.train_labels[held], len(rows))


def check(settings: Settings, on: Ground) -> None:
    """That the net can be built. Raises ModelError."""
    build(settings.net, *_sizes(on))


def run(settings: Settings, on: Ground, work: Path, told: Told) -> Outcome:
    """Trains from where the state in `work` stands, which stays there; judges the weights after the last epoch.

    Raises Paused where it is to stop, ModelError where it diverges or lacks memory, and what `told` raises.
    """
    torch.manual_seed(settings.seed)
    loop = Loop(build(settings.net, *_sizes(on)), on.dataset, on.normalise, settings)
    keeper = state.Keeper(
        work, state.key(loop.settings.essential() | code(settings.net), on.sha256), settings.save_seconds
    )
    found, _ = keeper.find()
    if found:
        loop.resume(found)
    told.begin(loop.step, loop.steps)

    def pause() -> None:
        if told.stopping():
            keeper.save(loop.state())
            raise Paused

    def after_step(_: float) -> None:
        told.after_step()
        if loop.step % loop.steps_an_epoch:  # else the epoch is to be closed first
            pause()

    def after_epoch(row: Epoch) -> None:
        told.after_epoch(row)
        if loop.step < loop.steps:
            pause()

    try:
        loop.run(keeper, after_step, after_epoch)
    except RuntimeError as error:  # PyTorch's for memory is one of its own on a GPU alone
        if "memory" not in str(error):
            raise
        raise ModelError(f"there is not enough memory ({str(error).splitlines()[0]})") from None
    logits = predict(loop.averaged, on.dataset.train_images[loop.held], loop.normalise, loop.device)
    losses = F.cross_entropy(logits, torch.from_numpy(on.labels.astype(np.int64)), reduction="none").numpy()
    return Outcome(logits.argmax(dim=1).numpy().astype(np.uint8), losses)


def value(row: Epoch, metric: str) -> float:
    """The metric on the validation pictures after an epoch. Raises ModelError where it is no number."""
    measured = row[f"validation_{metric}"]
    if not math.isfinite(measured):
        raise ModelError(f"the validation {metric} became {measured} in epoch {row['epoch']:.0f}")
    return measured


def _sizes(on: Ground) -> tuple[tuple[int, int], int]:
    height, width = on.dataset.train_images.shape[1:]
    return (height, width), len(on.dataset.labels)
