"""The models that TensorFlow Serving's flags or its model config file name, as a source for the model manager.

Each model has its own base path (<base path>/<version>/), version policy and labels. The config file is read again
while the server runs: a new config replaces the old one, and a config with an error changes nothing.
"""

import logging
import re
import time
from collections.abc import Iterable
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from seaway.artifacts import model_repository
from seaway.errors import InvalidInput, SeawayError, Unavailable
from seaway.serve import text_config
from seaway.serve.supervisor.scan import ModelContents, Scan, States

log = logging.getLogger("seaway.serve")

REMOTE = re.compile(r"([a-z][a-z0-9+.-]*):/")  # gs://bucket/folder; as a path, it loses a slash
PLATFORM = "tensorflow"


@dataclass(frozen=True, slots=True)
class ConfiguredModel:
    """One model. Its version policy is `newest`, how many of the newest versions to serve (0: all), or if `specific`
    names versions, those alone."""

    name: str
    base_path: Path
    newest: int = 1
    specific: frozenset[int] | None = None
    labels: dict[str, int] = field(default_factory=dict)

    def __post_init__(self) -> None:
        if not self.name:
            raise InvalidInput(f"a model has no name (base path {str(self.base_path)!r}): give it one")
        path = str(self.base_path)
        if remote := REMOTE.match(path):
            raise InvalidInput(
                f"model {self.name!r}: base path {path.replace(':/', '://', 1)!r}: {remote[1]}:// is not supported; "
                "copy the model to a folder, or mount it"
            )
        if not self.base_path.is_absolute():
            raise InvalidInput(f"model {self.name!r}: base path {path!r} is not absolute: begin it with /")

    def contents(self) -> tuple[ModelContents, str]:
        """The versions to serve, and which are missing in words. Raises Unavailable if the base path cannot be read or
        has no version."""
        folders = model_repository.base_path_versions(self.base_path)
        if not folders:
            raise Unavailable(
                f"{self.base_path}: no version of model {self.name!r}: no folder whose name is an integer"
            )
        if self.specific is None:
            return ModelContents(folders, self.labels, self.newest or len(folders)), ""
        absent = sorted(self.specific - folders.keys())
        kept = {number: folder for number, folder in folders.items() if number in self.specific}
        missing = f"{self.base_path}: no version {', '.join(map(str, absent))} of model {self.name!r}" if absent else ""
        return ModelContents(kept, self.labels, max(len(kept), 1)), missing


def read_config(file: Path) -> dict[str, ConfiguredModel]:
    """Name → model, of a ModelServerConfig; empty for an empty one. Raises InvalidInput."""
    models: dict[str, ConfiguredModel] = {}
    for config in text_config.read(file, "ModelServerConfig").model_config_list.config:
        if config.name in models:
            raise InvalidInput(f"{file}: model {config.name!r} is listed twice: remove one of them")
        _check_platform(file, config)
        try:
            models[config.name] = _model(config)
        except InvalidInput as error:
            raise InvalidInput(f"{file}: {error}") from None
    return models


def _check_platform(file: Path, config: Any) -> None:
    if config.model_platform and config.model_type:
        raise InvalidInput(f"{file}: model {config.name!r} has both model_type and model_platform: keep model_platform")
    if not (config.model_platform == PLATFORM or config.model_type == 1):
        raise InvalidInput(f'{file}: model {config.name!r} needs model_platform: "{PLATFORM}", the only one supported')


def _model(config: Any) -> ConfiguredModel:
    policy = config.model_version_policy
    choice = policy.WhichOneof("policy_choice") or "latest"
    return ConfiguredModel(
        config.name,
        Path(config.base_path),
        newest=max(policy.latest.num_versions, 1) if choice == "latest" else 0,
        specific=frozenset(policy.specific.versions) if choice == "specific" else None,
        labels=dict(config.version_labels),
    )


class ConfiguredModels:
    """The source (`scan.Source`) of these models.

    `file`: the config file that they were read from, if any; it is read again every `read_every_s`, and the base paths
    are listed every `list_every_s` (infinite: once). `allow_unavailable`: a new label may point at a version that is
    not available yet. Raises InvalidInput if a label may not.
    """

    def __init__(
        self,
        models: Iterable[ConfiguredModel],
        file: Path | None = None,
        *,
        list_every_s: float = 1.0,
        read_every_s: float = float("inf"),
        allow_unavailable: bool = False,
    ) -> None:
        self._models: dict[str, ConfiguredModel] = {}
        self._file, self._list_every_s, self._read_every_s = file, list_every_s, read_every_s
        self._allow_unavailable = allow_unavailable
        new = {model.name: model for model in models}
        self._check_labels(new, {})
        self._models, self._config_error = new, ""
        self._list_at, self._read_at = 0.0, time.monotonic() + read_every_s
        self._listing = Scan()

    def __str__(self) -> str:
        return str(self._file or next(iter(self._models.values())).base_path)

    def __call__(self, states: States) -> Scan:
        """The models as configured now. One whose base path cannot be read, or is empty as if it were unmounted, is
        None, so that its versions stay."""
        now = time.monotonic()
        if self._file and now >= self._read_at:
            self._read_at = now + self._read_every_s
            self._read_again(self._file, states)
        if now >= self._list_at:
            self._list_at = now + self._list_every_s
            self._listing = self._list()
        errors = [self._config_error, *self._listing.errors] if self._config_error else [*self._listing.errors]
        return replace(self._listing, models=dict(self._listing.models), errors=errors, fingerprints={})

    def _read_again(self, file: Path, states: States) -> None:
        try:
            new = read_config(file)
            self._check_labels(new, states)
        except InvalidInput as error:
            self._config_error = f"the new model config is not used: {error}"
            return
        self._config_error = ""
        if new and new != self._models:  # an empty config changes nothing, as in TensorFlow Serving
            log.info("%s: the models are now %s", file, ", ".join(new))
            self._models, self._list_at = new, 0.0

    def _check_labels(self, new: dict[str, ConfiguredModel], states: States) -> None:
        """Raises InvalidInput for a label that may not point at its version, by TensorFlow Serving's rules."""
        for name, model in new.items():
            old_labels = self._models[name].labels if name in self._models else {}
            for label, number in model.labels.items():
                is_new = old_labels.get(label, number) == number
                if states.get(name, {}).get(number) == "AVAILABLE" or (self._allow_unavailable and is_new):
                    continue
                advice = (
                    "load the version first, and then move the label"
                    if self._allow_unavailable
                    else "load the version first, or give --allow_version_labels_for_unavailable_models"
                )
                raise InvalidInput(
                    f"model {name!r}: label {label!r} points at version {number}, which is not available: {advice}"
                )

    def _list(self) -> Scan:
        result = Scan()
        for name, model in self._models.items():
            try:
                contents, missing = model.contents()
            except (SeawayError, OSError) as error:
                result.models[name] = None
                result.errors.append(str(error))
                continue
            if missing:
                result.errors.append(missing)
            if contents.folders:
                result.models[name] = contents
        return result
