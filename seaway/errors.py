"""Seaway's errors, one tree. Every message says what was wrong, where, and what to do.

    SeawayError                 500
    ├── InvalidInput            400   the user's input cannot be used
    │   ├── DataError           400   a data source or dataset
    │   ├── ModelError          400   a network, its weights, or a graph that cannot be converted
    │   └── MetadataError       400   artifact metadata that cannot be read, or does not match its files
    ├── NotFound                404   no such model, version, label or signature
    ├── Refused                 409   a gate said no
    ├── Unsupported             501   understood, but not supported
    └── Unavailable             503   the model repository, a worker or a server is not available now

`status` is a hint for code that speaks HTTP; this module does not.
"""

import errno
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager


class SeawayError(Exception):
    """The root of the tree; the argument `status` overrides the class's hint for one error."""

    status = 500

    def __init__(self, message: str, *, status: int | None = None) -> None:
        super().__init__(message)
        if status is not None:
            self.status = status


class InvalidInput(SeawayError):
    status = 400


class DataError(InvalidInput):
    pass


class ModelError(InvalidInput):
    pass


class MetadataError(InvalidInput):
    pass


class NotFound(SeawayError):
    status = 404


class Refused(SeawayError):
    status = 409


class Unsupported(SeawayError):
    status = 501


class Unavailable(SeawayError):
    status = 503


def check_all(*checks: Callable[[], object]) -> None:
    """Calls every check, so that the user learns of all mistakes at once. Raises InvalidInput if any check failed."""
    problems = []
    for check in checks:
        try:
            check()
        except SeawayError as error:
            problems.append(str(error))
    if problems:
        raise InvalidInput("\n".join(problems))


_FIXES = {
    errno.ENOSPC: "the disk is full: free some space and run again; finished work is kept",
    errno.EDQUOT: "the disk quota is used up: free some space and run again; finished work is kept",
    errno.EROFS: "it is read-only: mount it writable or choose another folder",
    errno.EACCES: "permission denied: make it readable and writable for this user, or choose another folder",
    errno.EEXIST: "the path already exists: choose another path",
    errno.ENOTDIR: "it is a file, but a folder is needed: choose another path",
    errno.EISDIR: "it is a folder, but a file is needed: give the file itself",
    errno.ENOENT: "it does not exist: check the path",
    errno.EADDRINUSE: "the port is in use: stop the program that uses it or choose another port",
}


def explain(error: OSError) -> str:
    """One line for an operating-system error: the file, what happened, what to do."""
    destination = error.filename2 if error.errno in (errno.ENOSPC, errno.EDQUOT, errno.EROFS) else None  # of copies
    name = destination or error.filename
    where = f"{name}: " if name else ""
    fix = _FIXES.get(error.errno or 0)
    return f"{where}{fix or error.strerror or error}"


@contextmanager
def exit_with_message(program: str, verb: str = "") -> Iterator[None]:
    """For entry points: known errors become one line on stderr and exit status 1; unknown ones keep their traceback.

    A package that is missing because its extra is not installed is a known error; `verb`, if any, is what needs it.
    """
    try:
        yield
    except ModuleNotFoundError as error:
        from seaway import extras

        message = extras.install_hint(f"{program} {verb}".rstrip(), error.name or "")
        if not message:
            raise
        print(message, file=sys.stderr, flush=True)
        raise SystemExit(1) from None
    except SeawayError as error:
        print(f"{program}: {error}", file=sys.stderr, flush=True)
        raise SystemExit(1) from None
    except OSError as error:
        print(f"{program}: {explain(error)}", file=sys.stderr, flush=True)
        raise SystemExit(1) from None
