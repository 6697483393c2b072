"""Scans where models come from, for the model manager: their versions, skipped folders, and errors.

A source is a function that lists the models. `read_repository` is the usual one, of a model repository; `model_config`
has another, of TensorFlow Serving's model config file.
"""

import logging
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import NamedTuple

from seaway.artifacts import model_repository
from seaway.errors import SeawayError, Unavailable

log = logging.getLogger("seaway.serve")

Pin = tuple[str, int | None]  # the only model and version to serve; None: not chosen yet
States = dict[str, dict[int, str]]  # the manager's models → their versions → state


class ModelContents(NamedTuple):
    """A model's versions with their folders, its labels, and how many of the newest versions to serve."""

    folders: dict[int, Path]
    labels: dict[str, int]
    newest: int = 1


@dataclass(slots=True)
class Scan:
    """Model → its contents, None if they cannot be read; skipped folders and the reasons; errors in words; fingerprints
    of the versions that are not loaded, by key."""

    models: dict[str, ModelContents | None] = field(default_factory=dict)
    skipped: dict[Path, str] = field(default_factory=dict)
    errors: list[str] = field(default_factory=list)
    fingerprints: dict[str, str] = field(default_factory=dict)


Source = Callable[[States], Scan]  # raises SeawayError or OSError if nothing can be read


def scan(
    source: Source, states: States, pin: Pin | None, not_loaded: dict[tuple[str, int], Path]
) -> tuple[Scan | None, str]:
    """The models of the source, None if it cannot be read, and the errors in words. `not_loaded`: the versions to take
    the fingerprints of, and their folders so far."""
    try:
        result = source(states)
    except (SeawayError, OSError) as error:
        return None, str(error)
    for (name, number), folder in not_loaded.items():
        contents = result.models.get(name)
        if contents is None or number in contents.folders:
            folder = contents.folders[number] if contents else folder
            result.fingerprints[f"{name}/{number}"] = model_repository.fingerprint(folder)
    if pin is not None:
        result.models = {name: _pinned(model, pin[1]) for name, model in result.models.items() if name == pin[0]}
    return result, "; ".join(result.errors)


def read_repository(repository: Path, states: States, only: str = "") -> Scan:
    """The source of a model repository. Raises Unavailable, also if all models disappeared at once.

    `only`: the name of the only model to serve. If the folder has no such model, it may be the model itself.
    """
    contents = model_repository.contents(repository)
    if only not in contents.models and (versions := _model_itself(repository)):
        if only:
            return Scan({only: ModelContents(versions, {})})
        if not contents.models:
            raise Unavailable(f"{repository}: this is a model, not a repository: name it with --model NAME")
    # Not, for example, a file system's lost+found
    unreadable_models = [name for name in contents.unreadable if model_repository.NAME.fullmatch(name)]
    if not contents.models and not unreadable_models and any(states.values()):
        raise Unavailable(
            f"{repository}: all models disappeared at once, as if unmounted; stop the server to unload them"
        )
    result = Scan(skipped=contents.skipped)
    for name, reason in contents.unreadable.items():
        result.models[name] = None
        if name in unreadable_models:
            result.errors.append(reason)
        else:
            result.skipped[repository / name] = reason
    for name, folders in contents.models.items():
        try:
            result.models[name] = ModelContents(folders, model_repository.labels(repository, name))
        except (SeawayError, OSError) as error:  # of this model only; the others are followed
            result.models[name] = None
            result.errors.append(str(error))
    return result


def _model_itself(folder: Path) -> dict[int, Path]:
    """The versions of a folder that was given as a repository, and is one model's; empty if it is a repository."""
    versions = model_repository.base_path_versions(folder)
    return {n: path for n, path in versions.items() if model_repository.is_saved_model(path)}


def _pinned(model: ModelContents | None, number: int | None) -> ModelContents | None:
    return model and ModelContents({n: folder for n, folder in model.folders.items() if n == number}, {})


def inspect_folder(folder: Path) -> tuple[str, bool]:
    """A version's fingerprint, and whether it has artifact metadata."""
    return model_repository.fingerprint(folder), (folder / model_repository.METADATA_FILE).exists()


def resolve_pin(source: Source, model: str) -> Pin:
    """The version that an unlabelled request would get now; None if there is none yet."""
    try:
        contents = source({}).models.get(model)
    except (SeawayError, OSError):
        return model, None
    if contents is None:
        return model, None
    number = contents.labels.get(model_repository.STABLE, max(contents.folders, default=None))
    if number is not None:
        log.info("%s/%d is the only version that this server will serve", model, number)
    return model, number
