"""What is known of models and their versions, and which of these should be in memory."""

from dataclasses import dataclass, field
from pathlib import Path

from seaway.protocols.calls import Served

UNDER_WAY = ("START", "LOADING")


@dataclass(slots=True, eq=False)
class Version:
    """One version and what is known of it. `state` as TensorFlow Serving names it: START … END."""

    model: str
    number: int
    path: Path
    state: str = "START"
    error: str = ""
    served: Served | None = None  # once it is loaded
    batchable: tuple[str, ...] = ()  # signatures that answer several requests in one run
    active: int = 0  # requests that it is answering

    @property
    def key(self) -> str:
        return f"{self.model}/{self.number}"

    @property
    def identity(self) -> str:
        """What every answer names: model/version@digest."""
        return self.served.identity if self.served else f"{self.key}@"


@dataclass(slots=True)
class Model:
    """`labels` are those in force: each points at a version that could be loaded."""

    versions: dict[int, Version] = field(default_factory=dict)
    labels: dict[str, int] = field(default_factory=dict)
    wanted_labels: dict[str, int] = field(default_factory=dict)

    def available(self) -> list[int]:
        return sorted(number for number, version in self.versions.items() if version.state == "AVAILABLE")


def wanted(model: Model, numbers: list[int]) -> set[int]:
    """What should be in memory: labelled versions, the latest that may load, and until then the latest that did."""
    ended = {number for number, version in model.versions.items() if version.state == "END"}
    chosen = {number for number in model.wanted_labels.values() if number in numbers} | ended
    chosen |= {number for number in model.labels.values() if number in model.available()}
    hopeful = [number for number in numbers if number not in ended]
    if hopeful:
        chosen.add(hopeful[-1])
        if model.available() and hopeful[-1] not in model.available():
            chosen.add(model.available()[-1])
    return chosen | {number for number, version in model.versions.items() if version.state in UNDER_WAY}


def why_unavailable(model: Model) -> str:
    """The state of the newest version, in words."""
    newest = model.versions[max(model.versions)] if model.versions else None
    return "" if newest is None else f"version {newest.number} is in {newest.state} {newest.error}".strip()
