"""Limits, and what a load test says of them: a line a limit, each passed, failed or inconclusive.

    failed: 0            # of all requests, a share: 0.001, or 0.1%
    wrong: 0             # the same
    p50_ms: 20           # at most; also p90_ms, p95_ms, p99_ms
    rate: 200            # right answers a second, at least
    slower: 20%          # than a baseline, at the median and at p95, at most

Inconclusive is what more seconds could settle, or a load generator that has enough CPU: nothing may move on it. A
server that is slower than the rate that it is asked breaks its limits, however long that goes on.
"""

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, fields, replace
from itertools import pairwise
from pathlib import Path
from statistics import mean, stdev
from typing import Any, Literal

from seaway.errors import InvalidInput
from seaway.load.run import LoadResult, Plan, Progress, run

State = Literal["pass", "fail", "inconclusive"]
EXIT: dict[State, int] = {"pass": 0, "fail": 1, "inconclusive": 3}  # 2 is a command's wrong use

ROUNDS, MOST_ROUNDS = 5, 15  # against a baseline: at least, and as long as they are inconclusive
LEAST = 3  # rounds without which nothing is judged
CONFIDENCE = 1.96  # standard deviations: 95 %
# Student's t, two-sided 95 %, for 1, 2, … degrees of freedom
_T = (12.71, 4.303, 3.182, 2.776, 2.571, 2.447, 2.365, 2.306, 2.262, 2.228, 2.201, 2.179, 2.160, 2.145)
_PERCENTILES = {"p50_ms": 0.5, "p90_ms": 0.9, "p95_ms": 0.95, "p99_ms": 0.99}


@dataclass(frozen=True, slots=True)
class Limits:
    """None: no limit. `failed`, `wrong`, `slower` are shares; see the module."""

    failed: float | None = 0.0
    wrong: float | None = 0.0
    p50_ms: float | None = None
    p90_ms: float | None = None
    p95_ms: float | None = None
    p99_ms: float | None = None
    rate: float | None = None
    slower: float | None = None


@dataclass(frozen=True, slots=True)
class Line:
    """One limit and what became of it."""

    limit: str
    state: State
    text: str


def read(path: Path) -> Limits:
    """Limits from a YAML file. Raises InvalidInput."""
    import yaml

    try:
        raw = yaml.safe_load(path.read_text(encoding="utf-8"))
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise InvalidInput(f"{path}: no YAML ({' '.join(str(error).split())[:200]})") from None
    if not isinstance(raw, dict):
        raise InvalidInput(f"{path}: give lines like 'p99_ms: 50'")
    return limits(raw, str(path))


def limits(given: Mapping[str, Any], where: str) -> Limits:
    """Limits by name, numbers or texts like "1%". Raises InvalidInput for what cannot be met or is not known."""
    known = [field.name for field in fields(Limits)]
    for name in given:
        if name not in known:
            raise InvalidInput(f"{where}: no limit {name!r}; there are {', '.join(known)}")
    made = Limits(**{name: _number(value, f"{where}: {name}") for name, value in given.items()})
    for name in ("failed", "wrong"):
        value = getattr(made, name)
        if value is not None and value > 1:
            raise InvalidInput(f"{where}: {name} is a share of all requests, at most 1, not {value:g}; 1% is 0.01")
    given_ms = [(name, value) for name in _PERCENTILES if (value := getattr(made, name)) is not None]
    for (lower, low), (upper, high) in pairwise(given_ms):
        if high < low:
            raise InvalidInput(f"{where}: {upper} {high:g} is below {lower} {low:g}, which contradicts it; raise it")
    return made


def _number(value: Any, where: str) -> float | None:
    text = str(value).strip()
    try:
        number = float(text[:-1]) / 100 if text.endswith("%") else float(text)
    except ValueError:
        number = math.nan
    if value is None:
        return None
    if isinstance(value, bool) or not math.isfinite(number) or number < 0:
        raise InvalidInput(f"{where} is {value!r}: give a number from 0 up, or a share like 1%")
    return number


def given(limits: Limits) -> dict[str, float]:
    """What `limits` would read again: the limits there are, by name."""
    return {name: value for name, value in asdict(limits).items() if value is not None}


