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
"""

import errno
import json
import os
import re
import shutil
from collections.abc import Callable, Collection
from dataclasses import asdict, dataclass
from pathlib import Path

from seaway import atomic
from seaway import card as cards
from seaway.card import Card
from seaway.errors import InvalidInput, NotFound, Refused, Unavailable

EXTRA = "assets.extra"
CARD = f"{EXTRA}/card.json"
LABELS = "labels.json"
HISTORY = "history.json"
CONFIG = "models.config"
LOCK = ".lock"  # a model's is held while labels change or versions go, the volume's while models.config is written
NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,62}")
VERSION = re.compile(r"[1-9][0-9]{0,17}")


STABLE = "stable"  # the label of the version that answers whoever asks for none


def models(volume: Path) -> list[str]:
    """Names that have at least one version. Raises Unavailable where the volume cannot be read."""
    return sorted(
        entry.name for entry in _listing(volume) if NAME.fullmatch(entry.name) and versions(volume, entry.name)
    )


def versions(volume: Path, name: str) -> list[int]:
    """Version numbers in ascending order; empty for a model that is not there. Raises Unavailable."""
    if not (volume / name).is_dir():
        _listing(volume)  # an unreadable volume is not a missing model
        return []
    numbers = (int(e.name) for e in _listing(volume / name) if VERSION.fullmatch(e.name) and e.is_dir())
    return sorted(numbers)


def path(volume: Path, name: str, version: int) -> Path:
    return volume / name / str(version)


def existing(volume: Path, name: str, version: int) -> Path:
    """The folder of a version that is there. Raises NotFound naming those that are, Unavailable."""
    there = versions(volume, name)
    if version not in there:
        raise NotFound(f"{name} has no version {version} in {volume}: it has {there or 'none'}")
    return path(volume, name, version)


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
            number = max(versions(volume, name), default=0) + 1
            try:
                incoming.rename(path(volume, name, number))
            except OSError as error:
                if error.errno in (errno.EEXIST, errno.ENOTEMPTY):
                    continue  # another publisher took this number
                raise
            atomic.sync_entry(volume / name)
            return number


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
        f'    name: "{name}"',
        f'    base_path: "{(volume / name).absolute()}"',
        '    model_platform: "tensorflow"',
        "    model_version_policy { specific { " + " ".join(f"versions: {v}" for v in wanted) + " } }",
        *(f'    version_labels {{ key: "{label}" value: {v} }}' for label, v in sorted(pinned.items())),
        "  }",
    ]
    return "\n".join(lines) + "\n"


def prune(volume: Path, name: str, keep: int, served: Collection[int] = ()) -> list[int]:
    """Removes all but the newest `keep` versions, the labelled ones and those `served`. Returns what was removed."""
    if keep < 1:
        raise Refused(f"prune must keep at least 1 version of {name}, not {keep}")
    with atomic.locked(volume / name / LOCK):
        kept = {*versions(volume, name)[-keep:], *labels(volume, name).values(), *served}
        gone = [v for v in versions(volume, name) if v not in kept]
        for version in gone:
            hidden = volume / name / f"{atomic.INCOMING}pruned-{version}"
            path(volume, name, version).rename(hidden)  # out of readers' sight at once
            shutil.rmtree(hidden, ignore_errors=True)  # a publisher may be removing it too
    return gone


def evidence(volume: Path, name: str, digest: str) -> Path:
    """The folder for what was measured of the version with this digest (made when first written to)."""
    return volume / name / "evidence" / digest


def _listing(folder: Path) -> list[os.DirEntry[str]]:
    try:
        with os.scandir(folder) as entries:
            return list(entries)
    except OSError as error:
        raise Unavailable(f"{folder}: the volume cannot be read ({error.strerror}); is it mounted?") from None
