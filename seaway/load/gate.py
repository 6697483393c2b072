"""The load test's gate: limits and comparisons with a baseline; each limit is passed, failed or inconclusive.

    failed: 0            # at most this fraction of all requests: 0.001, or 0.1%
    wrong: 0             # the same
    p50_ms: 20           # at most; also p90_ms, p95_ms, p99_ms
    rate: 200            # correct responses per second, at least
    slower: 20%          # than a baseline, at the median and at p95, at most

A limit is inconclusive if a longer run, or a load generator with enough CPU, could decide it; nothing may be promoted
on it. A server that is slower than the requested rate violates its limits, however long the run is.
"""

import difflib
import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, fields, replace
from itertools import pairwise
from pathlib import Path
from statistics import mean, stdev
from typing import Any, Literal

from seaway.errors import InvalidInput, Refused
from seaway.load.config import LoadConfig
from seaway.load.formatting import Pair, rounds_by_protocol, shorten_identity
from seaway.load.progress import TitledProgressCallback, with_title
from seaway.load.result import LoadResult, merge_rounds
from seaway.load.run import complete, run

State = Literal["pass", "fail", "inconclusive"]
EXIT_STATUS: dict[State, int] = {"pass": 0, "fail": 1, "inconclusive": 3}  # 2 is wrong use of the command

MIN_ROUNDS, MAX_ROUNDS = 5, 15  # against a baseline; more than the minimum while the comparison is inconclusive
MIN_COMPARED_ROUNDS = 3  # with fewer the comparison is inconclusive
Z_95 = 1.96  # standard deviations: 95% confidence, two-sided
# Student's t, two-sided 95%, for 1, 2, … degrees of freedom
_T_95 = (12.71, 4.303, 3.182, 2.776, 2.571, 2.447, 2.365, 2.306, 2.262, 2.228, 2.201, 2.179, 2.160, 2.145)
_STARVED = "the load generator was too slow to decide"  # `GeneratorStats.bottleneck` has the details
_FRACTIONS = ("failed", "wrong", "slower")
_QUANTILES = {"p50_ms": 0.5, "p90_ms": 0.9, "p95_ms": 0.95, "p99_ms": 0.99}


@dataclass(frozen=True, slots=True)
class Limits:
    """None: no limit. `failed`, `wrong`, `slower` are fractions; see the module."""

    failed: float | None = 0.0
    wrong: float | None = 0.0
    p50_ms: float | None = None
    p90_ms: float | None = None
    p95_ms: float | None = None
    p99_ms: float | None = None
    rate: float | None = None
    slower: float | None = None


@dataclass(frozen=True, slots=True)
class LimitResult:
    """Whether a run met one limit, and the measurement behind it in words."""

    limit: str
    state: State
    text: str


def read_limits(path: Path) -> Limits:
    """Limits from a YAML file. Raises InvalidInput."""
    import yaml

    try:
        raw = yaml.safe_load(path.read_text(encoding="utf-8"))
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise InvalidInput(f"{path} is not YAML ({' '.join(str(error).split())[:200]})") from None
    if not isinstance(raw, dict):
        raise InvalidInput(f"{path}: not a mapping of limits; write one 'p99_ms: 50' per line")
    return parse_limits(raw, str(path))


def parse_limits(values: Mapping[str, Any], source: str) -> Limits:
    """Limits by name, as numbers or texts like "1%"; `source` begins error messages. Raises InvalidInput for unknown
    limits and for limits that cannot be met."""
    known = [field.name for field in fields(Limits)]
    for name in values:
        if name not in known:
            similar = difflib.get_close_matches(name, known, n=1)
            hint = f"; did you mean {similar[0]}?" if similar else ""
            raise InvalidInput(f"{source}: unknown limit {name!r}; choose from {', '.join(known)}{hint}")
    limits = Limits(**{name: _number(name, value, source) for name, value in values.items()})
    for name in ("failed", "wrong"):
        value = getattr(limits, name)
        if value is not None and value > 1:
            raise InvalidInput(f"{source}: {name}={value:g} must be a fraction of at most 1, e.g. 0.01 or 1%")
    latencies = [(name, value) for name in _QUANTILES if (value := getattr(limits, name)) is not None]
    for (lower, low), (upper, high) in pairwise(latencies):
        if high < low:
            raise InvalidInput(
                f"{source}: {upper}={high:g} is lower than {lower}={low:g}; a higher percentile cannot be lower"
            )
    return limits


