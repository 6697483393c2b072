"""The result of one load test: rates and percentiles from its counters."""

import math
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field, replace
from itertools import chain
from statistics import median
from typing import Any

from seaway.load import metrics, payloads
from seaway.load.config import LoadConfig
from seaway.load.counters import Counters, ReplicaCounters, finite_or_none, milliseconds_of, percentile, pooled
from seaway.load.progress import Progress
from seaway.load.schedule import POISSON
from seaway.protocols import client_codecs

QUANTILES = (0.01, 0.05, 0.1, 0.25, 0.5, 0.75, 0.9, 0.95, 0.99, 0.999)
MAX_CPU_CORES = 0.9  # a process that takes more of a core cannot send on time
MAX_LAG_MS = 5.0  # p99 of the load generator's own lag, above which the result says so
MAX_BACKLOG_SHARE = 0.01  # of the requests, above which the result says that all users were busy


@dataclass(frozen=True, slots=True)
class Second:
    """One second of the run, counted from its start, warm-up included: correct responses and errors in it, and the
    latency percentiles of requests that were due in it (sent, in a closed loop), None without a correct response."""

    second: int
    correct: int
    p50_ms: float | None
    p99_ms: float | None
    errors: int = 0


@dataclass(frozen=True, slots=True)
class Replica:
    """A replica's `pod`, `model` (name/version@digest) and `backend`, "" if its responses do not name them, and what it
    sent. `max_abs` None: infinite."""

    pod: str
    model: str
    responses: int
    wrong: int
    max_abs: float | None
    backend: str = ""


@dataclass(frozen=True, slots=True)
class GeneratorStats:
    """The load generator's effect on the measurement. `lag_p99_ms`: its own delay after the warm-up (None: no request
    was due while a user was free); `cpu`: cores per sending process; `backlog`: requests that were due while all users
    were waiting for responses; `unsent`: requests that were due and never sent. `bottleneck` describes what distorted
    the measurement; `starved`: it was the generator's lack of CPU, so the latencies are not the server's."""

    processes: int = 1
    cpu: float = 0.0
    lag_p99_ms: float | None = None
    backlog: int = 0
    unsent: int = 0
    bottleneck: str = ""
    starved: bool = False

    @property
    def busy(self) -> bool:
        """Whether the server, or too few users, distorted the measurement."""
        return bool(self.bottleneck) and not self.starved


@dataclass(frozen=True, slots=True)
class LoadResult:
    """`requests` that ended, `failed`, `wrong` and `max_abs` (None: infinite) cover the whole run.
    `requests_per_second` counts correct responses after the warm-up and before the end. Latencies (None: no correct
    response) are those of correct responses to requests due in that time (sent, in a closed loop), whenever they
    arrived. `due_per_second` and `expected_per_second` (0 in a closed loop): requests due in that time, and their
    expected number. `reference`: what responses were compared with (`payloads.describe_reference`). `discriminative`:
    the expected outputs differ enough that a response to another request would be noticed. `partial`: the run was
    interrupted. `latency_histogram`: (ms, responses) of bins 1 % wide. `errors_over_time`: kind → (second, count).
    `server_metrics`: see `metrics.series`.
    """

    protocol: str
    url: str
    users: int
    rate: float
    shape: str
    batch: int
    new_connections: bool
    duration_s: float
    warmup_s: int
    requests: int
    failed: int
    wrong: int
    requests_per_second: float
    p50_ms: float | None
    p90_ms: float | None
    p95_ms: float | None
    p99_ms: float | None
    max_abs: float | None
    discriminative: bool
    partial: bool
    replicas: tuple[Replica, ...]
    generator: GeneratorStats
    errors: dict[str, int]
    errors_over_time: dict[str, tuple[tuple[int, int], ...]]
    percentiles: dict[str, float | None]
    latency_histogram: tuple[tuple[float, int], ...]
    over_time: tuple[Second, ...]
    server_metrics: dict[str, tuple[tuple[float, float], ...]] = field(default_factory=dict)
    arrivals: str = ""  # "" in a closed loop
    seed: int = 0
    due_per_second: float = 0.0
    expected_per_second: float = 0.0
    reference: str = payloads.PYTORCH

    @property
    def title(self) -> str:
        """The protocol's name in reports."""
        return client_codecs.named(self.protocol).title

    @property
    def no_latency(self) -> str:
        """Why there is no latency, "" if there is one."""
        if self.latency_histogram:
            return ""
        if not self.requests:
            return "no request ended"
        if self.requests == self.failed + self.wrong:
            return "no correct response"
        due = "scheduled" if self.rate else "sent"
        return f"no correct response to a request that was {due} after the warm-up"

    @property
    def served_by(self) -> dict[str, int]:
        """Seaway-Model header → 2xx responses."""
        counts: Counter[str] = Counter()
        for replica in self.replicas:
            counts[replica.model] += replica.responses
        return dict(counts)

    @property
    def backends(self) -> list[str]:
        """The engines that responded, of the replicas that name theirs."""
        return sorted({replica.backend for replica in self.replicas} - {""})


