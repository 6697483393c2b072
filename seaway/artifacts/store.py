"""The model volume: a folder that TensorFlow Serving could serve as it is, with atomic versions and labels.

    VOLUME/
      <name>/
        1/ 2/ …              one version each: saved_model.pb, variables/, and under assets.extra/ (which TensorFlow
                             Serving ignores) model.onnx, card.json, labels.txt, golden.npz, conversion.json,
                             parity.json
        labels.json          {"stable": 2, "canary": 3}; replaced whole under the model's lock
        history.json         what stable has pointed at and why, the newest last: [{"version": 2, "because": "…"}]
        evidence/<digest>/   what was measured of that version later: load reports
      models.config          generated for TensorFlow Serving: pins each model to its labelled versions

A version is never changed after it has its number. Readers never lock and never see half a version.

Volumes that others wrote are read as TensorFlow Serving reads them: any folder is a model whose name is the folder's,
and the name of a version's folder may be padded with zeros, `0001`. So a version's folder is found (`path`), not spelt.
"""

import errno
import hashlib
import json
import os
import re
import shutil
from collections.abc import Callable, Collection, Iterator
from dataclasses import asdict, dataclass, field
from pathlib import Path
from urllib.parse import quote

from seaway.artifacts import atomic
from seaway.artifacts import card as cards
from seaway.artifacts.card import Card
from seaway.errors import InvalidInput, NotFound, Refused, Unavailable

EXTRA = "assets.extra"
CARD = f"{EXTRA}/card.json"
LABELS = "labels.json"
HISTORY = "history.json"
CONFIG = "models.config"
LOCK = ".lock"  # a model's is held while labels change or versions go, the volume's while models.config is written
NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,62}")  # of what is published here
EVIDENCE = "evidence"
LARGEST = 2**63 - 1  # a version is an int64 in TensorFlow Serving
STABLE = "stable"  # the label of the version that answers whoever asks for none


@dataclass(slots=True)
class Contents:
    """What a volume holds: model → version → folder; model → why its folder cannot be read; what else there is and
    why that is no model or version."""

    models: dict[str, dict[int, Path]] = field(default_factory=dict)
    unreadable: dict[str, str] = field(default_factory=dict)
    skipped: dict[Path, str] = field(default_factory=dict)


def contents(volume: Path) -> Contents:
    """One look at the whole volume. Raises Unavailable where its root cannot be read."""
    found = Contents()
    for entry in sorted(_listing(volume), key=lambda entry: entry.name):
        if not _is_folder(entry):
            continue
        folder, why = volume / entry.name, _no_name(entry.name)
        if why:
            if not entry.name.startswith(atomic.INCOMING):
                found.skipped[folder] = why
            continue
        try:
            numbered, skipped = _sort(folder)
        except Unavailable as error:
            found.unreadable[entry.name] = str(error)
            continue
        found.skipped |= skipped
        if numbered:
            found.models[entry.name] = numbered
        else:
            found.skipped[folder] = "no model: it holds no version, which is a folder whose name is a whole number"
    return found


def models(volume: Path) -> list[str]:
    """Names that have at least one version. Raises Unavailable where the volume or a model in it cannot be read."""
    found = contents(volume)
    for name, why in found.unreadable.items():
        if NAME.fullmatch(name):  # others, such as a file system's lost+found, were not made here
            raise Unavailable(why)
    return sorted(found.models)


def versions(volume: Path, name: str) -> list[int]:
    """Version numbers in ascending order; empty for a model that is not there. Raises Unavailable."""
    return sorted(folders(volume, name))


def folders(volume: Path, name: str) -> dict[int, Path]:
    """Version → its folder; empty for a model that is not there. Raises Unavailable."""
    if not (volume / name).is_dir():
        _listing(volume)  # an unreadable volume is not a missing model
        return {}
    return _sort(volume / name)[0]


def number(folder: str) -> int | None:
    """The version that a folder's name stands for: decimal digits, zeros before them or not; None for other names."""
    if folder.isascii() and folder.isdecimal() and (value := int(folder)) <= LARGEST:
        return value
    return None


def path(volume: Path, name: str, version: int) -> Path:
    """A version's folder as it is there; the one that `publish` would make where there is none. Raises Unavailable."""
    return folders(volume, name).get(version, volume / name / str(version))


def existing(volume: Path, name: str, version: int) -> Path:
    """The folder of a version that is there. Raises NotFound naming those that are, Unavailable."""
    there = folders(volume, name)
    if version not in there:
        raise NotFound(f"{name} has no version {version} in {volume}: it has {sorted(there) or 'none'}")
    return there[version]


