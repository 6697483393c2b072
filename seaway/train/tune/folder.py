"""A sweep's folder: what is in it, and that one process at a time works there.

study.db      Optuna's study: every trial's settings, figures after each epoch, and how it ended
trials/       N.npz: what trial N took each validation picture for
work/         the training state of the trial that is not finished
dataset/      the dataset artifact, where the sweep made it from a source
sweep.json, sweep.html      the result; checkpoint/, train.html      the winner, with --final
"""

import fcntl
import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from seaway.artifacts import card as cards
from seaway.data import data
from seaway.errors import InvalidInput, Refused

LOCK, STUDY, TRIALS, WORK, DATASET = "lock", "study.db", "trials", "work", "dataset"
JSON, HTML, CHECKPOINT, REPORT = "sweep.json", "sweep.html", "checkpoint", "train.html"


@contextmanager
def alone(folder: Path) -> Iterator[None]:
    """Makes the folder and holds its lock, which ends with the process at the latest.

    Raises Refused where another sweep works in it, InvalidInput where something else lies there.
    """
    if folder.is_dir() and not (folder / LOCK).exists() and any(folder.iterdir()):
        raise InvalidInput(f"{folder}: is no sweep's folder and not empty; give another --folder")
    folder.mkdir(parents=True, exist_ok=True)
    descriptor = os.open(folder / LOCK, os.O_RDWR | os.O_CREAT, 0o644)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        os.close(descriptor)
        raise Refused(f"{folder}: another sweep is at work there; wait for its end, or give another --folder") from None
    try:
        yield
    finally:
        os.close(descriptor)


def dataset(folder: Path, source: str, cache: Path, explore: Callable[..., object]) -> Path:
    """The folder's own dataset of this source, which `explore` makes where there is none.

    Raises DataError, Refused for another.
    """
    made = folder / DATASET
    fingerprint = data.fingerprint(source, cache)
    if not (made / cards.CARD).exists():
        explore(source, made, cache=cache)
    held = cards.read(made).settings
    if (held.get("source"), held.get("fingerprint")) != (source, fingerprint):
        changed = "whose files have changed since" if held.get("source") == source else f"and this is {source}"
        raise Refused(f"{folder} holds a sweep on {held.get('source')}, {changed}; give another --folder")
    return made


def outcome(folder: Path, number: int) -> Path:
    return folder / TRIALS / f"{number}.npz"