def summarize(
    progress: Progress,
    url: str,
    config: LoadConfig,
    discriminative: bool = True,
    partial: bool = False,
    reference: str = payloads.PYTORCH,
) -> LoadResult:
    """The result of a run's counters; of the warm-up only errors and wrong responses count.

    `progress.elapsed_s`: seconds until the users were stopped, which Locust may do some hundredths early or late.
    """
    counters, warmup_s = progress.total, config.warmup_s
    if progress.elapsed_s <= warmup_s:  # interrupted in the warm-up: its seconds are better than none
        warmup_s = 0
    end = warmup_s + config.duration_s
    histogram = pooled(counters.latencies, warmup_s, end)
    measured_s = max(min(config.duration_s, progress.elapsed_s - warmup_s), 1e-3)
    due, expected, schedule = 0, 0.0, config.schedule()
    if schedule:
        span = warmup_s, warmup_s + measured_s
        due, expected = schedule.count_due(*span), schedule.expected(*span)
    return LoadResult(
        protocol=config.protocol,
        url=url,
        users=config.user_count,
        rate=config.rate,
        shape=config.shape,
        batch=config.batch,
        new_connections=config.new_connections,
        duration_s=config.duration_s,
        warmup_s=config.warmup_s,
        requests=counters.requests,
        failed=counters.failed,
        wrong=counters.wrong,
        requests_per_second=sum(n for second, n in counters.completed.items() if warmup_s <= second < end) / measured_s,
        p50_ms=percentile(histogram, 0.5),
        p90_ms=percentile(histogram, 0.9),
        p95_ms=percentile(histogram, 0.95),
        p99_ms=percentile(histogram, 0.99),
        max_abs=finite_or_none(counters.max_abs),
        discriminative=discriminative,
        partial=partial,
        replicas=tuple(_replica(name, replica) for name, replica in sorted(counters.replicas.items())),
        generator=_generator_stats(progress, config, warmup_s),
        errors={kind: seconds.total() for kind, seconds in counters.errors.items()},
        errors_over_time={kind: tuple(sorted(seconds.items())) for kind, seconds in counters.errors.items()},
        percentiles={f"{quantile:g}": percentile(histogram, quantile) for quantile in QUANTILES},
        latency_histogram=tuple((milliseconds_of(number), histogram[number]) for number in sorted(histogram)),
        over_time=_over_time(counters, warmup_s + config.duration_s),
        server_metrics=metrics.series(progress.metrics_pages),
        arrivals=config.arrivals if schedule else "",
        seed=config.seed,
        due_per_second=due / measured_s,
        expected_per_second=expected / measured_s,
        reference=reference,
    )


