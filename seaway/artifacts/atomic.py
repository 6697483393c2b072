"""Atomic writes: files and folders appear complete or not at all, despite kill -9, a full disk or two writers.

A writer works in a hidden folder `.incoming-*` beside the target, flushes it to the disk and renames it. The next
writer to the same place removes what a killed writer left behind; a flock protects a running writer's folder. Every
OSError names a file: the system's own, or the target.

Files are 0644 and folders 0755, whatever the umask: a server under another user can read what a stage wrote, and where
the umask is 0, as in Kubeflow's pods, nobody else can change it.
"""

import errno
import fcntl
import os
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

INCOMING = ".incoming-"
FILE_MODE, FOLDER_MODE = 0o644, 0o755


@contextmanager
def file(path: Path) -> Iterator[Path]:
    """Yields a temporary path to write; on success it replaces `path` atomically, on error it is removed."""
    with _named(path), _incoming(path.parent) as holder:
        part = holder / path.name
        yield part
        sync(part)
        part.replace(path)
        sync_entry(path.parent)


@contextmanager
def folder(path: Path) -> Iterator[Path]:
    """Yields a temporary folder to fill; on success it replaces `path`, on error `path` stays unchanged."""
    with _named(path), _incoming(path.parent) as holder:
        part = holder / path.name
        part.mkdir()
        yield part
        sync(part)
        if path.exists():
            path.rename(holder / f"{path.name}.old")
        part.rename(path)
        sync_entry(path.parent)


@contextmanager
def new_folder(parent: Path) -> Iterator[Path]:
    """Yields a hidden folder under `parent` for the caller to fill, `sync` and rename; removed on exit otherwise."""
    with _named(parent), _incoming(parent) as holder:
        part = holder / "new"
        part.mkdir()
        yield part


def make_folder(path: Path) -> None:
    """Creates the folder and its missing parents."""
    missing = [folder for folder in (path, *path.parents) if not folder.exists()]
    path.mkdir(parents=True, exist_ok=True)
    for created in missing:
        _set_mode(created)


def sync(path: Path) -> None:
    """Sets the mode of a file, or of a folder and its contents, and flushes them to the disk."""
    _set_mode(path)
    if path.is_dir():
        for child in path.iterdir():
            sync(child)
    sync_entry(path)


def sync_entry(path: Path) -> None:
    """Flushes a file, or a folder's own entries, to the disk."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


@contextmanager
def locked(path: Path) -> Iterator[None]:
    """Holds the advisory lock of a file (created if missing) or a folder; the process's end releases it too.

    `file`, `folder` and `new_folder` lock the folder that they write into: do not hold that lock around them.
    """
    missing = not path.exists()
    descriptor = os.open(path, os.O_RDONLY if path.is_dir() else os.O_RDWR | os.O_CREAT, FILE_MODE)
    try:
        if missing:
            _set_mode(path)
        fcntl.flock(descriptor, fcntl.LOCK_EX)
        yield
    finally:
        os.close(descriptor)


def _set_mode(path: Path) -> None:
    """Keeps the set-group-ID bit, which passes a volume's fsGroup on. A file system without modes, or an entry of
    another owner, stays unchanged."""
    current = path.stat().st_mode
    mode = current & 0o7000 | (FOLDER_MODE if path.is_dir() else FILE_MODE)
    if current & 0o7777 == mode:
        return
    try:
        path.chmod(mode)
    except OSError as error:
        if error.errno not in (errno.EPERM, errno.ENOTSUP, errno.ENOSYS):
            raise


@contextmanager
def _named(path: Path) -> Iterator[None]:
    """Adds the path to an OSError without one, such as that of a full disk."""
    try:
        yield
    except OSError as error:
        error.filename = error.filename or str(path)
        raise


@contextmanager
def _incoming(parent: Path) -> Iterator[Path]:
    make_folder(parent)
    with locked(parent):  # so that no other writer removes the new folder as abandoned before it is locked
        _remove_abandoned(parent)
        holder = Path(tempfile.mkdtemp(prefix=INCOMING, dir=parent))
        descriptor = os.open(holder, os.O_RDONLY)
        fcntl.flock(descriptor, fcntl.LOCK_EX)
    try:
        yield holder
    finally:
        shutil.rmtree(holder, ignore_errors=True)
        os.close(descriptor)


def _remove_abandoned(parent: Path) -> None:
    for abandoned in parent.glob(f"{INCOMING}*"):
        try:
            descriptor = os.open(abandoned, os.O_RDONLY)
        except OSError:
            continue
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            shutil.rmtree(abandoned, ignore_errors=True)
        except OSError:
            pass  # its writer is still running
        finally:
            os.close(descriptor)
