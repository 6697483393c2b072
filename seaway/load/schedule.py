"""When requests are scheduled in an open loop, and how the load changes over a run's time."""

import math
from collections.abc import Iterator, Sequence
from itertools import pairwise

import numpy as np

from seaway.errors import InvalidInput

POISSON, UNIFORM = "poisson", "uniform"
ARRIVALS = (POISSON, UNIFORM)
CHUNK_SIZE = 4096  # arrivals that are generated at a time

# (share of the run's time, share of the load), straight lines between; two points at one time are a jump.
SHAPES: dict[str, Sequence[tuple[float, float]]] = {
    "constant": [(0, 1), (1, 1)],
    "step": [(0, 0.25), (0.25, 0.25), (0.25, 0.5), (0.5, 0.5), (0.5, 0.75), (0.75, 0.75), (0.75, 1), (1, 1)],
    "ramp": [(0, 0.05), (1, 1)],
    "spike": [(0, 0.2), (0.4, 0.2), (0.4, 1), (0.6, 1), (0.6, 0.2), (1, 0.2)],
    "soak": [(0, 0.1), (0.05, 1), (1, 1)],
}


def points(shape: str) -> Sequence[tuple[float, float]]:
    """The points of a shape. Raises InvalidInput for an unknown one."""
    if shape not in SHAPES:
        raise InvalidInput(f"--shape {shape}: choose from {', '.join(SHAPES)}")
    return SHAPES[shape]


def level(shape: str, share: float) -> float:
    """The share of the full load, 0..1, at a share of the run's time."""
    for (start, low), (end, high) in pairwise(points(shape)):
        if start <= share < end:
            return low + (high - low) * (share - start) / (end - start)
    return points(shape)[-1][1]


class Schedule:
    """The times at which process `index` of `processes` sends: together `rate` arrivals per second at the shape's peak.

    "poisson": independent callers, whose gaps are exponential; the shape changes the rate of the process (its time runs
    as fast as arrivals are expected). "uniform": evenly spaced. The arrivals of all processes together depend on `seed`
    alone, not on `processes`. Each Poisson arrival is assigned to a random process, so that each process's own arrivals
    are Poisson and independent of the others': their sum stays Poisson even if the processes start milliseconds apart.
    Uniform arrivals are assigned in turn. `index` None: no arrivals. Times are seconds from the run's start.
    """

    def __init__(
        self,
        rate: float,
        duration_s: float,
        shape: str = "constant",
        index: int | None = 0,
        processes: int = 1,
        arrivals: str = POISSON,
        seed: int = 0,
    ) -> None:
        """Raises InvalidInput."""
        if not rate > 0 or not math.isfinite(rate):
            raise InvalidInput(f"--rate {rate:g}: must be greater than 0 requests per second")
        if arrivals not in ARRIVALS:
            raise InvalidInput(f"--arrivals {arrivals}: choose from {', '.join(ARRIVALS)}")
        if seed < 0:
            raise InvalidInput(f"--seed {seed}: must not be negative")
        self._arrivals, self._seed, self._index, self._processes = arrivals, seed, index, processes
        pieces = []  # expected arrivals before the piece; its start, s; arrivals per second there; their change per s
        expected = 0.0
        for (start, low), (end, high) in pairwise(points(shape)):
            if end > start:
                length_s = (end - start) * duration_s
                pieces.append((expected, start * duration_s, low * rate, (high - low) * rate / length_s))
                expected += length_s * (low + high) * rate / 2
        self._before, self._start, self._low, self._slope = np.array(pieces).T
        self._expected = expected
        self._own = iter(()) if index is None else self._own_times()

    def next_due(self) -> float:
        """When this process's next request is due; infinity after the last."""
        return next(self._own, math.inf)

    def due_times(self) -> Iterator[np.ndarray]:
        """When the requests of all processes are due, ascending, float64 [n], up to `CHUNK_SIZE` at a time."""
        for chunk, _ in self._chunks():
            yield chunk

    def count_due(self, start: float, end: float) -> int:
        """The number of requests of all processes that are due at or after `start` and before `end`."""
        count = 0
        for chunk in self.due_times():
            first, last = np.searchsorted(chunk, (start, end))
            count += int(last - first)
            if chunk[-1] >= end:
                break
        return count

    def expected(self, start: float, end: float) -> float:
        """The expected value of `count_due`."""
        return self._expected_until(end) - self._expected_until(start)

    def _expected_until(self, at: float) -> float:
        piece = max(0, int(np.searchsorted(self._start, at, side="right")) - 1)
        elapsed = max(0.0, at - self._start[piece])
        expected = self._before[piece] + elapsed * (self._low[piece] + self._slope[piece] * elapsed / 2)
        return min(self._expected, float(expected))

    def _own_times(self) -> Iterator[float]:
        for chunk, process in self._chunks():
            yield from chunk[process == self._index].tolist()

    def _chunks(self) -> Iterator[tuple[np.ndarray, np.ndarray]]:
        """(when due, which process sends it) of all arrivals, up to `CHUNK_SIZE` at a time."""
        gaps, assignment = (np.random.default_rng((self._seed, stream)) for stream in range(2))
        last, number = 0.0, 0
        while True:
            if self._arrivals == POISSON:
                # Arrivals of a unit-rate process, in units of expected arrivals, until the shape maps them to time.
                positions = last + np.cumsum(gaps.standard_exponential(CHUNK_SIZE))
                process = assignment.integers(self._processes, size=CHUNK_SIZE)
                last = float(positions[-1])
            else:
                numbers = np.arange(number, number + CHUNK_SIZE)
                positions, process, number = numbers.astype(float), numbers % self._processes, number + CHUNK_SIZE
            within = int(np.searchsorted(positions, self._expected))
            if within:
                yield self._to_times(positions[:within]), process[:within]
            if within < CHUNK_SIZE:
                return

    def _to_times(self, positions: np.ndarray) -> np.ndarray:
        """The times by which so many arrivals are expected, float64 [n]."""
        piece = np.searchsorted(self._before, positions, side="right") - 1
        low, slope, rest = self._low[piece], self._slope[piece], positions - self._before[piece]
        # rest = low · t + slope · t² / 2, solved for t in the form that holds for a slope of 0 as well
        elapsed = 2 * rest / (low + np.sqrt(np.maximum(0, low * low + 2 * slope * rest)))
        due: np.ndarray = self._start[piece] + elapsed
        return due
