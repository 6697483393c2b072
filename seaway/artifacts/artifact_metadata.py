"""Artifact metadata: card.json, which describes an artifact, so that no stage needs another stage's code.

An artifact is a folder. Its metadata holds the model's interface (tensors, labels, tolerances), metrics, the settings
of the stage, and its parents with their own metadata: one file is enough to trace an artifact back to the data.
`sha256` covers every file of the folder and the metadata itself, so `check` detects any changed byte.
"""

import dataclasses
import hashlib
import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

import numpy as np

from seaway.artifacts import atomic
from seaway.errors import InvalidInput, MetadataError

SCHEMA_VERSION = 1
METADATA_FILE = "card.json"
PYTORCH = "PyTorch"  # the reference of a model whose settings name no other

Kind = Literal["dataset", "checkpoint", "onnx", "saved_model", "parity", "version", "evidence"]
RERUN: Mapping[str, str] = {  # kind → what to do about a damaged artifact
    "dataset": "rerun python -m seaway.explore",
    "checkpoint": "rerun python -m seaway.train",
    "onnx": "rerun python -m seaway.export",
    "saved_model": "rerun python -m seaway.convert",
    "parity": "rerun python -m seaway.validate",
    "version": "publish the model again",
    "evidence": "load-test the version again",
}


@dataclass(frozen=True, slots=True)
class Tensor:
    """One named input or output. `dtype` is NumPy's name ("float32"; "str" for strings); None in `shape`: any size."""

    name: str
    dtype: str
    shape: tuple[int | None, ...]


@dataclass(frozen=True, slots=True)
class Tolerance:
    """How far an output may be from the reference's: |Δ| ≤ abs + rel · |the reference's|, element by element."""

    abs: float
    rel: float

    def allowed(self, expected: np.ndarray) -> np.ndarray:
        return np.asarray(self.abs + self.rel * np.abs(expected))


@dataclass(frozen=True, slots=True)
class ArtifactMetadata:
    """See the module. Fields that do not apply to an artifact stay empty.

    name        the model's name in the model repository, e.g. "characters"
    outputs     the model's outputs; `interface.default_outputs` are those of `serving_default`
    labels      class names in the order of the model's scores; empty where there are none
    tolerances  output name → Tolerance
    metrics     name → number, e.g. accuracy in 0..1
    settings    the stage's settings, as JSON values
    weights     name of a weight → its `checksum`
    parents     role ("dataset", "onnx", …) → the parent's metadata
    """

    kind: Kind
    name: str
    inputs: tuple[Tensor, ...] = ()
    outputs: tuple[Tensor, ...] = ()
    labels: tuple[str, ...] = ()
    tolerances: dict[str, Tolerance] = field(default_factory=dict)
    metrics: dict[str, float] = field(default_factory=dict)
    settings: dict[str, Any] = field(default_factory=dict)
    weights: dict[str, str] = field(default_factory=dict)
    parents: dict[str, "ArtifactMetadata"] = field(default_factory=dict)
    sha256: str = ""

    def lineage(self) -> Iterator["ArtifactMetadata"]:
        """This artifact, its parents, their parents and so on."""
        yield self
        for parent in self.parents.values():
            yield from parent.lineage()

    @property
    def reference(self) -> str:
        """Who computed the golden outputs, which all later outputs are compared with: PyTorch, ONNX Runtime of a model
        that came as an ONNX file, or a SavedModel that came as one."""
        named = (ancestor.settings["reference"] for ancestor in self.lineage() if "reference" in ancestor.settings)
        return str(next(named, PYTORCH))

    @property
    def training_data(self) -> str:
        """What a version learned from, in words; "" if its metadata does not say."""
        by_kind = {ancestor.kind: ancestor for ancestor in self.lineage()}
        dataset, checkpoint = by_kind.get("dataset"), by_kind.get("checkpoint")
        if dataset is None or "source" not in dataset.settings:
            return ""
        source = str(dataset.settings["source"])
        images = "synthetic characters" if source.startswith("strokes") else "images"
        words = f"{dataset.metrics.get('train', 0):,.0f} {images} ({source})"
        fitted_on = checkpoint.settings.get("temperature_fitted_on") if checkpoint else None
        return f"{words}, and one number, its temperature, from {fitted_on}" if fitted_on else words


def write(folder: Path, metadata: ArtifactMetadata, at: str = METADATA_FILE) -> ArtifactMetadata:
    """Adds the folder's digest to the metadata and writes it to `folder/at`; call it last. Returns the result."""
    metadata = dataclasses.replace(metadata, sha256=digest(folder, metadata, at))
    text = json.dumps(_to_json(metadata), indent=1, ensure_ascii=False, allow_nan=False)
    with atomic.file(folder / at) as part:
        part.write_text(text + "\n", encoding="utf-8")
    return metadata