def _number(name: str, value: Any, source: str) -> float | None:
    """A limit's value; only fractions may be percentages. Raises InvalidInput."""
    if value is None:
        return None
    text = str(value).strip()
    try:
        number = float(text[:-1]) / 100 if name in _FRACTIONS and text.endswith("%") else float(text)
    except ValueError:
        number = math.nan
    if isinstance(value, bool) or not math.isfinite(number) or number < 0:
        expected = "a number of at least 0"
        if name in _FRACTIONS:
            expected = "a fraction or percentage, e.g. 0.01 or 1%"
        elif name in _QUANTILES:
            expected = "a number of milliseconds, e.g. 50"
        raise InvalidInput(f"{source}: {name}={value!r} must be {expected}")
    return number


def to_mapping(limits: Limits) -> dict[str, float]:
    """The limits that are set, by name, as `parse_limits` takes them."""
    return {name: value for name, value in asdict(limits).items() if value is not None}


def evaluate_limits(result: LoadResult, limits: Limits) -> list[LimitResult]:
    """One result for each limit that a single run can be checked against."""
    evaluated = []
    for name, count in (("failed", result.failed), ("wrong", result.wrong)):
        if (limit := getattr(limits, name)) is not None:
            evaluated.append(_evaluate_share(name, count, result.requests, limit))
    for name, quantile in _QUANTILES.items():
        if (limit := getattr(limits, name)) is not None:
            evaluated.append(_evaluate_percentile(name, quantile, result, limit))
    if limits.rate is not None:
        evaluated.append(_evaluate_rate(result, limits.rate))
    if result.partial:
        evaluated.append(LimitResult("time", "inconclusive", "the run was interrupted; run the same command again"))
    return evaluated


def verdict(limit_results: Sequence[LimitResult]) -> State:
    """The worst state; "inconclusive" without any limit."""
    states = {one.state for one in limit_results}
    return "fail" if "fail" in states else "inconclusive" if "inconclusive" in states or not states else "pass"


def _evaluate_share(name: str, count: int, requests: int, limit: float) -> LimitResult:
    if not requests:
        return LimitResult(name, "inconclusive", "no request got a response")
    outcome = {"failed": "failed", "wrong": "got wrong responses"}[name]
    text = f"{count:,} of {requests:,} requests {outcome}, limit {100 * limit:.3g}%"
    return LimitResult(name, "pass" if count <= limit * requests else "fail", text)


def _evaluate_percentile(name: str, quantile: float, result: LoadResult, limit: float) -> LimitResult:
    """Passed or failed if the whole confidence interval of the percentile is on one side of the limit.

    Requests that were scheduled and never sent, because all users were busy, count as slower than any response.
    """
    count = sum(responses for _, responses in result.latency_histogram)
    if not count:
        text = f"{result.no_latency}, so no {name.removesuffix('_ms')}; limit {limit:g} ms"
        some_correct = result.requests > result.failed + result.wrong
        undecided = not result.requests or result.partial or (result.generator.starved and some_correct)
        return LimitResult(name, "inconclusive" if undecided else "fail", text)
    total = count + result.generator.unsent
    half_width = Z_95 * math.sqrt(total * quantile * (1 - quantile))
    low, high = (_latency_at_rank(result, total * quantile + side * half_width) for side in (-1, 1))
    interval = f"{low:.4g} to {high:.4g}"
    if not math.isfinite(high):
        interval = f"{min(low, result.latency_histogram[-1][0]):.4g} or more"
    text = f"{getattr(result, name):.4g} ms (95% confidence interval {interval}), limit {limit:g} ms"
    if low > limit:
        if result.generator.starved:
            return LimitResult(name, "inconclusive", f"{text}: {_STARVED}")
        return LimitResult(name, "fail", text)
    if total * quantile + half_width >= total:
        return LimitResult(name, "inconclusive", f"{text}: {count:,} responses are too few to decide; run longer")
    if high <= limit:
        return LimitResult(name, "pass", text)
    return LimitResult(name, "inconclusive", f"{text}: too close to the limit to decide; run longer")


def _latency_at_rank(result: LoadResult, rank: float) -> float:
    cumulative = 0.0
    for milliseconds, responses in result.latency_histogram:
        cumulative += responses
        if cumulative >= rank:
            return milliseconds
    return math.inf


