"""The winner, trained for good: on all of the training set but training's own share for validation, and tested once."""

import dataclasses
from pathlib import Path

from seaway.artifacts import card as cards
from seaway.artifacts.card import Card
from seaway.errors import CardError
from seaway.train.train import train
from seaway.train.tune import folder as places
from seaway.train.tune import results
from seaway.train.tune.results import Sweep


def train_best(sweep: Sweep, folder: Path) -> Sweep:
    """The sweep with the test set's figures, of the checkpoint in its folder; trains that where it is not there yet."""
    settings = results.winner(sweep)
    checkpoint, dataset = folder / places.CHECKPOINT, Path(sweep.dataset)
    card = _there(checkpoint)
    made_of = settings.resolved().essential()
    if not card or card.parents["dataset"] != cards.read(dataset) or not made_of.items() <= card.settings.items():
        card = train(dataset, checkpoint, settings, folder / places.WORK, folder / places.REPORT)
    return dataclasses.replace(sweep, final=card.metrics)


def _there(checkpoint: Path) -> Card | None:
    try:
        return cards.check(checkpoint, "checkpoint")
    except CardError:
        return None
