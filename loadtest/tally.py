"""What a load test counts: answers by kind, and latencies in a histogram a second, small enough to keep for hours."""

import math
from collections import Counter
from dataclasses import dataclass, field
from typing import Any

_STEP = math.log(1.01)  # a bin is 1 % wide: percentiles are right within 0.5 %


@dataclass(slots=True)
class Tally:
    """Of one protocol. `seconds`: second since the start → latency bin → right answers that came in that second."""

    requests: int = 0
    failed: int = 0  # no 2xx answer
    wrong: int = 0  # a 2xx answer that is not PyTorch's
    max_abs: float = 0.0
    errors: Counter[str] = field(default_factory=Counter)
    served_by: Counter[str] = field(default_factory=Counter)  # Seaway-Model of the 2xx answers, "" where it is missing
    seconds: dict[int, Counter[int]] = field(default_factory=dict)

    def right(self, second: int, milliseconds: float) -> None:
        self.requests += 1
        bins = self.seconds.get(second)
        if bins is None:
            bins = self.seconds[second] = Counter()
        bins[bin_of(milliseconds)] += 1

    def fault(self, kind: str, *, wrong: bool) -> None:
        self.requests += 1
        self.wrong += wrong
        self.failed += not wrong
        self.errors[kind] += 1

    def merge(self, other: "Tally") -> None:
        """Adds what another process counted."""
        self.requests += other.requests
        self.failed += other.failed
        self.wrong += other.wrong
        self.max_abs = max(self.max_abs, other.max_abs)
        self.errors.update(other.errors)
        self.served_by.update(other.served_by)
        for second, bins in other.seconds.items():
            self.seconds.setdefault(second, Counter()).update(bins)

    def to_json(self) -> dict[str, Any]:
        """JSON values; an infinite `max_abs` becomes null."""
        return {
            "requests": self.requests,
            "failed": self.failed,
            "wrong": self.wrong,
            "max_abs": self.max_abs if math.isfinite(self.max_abs) else None,
            "errors": dict(self.errors),
            "served_by": dict(self.served_by),
            "seconds": {str(s): {str(b): n for b, n in bins.items()} for s, bins in self.seconds.items()},
        }

    @classmethod
    def from_json(cls, raw: dict[str, Any]) -> "Tally":
        return cls(
            **{key: raw[key] for key in ("requests", "failed", "wrong")},
            max_abs=math.inf if raw["max_abs"] is None else raw["max_abs"],
            errors=Counter(raw["errors"]),
            served_by=Counter(raw["served_by"]),
            seconds={int(s): Counter({int(b): n for b, n in bins.items()}) for s, bins in raw["seconds"].items()},
        )


def bin_of(milliseconds: float) -> int:
    return round(math.log(max(milliseconds, 1e-3)) / _STEP)


def percentile(bins: Counter[int], share: float) -> float:
    """Milliseconds that `share` (0..1) of the answers did not exceed; 0 where there were none."""
    wanted = share * bins.total()
    seen = 0
    for number in sorted(bins):
        seen += bins[number]
        if seen >= wanted:
            return math.exp(number * _STEP)
    return 0.0