def read(folder: Path, at: str = METADATA_FILE) -> ArtifactMetadata:
    """The folder's metadata as written; does not verify the other files. Raises MetadataError."""
    path = folder / at
    try:
        raw = json.loads(path.read_bytes())
    except FileNotFoundError:
        raise MetadataError(
            f"{folder} is not an artifact of Seaway, or is incomplete: {path} is missing; give the folder that a stage "
            "wrote, or rerun that stage"
        ) from None
    except ValueError as error:
        raise MetadataError(f"{path}: not JSON ({error}); rerun the stage that wrote it") from None
    return _from_json(raw, path)


def check(folder: Path, kind: Kind | None = None, at: str = METADATA_FILE) -> ArtifactMetadata:
    """Reads the metadata and verifies that no file changed since it was written. Raises MetadataError."""
    metadata = read(folder, at)
    if kind and metadata.kind != kind:
        raise MetadataError(f"{folder}: expected an artifact of kind {kind!r}, but its metadata says {metadata.kind!r}")
    if digest(folder, metadata, at) != metadata.sha256:
        raise MetadataError(
            f"{folder}: a file in it was changed after its metadata was written; {RERUN[metadata.kind]}"
        )
    return metadata


def check_target(folder: Path, kind: Kind) -> None:
    """Checks that a new artifact of this kind may replace the folder and all that it contains. Raises InvalidInput.

    Only an older artifact of the same kind, an empty folder or nothing may be there.
    """
    if not folder.exists() or (folder.is_dir() and not any(folder.iterdir())):
        return
    try:
        existing: str = read(folder).kind
    except (MetadataError, NotADirectoryError):
        existing = "something else"
    if existing != kind:
        raise InvalidInput(
            f"{folder}: already exists and contains {existing}, which a new {kind} would replace; give another folder"
        )


def digest(folder: Path, metadata: ArtifactMetadata, at: str = METADATA_FILE) -> str:
    """sha256 (hex) of the names and bytes of all files below `folder`, and of the metadata without its own sha256."""
    hasher = hashlib.sha256()
    for path in sorted(p for p in folder.rglob("*") if p.is_file()):
        name = path.relative_to(folder).as_posix()
        if name == at:
            continue
        with path.open("rb") as file:
            hasher.update(f"{name}\0{hashlib.file_digest(file, 'sha256').hexdigest()}\n".encode())
    unsigned = _to_json(dataclasses.replace(metadata, sha256=""))
    hasher.update(json.dumps(unsigned, sort_keys=True).encode())
    return hasher.hexdigest()


def checksum(weight: np.ndarray) -> str:
    """The checksum of a weight's sorted values: unchanged by transposing or reshaping, changed by any other value."""
    flat = np.sort(np.ascontiguousarray(weight).reshape(-1))
    return hashlib.sha256(f"{weight.dtype.name}\0{weight.size}\0".encode() + flat.tobytes()).hexdigest()[:32]


def _to_json(metadata: ArtifactMetadata) -> dict[str, Any]:
    return {"schema_version": SCHEMA_VERSION, **_plain(metadata)}


def _plain(metadata: ArtifactMetadata) -> dict[str, Any]:
    flat = {f.name: getattr(metadata, f.name) for f in dataclasses.fields(metadata)}
    flat["inputs"] = [dataclasses.asdict(t) for t in metadata.inputs]
    flat["outputs"] = [dataclasses.asdict(t) for t in metadata.outputs]
    flat["tolerances"] = {name: dataclasses.asdict(t) for name, t in metadata.tolerances.items()}
    flat["parents"] = {role: _plain(parent) for role, parent in metadata.parents.items()}
    return flat


def _from_json(raw: Any, path: Path) -> ArtifactMetadata:
    version = raw.get("schema_version") if isinstance(raw, dict) else None
    if version != SCHEMA_VERSION:
        raise MetadataError(
            f"{path}: schema_version is {version!r}, this Seaway reads {SCHEMA_VERSION}; "
            "rerun the stage that wrote it, or use the Seaway version that wrote it"
        )
    try:
        return _metadata({key: value for key, value in raw.items() if key != "schema_version"})
    except (TypeError, KeyError, AttributeError, ValueError) as error:
        raise MetadataError(f"{path}: not valid artifact metadata ({error}); rerun the stage that wrote it") from None


def _metadata(raw: dict[str, Any]) -> ArtifactMetadata:
    def tensors(rows: list[dict[str, Any]]) -> tuple[Tensor, ...]:
        return tuple(Tensor(row["name"], row["dtype"], tuple(row["shape"])) for row in rows)

    return ArtifactMetadata(
        **{
            **raw,
            "inputs": tensors(raw["inputs"]),
            "outputs": tensors(raw["outputs"]),
            "labels": tuple(raw["labels"]),
            "tolerances": {name: Tolerance(**t) for name, t in raw["tolerances"].items()},
            "parents": {role: _metadata(parent) for role, parent in raw["parents"].items()},
        }
    )
