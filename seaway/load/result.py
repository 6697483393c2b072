"""The result of one load test: rates and percentiles from its counters."""

from collections import Counter
from dataclasses import dataclass, field
from itertools import chain

from seaway.load import metrics, payloads
from seaway.load.config import LoadConfig
from seaway.load.counters import Counters, ReplicaCounters, finite_or_none, milliseconds_of, percentile, pooled
from seaway.load.progress import Progress
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
    """A replica's `pod` and `model` (name/version@digest), "" if its responses do not name them, and what it sent.
    `max_abs` None: infinite."""

    pod: str
    model: str
    responses: int
    wrong: int
    max_abs: float | None


@dataclass(frozen=True, slots=True)
class GeneratorStats:
    """The load generator's effect on the measurement. `lag_p99_ms`: its own delay after the warm-up (None: no request
    was due while a user was free); `cpu`: cores per sending process; `backlog`: requests that were due before any user
    was free; `unsent`: requests that were due and never sent. `bottleneck` describes what distorted the measurement;
    `starved`: it was the generator's lack of CPU, so the latencies are not the server's."""

    processes: int = 1
    cpu: float = 0.0
    lag_p99_ms: float | None = None
    backlog: int = 0
    unsent: int = 0
    bottleneck: str = ""
    starved: bool = False


@dataclass(frozen=True, slots=True)
class LoadResult:
    """`requests` that ended, `failed`, `wrong` and `max_abs` (None: infinite) cover the whole run.
    `requests_per_second` counts correct responses after the warm-up and before the end. Latencies (None: no correct
    response) are those of correct responses to requests due in that time (sent, in a closed loop), whenever they
    arrived. `due_per_second` and `expected_per_second` (0 in a closed loop): requests due in that time, and their
    expected number. `reference`: what responses were compared with, a key of `payloads.REFERENCES`. `discriminative`:
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
    def served_by(self) -> dict[str, int]:
        """Seaway-Model header → 2xx responses."""
        counts: Counter[str] = Counter()
        for replica in self.replicas:
            counts[replica.model] += replica.responses
        return dict(counts)


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


def _over_time(counters: Counters, max_seconds: int) -> tuple[Second, ...]:
    last = max((*counters.completed, *chain(*counters.errors.values())), default=-1)
    return tuple(_second(counters, second) for second in range(min(max_seconds, last + 1)))


def _second(counters: Counters, second: int) -> Second:
    histogram = counters.latencies.get(second, Counter())
    errors = sum(seconds[second] for seconds in counters.errors.values())
    return Second(second, counters.completed[second], percentile(histogram, 0.5), percentile(histogram, 0.99), errors)


def _replica(name: str, counters: ReplicaCounters) -> Replica:
    pod, _, model = name.partition(" ")
    return Replica(pod, model, counters.responses, counters.wrong, finite_or_none(counters.max_abs))


def _generator_stats(progress: Progress, config: LoadConfig, warmup_s: int) -> GeneratorStats:
    counters, elapsed_s = progress.total, max(progress.elapsed_s, 1e-3)
    cpu = counters.cpu_s / elapsed_s / progress.processes
    lag_p99_ms = percentile(pooled(counters.lag, warmup_s, warmup_s + config.duration_s), 0.99)
    schedule = config.schedule()
    sent = sum(histogram.total() for histogram in counters.lag.values()) + counters.backlog
    unsent = max(0, schedule.count_due(0, elapsed_s) - sent) if schedule else 0
    starvation = _starvation(cpu, lag_p99_ms)
    bottleneck = starvation or _busy_users(unsent + counters.backlog, config)
    return GeneratorStats(
        progress.processes, cpu, lag_p99_ms, counters.backlog, unsent, bottleneck, starved=bool(starvation)
    )


def _starvation(cpu: float, lag_p99_ms: float | None) -> str:
    """How the load generator lacked CPU; "" if it did not."""
    if cpu > MAX_CPU_CORES:
        return (
            f"each sending process took {cpu:.0%} of a core: the load generator, not the server, is the bottleneck; "
            "use more --processes or another machine"
        )
    if lag_p99_ms is not None and lag_p99_ms > MAX_LAG_MS:
        return (
            f"the load generator sent requests up to {lag_p99_ms:.0f} ms late (p99) although users were free: it, not "
            "the server, lacks CPU; use more --processes or another machine"
        )
    return ""


def _busy_users(backlog: int, config: LoadConfig) -> str:
    if backlog > MAX_BACKLOG_SHARE * config.rate * config.total_s:
        return (
            f"{backlog:,} requests were scheduled while all {config.user_count} users were waiting for responses: the "
            f"server is slower than this rate{', or --users is too low' if config.users else ''}"
        )
    return ""
