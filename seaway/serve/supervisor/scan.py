"""Scans the model repository for the model manager: its models, skipped folders, and errors."""

import logging
from dataclasses import dataclass, field
from pathlib import Path

from seaway.artifacts import model_repository
from seaway.errors import SeawayError

log = logging.getLogger("seaway.serve")

ModelContents = tuple[dict[int, Path], dict[str, int]]  # a model's versions with their folders, and its labels
Pin = tuple[str, int | None]  # the only model and version to serve; None: not chosen yet


@dataclass(slots=True)
class Scan:
    """Model → its versions and labels, None if they cannot be read; skipped folders and the reasons; fingerprints of
    the requested versions, by key."""

    models: dict[str, ModelContents | None] = field(default_factory=dict)
    skipped: dict[Path, str] = field(default_factory=dict)
    fingerprints: dict[str, str] = field(default_factory=dict)


def scan(repository: Path, had_models: bool, pin: Pin | None, keys: set[tuple[str, int]]) -> tuple[Scan | None, str]:
    """The contents of the repository, None if it cannot be read, and the errors in words. `had_models`: whether an
    earlier scan found models; `keys`: the versions to take the fingerprints of."""
    try:
        contents = model_repository.contents(repository)
    except (SeawayError, OSError) as error:
        return None, str(error)
    # Not, for example, a file system's lost+found
    unreadable_models = [name for name in contents.unreadable if model_repository.NAME.fullmatch(name)]
    if not contents.models and not unreadable_models and had_models:
        return None, f"{repository}: all models disappeared at once, as if unmounted; stop the server to unload them"
    result, errors = Scan(skipped=contents.skipped), []
    for name, reason in contents.unreadable.items():
        result.models[name] = None
        if name in unreadable_models:
            errors.append(reason)
        else:
            result.skipped[repository / name] = reason
    for name, folders in contents.models.items():
        try:
            result.models[name] = folders, model_repository.labels(repository, name)
        except (SeawayError, OSError) as error:  # of this model only; the others are followed
            result.models[name] = None
            errors.append(str(error))
    if pin is not None:
        result.models = {name: _pinned(model, pin[1]) for name, model in result.models.items() if name == pin[0]}
    for name, number in keys:
        if number in (folders := contents.models.get(name, {})):
            result.fingerprints[f"{name}/{number}"] = model_repository.fingerprint(folders[number])
    return result, "; ".join(errors)


def _pinned(model: ModelContents | None, number: int | None) -> ModelContents | None:
    return model and ({n: folder for n, folder in model[0].items() if n == number}, {})


def inspect_folder(folder: Path) -> tuple[str, bool]:
    """A version's fingerprint, and whether it has artifact metadata."""
    return model_repository.fingerprint(folder), (folder / model_repository.METADATA_FILE).exists()


def resolve_pin(repository: Path, model: str) -> Pin:
    """The version that an unlabelled request would get now; None if there is none yet."""
    try:
        labels, numbers = model_repository.labels(repository, model), model_repository.versions(repository, model)
    except (SeawayError, OSError):
        return model, None
    number = labels.get(model_repository.STABLE, max(numbers, default=None))
    if number is not None:
        log.info("%s/%d is the only version that this server will serve", model, number)
    return model, number
