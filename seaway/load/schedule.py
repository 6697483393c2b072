"""When requests are due in an open loop, and how the load changes over a run's time."""

import math
from collections.abc import Iterator, Sequence
from itertools import pairwise

import numpy as np

from seaway.errors import InvalidInput

POISSON, UNIFORM = "poisson", "uniform"
ARRIVALS = (POISSON, UNIFORM)
CHUNK = 4096  # arrivals that are drawn at a time

# Share of the run's time → share of the load, straight lines between; two points at one time are a jump.
SHAPES: dict[str, Sequence[tuple[float, float]]] = {
    "constant": [(0, 1), (1, 1)],
    "step": [(0, 0.25), (0.25, 0.25), (0.25, 0.5), (0.5, 0.5), (0.5, 0.75), (0.75, 0.75), (0.75, 1), (1, 1)],
    "ramp": [(0, 0.05), (1, 1)],
    "spike": [(0, 0.2), (0.4, 0.2), (0.4, 1), (0.6, 1), (0.6, 0.2), (1, 0.2)],
    "soak": [(0, 0.1), (0.05, 1), (1, 1)],
}


def points(shape: str) -> Sequence[tuple[float, float]]:
    """Raises InvalidInput for a shape that there is not."""
    if shape not in SHAPES:
        raise InvalidInput(f"no shape {shape!r}: choose one of {', '.join(SHAPES)}")
    return SHAPES[shape]


def level(shape: str, share: float) -> float:
    """The share of the full load, 0..1, at a share of the run's time."""
    for (start, low), (end, high) in pairwise(points(shape)):
        if start <= share < end:
            return low + (high - low) * (share - start) / (end - start)
    return points(shape)[-1][1]


class Schedule:
    """The times at which one of `of` processes sends: `rate` arrivals a second of all of them, at the shape's peak.

    "poisson": independent callers, whose gaps are exponential; the shape changes the rate of the process (its time runs
    as fast as arrivals are expected). "uniform": evenly spaced. The arrivals of all processes together depend on `seed`
    alone, not on `of`. Each Poisson arrival goes to a process drawn at random, so that each process's own arrivals are
    Poisson and independent of the others': their sum stays Poisson even if the processes start milliseconds apart.
    Uniform arrivals are dealt in turn. `index` None: none of them. Times are seconds from the run's start.
    """

    def __init__(
        self,
        rate: float,
        seconds: float,
        shape: str = "constant",
        index: int | None = 0,
        of: int = 1,
        arrivals: str = POISSON,
        seed: int = 0,
    ) -> None:
        """Raises InvalidInput."""
        if not rate > 0 or not math.isfinite(rate):
            raise InvalidInput(f"--rate must be above 0 requests a second, not {rate:g}")
        if arrivals not in ARRIVALS:
            raise InvalidInput(f"no arrivals {arrivals!r}: choose one of {', '.join(ARRIVALS)}")
        if seed < 0:
            raise InvalidInput(f"--seed must be 0 or above, not {seed}")
        self._arrivals, self._seed, self._index, self._of = arrivals, seed, index, of
        pieces = []  # expected arrivals before; start, s; arrivals a second there; their change a second
        before = 0.0
        for (start, low), (end, high) in pairwise(points(shape)):
            if end > start:
                length = (end - start) * seconds
                pieces.append((before, start * seconds, low * rate, (high - low) * rate / length))
                before += length * (low + high) * rate / 2
        self._before, self._start, self._low, self._slope = np.array(pieces).T
        self._expected = before
        self._own = iter(()) if index is None else self._times()

    def take(self) -> float:
        """When this process's next request is due; infinity after the last."""
        return next(self._own, math.inf)

    def due(self) -> Iterator[np.ndarray]:
        """When the requests of all processes are due, ascending, float64 [n], some thousands at a time."""
        for chunk, _ in self._chunks():
            yield chunk

    def count(self, start: float, end: float) -> int:
        """Requests of all processes that are due from `start` on and before `end`."""
        found = 0
        for chunk in self.due():
            first, last = np.searchsorted(chunk, (start, end))
            found += int(last - first)
            if chunk[-1] >= end:
                break
        return found

    def expected(self, start: float, end: float) -> float:
        """How many `count` is on average."""
        return self._until(end) - self._until(start)

    def _until(self, at: float) -> float:
        """Arrivals that are expected until then."""
        piece = max(0, int(np.searchsorted(self._start, at, side="right")) - 1)
        gone = max(0.0, at - self._start[piece])
        expected = self._before[piece] + gone * (self._low[piece] + self._slope[piece] * gone / 2)
        return min(self._expected, float(expected))

    def _times(self) -> Iterator[float]:
        for chunk, process in self._chunks():
            yield from chunk[process == self._index].tolist()

    def _chunks(self) -> Iterator[tuple[np.ndarray, np.ndarray]]:
        """(when due, which process sends it), the next `CHUNK` of all arrivals."""
        gaps, dealt = (np.random.default_rng((self._seed, stream)) for stream in range(2))
        last, number = 0.0, 0
        while True:
            if self._arrivals == POISSON:
                # Arrivals of a unit-rate process, in units of expected arrivals, until the shape maps them to time.
                counted = last + np.cumsum(gaps.standard_exponential(CHUNK))
                process = dealt.integers(self._of, size=CHUNK)
                last = float(counted[-1])
            else:
                numbers = np.arange(number, number + CHUNK)
                counted, process, number = numbers.astype(float), numbers % self._of, number + CHUNK
            within = int(np.searchsorted(counted, self._expected))
            if within:
                yield self._at(counted[:within]), process[:within]
            if within < CHUNK:
                return

    def _at(self, counted: np.ndarray) -> np.ndarray:
        """The times by which so many arrivals are expected, float64 [n]."""
        piece = np.searchsorted(self._before, counted, side="right") - 1
        low, slope, wanted = self._low[piece], self._slope[piece], counted - self._before[piece]
        # wanted = low · t + slope · t² / 2, solved in the form that holds for a slope of 0 as well
        gone = 2 * wanted / (low + np.sqrt(np.maximum(0, low * low + 2 * slope * wanted)))
        due: np.ndarray = self._start[piece] + gone
        return due
