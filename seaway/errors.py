"""What can go wrong, as one tree. Every message says what was wrong, where, and what to do.

    SeawayError                 500
    ├── InvalidInput            400   what the user gave cannot be used
    │   ├── DataError           400   a data source or dataset
    │   ├── ModelError          400   a network, its weights, or a graph that cannot be carried across
    │   └── CardError           400   a card that cannot be read, or does not match what lies beside it
    ├── NotFound                404   no such model, version, label or signature
    ├── Refused                 409   a gate said no
    ├── Unsupported             501   understood, but not offered
    └── Unavailable             503   the volume, a worker or a server is not there now

`status` is a hint for whoever speaks HTTP; nothing here knows HTTP.
"""

import errno
import sys
from collections.abc import Iterator
from contextlib import contextmanager


class SeawayError(Exception):
    """The root of the tree; `status` overrides the class's hint for one error."""

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


class CardError(InvalidInput):
    pass


class NotFound(SeawayError):
    status = 404


class Refused(SeawayError):
    status = 409


class Unsupported(SeawayError):
    status = 501


class Unavailable(SeawayError):
    status = 503


_ADVICE = {
    errno.ENOSPC: "the disk is full: free some space and run again; finished work is kept",
    errno.EDQUOT: "the disk quota is used up: free some space and run again; finished work is kept",
    errno.EROFS: "it is read-only: mount it writable or choose another folder",
    errno.EACCES: "permission denied: make it readable and writable for this user, or choose another folder",
    errno.EEXIST: "something else is already there: choose another path",
    errno.ENOTDIR: "a file stands where a folder is needed: choose another path",
    errno.EISDIR: "a folder stands where a file is needed: give the file itself",
    errno.ENOENT: "it is not there: check the path",
    errno.EADDRINUSE: "the port is in use: end the program that holds it or choose another port",
}


def explain(error: OSError) -> str:
    """One line for an operating-system error: the file, what happened, what to do."""
    written_to = error.filename2 if error.errno in (errno.ENOSPC, errno.EDQUOT, errno.EROFS) else None  # of a copy
    name = written_to or error.filename
    where = f"{name}: " if name else ""
    advice = _ADVICE.get(error.errno or 0)
    return f"{where}{advice or error.strerror or error}"


@contextmanager
def exit_with_message(program: str, verb: str = "") -> Iterator[None]:
    """For entry points: known errors become one line on stderr and exit status 1; unknown ones keep their traceback.

    A package that is missing because its extra is not installed is known; `verb`: who wants it, if not the program.
    """
    try:
        yield
    except ModuleNotFoundError as error:
        from seaway import extras

        told = extras.advice(f"{program} {verb}".rstrip(), error.name or "")
        if not told:
            raise
        print(told, file=sys.stderr, flush=True)
        raise SystemExit(1) from None
    except SeawayError as error:
        print(f"{program}: {error}", file=sys.stderr, flush=True)
        raise SystemExit(1) from None
    except OSError as error:
        print(f"{program}: {explain(error)}", file=sys.stderr, flush=True)
        raise SystemExit(1) from None