def _evaluate_rate(result: LoadResult, limit: float) -> LimitResult:
    """In an open loop a few requests more or fewer are scheduled than expected; of those scheduled, the same fraction
    must get a correct response in time."""
    measured, due, expected = result.requests_per_second, result.due_per_second, result.expected_per_second
    text = f"{measured:.4g} correct responses/s, limit at least {limit:g}"
    if measured >= limit:
        return LimitResult("rate", "pass", text)
    if result.rate and expected < limit:
        return LimitResult(
            "rate", "inconclusive", f"{text}: only {expected:.4g} requests/s were expected; raise --rate"
        )
    required = limit * min(1.0, due / expected) if result.rate else limit
    if result.rate:
        text = (
            f"{text}: only {due:.4g} of {expected:.4g} requests/s happened to be scheduled" if due < expected else text
        )
        if measured >= required:
            return LimitResult("rate", "pass", text)
    if result.generator.starved:
        return LimitResult("rate", "inconclusive", f"{text}: {_STARVED}")
    missing = (required - measured) * result.duration_s
    if result.rate and missing <= max(1.0, Z_95 * math.sqrt(2 * _mean_in_flight(result))):
        return LimitResult(
            "rate", "inconclusive", f"{text}: the missing ones may have been in flight at the end; run longer"
        )
    return LimitResult("rate", "fail", text)


def _mean_in_flight(result: LoadResult) -> float:
    """The average number of requests in flight, by Little's law."""
    return sum(ms * responses for ms, responses in result.latency_histogram) / 1000 / result.duration_s


def parse_stage_parameters(
    limits: Mapping[str, Any], users: int, rate: float, duration_s: int
) -> tuple[Limits, LoadConfig]:
    """The limits and config that the stage `load` makes of its parameters; also called before a run is submitted, whose
    load stage may be hours away.

    Raises InvalidInput for limits that are unknown or cannot be met, and for a load that contradicts itself.
    """
    # whatever the limits are, promote requires that no request failed and no response was wrong
    parsed = parse_limits({"failed": None, "wrong": None, **limits}, "limits")
    config = LoadConfig(users=0 if rate else users, rate=rate, duration_s=duration_s)
    config.check()
    check_feasible(parsed, config)
    if parsed.slower is not None and not rate:
        raise InvalidInput(
            f"limit slower={parsed.slower:g} needs an open-loop load: add --load-rate (seaway run) or --rate (python "
            "-m seaway.load); with a fixed number of users a slow server receives fewer requests"
        )
    return parsed, config


def check_feasible(limits: Limits, config: LoadConfig) -> None:
    """Raises InvalidInput for a limit that no server could meet under this load."""
    schedule = config.schedule()
    if schedule and limits.rate:
        expected = schedule.expected(config.warmup_s, config.total_s) / config.duration_s
        if limits.rate > expected:
            raise InvalidInput(
                f"limit rate={limits.rate:g} cannot be reached: a rate of {config.rate:g}, shape {config.shape}, sends "
                f"{expected:.4g} requests per second on average; raise the rate or lower the limit"
            )


# ---- against a baseline


def compare_with_baseline(pairs: Sequence[Pair], slower: float) -> list[LimitResult]:
    """Whether the candidate is slower than the baseline by more than `slower`: the mean ratio of the percentiles of
    each round, with its confidence interval from the rounds' spread.

    Rounds in which the load generator was too slow measured the generator, and are left out.
    """
    return [_evaluate_ratio(_valid(pairs), name, slower, len(pairs)) for name in ("p50_ms", "p95_ms")]


def describe_rounds(pairs: Sequence[Pair]) -> list[str]:
    """Who was compared over how many rounds, a sentence for each protocol; none without rounds."""
    sentences = []
    for title, own in rounds_by_protocol(pairs).items():
        merged = [merge_rounds(results) for results in zip(*own, strict=True)]
        sides = [
            f"{name} {', '.join(map(shorten_identity, one.served_by)).strip() or one.url}"
            + (f" in {' and '.join(one.backends)}" if one.backends else "")
            for name, one in zip(("the baseline", "the candidate"), merged, strict=True)
        ]
        text = (
            f"{title}: {len(own)} rounds of {' and '.join(sides)}; rates and latencies are medians of the rounds, the "
            "other counts are sums"
        )
        if left_out := len(own) - len(_valid(own)):
            count = "1 round" if left_out == 1 else f"{left_out} rounds"
            text += f"; the load generator was too slow in {count}, which the ratios leave out"
        sentences.append(f"{text}.")
    return sentences