def judge(result: LoadResult, limits: Limits) -> list[Line]:
    """A line for each limit that one run can tell of."""
    lines = []
    for name, count in (("failed", result.failed), ("wrong", result.wrong)):
        if (limit := getattr(limits, name)) is not None:
            lines.append(_share(name, count, result.requests, limit))
    for name, share in _PERCENTILES.items():
        if (limit := getattr(limits, name)) is not None:
            lines.append(_percentile(name, share, result, limit))
    if limits.rate is not None:
        lines.append(_rate(result, limits.rate))
    if result.partial:
        lines.append(Line("time", "inconclusive", "the run was ended before its time"))
    return lines


def verdict(lines: Sequence[Line]) -> State:
    states = {line.state for line in lines}
    return "fail" if "fail" in states else "inconclusive" if "inconclusive" in states or not lines else "pass"


def _share(name: str, count: int, requests: int, limit: float) -> Line:
    if not requests:
        return Line(name, "inconclusive", "no request was answered")
    text = f"{count} of {requests:,} {name}, at most {limit:.3g} of them allowed"
    return Line(name, "pass" if count <= limit * requests else "fail", text)


def _percentile(name: str, share: float, result: LoadResult, limit: float) -> Line:
    """Passed or failed where all values that chance could have made of it are on one side of the limit.

    Requests that were due and never sent, since all users waited, took longer than any that was answered.
    """
    count = sum(answers for _, answers in result.spread_ms)
    if not count:
        text = f"no right answer, so no {name}; at most {limit:g} allowed"
        return Line(name, "fail" if result.requests and not result.partial else "inconclusive", text)
    asked = count + result.generator.unsent
    spread = CONFIDENCE * math.sqrt(asked * share * (1 - share))
    low, high = (_at_rank(result, asked * share + side * spread) for side in (-1, 1))
    ends = f"{low:.4g} to {high:.4g}" if math.isfinite(high) else f"{min(low, result.spread_ms[-1][0]):.4g} or more"
    text = f"{name} {getattr(result, name):.4g} ({ends}), at most {limit:g}"
    if low > limit:
        if result.generator.starved:
            return Line(name, "inconclusive", f"{text}: {result.generator.bottleneck}")
        return Line(name, "fail", f"{text}{_because(result)}")
    if asked * share + spread >= asked:
        return Line(name, "inconclusive", f"{text}: {count:,} answers are too few to tell; run longer")
    if high <= limit:
        return Line(name, "pass", text)
    return Line(name, "inconclusive", f"{text}: too close to tell; run longer{_because(result)}")


def _at_rank(result: LoadResult, rank: float) -> float:
    seen = 0.0
    for milliseconds, answers in result.spread_ms:
        seen += answers
        if seen >= rank:
            return milliseconds
    return math.inf


def _because(result: LoadResult) -> str:
    return f"; {result.generator.bottleneck}" if result.generator.bottleneck else ""


def _rate(result: LoadResult, limit: float) -> Line:
    """In an open loop chance makes a few requests more or fewer due than were asked; of those, the same share must be
    answered in time."""
    got, due, expected = result.requests_per_second, result.due_per_second, result.expected_per_second
    text = f"{got:.4g} right answers/s, at least {limit:g}"
    if got >= limit:
        return Line("rate", "pass", text)
    if result.rate and expected < limit:
        return Line("rate", "inconclusive", f"{text}: only {expected:.4g}/s were asked; raise --rate")
    wanted = limit * min(1.0, due / expected) if result.rate else limit
    if result.rate:
        text = f"{text}: {due:.4g}/s were due, by chance, of {expected:.4g}/s" if due < expected else text
        if got >= wanted:
            return Line("rate", "pass", text)
    if result.generator.starved:
        return Line("rate", "inconclusive", f"{text}: {result.generator.bottleneck}")
    if result.rate and (wanted - got) * result.seconds <= max(1.0, CONFIDENCE * math.sqrt(2 * _under_way(result))):
        return Line("rate", "inconclusive", f"{text}: as many may have been under way at the end; run longer")
    return Line("rate", "fail", f"{text}{_because(result)}")


def _under_way(result: LoadResult) -> float:
    """Requests at a time that wait or are being answered, on average (Little's law)."""
    return sum(ms * answers for ms, answers in result.spread_ms) / 1000 / result.seconds


def of_stage(given: Mapping[str, Any], users: int, rate: float, seconds: int) -> tuple[Limits, Plan]:
    """What the stage `load` makes of its parameters: for the stage, and for who starts a run that gets there in hours.

    Raises InvalidInput for limits that are not known or cannot be met, and for a load that contradicts itself.
    """
    # promote asks for none that failed or was wrong, whatever the limits are
    wanted = limits({"failed": None, "wrong": None, **given}, "limits")
    plan = Plan(users=0 if rate else users, rate=rate, seconds=seconds)
    plan.check()
    check(wanted, plan)
    if wanted.slower is not None and not rate:
        raise InvalidInput(f"limit slower={wanted.slower:g} needs a rate: without one a slow server is asked less")
    return wanted, plan


