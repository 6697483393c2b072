"""The highest rate of requests at which a server still keeps its limits, by search, and how sure that is."""

from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path

from seaway.errors import InvalidInput
from seaway.load import gate
from seaway.load.gate import Limits
from seaway.load.run import LoadResult, Plan, Progress, run

FIRST_RATE = 20.0
CLOSE = 1.05  # a search ends where the rate that failed is within 5 % of the one that held
MOST_RATE = 1e6
CONFIRMATIONS = 3  # runs at the rate that was found
HELD = 0.98  # of the requests that were due, answered rightly within the run

Told = Callable[[str, Progress], None]


@dataclass(frozen=True, slots=True)
class Trial:
    rate: float
    held: bool
    why: str  # "" where it held
    result: LoadResult


@dataclass(frozen=True, slots=True)
class Capacity:
    """`rate` requests a second were held, 0 where even the first was not; `above` is the lowest rate that was not
    (None: the load generator ended the search, so the server's capacity is at least `rate`). `confirmed` of
    `CONFIRMATIONS` further runs at `rate` held. `trials` in the order in which they ran."""

    rate: float
    above: float | None
    confirmed: int
    trials: tuple[Trial, ...]

    @property
    def text(self) -> str:
        if not self.rate and self.above is None:
            first = min(trial.rate for trial in self.trials)
            return f"not known: the load generator could not ask even {first:.0f} requests/s: {self.trials[-1].why}"
        if not self.rate:
            return f"not even {self.above:.0f} requests/s kept the limits: {self.trials[-1].why}"
        sure = f"{self.confirmed} of {CONFIRMATIONS} more runs at this rate held"
        if self.above is None:
            return f"at least {self.rate:.0f} requests/s: the load generator could not ask more ({sure})"
        return f"{self.rate:.0f} requests/s; {self.above:.0f} did not hold ({sure})"


def capacity(url: str, source: Path, plan: Plan, limits: Limits, told: Told | None = None) -> Capacity:
    """Doubles the rate from the plan's (or 20/s) until it is not held, then halves the gap until it is below 5 %.

    A rate that fails is tried once more, since a shared machine has bad moments. Each trial has its own arrivals: the
    plan's seed, and one more for each trial before it. Raises as `run`, and InvalidInput without a limit for a
    percentile: a rate alone has no limit.
    """
    if all(getattr(limits, name) is None for name in ("p50_ms", "p90_ms", "p95_ms", "p99_ms")):
        raise InvalidInput("a search for the capacity needs a limit of latency: give --limit p99_ms=50")
    trials: list[Trial] = []

    def holds(rate: float, tries: int) -> bool:
        for _ in range(tries):
            title = f"{rate:.0f} requests/s"
            listener = None if told is None else (lambda progress, title=title: told(title, progress))
            result = run(url, source, replace(plan, rate=rate, seed=plan.seed + len(trials)), listener)
            why = _why_not(result, limits)
            trials.append(Trial(rate, not why, why, result))
            if not why:
                return True
        return False

    rate, held = plan.rate or FIRST_RATE, 0.0
    while rate < MOST_RATE and holds(rate, 2):
        held, rate = rate, rate * 2
    failed: float | None = rate
    while held and failed and failed / held > CLOSE:
        middle = (held * failed) ** 0.5
        if holds(middle, 2):
            held = middle
        else:
            failed = middle
    confirmed = sum(holds(held, 1) for _ in range(CONFIRMATIONS)) if held else 0
    lowest = min((t for t in trials if not t.held), key=lambda t: t.rate, default=None)
    if lowest is not None and lowest.result.generator.starved:
        failed = None
    return Capacity(held, failed, confirmed, tuple(trials))


def _why_not(result: LoadResult, limits: Limits) -> str:
    """Why the rate was not held, "" where it was."""
    for line in gate.judge(result, replace(limits, rate=None, slower=None)):
        if line.state == "fail" or (line.state == "inconclusive" and _over(result, line.limit, limits)):
            return line.text
    if result.requests_per_second < HELD * result.due_per_second:
        return f"{result.requests_per_second:.1f} of {result.due_per_second:.1f} requests/s were answered in time"
    return ""


def _over(result: LoadResult, name: str, limits: Limits) -> bool:
    """Of an inconclusive limit, the value itself decides."""
    limit, value = getattr(limits, name, None), getattr(result, name, None)
    return limit is not None and value is not None and bool(value > limit)
