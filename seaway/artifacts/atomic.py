"""Files and folders that appear whole or not at all, whatever happens midway: kill -9, a full disk, two writers.

Work goes into a hidden neighbour `.incoming-*`, is flushed to the disk, and takes its name by rename. What a killed
writer left behind is removed by the next writer to the same place; a living writer's is kept by its flock. An OSError
that passes through names a file: the system's own, or the one that was to appear.

Files are 0644 and folders 0755, whatever the umask: a server under another user reads what a stage wrote, and where the
umask is 0, as in Kubeflow's pods, nobody else may change it.
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
    """Yields a temporary path to write; on success it replaces `path` at once, on error it is gone."""
    with _named(path), _incoming(path.parent) as holder:
        part = holder / path.name
        yield part
        sync(part)
        part.replace(path)
        sync_entry(path.parent)


@contextmanager
def folder(path: Path) -> Iterator[Path]:
    """Yields a temporary folder to fill; on success it takes the place of `path`, on error `path` is as it was."""
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
    """Yields a hidden folder under `parent` for the caller to fill, `sync` and rename; gone on exit if still there."""
    with _named(parent), _incoming(parent) as holder:
        part = holder / "new"
        part.mkdir()
        yield part


def make_folder(path: Path) -> None:
    """Makes the folder, and those above it, where they are missing."""
    missing = [one for one in (path, *path.parents) if not one.exists()]
    path.mkdir(parents=True, exist_ok=True)
    for one in missing:
        _set_mode(one)


def sync(path: Path) -> None:
    """Gives a file, or a folder and all that is in it, its mode, and flushes it to the disk."""
    _set_mode(path)
    if path.is_dir():
        for child in path.iterdir():
            sync(child)
    sync_entry(path)


def sync_entry(path: Path) -> None:
    """Flushes one file or one folder's own entries to the disk."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


@contextmanager
def locked(path: Path) -> Iterator[None]:
    """Holds the advisory lock of a file (made where missing) or a folder; it ends with the process at the latest.

    `file`, `folder` and `new_folder` take the lock of the folder they write into: do not hold that one around them.
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
    """Keeps a set-group-id bit, by which a volume with fsGroup hands its group on. A volume that knows no modes, or
    whose owner another made, stays as it is."""
    now = path.stat().st_mode
    wanted = now & 0o7000 | (FOLDER_MODE if path.is_dir() else FILE_MODE)
    if now & 0o7777 == wanted:
        return
    try:
        path.chmod(wanted)
    except OSError as error:
        if error.errno not in (errno.EPERM, errno.ENOTSUP, errno.ENOSYS):
            raise


@contextmanager
def _named(path: Path) -> Iterator[None]:
    """A full disk does not say where it is: this does."""
    try:
        yield
    except OSError as error:
        error.filename = error.filename or str(path)
        raise


@contextmanager
def _incoming(parent: Path) -> Iterator[Path]:
    make_folder(parent)
    with locked(parent):  # so that nobody takes the new holder for an abandoned one before it is locked
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
    for left in parent.glob(f"{INCOMING}*"):
        try:
            descriptor = os.open(left, os.O_RDONLY)
        except OSError:
            continue
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            shutil.rmtree(left, ignore_errors=True)
        except OSError:
            pass  # its writer lives
        finally:
            os.close(descriptor)