def fingerprint(folder: Path) -> str:
    """Differs whenever a file below the folder was written, replaced, added, removed, or made (un)readable; "" where
    there is no folder. Reads no file: names, sizes, times and inodes alone."""
    if not folder.is_dir():
        return ""
    states: list[str] = []
    for top, within, files in os.walk(folder, onerror=lambda error: states.append(f"{error!r}\n")):
        within.sort()
        for file in (Path(top), *(Path(top, name) for name in sorted(files))):
            try:
                found = file.stat()
                state = f"{found.st_size} {found.st_mtime_ns} {found.st_ctime_ns} {found.st_ino}"
            except OSError as error:
                state = repr(error)
            states.append(f"{file.relative_to(folder)}\0{state}\n")
    return hashlib.sha256("".join(states).encode("utf-8", "surrogateescape")).hexdigest()


def header(identity: str) -> str:
    """name/version@digest as the value of an HTTP header: what URLs quote in a name is quoted here too."""
    name, _, rest = identity.rpartition("/")
    return f"{quote(name, safe='')}/{rest}"


def read_card(volume: Path, name: str, version: int) -> Card:
    return cards.read(path(volume, name, version), CARD)


def check_name(name: str) -> None:
    """Raises InvalidInput for a name that TensorFlow Serving's URLs cannot carry."""
    if not NAME.fullmatch(name):
        raise InvalidInput(
            f"--name {name} cannot be a model's name: use letters, digits, '.', '_' and '-', at most 63, a letter or "
            "digit first"
        )


def publish(volume: Path, name: str, fill: Callable[[Path], object]) -> int:
    """Lets `fill` write a version into a hidden folder and gives it the next number. Returns that number.

    Two publishers at once get two numbers. Raises InvalidInput for a name that cannot be one.
    """
    check_name(name)
    with atomic.new_folder(volume / name) as incoming:
        fill(incoming)
        atomic.sync(incoming)
        while True:
            taken = max((number for number, _ in _numbered(volume / name)), default=0)
            try:
                incoming.rename(volume / name / str(taken + 1))
            except OSError as error:
                if error.errno in (errno.EEXIST, errno.ENOTEMPTY):
                    continue  # another publisher took this number
                raise
            atomic.sync_entry(volume / name)
            return taken + 1


def labels(volume: Path, name: str) -> dict[str, int]:
    """label → version; empty where none was given."""
    file = volume / name / LABELS
    try:
        found = json.loads(file.read_bytes())
    except FileNotFoundError:
        return {}
    except ValueError as error:
        raise Unavailable(f"{file}: not JSON ({error}); {_LABEL_AGAIN}") from None
    if not isinstance(found, dict) or not all(type(v) is int for v in found.values()):
        raise Unavailable(f"{file}: expected {{label: version}}; {_LABEL_AGAIN}")
    return found


_LABEL_AGAIN = "remove the file and set the labels again: seaway rollback --version N --volume DIR --name NAME"


@dataclass(frozen=True, slots=True)
class Move:
    """That stable was pointed at a version, and why."""

    version: int
    because: str


def history(volume: Path, name: str) -> list[Move]:
    """What stable has pointed at, the newest last. Where a move was interrupted, the last is what was to be."""
    file = volume / name / HISTORY
    try:
        moves = [Move(int(one["version"]), str(one["because"])) for one in json.loads(file.read_bytes())]
    except FileNotFoundError:
        moves = []
    except (ValueError, TypeError, KeyError) as error:
        raise Unavailable(f"{file}: not a list of versions and reasons ({error!r}); remove the file") from None
    now = labels(volume, name).get(STABLE)
    if now is not None and now not in [move.version for move in moves]:
        moves.append(Move(now, ""))  # labelled by what keeps no history
    return moves


def set_label(volume: Path, name: str, label: str, version: int, because: str = "") -> None:
    """Points `label` at a version, whole or not at all; stable's history says why. Raises NotFound for a version that
    is not there."""
    existing(volume, name, version)
    with atomic.locked(volume / name / LOCK):
        changed = labels(volume, name) | {label: version}
        with atomic.file(volume / name / LABELS) as part:
            part.write_text(json.dumps(changed, indent=1, sort_keys=True) + "\n")
            if label == STABLE:  # first, so that what is interrupted here can be told from what was never begun
                _note(volume, name, Move(version, because))
    write_models_config(volume)