def merge_rounds(results: Sequence[LoadResult]) -> LoadResult:
    """The rounds of one load as one result, for reports: medians of rates and latencies, also of each second and
    percentile, and sums of the other counts. Its generator has no bottleneck: that is the single round's."""
    first, generators = results[0], [result.generator for result in results]
    medians = ("requests_per_second", "p50_ms", "p90_ms", "p95_ms", "p99_ms", "due_per_second", "expected_per_second")
    merged: dict[str, Any] = {name: _median(getattr(result, name) for result in results) for name in medians}
    merged |= {name: sum(getattr(result, name) for result in results) for name in ("requests", "failed", "wrong")}
    merged["percentiles"] = {key: _median(result.percentiles[key] for result in results) for key in first.percentiles}
    merged["over_time"] = tuple(
        Second(
            seconds[0].second,
            round(median(one.correct for one in seconds)),
            _median(one.p50_ms for one in seconds),
            _median(one.p99_ms for one in seconds),
            sum(one.errors for one in seconds),
        )
        for seconds in zip(*(result.over_time for result in results), strict=False)
    )
    latencies: Counter[float] = Counter()
    errors: dict[str, Counter[int]] = {}
    replicas: dict[str, ReplicaCounters] = {}
    server_metrics: dict[str, tuple[tuple[float, float], ...]] = {}
    for result in results:
        latencies.update(dict(result.latency_histogram))
        for kind, points in result.errors_over_time.items():
            errors.setdefault(kind, Counter()).update(dict(points))
        for one in result.replicas:
            max_abs = math.inf if one.max_abs is None else one.max_abs
            replicas.setdefault(f"{one.pod} {one.model} {one.backend}", ReplicaCounters()).add(
                one.responses, one.wrong, max_abs
            )
        for name, series in result.server_metrics.items():
            server_metrics[name] = server_metrics.get(name, ()) + series
    if len(results) > 1 and first.arrivals == POISSON:
        merged["arrivals"] = f"{POISSON}, seeds {first.seed} to {results[-1].seed}"
    return replace(
        first,
        **merged,
        max_abs=finite_or_none(max(math.inf if result.max_abs is None else result.max_abs for result in results)),
        discriminative=all(result.discriminative for result in results),
        partial=any(result.partial for result in results),
        replicas=tuple(_replica(name, counters) for name, counters in sorted(replicas.items())),
        generator=GeneratorStats(
            first.generator.processes,
            max(one.cpu for one in generators),
            max((one.lag_p99_ms for one in generators if one.lag_p99_ms is not None), default=None),
            sum(one.backlog for one in generators),
            sum(one.unsent for one in generators),
        ),
        errors={kind: seconds.total() for kind, seconds in errors.items()},
        errors_over_time={kind: tuple(sorted(seconds.items())) for kind, seconds in errors.items()},
        latency_histogram=tuple(sorted(latencies.items())),
        server_metrics=server_metrics,
    )


def _median(values: Iterable[float | None]) -> float | None:
    """Of the values that there are."""
    known = [value for value in values if value is not None]
    return median(known) if known else None


def _over_time(counters: Counters, max_seconds: int) -> tuple[Second, ...]:
    last = max((*counters.completed, *chain(*counters.errors.values())), default=-1)
    return tuple(_second(counters, second) for second in range(min(max_seconds, last + 1)))


def _second(counters: Counters, second: int) -> Second:
    histogram = counters.latencies.get(second, Counter())
    errors = sum(seconds[second] for seconds in counters.errors.values())
    return Second(second, counters.completed[second], percentile(histogram, 0.5), percentile(histogram, 0.99), errors)


def _replica(name: str, counters: ReplicaCounters) -> Replica:
    pod, _, rest = name.partition(" ")
    model, _, backend = rest.rpartition(" ")
    return Replica(pod, model, counters.responses, counters.wrong, finite_or_none(counters.max_abs), backend)


def _generator_stats(progress: Progress, config: LoadConfig, warmup_s: int) -> GeneratorStats:
    counters, elapsed_s = progress.total, max(progress.elapsed_s, 1e-3)
    cpu = counters.cpu_s / elapsed_s / progress.processes
    lag_p99_ms = percentile(pooled(counters.lag, warmup_s, warmup_s + config.duration_s), 0.99)
    schedule = config.schedule()
    sent = sum(histogram.total() for histogram in counters.lag.values()) + counters.backlog
    unsent = max(0, schedule.count_due(0, elapsed_s) - sent) if schedule else 0
    starvation = _starvation(cpu, lag_p99_ms, warmup_s)
    bottleneck = starvation or _busy_users(unsent + counters.backlog, config)
    return GeneratorStats(
        progress.processes, cpu, lag_p99_ms, counters.backlog, unsent, bottleneck, starved=bool(starvation)
    )


def _starvation(cpu: float, lag_p99_ms: float | None, warmup_s: int) -> str:
    """How the load generator was too slow; "" if it was not."""
    advice = "use more --processes or another machine"
    if cpu > MAX_CPU_CORES:
        return f"the load generator is the bottleneck: each sending process took {cpu:.0%} of a core; {advice}"
    if lag_p99_ms is not None and lag_p99_ms > MAX_LAG_MS:
        if not warmup_s:
            advice = f"add a warm-up, in which its users start, or {advice}"
        return (
            f"the load generator is the bottleneck: it sent 1% of the requests more than {lag_p99_ms:.0f} ms late "
            f"although a user was free, and the latencies include that; {advice}"
        )
    return ""


def _busy_users(backlog: int, config: LoadConfig) -> str:
    if backlog > MAX_BACKLOG_SHARE * config.rate * config.total_s:
        return (
            f"{backlog:,} requests were scheduled while all {config.user_count} users were waiting for responses: the "
            f"server is slower than this rate{', or --users is too low' if config.users else ''}"
        )
    return ""
