"""When requests are due in an open loop, and how the load changes over a run's time."""

import math
from collections.abc import Sequence
from itertools import pairwise

from seaway.errors import InvalidInput

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

    Evenly spaced, and dealt to the processes in turn. Times are seconds from the run's start.
    """

    def __init__(self, rate: float, seconds: float, shape: str = "constant", index: int = 0, of: int = 1) -> None:
        if not rate > 0 or not math.isfinite(rate):
            raise InvalidInput(f"--rate must be above 0 requests a second, not {rate:g}")
        self._pieces: list[tuple[float, float, float, float, float]] = []  # arrivals before; start, end; rates there
        before = 0.0
        for (start, low), (end, high) in pairwise(points(shape)):
            if end > start:
                piece = (before, start * seconds, end * seconds, low * rate, high * rate)
                self._pieces.append(piece)
                before += (piece[2] - piece[1]) * (piece[3] + piece[4]) / 2
        self.count = math.ceil(before)  # arrivals of all processes together
        self._next, self._step, self._at = index, of, 0

    def take(self) -> float:
        """When the next request is due; infinity after the last."""
        number = self._next
        self._next += self._step
        return self.due(number)

    def due(self, number: int) -> float:
        """When arrival `number` (0, 1, …, of all processes) is due."""
        if number >= self.count:
            return math.inf
        while self._at + 1 < len(self._pieces) and number >= self._pieces[self._at + 1][0]:
            self._at += 1
        while number < self._pieces[self._at][0]:
            self._at -= 1
        before, start, end, low, high = self._pieces[self._at]
        wanted, slope = number - before, (high - low) / (end - start)
        if slope == 0:
            return start + wanted / low
        # wanted = low · t + slope · t² / 2
        return start + (math.sqrt(max(0.0, low * low + 2 * slope * wanted)) - low) / slope
