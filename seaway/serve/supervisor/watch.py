"""Decides when a version may be loaded: once its files stop changing, and after a failure once they have changed.

A version may arrive slowly, file by file, under its final name. Only its files show when it is complete, so each poll
takes their fingerprint (`model_repository.fingerprint`) until the version is served.
"""

import math
from dataclasses import dataclass

# Delay before unchanged files that failed to load are retried: first, and largest
RETRY_BACKOFF_S = (2.0, 300.0)
LOG_INTERVAL_S = 60.0  # between log lines of a repeated failure


@dataclass(slots=True)
class Watch:
    """The observed state of one version's folder. `now` is time.monotonic's everywhere; `settle_s` is how long the
    files must have been unchanged before they are loaded."""

    seen: str | None = None  # the latest fingerprint; None before the first observation
    since: float = 0.0  # when that fingerprint was first seen
    changed: bool = False  # whether the files changed after the first observation
    tried: str = ""  # the fingerprint of the files that failed to load
    failures: int = 0  # consecutive
    retry_at: float = 0.0  # when the same files are retried
    logged: float = -math.inf

    def observe(self, fingerprint: str, now: float) -> None:
        if fingerprint != self.seen:
            self.changed = self.seen is not None
            self.seen, self.since = fingerprint, now

    def may_load(self, now: float, settle_s: float) -> bool:
        if self.seen is None or now < self.since + settle_s:
            return False
        return not self.failures or self.seen != self.tried or now >= self.retry_at

    def record_failure(self, tried: str, now: float, killed_process: bool = False) -> None:
        """`tried`: the fingerprint, when loading began, of the files that failed; `killed_process`: they killed a
        process, so an early retry is pointless, and its trace would fill the log."""
        self.tried = tried
        self.retry_at = now + (
            RETRY_BACKOFF_S[1] if killed_process else min(RETRY_BACKOFF_S[0] * 2**self.failures, RETRY_BACKOFF_S[1])
        )
        self.failures = min(self.failures + 1, 30)

    def should_log(self, now: float) -> bool:
        """Whether to log a failure now; at most once per LOG_INTERVAL_S."""
        if now < self.logged + LOG_INTERVAL_S:
            return False
        self.logged = now
        return True

    def next_attempt(self, now: float) -> str:
        """When a version that failed to load is retried, in words."""
        return f"it is retried when its files change, or in {max(1, math.ceil(self.retry_at - now))} s"
