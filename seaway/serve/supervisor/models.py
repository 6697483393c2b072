"""What is known of models and their versions, which of these should be in memory, and which one answers."""

import time
from dataclasses import dataclass, field
from pathlib import Path

from seaway.artifacts import store
from seaway.protocols.calls import Served
from seaway.serve.supervisor.watch import Watch

UNDER_WAY = ("START", "LOADING")


@dataclass(slots=True, eq=False)
class Version:
    """One version and what is known of it. `state` as TensorFlow Serving names it: START … END.

    `error` is why it could not be loaded the last time, until it is; `digest` that of the files it was loaded from, the
    only ones that it is loaded from again.
    """

    model: str
    number: int
    path: Path
    state: str = "START"
    error: str = ""
    served: Served | None = None  # once it is loaded
    batchable: tuple[str, ...] = ()  # signatures that answer several requests in one run
    active: int = 0  # requests that it is answering
    digest: str = ""
    watch: Watch = field(default_factory=Watch)
    header: str = ""  # `identity` as an HTTP header carries it

    @property
    def key(self) -> str:
        return f"{self.model}/{self.number}"

    @property
    def identity(self) -> str:
        """What every answer names: model/version@digest."""
        return self.served.identity if self.served else f"{self.key}@"

    @property
    def arriving(self) -> bool:
        """Whether its files were seen to change, and have not been loaded since."""
        return self.state == "START" and self.watch.changed

    @property
    def coming(self) -> bool:
        """Whether it is on its way for the first time, and nothing is known to be wrong with it."""
        return self.state in UNDER_WAY and not self.arriving and not self.error


@dataclass(slots=True)
class Model:
    """`labels` are those in force: each points at a version that could be loaded."""

    versions: dict[int, Version] = field(default_factory=dict)
    labels: dict[str, int] = field(default_factory=dict)
    wanted_labels: dict[str, int] = field(default_factory=dict)

    def available(self) -> list[int]:
        return sorted(number for number, version in self.versions.items() if version.state == "AVAILABLE")

    def instead_of_stable(self) -> list[int]:
        """What may answer in the place of a stable version that cannot: available versions that are older, the newest
        last. A newer one was never promoted."""
        stable = self.labels.get(store.STABLE, self.wanted_labels.get(store.STABLE))
        if stable is None or not _out(self.versions.get(stable)):
            return []
        return [number for number in self.available() if number < stable]

    def needs(self, number: int) -> bool:
        """Whether this version, which would not load, would be served if it did."""
        labelled = {*self.labels.values(), *self.wanted_labels.values()}
        return number in labelled or all(number > other for other in self.available())


def wanted(model: Model, numbers: list[int]) -> set[int]:
    """What should be in memory: labelled versions, the latest that may load, and until then the latest that did; where
    the stable one cannot be loaded, the one before it as well."""
    ended = {number for number, version in model.versions.items() if version.state == "END"}
    chosen = {number for number in model.wanted_labels.values() if number in numbers} | ended
    chosen |= {number for number in model.labels.values() if number in model.available()}
    hopeful = [number for number in numbers if number not in ended]
    chosen.update(hopeful[-1:])
    whole = [number for number in hopeful if number not in model.versions or not model.versions[number].arriving]
    chosen.update(whole[-1:])
    if hopeful and hopeful[-1] not in model.available():
        chosen.update(model.available()[-1:])
    stable = model.labels.get(store.STABLE, model.wanted_labels.get(store.STABLE))
    new = stable in numbers and stable not in model.versions
    if stable is not None and not new and _out(model.versions.get(stable)):
        chosen.update([number for number in whole if number < stable][-1:], model.instead_of_stable()[-1:])
    return chosen | {number for number, version in model.versions.items() if version.state in UNDER_WAY}


def _out(version: Version | None) -> bool:
    """Whether a version cannot answer, and is not merely on its way for the first time; None: it is not there."""
    return version is None or version.state == "END" or (version.state in UNDER_WAY and not version.coming)


def why_not(model: Model, number: int, settle: float) -> str:
    """Why a version does not answer, and what will become of it; "" where that is not known, or it does."""
    version, now = model.versions.get(number), time.monotonic()
    if version is None or version.state in ("AVAILABLE", "UNLOADING"):
        return ""
    if version.state == "END":
        follows = version.watch.next_try(now) if model.needs(number) else "it is not tried again: a newer one answers"
        return f"{version.error}; {follows}"
    if version.error:
        return f"{version.error}; it is being tried again"
    return f"its files still change: it is loaded once they have not for {settle:g} s" if version.arriving else ""


def why_unavailable(model: Model, settle: float) -> str:
    """The state of the newest version, in words."""
    if not model.versions:
        return ""
    newest = max(model.versions)
    return f"version {newest} is in {model.versions[newest].state} {why_not(model, newest, settle)}".strip()