def _valid(pairs: Sequence[Pair]) -> list[Pair]:
    return [pair for pair in pairs if not any(result.generator.starved for result in pair)]


def _evaluate_ratio(pairs: Sequence[Pair], name: str, slower: float, rounds: int) -> LimitResult:
    limit = f"{name} against the baseline"
    values = [(getattr(baseline, name), getattr(candidate, name)) for baseline, candidate in pairs]
    if len(values) < MIN_COMPARED_ROUNDS:
        starved = f"the load generator was too slow in {rounds - len(pairs)} of {rounds} rounds"
        return LimitResult(limit, "inconclusive", f"{starved}, and {len(pairs)} are too few to compare")
    if any(baseline is None for baseline, _ in values):
        text = "the baseline gave no correct response in a round, so nothing can be compared"
        return LimitResult(limit, "inconclusive", text)
    if silent := sum(candidate is None for _, candidate in values):
        text = f"no correct response in {silent} of {len(values)} rounds; the baseline gave some"
        return LimitResult(limit, "fail", text)
    logs = [math.log(candidate / baseline) for baseline, candidate in values]
    half_width = _T_95[min(len(logs) - 1, len(_T_95)) - 1] * stdev(logs) / math.sqrt(len(logs))
    low, ratio, high = (math.exp(mean(logs) + side * half_width) for side in (-1, 0, 1))
    interval = f"95% confidence interval {low:.3g} to {high:.3g}, {len(logs)} rounds"
    text = f"{ratio:.3g} times the baseline ({interval}), limit {1 + slower:g} times"
    if high <= 1 + slower:
        return LimitResult(limit, "pass", text)
    if low <= 1 + slower:
        return LimitResult(limit, "inconclusive", text)
    return LimitResult(limit, "fail", text)


@dataclass(frozen=True, slots=True)
class Target:
    """A server's URL, examples for it, and the version to request; None: whichever the server chooses."""

    url: str
    source: Path
    version: int | None = None


def check_comparison(config: LoadConfig) -> None:
    """Raises InvalidInput for a closed loop, in which nothing can be compared."""
    if not config.rate:
        raise InvalidInput(
            "a comparison with a baseline needs --rate: with a fixed number of users a slow server receives fewer "
            "requests"
        )


def run_rounds(
    baseline: Target,
    candidate: Target,
    config: LoadConfig,
    slower: float,
    on_progress: TitledProgressCallback | None = None,
    min_rounds: int = MIN_ROUNDS,
    judge_profile: bool = False,
) -> list[Pair]:
    """Runs both in turn at the config's rate, the order swapped each round; continues while it is inconclusive.

    In a round both get the same arrivals, which differ from round to round. Raises InvalidInput without a rate: in a
    closed loop a slower server receives fewer requests. Raises Refused if they respond with different engines, unless
    `judge_profile` says that the serving profile is what is compared.
    """
    check_comparison(config)
    pairs: list[Pair] = []
    while len(pairs) < MAX_ROUNDS and (
        len(_valid(pairs)) < min_rounds or verdict(compare_with_baseline(pairs, slower)) == "inconclusive"
    ):
        order = [("baseline", baseline), ("candidate", candidate)]
        number = len(pairs) + 1
        count = f"of {min_rounds}" if number <= min_rounds else f"of up to {MAX_ROUNDS}"
        results = {}
        for name, target in order if len(pairs) % 2 == 0 else order[::-1]:
            result = run(
                target.url,
                target.source,
                replace(config, version=target.version, seed=config.seed + len(pairs)),
                with_title(on_progress, f"round {number} {count}, {name}"),
            )
            results[name] = complete(result)
        pairs.append((results["baseline"], results["candidate"]))
        if not judge_profile:
            _check_engines(*pairs[-1])
    return pairs


def _check_engines(baseline: LoadResult, candidate: LoadResult) -> None:
    """Raises Refused for different engines. A side that names none may have any."""
    sides = [" and ".join(result.backends) for result in (baseline, candidate)]
    if all(sides) and sides[0] != sides[1]:
        raise Refused(
            f"the baseline responds with {sides[0]} and the candidate with {sides[1]}, so the engines would be "
            "compared instead of the versions: serve both with one engine, or give --judge-profile if the serving "
            "profile is what is judged"
        )
