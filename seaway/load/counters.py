"""Counters of a load test: responses by kind and a latency histogram per second, small enough to keep for hours."""

import math
from collections import Counter
from dataclasses import dataclass, field
from typing import Any

_LOG_BIN_WIDTH = math.log(1.01)  # a bin is 1 % wide, so percentiles are right within 0.5 %

Histogram = Counter[int]  # bin → count


@dataclass(slots=True)
class ReplicaCounters:
    """2xx responses of one replica, those of them that were wrong, and the largest |Δ| from the expected output."""

    responses: int = 0
    wrong: int = 0
    max_abs: float = 0.0

    def add(self, responses: int, wrong: int, max_abs: float) -> None:
        self.responses += responses
        self.wrong += wrong
        self.max_abs = max(self.max_abs, max_abs)


@dataclass(slots=True)
class Counters:
    """Counters of one protocol. Seconds count from the run's start.

    replicas   "<Seaway-Pod> <Seaway-Model> <Seaway-Backend>" of the 2xx responses, "" for a missing header → its
               counters
    latencies  second → histogram of the latencies of correct responses to requests due in it (sent, in a closed loop)
    completed  second → correct responses that arrived in it
    errors     kind → second → failed requests and wrong responses of that kind that ended in it
    lag        second → histogram of the delay between the moment in it when a request was due and the moment when a
               user who was waiting for no response sent it: what the load generator itself adds, start of its users
               included
    backlog    requests that were due while all users were waiting for responses
    cpu_s      CPU time of the sending processes
    """

    requests: int = 0
    failed: int = 0  # no 2xx response
    wrong: int = 0  # a 2xx response that is not the expected one
    replicas: dict[str, ReplicaCounters] = field(default_factory=dict)
    latencies: dict[int, Histogram] = field(default_factory=dict)
    completed: Counter[int] = field(default_factory=Counter)
    errors: dict[str, Counter[int]] = field(default_factory=dict)
    lag: dict[int, Histogram] = field(default_factory=dict)
    backlog: int = 0
    cpu_s: float = 0.0

    @property
    def max_abs(self) -> float:
        return max((replica.max_abs for replica in self.replicas.values()), default=0.0)

    def record_correct(self, completed_s: float, latency_ms: float) -> None:
        """Counts a correct response that arrived `completed_s` after the start, `latency_ms` after it was due."""
        self.requests += 1
        self.completed[int(completed_s)] += 1
        _count(self.latencies, max(0, int(completed_s - latency_ms / 1000)), latency_ms)

    def record_lag(self, second: int, lag_ms: float) -> None:
        _count(self.lag, second, lag_ms)

    def record_error(self, second: int, kind: str, *, wrong: bool) -> None:
        self.requests += 1
        self.wrong += wrong
        self.failed += not wrong
        self.errors.setdefault(kind, Counter())[second] += 1

    def record_response(self, replica: str, wrong: bool, max_abs: float) -> None:
        counters = self.replicas.get(replica)
        if counters is None:
            counters = self.replicas[replica] = ReplicaCounters()
        counters.add(1, wrong, max_abs)

    def merge(self, other: "Counters") -> None:
        """Adds the counters of another process, or of a later second."""
        self.requests += other.requests
        self.failed += other.failed
        self.wrong += other.wrong
        self.backlog += other.backlog
        self.cpu_s += other.cpu_s
        self.completed.update(other.completed)
        for kind, seconds in other.errors.items():
            self.errors.setdefault(kind, Counter()).update(seconds)
        for name, replica in other.replicas.items():
            self.replicas.setdefault(name, ReplicaCounters()).add(replica.responses, replica.wrong, replica.max_abs)
        for own, others in ((self.latencies, other.latencies), (self.lag, other.lag)):
            for second, histogram in others.items():
                own.setdefault(second, Counter()).update(histogram)

    def to_json(self) -> dict[str, Any]:
        """JSON values; an infinite `max_abs` becomes null."""
        return {
            **{name: getattr(self, name) for name in _SCALARS},
            "replicas": {n: [r.responses, r.wrong, finite_or_none(r.max_abs)] for n, r in self.replicas.items()},
            "latencies": {str(s): _histogram_to_json(histogram) for s, histogram in self.latencies.items()},
            "completed": _histogram_to_json(self.completed),
            "lag": {str(s): _histogram_to_json(histogram) for s, histogram in self.lag.items()},
            "errors": {kind: _histogram_to_json(seconds) for kind, seconds in self.errors.items()},
        }

    @classmethod
    def from_json(cls, raw: dict[str, Any]) -> "Counters":
        return cls(
            **{name: raw[name] for name in _SCALARS},
            replicas={
                n: ReplicaCounters(responses, wrong, math.inf if max_abs is None else max_abs)
                for n, (responses, wrong, max_abs) in raw["replicas"].items()
            },
            latencies={int(s): _histogram_from_json(histogram) for s, histogram in raw["latencies"].items()},
            completed=_histogram_from_json(raw["completed"]),
            lag={int(s): _histogram_from_json(histogram) for s, histogram in raw["lag"].items()},
            errors={kind: _histogram_from_json(seconds) for kind, seconds in raw["errors"].items()},
        )


_SCALARS = ("requests", "failed", "wrong", "backlog", "cpu_s")


def _count(histograms: dict[int, Histogram], second: int, milliseconds: float) -> None:
    histogram = histograms.get(second)
    if histogram is None:
        histogram = histograms[second] = Counter()
    histogram[bin_of(milliseconds)] += 1


def _histogram_to_json(histogram: Histogram) -> dict[str, int]:
    return {str(number): count for number, count in histogram.items()}


def _histogram_from_json(raw: dict[str, int]) -> Histogram:
    return Counter({int(number): count for number, count in raw.items()})


def finite_or_none(distance: float) -> float | None:
    """None for an infinite distance or NaN, which JSON cannot hold."""
    return distance if math.isfinite(distance) else None


def pooled(histograms: dict[int, Histogram], first: int, end: int) -> Histogram:
    """The sum of the histograms of the seconds from `first` to `end`, `end` excluded."""
    total: Histogram = Counter()
    for second, histogram in histograms.items():
        if first <= second < end:
            total.update(histogram)
    return total


def bin_of(milliseconds: float) -> int:
    return round(math.log(max(milliseconds, 1e-3)) / _LOG_BIN_WIDTH)


def milliseconds_of(number: int) -> float:
    """The middle of a bin."""
    return math.exp(number * _LOG_BIN_WIDTH)


def percentile(histogram: Histogram, quantile: float) -> float | None:
    """Milliseconds that a share of `quantile` (0 to 1) of the values did not exceed; None for an empty histogram."""
    rank = quantile * histogram.total()
    cumulative = 0
    for number in sorted(histogram):
        cumulative += histogram[number]
        if cumulative >= rank:
            return milliseconds_of(number)
    return None
