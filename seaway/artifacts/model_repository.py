"""The model repository: a folder that TensorFlow Serving could serve as it is, with atomic versions and labels.

    REPOSITORY/
      <name>/
        1/ 2/ …              one version each: saved_model.pb, variables/, and under assets.extra/ (which TensorFlow
                             Serving ignores) model.onnx, card.json, labels.txt, golden.npz, conversion.json,
                             parity.json
        labels.json          {"stable": 2, "canary": 3}; replaced whole under the model's lock
        history.json         the versions that were stable and why, newest last: [{"version": 2, "because": "…"}]
        evidence/<digest>/   later measurements of that version: load reports, and its serving profile
      models.config          generated for TensorFlow Serving: pins each model to its labelled versions

A version never changes once it has its number. Readers never lock and never see an incomplete version.

Repositories that others wrote are read as TensorFlow Serving reads them: every folder is a model of that name, and a
version's folder may be padded with zeros, `0001`. So look a version's folder up with `path`; do not build its path.
"""

import difflib
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

from seaway.artifacts import artifact_metadata, atomic
from seaway.artifacts.artifact_metadata import ArtifactMetadata
from seaway.errors import InvalidInput, NotFound, Refused, Unavailable

EXTRA = "assets.extra"
SAVED_MODEL_FILES = ("saved_model.pb", "saved_model.pbtxt")  # TensorFlow reads the first of them that exists
METADATA_FILE = f"{EXTRA}/card.json"
LABELS = "labels.json"
HISTORY = "history.json"
CONFIG = "models.config"
LOCK = ".lock"  # a model's: for changing labels, removing versions; the root's: for writing models.config
NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,62}")  # of models that Seaway publishes
EVIDENCE = "evidence"
MAX_VERSION = 2**63 - 1  # an int64 in TensorFlow Serving
STABLE = "stable"  # the label of the version that answers requests that name none
CANARY = "canary"  # the label of the version that is tested to become stable


@dataclass(slots=True)
class Contents:
    """The contents of a repository: model → version → folder; model → why it cannot be read; other entries → why they
    are not a model or version."""

    models: dict[str, dict[int, Path]] = field(default_factory=dict)
    unreadable: dict[str, str] = field(default_factory=dict)
    skipped: dict[Path, str] = field(default_factory=dict)


def contents(repository: Path) -> Contents:
    """Scans the whole repository. Raises Unavailable if its root cannot be read."""
    scanned = Contents()
    for entry in sorted(_listing(repository), key=lambda entry: entry.name):
        if not _is_folder(entry):
            continue
        folder, why = repository / entry.name, _no_name(entry.name)
        if why:
            if not entry.name.startswith(atomic.INCOMING):
                scanned.skipped[folder] = why
            continue
        try:
            numbered, skipped = _sort(folder)
        except Unavailable as error:
            scanned.unreadable[entry.name] = str(error)
            continue
        scanned.skipped |= skipped
        if numbered:
            scanned.models[entry.name] = numbered
        else:
            scanned.skipped[folder] = "not a model: it has no version, that is, no folder whose name is an integer"
    return scanned


def models(repository: Path) -> list[str]:
    """Names with at least one version. Raises Unavailable if the repository or a model in it cannot be read."""
    scanned = contents(repository)
    for name, why in scanned.unreadable.items():
        if NAME.fullmatch(name):  # others, such as a file system's lost+found, are not models of ours
            raise Unavailable(why)
    return sorted(scanned.models)


def versions(repository: Path, name: str) -> list[int]:
    """Version numbers in ascending order; empty if there is no such model. Raises Unavailable."""
    return sorted(folders(repository, name))


def folders(repository: Path, name: str) -> dict[int, Path]:
    """Version → its folder; empty if there is no such model. Raises Unavailable."""
    if not (repository / name).is_dir():
        _listing(repository)  # an unreadable repository is not a missing model
        return {}
    return _sort(repository / name)[0]


def base_path_versions(folder: Path) -> dict[int, Path]:
    """Version → its folder, of a folder that holds one model: the folders named by integers, or if it is a SavedModel
    itself, that one as version 1. Raises Unavailable."""
    return _sort(folder)[0] or ({1: folder} if is_saved_model(folder) else {})


def is_saved_model(folder: Path) -> bool:
    return any((folder / name).is_file() for name in SAVED_MODEL_FILES)


def number(folder: str) -> int | None:
    """The version number that a folder's name means: decimal digits, leading zeros allowed; None for other names."""
    if folder.isascii() and folder.isdecimal() and (value := int(folder)) <= MAX_VERSION:
        return value
    return None


def path(repository: Path, name: str, version: int) -> Path:
    """A version's folder; if it does not exist, the one that `publish` would create. Raises Unavailable."""
    return folders(repository, name).get(version, repository / name / str(version))