def _note(volume: Path, name: str, move: Move) -> None:
    moves = history(volume, name)
    if moves[-1:] != [move]:
        with atomic.file(volume / name / HISTORY) as part:
            part.write_text(json.dumps([asdict(one) for one in (*moves, move)], indent=1) + "\n")


def write_models_config(volume: Path) -> None:
    """`models.config` for TensorFlow Serving: labelled versions pinned, or the latest where no label is set."""
    with atomic.locked(volume / LOCK):  # so that an older look at the volume never replaces a newer one
        blocks = [_config_block(volume, name) for name in models(volume)]
        with atomic.file(volume / CONFIG) as part:
            part.write_text("model_config_list {\n" + "".join(blocks) + "}\n")


def _config_block(volume: Path, name: str) -> str:
    pinned = labels(volume, name)
    wanted = sorted(set(pinned.values())) or versions(volume, name)[-1:]
    lines = [
        "  config {",
        f"    name: {_quoted(name)}",
        f"    base_path: {_quoted(str((volume / name).absolute()))}",
        '    model_platform: "tensorflow"',
        "    model_version_policy { specific { " + " ".join(f"versions: {v}" for v in wanted) + " } }",
        *(f"    version_labels {{ key: {_quoted(label)} value: {v} }}" for label, v in sorted(pinned.items())),
        "  }",
    ]
    return "\n".join(lines) + "\n"


def _quoted(text: str) -> str:
    """As protobuf's text format writes a string."""
    return json.dumps(text, ensure_ascii=False)


def prune(volume: Path, name: str, keep: int, served: Collection[int] = ()) -> list[int]:
    """Removes all but the newest `keep` versions, the labelled ones and those `served`. Returns what was removed."""
    if keep < 1:
        raise Refused(f"prune must keep at least 1 version of {name}, not {keep}")
    with atomic.locked(volume / name / LOCK):
        kept = {*versions(volume, name)[-keep:], *labels(volume, name).values(), *served}
        gone = [v for v in versions(volume, name) if v not in kept]
        for version, entry in _numbered(volume / name):  # of several with one number, all: none is to come to light
            if version in gone and _is_folder(entry):
                hidden = volume / name / f"{atomic.INCOMING}pruned-{entry.name}"
                Path(entry).rename(hidden)  # out of readers' sight at once
                shutil.rmtree(hidden, ignore_errors=True)  # a publisher may be removing it too
    return gone


def evidence(volume: Path, name: str, digest: str) -> Path:
    """The folder for what was measured of the version with this digest (made when first written to)."""
    return volume / name / EVIDENCE / digest


def _sort(model: Path) -> tuple[dict[int, Path], dict[Path, str]]:
    """A model's versions, and what else there is in its folder and why that is none. Raises Unavailable.

    Of several folders with one number the last by name counts, as in TensorFlow Serving.
    """
    found: dict[int, Path] = {}
    skipped: dict[Path, str] = {}
    numbered = list(_numbered(model))
    for version, entry in numbered:
        folder = model / entry.name
        if not _is_folder(entry):
            skipped[folder] = "no version: it is no folder, though its name is a number"
            continue
        if version in found:
            skipped[found[version]] = f"version {version} is read from {entry.name} beside it"
        found[version] = folder
    for entry in _listing(model):
        ours = entry.name == EVIDENCE or entry.name.startswith(atomic.INCOMING)
        if number(entry.name) is None and not ours and _is_folder(entry):
            hidden = entry.name.startswith(".")
            skipped[model / entry.name] = "hidden" if hidden else "no version: its name is no whole number"
    return found, skipped


def _numbered(model: Path) -> Iterator[tuple[int, os.DirEntry[str]]]:
    """What has a version's name in a model's folder, by name. Raises Unavailable."""
    for entry in sorted(_listing(model), key=lambda entry: entry.name):
        version = number(entry.name)
        if version is not None:
            yield version, entry


def _no_name(folder: str) -> str:
    """Why a folder of this name is no model, in words; "" where it may be one."""
    if folder.startswith("."):
        return "hidden"
    try:
        folder.encode()
    except UnicodeEncodeError:
        return "its name is not UTF-8, which URLs and JSON need"
    return ""


def _is_folder(entry: os.DirEntry[str]) -> bool:
    try:
        return entry.is_dir()
    except OSError:  # a link to itself, or to what cannot be reached
        return False


def _listing(folder: Path) -> list[os.DirEntry[str]]:
    try:
        with os.scandir(folder) as entries:
            return list(entries)
    except OSError as error:
        raise Unavailable(f"{folder}: the volume cannot be read ({error.strerror}); is it mounted?") from None
