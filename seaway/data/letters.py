"""Letter shapes of everyday handwriting, as points along strokes; the shapes are in alphabets/hands.txt."""

from dataclasses import dataclass
from functools import cache
from pathlib import Path

import numpy as np

SHAPES = Path(__file__).with_name("alphabets") / "hands.txt"
POINTS = 256  # per character: 0.5 px apart on the longest, finer than the pen
MAX_STROKES = 8  # more than any shape has
_CAPITAL = 10  # height of a capital in the file
_PER_SECTION = 8  # points of a curve between two points of the file


@dataclass(frozen=True, slots=True)
class Letters:
    """Characters, one row each. Heights are in capitals, y points down, characters are centred on 0."""

    sharp: np.ndarray  # float32 [n, POINTS, 2]: as in the file
    smooth: np.ndarray  # the same with corners rounded off
    stroke: np.ndarray  # int64 [n, POINTS]: the number of each point's stroke


def choose(labels: np.ndarray, which: np.ndarray) -> Letters:
    """One shape for each label (int [n], by the order of `characters`); `which`, 0..1, says which of its shapes."""
    letters, first, count = _all()
    rows = first[labels] + np.floor(which * count[labels]).astype(np.int64)
    return Letters(letters.sharp[rows], letters.smooth[rows], letters.stroke[rows])


def characters() -> dict[str, list[list[np.ndarray]]]:
    """Character → its shapes, each a list of strokes, float [points, 2], in the file's units and order."""
    shapes: dict[str, list[list[np.ndarray]]] = {}
    for line in SHAPES.read_text(encoding="utf-8").splitlines():
        if line and not line.startswith("#"):
            character, _, strokes = line.partition(" ")
            shapes.setdefault(character, []).append([_curve(text) for text in strokes.split("|")])
    return shapes


def _curve(text: str) -> np.ndarray:
    """Points of a smooth curve through "x,y x,y …", where a / makes the point before it a corner."""
    sections: list[list[tuple[float, ...]]] = [[]]
    for word in text.split():
        if word == "/":
            sections.append(sections[-1][-1:])
        else:
            sections[-1].append(tuple(map(float, word.split(","))))
    return np.concatenate([_catmull_rom(np.array(section)) for section in sections])


def _catmull_rom(points: np.ndarray) -> np.ndarray:
    """The uniform Catmull-Rom spline through the points (Catmull and Rom 1974)."""
    padded = np.concatenate([2 * points[:1] - points[1:2], points, 2 * points[-1:] - points[-2:-1]])
    before, start, end, after = (padded[i : len(padded) - 3 + i, np.newaxis] for i in range(4))
    t = (np.arange(_PER_SECTION) / _PER_SECTION)[:, np.newaxis]
    curve = start + t / 2 * (
        (end - before) + t * (2 * before - 5 * start + 4 * end - after + t * (3 * (start - end) + after - before))
    )
    return np.concatenate([curve.reshape(-1, 2), points[-1:]])


@cache
def _all() -> tuple[Letters, np.ndarray, np.ndarray]:
    """All shapes, and for each character the row of its first and their number."""
    shapes = list(characters().values())
    columns = zip(*(_resample(strokes) for each in shapes for strokes in each), strict=True)
    count = np.array([len(each) for each in shapes])
    return Letters(*map(np.stack, columns)), np.cumsum(count) - count, count


def _resample(strokes: list[np.ndarray]) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """One character's strokes as points evenly spaced along them: sharp, smooth, stroke as in Letters."""
    lines = [stroke / _CAPITAL for stroke in strokes]
    everything = np.concatenate(lines)
    middle = (everything.min(axis=0) + everything.max(axis=0)) / 2
    runs = [np.concatenate([[0], np.cumsum(np.linalg.norm(np.diff(line, axis=0), axis=1))]) for line in lines]
    lengths = np.array([run[-1] for run in runs])
    shares = 3 + np.floor((POINTS - 3 * len(lines)) * lengths / lengths.sum()).astype(int)
    shares[lengths.argmax()] += POINTS - shares.sum()
    sharp, smooth = [], []
    for line, run, count in zip(lines, runs, shares, strict=True):
        at = np.linspace(0, run[-1], count)
        even = np.stack([np.interp(at, run, line[:, axis] - middle[axis]) for axis in (0, 1)], axis=1)
        sharp.append(even)
        smooth.append(_round_off(even, at))
    points = [np.concatenate(parts).astype(np.float32) for parts in (sharp, smooth)]
    return points[0], points[1], np.repeat(np.arange(len(lines)), shares)


def _round_off(even: np.ndarray, at: np.ndarray) -> np.ndarray:
    """A running mean along the stroke, narrower towards the ends, which stay; dots stay as they are."""
    if at[-1] < 0.4:
        return even
    reach = np.minimum(0.07, np.minimum(at, at[-1] - at))
    near = np.abs(at - at[:, np.newaxis]) <= reach[:, np.newaxis] + 1e-9
    return np.asarray(near @ even / near.sum(axis=1, keepdims=True))
