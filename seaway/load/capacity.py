"""The highest rate of requests at which a server meets its limits, by search, confirmed by further runs."""

from dataclasses import dataclass, replace
from pathlib import Path

from seaway.errors import InvalidInput
from seaway.load import gate
from seaway.load.config import LoadConfig
from seaway.load.gate import Limits
from seaway.load.progress import TitledProgressCallback, with_title
from seaway.load.result import LoadResult
from seaway.load.run import complete, run

FIRST_RATE = 20.0
MAX_RATIO = 1.05  # the search ends when the lowest rate that failed is within 5 % of the highest that passed
MAX_RATE = 1e6
CONFIRMATIONS = 3  # further runs at the rate found
MIN_ANSWERED = 0.98  # share of the requests due that must get a correct response within the run


@dataclass(frozen=True, slots=True)
class Trial:
    rate: float
    passed: bool
    reason: str  # why it failed, "" if it passed
    result: LoadResult


@dataclass(frozen=True, slots=True)
class Capacity:
    """The highest `rate` (requests per second) that passed, 0 if not even the first did. `failed_rate` is the lowest
    that failed (None: the load generator ended the search, so the server's capacity is at least `rate`). `confirmed` of
    `CONFIRMATIONS` further runs at `rate` passed. `trials` are in the order in which they ran."""

    rate: float
    failed_rate: float | None
    confirmed: int
    trials: tuple[Trial, ...]

    @property
    def summary(self) -> str:
        if not self.rate and self.failed_rate is None:
            first = min(trial.rate for trial in self.trials)
            return f"unknown; the load generator could not send even {first:.0f} requests/s ({self.trials[-1].reason})"
        if not self.rate:
            return f"below {self.failed_rate:.0f} requests/s ({self.trials[-1].reason})"
        confirmed = f"{self.confirmed} of {CONFIRMATIONS} confirmation runs passed"
        if self.failed_rate is None:
            return f"at least {self.rate:.0f} requests/s: the load generator could not send more ({confirmed})"
        return f"{self.rate:.0f} requests/s; {self.failed_rate:.0f} requests/s did not meet the limits ({confirmed})"


def capacity(
    url: str, source: Path, config: LoadConfig, limits: Limits, on_progress: TitledProgressCallback | None = None
) -> Capacity:
    """Doubles the rate from the config's (or 20/s) until it fails, then halves the gap until it is below 5 %.

    A rate that fails is tried once more, because a shared machine has bad moments. Each trial has its own arrivals: its
    seed is one above that of the trial before. Raises as `run` and `check_limits`.
    """
    check_limits(limits)
    trials: list[Trial] = []

    def passes(rate: float, attempts: int) -> bool:
        for _ in range(attempts):
            trial_config = replace(config, rate=rate, seed=config.seed + len(trials))
            result = complete(run(url, source, trial_config, with_title(on_progress, f"rate {rate:.0f}/s")))
            reason = _failure(result, limits)
            trials.append(Trial(rate, not reason, reason, result))
            if not reason:
                return True
        return False

    rate, passed = config.rate or FIRST_RATE, 0.0
    while rate < MAX_RATE and passes(rate, 2):
        passed, rate = rate, rate * 2
    failed: float | None = rate
    while passed and failed and failed / passed > MAX_RATIO:
        middle = (passed * failed) ** 0.5
        if passes(middle, 2):
            passed = middle
        else:
            failed = middle
    confirmed = sum(passes(passed, 1) for _ in range(CONFIRMATIONS)) if passed else 0
    lowest = min((trial for trial in trials if not trial.passed), key=lambda trial: trial.rate, default=None)
    if lowest is not None and lowest.result.generator.starved:
        failed = None
    return Capacity(passed, failed, confirmed, tuple(trials))


def check_limits(limits: Limits) -> None:
    """Raises InvalidInput for limits that do not fit a search: without a latency limit nothing bounds the rate."""
    for name in ("rate", "slower"):
        if getattr(limits, name) is not None:
            raise InvalidInput(f"load capacity cannot use the limit {name}: remove it")
    if all(getattr(limits, name) is None for name in ("p50_ms", "p90_ms", "p95_ms", "p99_ms")):
        raise InvalidInput("load capacity needs a latency limit: add e.g. --limit p99_ms=50")


def _failure(result: LoadResult, limits: Limits) -> str:
    """Why the rate failed, "" if it passed."""
    for one in gate.evaluate_limits(result, limits):
        if one.state == "fail" or (one.state == "inconclusive" and _exceeds(result, one.limit, limits)):
            return f"{one.limit}: {one.text}"
    if result.requests_per_second < MIN_ANSWERED * result.due_per_second:
        return f"only {result.requests_per_second:.1f} of {result.due_per_second:.1f} requests/s got a response in time"
    return ""


def _exceeds(result: LoadResult, name: str, limits: Limits) -> bool:
    """Whether the measured value itself, which decides where the limit is inconclusive, is above the limit."""
    limit, value = getattr(limits, name, None), getattr(result, name, None)
    return limit is not None and value is not None and bool(value > limit)