def existing(repository: Path, name: str, version: int) -> Path:
    """The folder of an existing version. Raises NotFound, which lists those that exist, and Unavailable."""
    existing_folders = folders(repository, name)
    if not existing_folders:
        raise no_model(repository, name)
    if version not in existing_folders:
        available = ", ".join(map(str, sorted(existing_folders)))
        raise NotFound(f"{name} has no version {version} in {repository}: it has {available}")
    return existing_folders[version]


def no_model(repository: Path, name: str) -> NotFound:
    """The error for a missing model: suggests the most similar name and lists those that exist. Raises Unavailable."""
    available = models(repository)
    similar = difflib.get_close_matches(name, available, n=1)
    suggestion = f"did you mean {similar[0]!r}? It" if similar else "it"
    contents = f"has {', '.join(available)}" if available else "is empty"
    return NotFound(f"{repository} has no model {name!r}: {suggestion} {contents}")


def fingerprint(folder: Path) -> str:
    """Differs whenever a file below the folder was written, replaced, added, removed, or made (un)readable; "" if there
    is no folder. Reads only names, sizes, times and inodes, no contents."""
    if not folder.is_dir():
        return ""
    states: list[str] = []
    for top, within, files in os.walk(folder, onerror=lambda error: states.append(f"{error!r}\n")):
        within.sort()
        for file in (Path(top), *(Path(top, name) for name in sorted(files))):
            try:
                stat = file.stat()
                state = f"{stat.st_size} {stat.st_mtime_ns} {stat.st_ctime_ns} {stat.st_ino}"
            except OSError as error:
                state = repr(error)
            states.append(f"{file.relative_to(folder)}\0{state}\n")
    return hashlib.sha256("".join(states).encode("utf-8", "surrogateescape")).hexdigest()


def header(identity: str) -> str:
    """name/version@digest as the value of an HTTP header, the name percent-encoded as in URLs."""
    name, _, rest = identity.rpartition("/")
    return f"{quote(name, safe='')}/{rest}"


def read_metadata(repository: Path, name: str, version: int) -> ArtifactMetadata:
    return artifact_metadata.read(path(repository, name, version), METADATA_FILE)


def check_name(name: str) -> None:
    """Raises InvalidInput for a name that TensorFlow Serving's URLs do not allow."""
    if not NAME.fullmatch(name):
        raise InvalidInput(
            f"--name {name} cannot be a model's name: use letters, digits, '.', '_' and '-', at most 63, a letter or "
            "digit first"
        )


def publish(repository: Path, name: str, fill: Callable[[Path], object]) -> int:
    """Has `fill` write a version into a hidden folder, then gives it the next number. Returns that number.

    Concurrent publishers get different numbers. Raises InvalidInput for a name that is not allowed.
    """
    check_name(name)
    with atomic.new_folder(repository / name) as incoming:
        fill(incoming)
        atomic.sync(incoming)
        while True:
            taken = max((number for number, _ in _numbered(repository / name)), default=0)
            try:
                incoming.rename(repository / name / str(taken + 1))
            except OSError as error:
                if error.errno in (errno.EEXIST, errno.ENOTEMPTY):
                    continue  # another publisher took this number
                raise
            atomic.sync_entry(repository / name)
            return taken + 1


def labels(repository: Path, name: str) -> dict[str, int]:
    """label → version; empty if there are no labels."""
    file = repository / name / LABELS
    try:
        content = json.loads(file.read_bytes())
    except FileNotFoundError:
        return {}
    except ValueError as error:
        raise Unavailable(f"{file}: not JSON ({error}); {_label_again(repository, name)}") from None
    if not isinstance(content, dict) or not all(type(v) is int for v in content.values()):
        raise Unavailable(f"{file}: expected {{label: version}}; {_label_again(repository, name)}")
    return content


def _label_again(repository: Path, name: str) -> str:
    options = f"--version N --model-repository {repository} --name {name}"
    return (
        f"delete it, then set the labels again: `seaway rollback {options}` for stable, `seaway deploy {options}` for "
        "canary"
    )


@dataclass(frozen=True, slots=True)
class Move:
    """A move of the stable label to a version, and the reason."""

    version: int
    because: str


def history(repository: Path, name: str) -> list[Move]:
    """The moves of the stable label, newest last. If a move was interrupted, it is listed as the last one."""
    file = repository / name / HISTORY
    try:
        moves = [Move(int(one["version"]), str(one["because"])) for one in json.loads(file.read_bytes())]
    except FileNotFoundError:
        moves = []
    except (ValueError, TypeError, KeyError) as error:
        raise Unavailable(f"{file}: not a list of versions and reasons ({error!r}); remove the file") from None
    now = labels(repository, name).get(STABLE)
    if now is not None and now not in [move.version for move in moves]:
        moves.append(Move(now, ""))  # labelled by a program that keeps no history
    return moves


def set_label(repository: Path, name: str, label: str, version: int, because: str = "", replaced: str = "") -> None:
    """Points `label` at a version, atomically; stable's history records why. Raises NotFound if there is no such
    version.

    `replaced`: a label that the same write removes, if it is on this version.
    """
    existing(repository, name, version)
    with atomic.locked(repository / name / LOCK):
        changed = labels(repository, name) | {label: version}
        if changed.get(replaced) == version:
            del changed[replaced]
        with atomic.file(repository / name / LABELS) as part:
            part.write_text(json.dumps(changed, indent=1, sort_keys=True) + "\n")
            if label == STABLE:  # first, so that an interrupted move differs from one that never began
                _note(repository, name, Move(version, because))
    write_models_config(repository)


