"""Trains a network on a dataset: dataset/ → checkpoint/ (weights.pt, history.json, card.json) and a report.

    python -m seaway.train --dataset dataset --checkpoint checkpoint --work work --report train.html

Killed and started again with the same settings and data, it goes on where it stood, under whatever output path; on a
CPU with the same number of threads it ends with the very same bits. Under torchrun several processes share the work:
see parallel.py.
"""

import dataclasses
import json
import math
from pathlib import Path

import numpy as np
import torch
from rich.console import Console

from seaway.artifacts import atomic
from seaway.artifacts import card as cards
from seaway.artifacts.card import Card
from seaway.data import data
from seaway.data.data import Dataset
from seaway.errors import DataError, InvalidInput, ModelError
from seaway.nets.build import build, fingerprint
from seaway.platform import cgroup, memory
from seaway.train import parallel, state
from seaway.train.evaluate import Normalisation, Result, measure, predict
from seaway.train.loop import Epoch, Loop
from seaway.train.progress import Progress
from seaway.train.settings import Settings

__all__ = ["HISTORY", "WEIGHTS", "Settings", "train"]

WEIGHTS = "weights.pt"
HISTORY = "history.json"
_SAMPLED = 20_000  # pictures for mean and deviation: both are exact to three digits long before


def train(
    dataset: Path,
    checkpoint: Path,
    settings: Settings = Settings(),  # noqa: B008  frozen
    work: Path | None = None,
    report: Path | None = None,
) -> Card:
    """Trains `settings.net` and writes the checkpoint artifact, and an HTML report where a path is given.

    `work` is a folder that outlives the task: the run's state is saved in it and taken away when the run is finished.
    Returns the checkpoint's card; metrics (accuracy, balanced_accuracy, loss) are of the test set, which is looked at
    once, at the end. Raises InvalidInput, DataError, CardError, ModelError, Unavailable.
    """
    settings.check()
    with parallel.group(settings.device) as device:
        return _train(dataset, checkpoint, dataclasses.replace(settings, device=device), work, report)


def _train(dataset: Path, checkpoint: Path, settings: Settings, work: Path | None, report: Path | None) -> Card:
    first = parallel.rank() == 0
    if first:
        cards.check_target(checkpoint, "checkpoint")  # before the hours, not after
        checkpoint.parent.mkdir(parents=True, exist_ok=True)
    console = Console(stderr=True, highlight=False, soft_wrap=True, quiet=not first)
    pictures = data.load(dataset)
    parent = cards.check(dataset, "dataset")
    normalise = normalisation(pictures, dataset)
    configure(settings)
    torch.manual_seed(settings.seed)
    height, width = pictures.train_images.shape[1:]
    net = build(settings.net, (height, width), len(pictures.labels))
    loop = Loop(net, pictures, normalise, settings)
    key = state.key(loop.settings.essential() | code(settings.net), parent.sha256)
    keeper = state.Keeper(work if first else None, key, settings.save_seconds)
    _resume(loop, keeper, key, console)
    with Progress(console, loop.settings.epochs, loop.steps_an_epoch, loop.step) as progress:
        loop.run(keeper, progress.step, progress.epoch)
    card = _finish(loop, keeper, parent, checkpoint, report, console) if first else None
    return parallel.share(card)


