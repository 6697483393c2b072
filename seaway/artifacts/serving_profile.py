"""A version's serving profile: the engine and its settings that `seaway tune-serving` chose by measuring, and why.

    REPOSITORY/<name>/evidence/<digest>/serving_profile.json

It is bound to the version's digest and no part of it, so it can be measured again. `deploy` and `promote` put its
`settings` into a pod template, beside the version; no server reads it.
"""

import dataclasses
import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from seaway.artifacts import atomic, model_repository
from seaway.artifacts.artifact_metadata import ArtifactMetadata
from seaway.errors import MetadataError

FILE = "serving_profile.json"
SCHEMA_VERSION = 1
SAVEDMODEL, ONNX = "savedmodel", "onnx"
ENGINES = {SAVEDMODEL: "TensorFlow", ONNX: "ONNX Runtime"}  # the server's --backend → its name
BACKEND, THREADS, ONEDNN = "SEAWAY_BACKEND", "SEAWAY_THREADS", "TF_ENABLE_ONEDNN_OPTS"
SETTINGS = (BACKEND, THREADS, ONEDNN)  # the environment variables that a profile may set
MAX_THREADS = 4096


@dataclass(frozen=True, slots=True)
class Candidate:
    """An engine with settings. `cores`: over how many a large batch is split, which follows from the threads; `onednn`:
    whether TensorFlow uses oneDNN's kernels, None for ONNX Runtime."""

    backend: str
    threads: int
    cores: int
    onednn: bool | None = None

    @property
    def title(self) -> str:
        """In words, for example "TensorFlow, 2 threads, oneDNN on"."""
        words = [ENGINES[self.backend], f"{self.threads} thread{'s' if self.threads > 1 else ''}"]
        words += [] if self.onednn is None else [f"oneDNN {'on' if self.onednn else 'off'}"]
        words += [f"batches over {self.cores} cores"] if self.cores > 1 else []
        return ", ".join(words)

    @property
    def settings(self) -> dict[str, str]:
        """The environment variables that make a server use it."""
        onednn = {} if self.onednn is None else {ONEDNN: str(int(self.onednn))}
        return {BACKEND: self.backend, THREADS: str(self.threads)} | onednn


@dataclass(frozen=True, slots=True)
class Parity:
    """One signature in one engine against the recorded outputs: `examples` compared, those out of tolerance, and the
    largest |Δ| (None: infinite)."""

    examples: int
    wrong: int
    max_abs: float | None


@dataclass(frozen=True, slots=True)
class Measurement:
    """`ms`: batch size → median milliseconds of a call; empty if the candidate `failed`, which says why."""

    candidate: Candidate
    ms: Mapping[str, float] = field(default_factory=dict)
    failed: str = ""


@dataclass(frozen=True, slots=True)
class Profile:
    """`version`: name@digest; `chosen` and the `reason`; `cpu` model and `cores` of the machine; `measurements` of all
    candidates; `ratios` of the engines' times, TensorFlow's by ONNX Runtime's, in each round (empty without both);
    `parity`: engine → signature."""

    version: str
    measured_at: str
    cpu: str
    cores: int
    chosen: Candidate
    reason: str
    measurements: tuple[Measurement, ...]
    ratios: tuple[float, ...]
    parity: Mapping[str, Mapping[str, Parity]]

    @property
    def settings(self) -> dict[str, str]:
        return self.chosen.settings


def path(repository: Path, name: str, digest: str) -> Path:
    return model_repository.evidence(repository, name, digest) / FILE


def write(repository: Path, name: str, metadata: ArtifactMetadata, profile: Profile) -> Path:
    """Replaces the version's profile atomically; returns the file."""
    file = path(repository, name, metadata.sha256)
    file.parent.mkdir(parents=True, exist_ok=True)
    document = {"schema_version": SCHEMA_VERSION, **dataclasses.asdict(profile)}
    with atomic.file(file) as part:
        part.write_text(json.dumps(document, indent=1, allow_nan=False) + "\n")
    return file


def find(repository: Path, name: str, metadata: ArtifactMetadata) -> Profile | None:
    """The profile of this version, None if it has none. Raises MetadataError, which names the file, for one that is
    damaged, of another version, or whose engine did not give the recorded outputs."""
    file = path(repository, name, metadata.sha256)
    try:
        raw = json.loads(file.read_bytes())
    except FileNotFoundError:
        return None
    except ValueError as error:
        raise _unusable(file, f"not JSON ({error})") from None
    schema = raw.get("schema_version") if isinstance(raw, dict) else None
    if schema != SCHEMA_VERSION:
        raise _unusable(file, f"schema_version is {schema!r}, but this Seaway reads {SCHEMA_VERSION}")
    try:
        profile = _from_json(raw)
        problem = _problem(profile, metadata)
    except (TypeError, KeyError, AttributeError, ValueError) as error:
        raise _unusable(file, f"not a serving profile ({type(error).__name__}: {error})") from None
    if problem:
        raise _unusable(file, problem)
    return profile


def settings(repository: Path, name: str, metadata: ArtifactMetadata) -> dict[str, str]:
    """The settings of the version's profile; {} if it has none. Raises as `find`."""
    profile = find(repository, name, metadata)
    return profile.settings if profile else {}


def describe(chosen: Mapping[str, str]) -> str:
    """Settings as they are shown: SEAWAY_BACKEND=onnx SEAWAY_THREADS=1."""
    return " ".join(f"{name}={value}" for name, value in sorted(chosen.items())) or "no serving profile"


def _from_json(raw: dict[str, Any]) -> Profile:
    values = {key: value for key, value in raw.items() if key != "schema_version"}
    values["chosen"] = Candidate(**raw["chosen"])
    values["measurements"] = tuple(
        Measurement(**(one | {"candidate": Candidate(**one["candidate"])})) for one in raw["measurements"]
    )
    values["ratios"] = tuple(map(float, raw["ratios"]))
    values["parity"] = {
        engine: {name: Parity(**one) for name, one in signatures.items()}
        for engine, signatures in raw["parity"].items()
    }
    return Profile(**values)


def _problem(profile: Profile, metadata: ArtifactMetadata) -> str:
    """Why the profile cannot be used, "" if it can."""
    chosen, digest = profile.chosen, profile.version.rpartition("@")[2]
    if digest != metadata.sha256:
        return f"it is of the version with the digest {digest[:12]}, not {metadata.sha256[:12]}"
    if chosen.backend not in ENGINES:
        return f"the engine {chosen.backend!r} is none of {', '.join(ENGINES)}"
    if type(chosen.threads) is not int or not 1 <= chosen.threads <= MAX_THREADS:
        return f"threads is {chosen.threads!r}; it must be from 1 to {MAX_THREADS}"
    if chosen.onednn not in (None, True, False):
        return f"onednn is {chosen.onednn!r}; it must be true, false or null"
    parity = profile.parity.get(chosen.backend, {})
    if not parity or any(one.wrong for one in parity.values()):
        return f"it has no evidence that {ENGINES[chosen.backend]} gives the recorded outputs"
    return ""


def _unusable(file: Path, reason: str) -> MetadataError:
    return MetadataError(f"{file}: {reason}; run `seaway tune-serving` again, or remove the file")