def check(limits: Limits, plan: Plan) -> None:
    """Raises InvalidInput for a limit that no server could keep under this plan."""
    times = plan.schedule()
    if times and limits.rate:
        most = times.expected(plan.warmup, plan.warmup + plan.seconds) / plan.seconds
        if limits.rate > most:
            raise InvalidInput(
                f"limit rate={limits.rate:g} cannot be reached: a rate of {plan.rate:g}, shape {plan.shape}, asks "
                f"{most:.4g} requests a second on average; raise it or lower the limit"
            )


# ---- against a baseline

Pair = tuple[LoadResult, LoadResult]  # baseline, candidate


def against(pairs: Sequence[Pair], slower: float) -> list[Line]:
    """Whether the candidate is slower than the baseline by more than `slower`, by rounds that ran in turn: the mean
    ratio of each round's percentiles, and how sure the rounds' spread leaves it.

    Rounds in which the load generator was short of CPU measured the generator, and are left out.
    """
    return [_ratio(_measured(pairs), name, slower, len(pairs)) for name in ("p50_ms", "p95_ms")]


def _measured(pairs: Sequence[Pair]) -> list[Pair]:
    return [pair for pair in pairs if not any(one.generator.starved for one in pair)]


def _ratio(pairs: Sequence[Pair], name: str, slower: float, ran: int) -> Line:
    limit = f"{name} against the baseline"
    values = [(getattr(base, name), getattr(one, name)) for base, one in pairs]
    if len(values) < LEAST:
        few = f"in {ran - len(pairs)} of {ran} rounds the load generator was short of CPU, and {len(pairs)} are too few"
        return Line(limit, "inconclusive", f"{few}: use more --processes, or another machine")
    if any(base is None for base, _ in values):
        return Line(limit, "inconclusive", "the baseline gave no right answer in a round, so nothing can be compared")
    if silent := sum(one is None for _, one in values):
        return Line(limit, "fail", f"no right answer in {silent} of {len(values)} rounds, where the baseline gave some")
    logs = [math.log(one / base) for base, one in values]
    half = _T[min(len(logs) - 1, len(_T)) - 1] * stdev(logs) / math.sqrt(len(logs))
    low, middle, high = (math.exp(mean(logs) + side * half) for side in (-1, 0, 1))
    text = f"{middle:.3g} times the baseline's ({low:.3g} to {high:.3g}, {len(logs)} rounds), at most {1 + slower:g}"
    if high <= 1 + slower:
        return Line(limit, "pass", text)
    if low <= 1 + slower:
        return Line(limit, "inconclusive", text)
    return Line(limit, "fail", text)


@dataclass(frozen=True, slots=True)
class Target:
    """A server's address, examples for it, and which version is asked; None: whichever answers."""

    url: str
    source: Path
    version: int | None = None


Told = Callable[[str, Progress], None]


def check_comparison(plan: Plan) -> None:
    """Raises InvalidInput for a plan by which nothing can be compared."""
    if not plan.rate:
        raise InvalidInput("a comparison with a baseline needs --rate: in a closed loop a slow server is asked less")


def rounds(
    baseline: Target, candidate: Target, plan: Plan, slower: float, told: Told | None = None, least: int = ROUNDS
) -> list[Pair]:
    """Runs both in turn, each round in the other order, at the plan's rate; goes on while it is inconclusive.

    Both get the same arrivals, each round others. Raises InvalidInput for a plan without a rate: in a closed loop a
    slower server is asked less.
    """
    check_comparison(plan)
    pairs: list[Pair] = []
    while len(pairs) < MOST_ROUNDS and (
        len(_measured(pairs)) < least or verdict(against(pairs, slower)) == "inconclusive"
    ):
        order = [("baseline", baseline), ("candidate", candidate)]
        found = {}
        for name, target in order if len(pairs) % 2 == 0 else order[::-1]:
            title = f"round {len(pairs) + 1}, {name}"
            found[name] = run(
                target.url,
                target.source,
                replace(plan, version=target.version, seed=plan.seed + len(pairs)),
                told and (lambda progress, title=title: told(title, progress)),
            )
        pairs.append((found["baseline"], found["candidate"]))
    return pairs
