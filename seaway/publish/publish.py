"""Gives a proven model its number in the volume: SavedModel, ONNX model, golden examples and parity as one version.

The three artifacts must belong together: the parity card names the cards that it proved, by digest. The same content is
published once: a second time gets the number that it has.
"""

import shutil
from pathlib import Path

from seaway.artifacts import atomic, store
from seaway.artifacts import card as cards
from seaway.artifacts.card import Card
from seaway.artifacts.golden import TEST_OUTPUTS
from seaway.errors import CardError, Refused, Unavailable

PARITY, CONVERSION, CLASS_NAMES = "parity.json", "conversion.json", "labels.txt"


class _AlreadyThere(Exception):
    """Ends the copy: the volume holds the same content."""

    def __init__(self, version: int) -> None:
        self.version = version


def publish(onnx: Path, saved_model: Path, parity: Path, volume: Path, name: str | None = None) -> int:
    """Copies the three artifacts into `volume` as the next version of `name` (default: the card's). Returns its number.

    Raises CardError for an artifact that is not whole, Refused where they do not belong together, Unavailable where the
    volume is missing or goes away, OSError for a disk that is full or read-only. Nothing half-written is ever visible.
    """
    version = _version_card(onnx, saved_model, parity, name)
    if not volume.is_dir():
        raise Unavailable(f"{volume}: the volume is not there; is it mounted? (for a new one: mkdir -p {volume})")

    def fill(folder: Path) -> None:
        # Its labels are the ONNX model's.
        _copy(saved_model, folder, without={cards.CARD, CLASS_NAMES, CONVERSION})
        _copy(onnx, folder / store.EXTRA, without={cards.CARD, TEST_OUTPUTS})
        if (saved_model / CONVERSION).is_file():
            shutil.copyfile(saved_model / CONVERSION, folder / store.EXTRA / CONVERSION)
        shutil.copyfile(parity / PARITY, folder / store.EXTRA / PARITY)
        written = cards.write(folder, version, at=store.CARD)
        for number in reversed(store.versions(volume, version.name)):
            if _holds(volume, version.name, number, written.sha256):
                raise _AlreadyThere(number)

    try:
        with atomic.locked(volume):  # two publishers of the same content must not both find it missing
            number = store.publish(volume, version.name, fill)
    except _AlreadyThere as found:
        print(f"{version.name}/{found.version} in {volume} already holds exactly this; nothing to publish")
        number = found.version
    except FileNotFoundError as error:
        raise Unavailable(f"{error.filename}: went away while publishing; is the volume still mounted?") from None
    store.write_models_config(volume)  # it names the latest version of a model without labels
    return number


def _version_card(onnx: Path, saved_model: Path, parity: Path, name: str | None) -> Card:
    """What the version says of itself, once the three are proved whole and each other's."""
    exported = cards.check(onnx, "onnx")
    converted = cards.check(saved_model, "saved_model")
    proved = cards.check(parity, "parity")
    for role, folder, artifact in (("onnx", onnx, exported), ("saved_model", saved_model, converted)):
        parent = proved.parents.get(role)
        if parent is None or parent.sha256 != artifact.sha256:
            raise Refused(f"{parity} does not prove {folder} but another {role}; validate these two, then publish")
    return Card(
        kind="version",
        name=name or exported.name,
        inputs=converted.inputs,
        outputs=converted.outputs,
        labels=converted.labels,
        tolerances=converted.tolerances,
        metrics=proved.metrics,
        weights=exported.weights,
        parents={"parity": proved},
    )


def _holds(volume: Path, name: str, number: int, digest: str) -> bool:
    """Whether this version is whole and has this digest; one that was damaged, or came from elsewhere, has not."""
    try:
        return store.read_card(volume, name, number).sha256 == digest and bool(
            cards.check(store.path(volume, name, number), "version", at=store.CARD)
        )
    except CardError:
        return False


def _copy(source: Path, target: Path, without: set[str]) -> None:
    """Copies all files below `source` but those named in `without` at its top; an OSError names the file."""
    target.mkdir(exist_ok=True)
    for path in sorted(source.rglob("*")):
        relative = path.relative_to(source)
        if path.is_dir():
            (target / relative).mkdir(exist_ok=True)
        elif str(relative) not in without:
            shutil.copyfile(path, target / relative)
