"""What a load test counts: answers by kind, and latencies in a histogram a second, small enough to keep for hours."""

import math
from collections import Counter
from dataclasses import dataclass, field
from typing import Any

_STEP = math.log(1.01)  # a bin is 1 % wide: percentiles are right within 0.5 %

Bins = Counter[int]


@dataclass(slots=True)
class Answers:
    """Of one replica: 2xx answers, those of them that were wrong, and the largest |Δ| from PyTorch's."""

    answers: int = 0
    wrong: int = 0
    max_abs: float = 0.0

    def add(self, answers: int, wrong: int, max_abs: float) -> None:
        self.answers += answers
        self.wrong += wrong
        self.max_abs = max(self.max_abs, max_abs)


@dataclass(slots=True)
class Tally:
    """Of one protocol. Seconds count from the run's start.

    replicas  "<Seaway-Pod> <Seaway-Model>" of the 2xx answers, "" for what is missing → what it answered
    seconds   second → latency bin → right answers to requests that were due in that second (sent, in a closed loop)
    came      second → right answers that came in that second
    faults    kind → second → failed and wrong answers of that kind that came in that second
    late      second → bin of milliseconds between the moment in it when a request was due and that when a user, who had
              been waiting for it, sent the request: what the load generator itself adds
    unready   requests that were due before any user was free to send them
    cpu       CPU seconds that the sending processes took
    """

    requests: int = 0
    failed: int = 0  # no 2xx answer
    wrong: int = 0  # a 2xx answer that is not PyTorch's
    replicas: dict[str, Answers] = field(default_factory=dict)
    seconds: dict[int, Bins] = field(default_factory=dict)
    came: Counter[int] = field(default_factory=Counter)
    faults: dict[str, Counter[int]] = field(default_factory=dict)
    late: dict[int, Bins] = field(default_factory=dict)
    unready: int = 0
    cpu: float = 0.0

    @property
    def max_abs(self) -> float:
        return max((replica.max_abs for replica in self.replicas.values()), default=0.0)

    def right(self, came: float, milliseconds: float) -> None:
        """A right answer that came `came` seconds after the start, to a request that was due so long before."""
        self.requests += 1
        self.came[int(came)] += 1
        _count(self.seconds, max(0, int(came - milliseconds / 1000)), milliseconds)

    def sent(self, second: int, milliseconds_late: float) -> None:
        _count(self.late, second, milliseconds_late)

    def fault(self, second: int, kind: str, *, wrong: bool) -> None:
        self.requests += 1
        self.wrong += wrong
        self.failed += not wrong
        self.faults.setdefault(kind, Counter())[second] += 1

    def answered(self, replica: str, wrong: bool, max_abs: float) -> None:
        found = self.replicas.get(replica)
        if found is None:
            found = self.replicas[replica] = Answers()
        found.add(1, wrong, max_abs)

    def merge(self, other: "Tally") -> None:
        """Adds what another process, or a later second, counted."""
        self.requests += other.requests
        self.failed += other.failed
        self.wrong += other.wrong
        self.unready += other.unready
        self.cpu += other.cpu
        self.came.update(other.came)
        for kind, seconds in other.faults.items():
            self.faults.setdefault(kind, Counter()).update(seconds)
        for name, replica in other.replicas.items():
            self.replicas.setdefault(name, Answers()).add(replica.answers, replica.wrong, replica.max_abs)
        for own, others in ((self.seconds, other.seconds), (self.late, other.late)):
            for second, bins in others.items():
                own.setdefault(second, Counter()).update(bins)

    def to_json(self) -> dict[str, Any]:
        """JSON values; an infinite `max_abs` becomes null."""
        return {
            **{name: getattr(self, name) for name in ("requests", "failed", "wrong", "unready", "cpu")},
            "replicas": {n: [r.answers, r.wrong, finite(r.max_abs)] for n, r in self.replicas.items()},
            "seconds": {str(s): _bins_to_json(bins) for s, bins in self.seconds.items()},
            "came": _bins_to_json(self.came),
            "late": {str(s): _bins_to_json(bins) for s, bins in self.late.items()},
            "faults": {kind: _bins_to_json(seconds) for kind, seconds in self.faults.items()},
        }

    @classmethod
    def from_json(cls, raw: dict[str, Any]) -> "Tally":
        return cls(
            **{key: raw[key] for key in ("requests", "failed", "wrong", "unready", "cpu")},
            replicas={n: Answers(a, w, math.inf if d is None else d) for n, (a, w, d) in raw["replicas"].items()},
            seconds={int(s): _bins_from_json(bins) for s, bins in raw["seconds"].items()},
            came=_bins_from_json(raw["came"]),
            late={int(s): _bins_from_json(bins) for s, bins in raw["late"].items()},
            faults={kind: _bins_from_json(seconds) for kind, seconds in raw["faults"].items()},
        )


def _count(seconds: dict[int, Bins], second: int, milliseconds: float) -> None:
    bins = seconds.get(second)
    if bins is None:
        bins = seconds[second] = Counter()
    bins[bin_of(milliseconds)] += 1


def _bins_to_json(bins: Bins) -> dict[str, int]:
    return {str(number): count for number, count in bins.items()}


def _bins_from_json(raw: dict[str, int]) -> Bins:
    return Counter({int(number): count for number, count in raw.items()})


def finite(distance: float) -> float | None:
    """None for a distance beyond measure, as JSON has it."""
    return distance if math.isfinite(distance) else None


def pooled(seconds: dict[int, Bins], first: int, end: int) -> Bins:
    """The bins of the seconds `first` to `end`, `end` excluded."""
    found: Bins = Counter()
    for second, bins in seconds.items():
        if first <= second < end:
            found.update(bins)
    return found


def bin_of(milliseconds: float) -> int:
    return round(math.log(max(milliseconds, 1e-3)) / _STEP)


def milliseconds_of(number: int) -> float:
    return math.exp(number * _STEP)


def percentile(bins: Bins, share: float) -> float | None:
    """Milliseconds that `share` (0..1) of the answers did not exceed; None where there were none."""
    wanted = share * bins.total()
    seen = 0
    for number in sorted(bins):
        seen += bins[number]
        if seen >= wanted:
            return milliseconds_of(number)
    return None