def normalisation(pictures: Dataset, folder: Path) -> Normalisation:
    """Raises DataError for pictures or labels that nothing can be learnt from."""
    if len(np.unique(pictures.train_labels)) < 2:
        raise DataError(f"{folder}: all training pictures are of one class; make a dataset with at least two")
    every = -(-len(pictures.train_images) // _SAMPLED)
    sample = data.model_input(pictures.train_images[::every])
    normalise = Normalisation(float(sample.mean(dtype=np.float64)), float(sample.std(dtype=np.float64)))
    if normalise.std < 1e-6:
        raise DataError(f"{folder}: the training pictures are all of one value; look at them in the explore report")
    return normalise


def code(net: str) -> dict[str, str]:
    """What decides the result beside the settings where the net is the user's own."""
    found = fingerprint(net)
    return {"code": found} if found else {}


def configure(settings: Settings) -> None:
    """Raises InvalidInput for a device that is not there, and where nothing can be compiled."""
    memory.keep_freed(memory.ALL, memory.ALL)  # PyTorch does not know that it is needed again at the next step
    # PyTorch counts the machine's cores and would start a thread for each, whatever the container may use.
    torch.set_num_threads(settings.threads or min(torch.get_num_threads(), cgroup.cores()))
    try:
        torch.empty(0, device=settings.device)
    except (RuntimeError, AssertionError) as error:  # torch's build without CUDA asserts
        reason = str(error).splitlines()[0]
        raise InvalidInput(f"--device {settings.device} cannot be used ({reason}); try --device cpu") from None
    if settings.compile:
        try:
            torch.compile(torch.neg)(torch.zeros(2, device=settings.device))
        except Exception as error:  # of Dynamo's or Inductor's own, some without a base in common
            reason = str(error).strip().splitlines()[0]
            raise InvalidInput(
                f"--compile cannot be used ({reason}); install a C++ compiler, or leave it out"
            ) from None


def _resume(loop: Loop, keeper: state.Keeper, key: str, console: Console) -> None:
    """All processes go on from the state that process 0 found.

    Raises InvalidInput where they do not do the same, and for a state that this net cannot go on from.
    """
    found, objection = keeper.find()
    if objection:
        console.print(objection)
    common, found = parallel.share((key, found))
    if common != key:
        raise InvalidInput("the processes were started with different settings or data: give all of them the same")
    if found:
        try:
            loop.resume(found)
        except (RuntimeError, ValueError, KeyError) as error:
            reason = str(error).splitlines()[0].rstrip(":")
            raise InvalidInput(
                f"{keeper.folder or '--work'}: the state does not fit what {loop.settings.net} is now ({reason}): "
                "go on with the version that began it, or remove the folder to start from the beginning"
            ) from None
        epoch, step = divmod(loop.step, loop.steps_an_epoch)
        console.print(f"resumed from {keeper.folder}: {epoch} epochs and {step} steps are done")


def _finish(
    loop: Loop, keeper: state.Keeper, parent: Card, checkpoint: Path, report: Path | None, console: Console
) -> Card:
    pictures = loop.dataset
    loop.net.load_state_dict(loop.best)
    result = measure(predict(loop.net, pictures.test_images, loop.normalise, loop.device), pictures.test_labels)
    if not math.isfinite(result.loss):
        raise ModelError(f"the loss on the test set is {result.loss}: lower --learning-rate and train again")
    console.print(f"test accuracy {result.accuracy:.4f}, balanced {result.balanced_accuracy:.4f}")
    card = _write(checkpoint, loop, parent, result)
    if report:
        from seaway.train import page  # matplotlib takes seconds to load

        with atomic.file(report) as part:
            part.write_text(page.render(card, loop.history, result, pictures), encoding="utf-8")
    keeper.remove()  # the last, so that a full disk above costs no training
    return card


def _write(checkpoint: Path, loop: Loop, parent: Card, result: Result) -> Card:
    settings, pictures = loop.settings, loop.dataset
    folded = result.bymerge_accuracy(pictures.labels)
    card = Card(
        kind="checkpoint",
        name=parent.name,
        labels=pictures.labels,
        metrics={
            "accuracy": result.accuracy,
            "balanced_accuracy": result.balanced_accuracy,
            "loss": result.loss,
            **({"bymerge_accuracy": folded} if folded is not None else {}),
        },
        settings={
            **settings.essential(),
            **code(settings.net),
            "image_size": list(pictures.train_images.shape[1:]),
            "classes": len(pictures.labels),
            "mean": loop.normalise.mean,
            "std": loop.normalise.std,
        },
        parents={"dataset": parent},
    )
    with atomic.folder(checkpoint) as part:
        state.save({name: value.contiguous() for name, value in loop.best.items()}, part / WEIGHTS)
        (part / HISTORY).write_text(_rows(loop.history))
        return cards.write(part, card)


def _rows(history: list[Epoch]) -> str:
    return json.dumps(history, indent=1) + "\n"
