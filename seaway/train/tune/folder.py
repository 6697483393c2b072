"""A sweep's folder: its files, and the lock that lets only one process work in it.

study.db      Optuna's study: the settings of every trial, its score after each epoch, and how it ended
trials/       N.npz: the predictions of trial N for the validation images
work/         the training state of the unfinished trial
dataset/      the dataset artifact, if the sweep made it from a source
sweep.json, sweep.html      the result; checkpoint/, train.html      the winner, with --final
"""

import fcntl
import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from seaway.artifacts import artifact_metadata
from seaway.data import datasets
from seaway.errors import InvalidInput, Refused

LOCK, STUDY, TRIALS, WORK, DATASET = "lock", "study.db", "trials", "work", "dataset"
JSON, HTML, CHECKPOINT, REPORT = "sweep.json", "sweep.html", "checkpoint", "train.html"


@contextmanager
def locked(folder: Path) -> Iterator[None]:
    """Creates the folder and holds its lock, which is released at the latest when the process ends.

    Raises Refused if another sweep holds the lock, InvalidInput if the folder holds anything but a sweep.
    """
    if folder.is_dir() and not (folder / LOCK).exists() and any(folder.iterdir()):
        raise InvalidInput(f"{folder}: not empty, and not a sweep's folder; give another --folder")
    folder.mkdir(parents=True, exist_ok=True)
    descriptor = os.open(folder / LOCK, os.O_RDWR | os.O_CREAT, 0o644)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        os.close(descriptor)
        raise Refused(
            f"{folder}: another sweep is running there; wait until it ends, or give another --folder"
        ) from None
    try:
        yield
    finally:
        os.close(descriptor)


def dataset(folder: Path, source: str, cache: Path, explore: Callable[..., object]) -> Path:
    """The folder's own dataset of this source; `explore` makes it if it is not there yet.

    Raises DataError, and Refused if the dataset there comes from another source.
    """
    path = folder / DATASET
    fingerprint = datasets.fingerprint(source, cache)
    if not (path / artifact_metadata.METADATA_FILE).exists():
        explore(source, path, cache=cache)
    origin = artifact_metadata.read(path).settings
    if (origin.get("source"), origin.get("fingerprint")) != (source, fingerprint):
        changed = "whose files have changed since" if origin.get("source") == source else f"not on {source}"
        raise Refused(f"{folder} holds a sweep on {origin.get('source')}, {changed}; give another --folder")
    return path


def predictions_path(folder: Path, number: int) -> Path:
    return folder / TRIALS / f"{number}.npz"
