"""The state of models and their versions: which should be in memory, and which responds to a request."""

import time
from dataclasses import dataclass, field
from pathlib import Path

from seaway.artifacts import model_repository
from seaway.protocols.calls import ModelVersionInfo
from seaway.serve.supervisor.watch import Watch

IN_PROGRESS = ("START", "LOADING")
NOT_LOADED = ("START", "END")


@dataclass(slots=True, eq=False)
class ModelVersion:
    """The state of one version. `state` has TensorFlow Serving's names: START … END.

    `error` says why the last attempt to load failed, "" once it is loaded. `digest` is that of the files
    it was loaded from; only files with this digest are loaded again.
    """

    model: str
    number: int
    path: Path
    state: str = "START"
    error: str = ""
    served: ModelVersionInfo | None = None  # once it is loaded
    batchable: tuple[str, ...] = ()  # signatures that allow several requests in one batch
    active: int = 0  # requests without a response
    digest: str = ""
    watch: Watch = field(default_factory=Watch)
    headers: dict[str, str] = field(default_factory=dict)  # of its responses: identity and backend, once it is loaded

    @property
    def key(self) -> str:
        return f"{self.model}/{self.number}"

    @property
    def identity(self) -> str:
        """model/version@digest, as in every successful response of a model."""
        return self.served.identity if self.served else f"{self.key}@"

    @property
    def files_changing(self) -> bool:
        """Whether its files have changed while they were observed, and have not been loaded since."""
        return self.state == "START" and self.watch.changed

    @property
    def is_first_load(self) -> bool:
        """Whether it is loading for the first time, without any error so far."""
        return self.state in IN_PROGRESS and not self.files_changing and not self.error


@dataclass(slots=True)
class Model:
    """`labels` are those in effect, which point at versions that loaded; `requested_labels` those in the repository.
    `newest`: how many of the newest versions to serve, beside the labelled ones."""

    versions: dict[int, ModelVersion] = field(default_factory=dict)
    labels: dict[str, int] = field(default_factory=dict)
    requested_labels: dict[str, int] = field(default_factory=dict)
    newest: int = 1

    def available(self) -> list[int]:
        return sorted(number for number, version in self.versions.items() if version.state == "AVAILABLE")

    def stable_fallbacks(self) -> list[int]:
        """Versions that may respond instead of an unavailable stable one: older available ones, the newest last. Newer
        ones were never promoted."""
        stable = self.labels.get(model_repository.STABLE, self.requested_labels.get(model_repository.STABLE))
        if stable is None or not _is_unavailable(self.versions.get(stable)):
            return []
        return [number for number in self.available() if number < stable]

    def would_serve(self, number: int) -> bool:
        """Whether this version, which failed to load, would be served if it loaded."""
        labelled = {*self.labels.values(), *self.requested_labels.values()}
        return number in labelled or sum(number < other for other in self.available()) < self.newest


def wanted_versions(model: Model, numbers: list[int]) -> set[int]:
    """The versions that should be in memory: the labelled ones; the newest that have not failed to load; until those
    are available, also the newest available ones; and, if the stable one is unavailable, the newest older one."""
    failed = {number for number, version in model.versions.items() if version.state == "END"}
    wanted = {number for number in model.requested_labels.values() if number in numbers} | failed
    wanted |= {number for number in model.labels.values() if number in model.available()}
    loadable = [number for number in numbers if number not in failed]
    newest = loadable[-model.newest :]
    wanted.update(newest)
    complete = [
        number for number in loadable if number not in model.versions or not model.versions[number].files_changing
    ]
    wanted.update(complete[-model.newest :])
    if not set(newest) <= set(model.available()):
        wanted.update(model.available()[-model.newest :])
    stable = model.labels.get(model_repository.STABLE, model.requested_labels.get(model_repository.STABLE))
    is_new = stable in numbers and stable not in model.versions
    if stable is not None and not is_new and _is_unavailable(model.versions.get(stable)):
        wanted.update([number for number in complete if number < stable][-1:], model.stable_fallbacks()[-1:])
    return wanted | {number for number, version in model.versions.items() if version.state in IN_PROGRESS}


def _is_unavailable(version: ModelVersion | None) -> bool:
    """Whether a version is unavailable, other than by loading for the first time; None: it does not exist."""
    return version is None or version.state == "END" or (version.state in IN_PROGRESS and not version.is_first_load)


def unavailable_reason(model: Model, number: int, settle_s: float) -> str:
    """Why a version is unavailable, and when it is retried; "" if that is unknown, or if it is available."""
    version, now = model.versions.get(number), time.monotonic()
    if version is None or version.state in ("AVAILABLE", "UNLOADING"):
        return ""
    if version.state == "END":
        if not model.would_serve(number):
            return f"{version.error}; it is not retried: a newer version is available"
        return f"{version.error}; {version.watch.next_attempt(now)}"
    if version.error:
        return f"{version.error}; it is being retried"
    if version.files_changing:
        return f"its files are still changing: it is loaded once they have been unchanged for {settle_s:g} s"
    return ""


def newest_unavailable_reason(model: Model, settle_s: float) -> str:
    """Why the newest version is unavailable, in words."""
    if not model.versions:
        return ""
    newest = max(model.versions)
    reason = unavailable_reason(model, newest, settle_s)
    return f"version {newest} is in state {model.versions[newest].state} {reason}".strip()
