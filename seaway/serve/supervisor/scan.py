"""A look at the volume, for the data plane: what is in it, what is skipped, and what is wrong."""

import logging
from dataclasses import dataclass, field
from pathlib import Path

from seaway.artifacts import store
from seaway.errors import SeawayError

log = logging.getLogger("seaway.serve")

Seen = tuple[dict[int, Path], dict[str, int]]  # a model's versions with their folders, and its labels
Pin = tuple[str, int | None]  # the only model and version to serve; None: not chosen yet


@dataclass(slots=True)
class Scan:
    """Model → what it holds, None where that cannot be read; what is no model or version, and why; the fingerprints of
    the versions that were asked for, by key."""

    models: dict[str, Seen | None] = field(default_factory=dict)
    skipped: dict[Path, str] = field(default_factory=dict)
    fingerprints: dict[str, str] = field(default_factory=dict)


def scan(volume: Path, known: bool, pin: Pin | None, keys: set[tuple[str, int]]) -> tuple[Scan | None, str]:
    """What is in the volume, None where it cannot be read, and what is wrong with it in words. `known`: whether models
    were seen in it before; `keys`: the versions whose files are to be looked at."""
    try:
        found = store.contents(volume)
    except (SeawayError, OSError) as error:
        return None, str(error)
    ours = [name for name in found.unreadable if store.NAME.fullmatch(name)]  # not a file system's lost+found
    if not found.models and not ours and known:
        return None, f"{volume}: all models are gone at once, as when a mount is lost; stop the server to unload them"
    made, errors = Scan(skipped=found.skipped), []
    for name, why in found.unreadable.items():
        made.models[name] = None
        if name in ours:
            errors.append(why)
        else:
            made.skipped[volume / name] = why
    for name, folders in found.models.items():
        try:
            made.models[name] = folders, store.labels(volume, name)
        except (SeawayError, OSError) as error:  # of this model: the others are followed
            made.models[name] = None
            errors.append(str(error))
    if pin is not None:
        made.models = {name: _pinned(seen, pin[1]) for name, seen in made.models.items() if name == pin[0]}
    for name, number in keys:
        if number in (folders := found.models.get(name, {})):
            made.fingerprints[f"{name}/{number}"] = store.fingerprint(folders[number])
    return made, "; ".join(errors)


def _pinned(seen: Seen | None, number: int | None) -> Seen | None:
    return seen and ({n: folder for n, folder in seen[0].items() if n == number}, {})


def first_look(folder: Path) -> tuple[str, bool]:
    """A version's fingerprint, and whether it has a card."""
    return store.fingerprint(folder), (folder / store.CARD).exists()


def chosen(volume: Path, model: str) -> Pin:
    """The version of the model that an unlabelled request would get now; None where there is none yet."""
    try:
        labels, numbers = store.labels(volume, model), store.versions(volume, model)
    except (SeawayError, OSError):
        return model, None
    number = labels.get(store.STABLE, max(numbers, default=None))
    if number is not None:
        log.info("%s/%d is the only version that is served, whatever the volume comes to hold", model, number)
    return model, number