def _note(repository: Path, name: str, move: Move) -> None:
    moves = history(repository, name)
    if moves[-1:] != [move]:
        with atomic.file(repository / name / HISTORY) as part:
            part.write_text(json.dumps([asdict(one) for one in (*moves, move)], indent=1) + "\n")


def write_models_config(repository: Path) -> None:
    """Writes `models.config` for TensorFlow Serving, which pins the labelled versions, or the latest without labels."""
    with atomic.locked(repository / LOCK):  # so that an older scan never replaces a newer one
        blocks = [_config_block(repository, name) for name in models(repository)]
        with atomic.file(repository / CONFIG) as part:
            part.write_text("model_config_list {\n" + "".join(blocks) + "}\n")


def _config_block(repository: Path, name: str) -> str:
    pinned = labels(repository, name)
    wanted = sorted(set(pinned.values())) or versions(repository, name)[-1:]
    lines = [
        "  config {",
        f"    name: {_quoted(name)}",
        f"    base_path: {_quoted(str((repository / name).absolute()))}",
        '    model_platform: "tensorflow"',
        "    model_version_policy { specific { " + " ".join(f"versions: {v}" for v in wanted) + " } }",
        *(f"    version_labels {{ key: {_quoted(label)} value: {v} }}" for label, v in sorted(pinned.items())),
        "  }",
    ]
    return "\n".join(lines) + "\n"


def _quoted(text: str) -> str:
    """A string in protobuf's text format."""
    return json.dumps(text, ensure_ascii=False)


def prune(repository: Path, name: str, keep: int, served: Collection[int] = ()) -> list[int]:
    """Removes all versions but the newest `keep`, the labelled and the `served` ones. Returns the removed ones."""
    if keep < 1:
        raise Refused(f"prune must keep at least 1 version of {name}, not {keep}")
    with atomic.locked(repository / name / LOCK):
        kept = {*versions(repository, name)[-keep:], *labels(repository, name).values(), *served}
        removed = [v for v in versions(repository, name) if v not in kept]
        for version, entry in _numbered(
            repository / name
        ):  # remove all folders of a number, so that no duplicate takes its place
            if version in removed and _is_folder(entry):
                hidden = repository / name / f"{atomic.INCOMING}pruned-{entry.name}"
                Path(entry).rename(hidden)  # hides it from readers immediately
                shutil.rmtree(hidden, ignore_errors=True)  # a publisher may be removing it too
    return removed


def evidence(repository: Path, name: str, digest: str) -> Path:
    """The folder for evidence of the version with this digest (created by the first writer)."""
    return repository / name / EVIDENCE / digest


def _sort(model: Path) -> tuple[dict[int, Path], dict[Path, str]]:
    """A model's versions, and the other entries of its folder with the reason why they are none. Raises Unavailable.

    If several folders have the same number, the last by name counts, as in TensorFlow Serving.
    """
    version_folders: dict[int, Path] = {}
    skipped: dict[Path, str] = {}
    numbered = list(_numbered(model))
    for version, entry in numbered:
        folder = model / entry.name
        if not _is_folder(entry):
            skipped[folder] = "not a version: it is a file, although its name is an integer"
            continue
        if version in version_folders:
            skipped[version_folders[version]] = f"version {version} is read from {entry.name} beside it"
        version_folders[version] = folder
    for entry in _listing(model):
        ours = entry.name == EVIDENCE or entry.name.startswith(atomic.INCOMING)
        if number(entry.name) is None and not ours and _is_folder(entry):
            hidden = entry.name.startswith(".")
            skipped[model / entry.name] = "hidden" if hidden else "not a version: its name is not an integer"
    return version_folders, skipped


def _numbered(model: Path) -> Iterator[tuple[int, os.DirEntry[str]]]:
    """The entries of a model's folder whose name is a version number, sorted by name. Raises Unavailable."""
    for entry in sorted(_listing(model), key=lambda entry: entry.name):
        version = number(entry.name)
        if version is not None:
            yield version, entry


def _no_name(folder: str) -> str:
    """Why a folder of this name is not a model; "" if it may be one."""
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
    except OSError:  # a link to itself, or an unreachable target
        return False


def _listing(folder: Path) -> list[os.DirEntry[str]]:
    try:
        with os.scandir(folder) as entries:
            return list(entries)
    except FileNotFoundError:
        raise Unavailable(
            f"{folder}: no such model repository; make one with `seaway run` or `seaway ship`, or give "
            "--model-repository (if it is a volume: is it mounted?)"
        ) from None
    except OSError as error:
        raise Unavailable(f"{folder}: the model repository cannot be read ({error.strerror}); is it mounted?") from None
