"""When a version may be loaded: once its files have stopped changing, and after a failure once they changed.

A version may arrive slowly, file by file, under its final name. Nothing but its files says when it is whole, so their
fingerprint (`store.fingerprint`) is looked at with every poll for as long as the version is not served.
"""

import math
from dataclasses import dataclass

BACK_OFF = (2.0, 300.0)  # seconds before files that would not load are tried as they are: the first time, and at most
LOG_SECONDS = 60.0  # what goes on failing is logged so often


@dataclass(slots=True)
class Watch:
    """What was seen of one version's folder. `now` is time.monotonic's everywhere, `settle` the seconds for which files
    that may be read must have been the same."""

    seen: str | None = None  # the fingerprint at the last look; None before the first
    since: float = 0.0  # when it was seen first
    changed: bool = False  # after the first look: the version is still arriving, or was
    tried: str = ""  # the fingerprint of the files that would not load
    failures: int = 0  # in a row
    due: float = 0.0  # when the same files are tried again
    logged: float = -math.inf

    def look(self, fingerprint: str, now: float) -> None:
        if fingerprint != self.seen:
            self.changed = self.seen is not None
            self.seen, self.since = fingerprint, now

    def may_load(self, now: float, settle: float) -> bool:
        if self.seen is None or now < self.since + settle:
            return False
        return not self.failures or self.seen != self.tried or now >= self.due

    def failed(self, tried: str, now: float, fatal: bool = False) -> None:
        """`tried`: the fingerprint of what would not load, as it was when loading began; `fatal`: it ended a process,
        which is no passing trouble, and whose trace would fill the log."""
        self.tried = tried
        self.due = now + (BACK_OFF[1] if fatal else min(BACK_OFF[0] * 2**self.failures, BACK_OFF[1]))
        self.failures = min(self.failures + 1, 30)

    def to_be_logged(self, now: float) -> bool:
        """Whether a failure is to be logged now; at most once in LOG_SECONDS."""
        if now < self.logged + LOG_SECONDS:
            return False
        self.logged = now
        return True

    def next_try(self, now: float) -> str:
        """When a version that would not load is tried again, in words."""
        return f"it is tried again when its files change, or in {max(1, math.ceil(self.due - now))} s"
