"""The card: a JSON file in every artifact that says what it is, so that no stage needs another's code.

An artifact is a folder. Its card names the model's interface (tensors, labels, tolerances), what was measured, the
settings it was made with, and its parents, each with its own card inside: a card alone leads back to the data.
`sha256` covers every file of the folder and the card itself, so a changed byte anywhere is found by `check`.
"""

import dataclasses
import hashlib
import json
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

import numpy as np

from seaway.artifacts import atomic
from seaway.errors import CardError, InvalidInput

SCHEMA_VERSION = 1
CARD = "card.json"

Kind = Literal["dataset", "checkpoint", "onnx", "saved_model", "parity", "version", "evidence"]


@dataclass(frozen=True, slots=True)
class Tensor:
    """One named input or output. `dtype` is NumPy's name ("float32"; "str" for strings); None in `shape`: any size."""

    name: str
    dtype: str
    shape: tuple[int | None, ...]


@dataclass(frozen=True, slots=True)
class Tolerance:
    """How far an output may be from PyTorch's: |Δ| ≤ abs + rel · |PyTorch's|, element by element."""

    abs: float
    rel: float

    def allowed(self, expected: np.ndarray) -> np.ndarray:
        return np.asarray(self.abs + self.rel * np.abs(expected))


@dataclass(frozen=True, slots=True)
class Card:
    """See the module. Fields that say nothing about an artifact stay empty.

    name        the model's name in the volume, e.g. "characters"
    outputs     what the model answers; `serving_default` gives the first alone
    labels      class names in the order of the model's scores; empty where there are none
    tolerances  output name → Tolerance
    metrics     name → number, e.g. accuracy in 0..1
    settings    what the stage was told, as JSON values
    weights     weight's name → `checksum` of it
    parents     role ("dataset", "onnx", …) → the parent's card
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
    parents: dict[str, "Card"] = field(default_factory=dict)
    sha256: str = ""


def write(folder: Path, card: Card, at: str = CARD) -> Card:
    """Completes the card with the folder's digest and writes it to `folder/at`; call it last. Returns the full card."""
    card = dataclasses.replace(card, sha256=digest(folder, card, at))
    text = json.dumps(_to_json(card), indent=1, ensure_ascii=False, allow_nan=False)
    with atomic.file(folder / at) as part:
        part.write_text(text + "\n", encoding="utf-8")
    return card


def read(folder: Path, at: str = CARD) -> Card:
    """The folder's card as written, without looking at the other files. Raises CardError."""
    path = folder / at
    try:
        raw = json.loads(path.read_bytes())
    except FileNotFoundError:
        raise CardError(
            f"{path}: there is no card, so {folder} is not an artifact of Seaway, or not a whole one"
        ) from None
    except ValueError as error:
        raise CardError(f"{path}: not JSON ({error}); make the artifact again") from None
    return _from_json(raw, path)


def check(folder: Path, kind: Kind | None = None, at: str = CARD) -> Card:
    """Reads the card and proves that every file is as it was when the card was written. Raises CardError."""
    card = read(folder, at)
    if kind and card.kind != kind:
        raise CardError(f"{folder}: expected an artifact of kind {kind!r}, but its card says {card.kind!r}")
    if digest(folder, card, at) != card.sha256:
        raise CardError(f"{folder}: a file in it was changed after its card was written; make the artifact again")
    return card


def check_target(folder: Path, kind: Kind) -> None:
    """That a new artifact of this kind may take the folder's place, which loses what is in it. Raises InvalidInput.

    Only an older one of the same kind, an empty folder or nothing may be there.
    """
    if not folder.exists() or (folder.is_dir() and not any(folder.iterdir())):
        return
    try:
        held: str = read(folder).kind
    except (CardError, NotADirectoryError):
        held = "something else"
    if held != kind:
        raise InvalidInput(
            f"{folder}: is there already and holds {held}, which a new {kind} would replace; give another folder"
        )


def digest(folder: Path, card: Card, at: str = CARD) -> str:
    """sha256 (hex) over the names and bytes of all files below `folder`, and over the card without its own sha256."""
    whole = hashlib.sha256()
    for path in sorted(p for p in folder.rglob("*") if p.is_file()):
        name = path.relative_to(folder).as_posix()
        if name == at:
            continue
        with path.open("rb") as opened:
            whole.update(f"{name}\0{hashlib.file_digest(opened, 'sha256').hexdigest()}\n".encode())
    bare = _to_json(dataclasses.replace(card, sha256=""))
    whole.update(json.dumps(bare, sort_keys=True).encode())
    return whole.hexdigest()


def checksum(weight: np.ndarray) -> str:
    """A weight's checksum that survives transposition and reshaping, but no changed value: of its sorted bytes."""
    flat = np.sort(np.ascontiguousarray(weight).reshape(-1))
    return hashlib.sha256(f"{weight.dtype.name}\0{weight.size}\0".encode() + flat.tobytes()).hexdigest()[:32]


def _to_json(card: Card) -> dict[str, Any]:
    return {"schema_version": SCHEMA_VERSION, **_plain(card)}


def _plain(card: Card) -> dict[str, Any]:
    flat = {f.name: getattr(card, f.name) for f in dataclasses.fields(card)}
    flat["inputs"] = [dataclasses.asdict(t) for t in card.inputs]
    flat["outputs"] = [dataclasses.asdict(t) for t in card.outputs]
    flat["tolerances"] = {name: dataclasses.asdict(t) for name, t in card.tolerances.items()}
    flat["parents"] = {role: _plain(parent) for role, parent in card.parents.items()}
    return flat


def _from_json(raw: Any, path: Path) -> Card:
    version = raw.get("schema_version") if isinstance(raw, dict) else None
    if version != SCHEMA_VERSION:
        raise CardError(
            f"{path}: schema_version is {version!r}, this Seaway reads {SCHEMA_VERSION}; "
            "make the artifact again with this version, or use the Seaway that made it"
        )
    try:
        return _card({key: value for key, value in raw.items() if key != "schema_version"})
    except (TypeError, KeyError, AttributeError, ValueError) as error:
        raise CardError(f"{path}: not a card ({error}); make the artifact again") from None


def _card(raw: dict[str, Any]) -> Card:
    def tensors(rows: list[dict[str, Any]]) -> tuple[Tensor, ...]:
        return tuple(Tensor(row["name"], row["dtype"], tuple(row["shape"])) for row in rows)

    return Card(
        **{
            **raw,
            "inputs": tensors(raw["inputs"]),
            "outputs": tensors(raw["outputs"]),
            "labels": tuple(raw["labels"]),
            "tolerances": {name: Tolerance(**t) for name, t in raw["tolerances"].items()},
            "parents": {role: _card(parent) for role, parent in raw["parents"].items()},
        }
    )
