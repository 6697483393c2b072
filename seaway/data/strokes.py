"""Handwriting made offline: letter shapes, distorted as a hand distorts them. Seeded; the same on every run.

Every image belongs to a writer, who has a shape for each character (letters.py), slant, proportions, a pen, a tablet
and habits of bending; each image adds its own. No writer is in both parts. As in EMNIST, the ink's longer side fills 24
of 28 pixels, centred; 62 classes in ByClass's order, about as unevenly filled, or as in running text.
"""

import hashlib
import string
from collections.abc import Iterator
from dataclasses import dataclass, fields
from pathlib import Path

import numpy as np

from seaway.data import letters
from seaway.data.idx import PARTS
from seaway.errors import DataError

LABELS = tuple(string.digits + string.ascii_uppercase + string.ascii_lowercase)
SIDE, INK = 28, 24
DEFAULT_COUNT, SMALLEST_COUNT = 14_000, 7 * len(LABELS)  # one test image in seven, and of every class at least one
_PER_WRITER = 40  # EMNIST's 3,600 writers gave about 226 each; fewer, so that a small set still has many hands
_CHUNK = 4096  # images at a time: about 100 MB; part of the seeds, so changing it changes the images

# Shares of digits, upper and lower case. EMNIST's are ByClass's (Cohen et al. 2017, arXiv:1702.05373: 402,953 + 220,304
# + 190,998); those of text suit what people draw when nobody asks for digits.
MIXES = {"emnist": (402_953 / 814_255, 220_304 / 814_255, 190_998 / 814_255), "text": (0.15, 0.27, 0.58)}
# English letters in percent (Lewand, Cryptological Mathematics, 2000), which EMNIST's letters follow.
_ENGLISH = (
    *(8.17, 1.49, 2.78, 4.25, 12.70, 2.23, 2.02, 6.09, 6.97, 0.15, 0.77, 4.03, 2.41),
    *(6.75, 7.51, 1.93, 0.10, 5.99, 6.33, 9.06, 2.76, 0.98, 2.36, 0.15, 1.97, 0.07),
)
_RAREST = 1.2  # percent: EMNIST's rarest letter is about this share of its case
# Written lower, so with a line that is thicker once all characters have the same size. Half of what heights would give:
# writers do not keep to them where letters stand alone.
_LOW = np.array([label in "acegimnopqrsuvwxyz" for label in LABELS])


@dataclass(frozen=True, slots=True)
class Strokes:
    """The `strokes:N` source: N images, six for training to one for testing; `mix`: a key of MIXES."""

    total: int = DEFAULT_COUNT
    seed: int = 0
    mix: str = "emnist"

    def __post_init__(self) -> None:
        if self.total < SMALLEST_COUNT:
            raise DataError(
                f"strokes:{self.total}: too few for {len(LABELS)} classes in both parts; "
                f"give at least strokes:{SMALLEST_COUNT}"
            )
        if self.mix not in MIXES:
            raise DataError(f"strokes:{self.total}#{self.mix}: no such mix of classes; there are {', '.join(MIXES)}")

    @property
    def labels(self) -> tuple[str, ...]:
        return LABELS

    def count(self, part: str) -> int:
        return self.total // 7 if part == "test" else self.total - self.total // 7

    def chunks(self, part: str) -> Iterator[tuple[np.ndarray, np.ndarray]]:
        """Images uint8 [n, 28, 28] and labels uint8 [n]."""
        stream = PARTS.index(part)
        rng = np.random.default_rng([self.seed, stream, 0])
        counts = class_counts(self.count(part), self.mix)
        labels = rng.permutation(np.repeat(np.arange(len(LABELS), dtype=np.uint8), counts))
        writers = hands(self, part)
        whose = rng.integers(len(writers.slant), size=len(labels))
        for number, start in enumerate(range(0, len(labels), _CHUNK)):
            some = slice(start, start + _CHUNK)
            own = np.random.default_rng([self.seed, stream, 2, number])
            yield _draw(labels[some], writers.take(whose[some]), own), labels[some]

    def fingerprint(self) -> str:
        """sha256 over N, the seed, the mix, this generator's source and the letter shapes."""
        what = f"strokes\0{self.total}\0{self.seed}\0{self.mix}\0".encode()
        code = [Path(path).read_bytes() for path in (__file__, letters.__file__, letters.SHAPES)]
        return hashlib.sha256(b"\0".join([what, *code])).hexdigest()


def class_counts(total: int, mix: str = "emnist") -> np.ndarray:
    """int64 [62]: how many of each class among `total`, at least one of each; a key of MIXES."""
    letter_shares = np.maximum(_ENGLISH, _RAREST)
    if mix == "text":  # flatter, for every character may be drawn
        letter_shares = np.sqrt(letter_shares)
    digits, *cases = MIXES[mix]
    shares = np.concatenate([np.full(10, digits / 10), *(letter_shares / letter_shares.sum() * case for case in cases)])
    exact = 1 + shares * (total - len(LABELS))
    counts: np.ndarray = np.floor(exact).astype(np.int64)
    counts[np.argsort(counts - exact, kind="stable")[: total - counts.sum()]] += 1  # largest remainders
    return counts


@dataclass(frozen=True, slots=True)
class Hands:
    """Writers' habits, one row each. Lengths are shares of a capital's height, `pen` is half a line in pixels."""

    shapes: np.ndarray  # float [n, 62], 0..1: which of a character's shapes
    sloppiness: np.ndarray  # log of a factor of all irregularities within a character
    slant: np.ndarray  # horizontal shift per height
    turn: np.ndarray  # radians
    width: np.ndarray  # log of width to height
    roundness: np.ndarray  # 0: corners as in the shape, 1: rounded off
    pen: np.ndarray  # log
    softness: np.ndarray  # standard deviation of the line's edge in pixels
    grid: np.ndarray  # of the tablet, in pixels; 0 for a fine one
    bend: np.ndarray  # [n, 3, 5]: waves through the plane that bend all this writer's characters alike

    @classmethod
    def draw(cls, rng: np.random.Generator, n: int) -> "Hands":
        return cls(
            shapes=rng.random((n, len(LABELS))),
            sloppiness=rng.normal(-0.25, 0.3, n),
            slant=rng.normal(0.05, 0.18, n),
            turn=rng.normal(0, 0.07, n),
            width=rng.normal(0, 0.18, n),
            roundness=rng.uniform(0, 1, n),
            pen=rng.normal(0.11, 0.13, n),
            softness=rng.uniform(0.45, 0.65, n),
            grid=rng.uniform(0.4, 1.6, n) * (rng.random(n) < 0.25),
            bend=_waves(rng, n, 3, 0.03),
        )

    def take(self, rows: np.ndarray) -> "Hands":
        return Hands(**{field.name: getattr(self, field.name)[rows] for field in fields(self)})


def hands(source: Strokes, part: str) -> Hands:
    """The part's writers."""
    rng = np.random.default_rng([source.seed, PARTS.index(part), 1])
    return Hands.draw(rng, max(8, source.count(part) // _PER_WRITER))


def _waves(rng: np.random.Generator, n: int, k: int, size: float, fastest: float = 7.5) -> np.ndarray:
    """[n, k, 5]: wave vector x, y (radians per height), phase, displacement x, y."""
    angle, speed = rng.uniform(0, 2 * np.pi, (n, k)), rng.uniform(fastest / 3, fastest, (n, k))
    phase, move = rng.uniform(0, 2 * np.pi, (n, k)), rng.normal(0, size, (2, n, k))
    return np.stack([np.cos(angle) * speed, np.sin(angle) * speed, phase, *move], axis=-1).astype(np.float32)


def _draw(labels: np.ndarray, hands: Hands, rng: np.random.Generator) -> np.ndarray:
    """uint8 [n, 28, 28] for labels [n], each in its writer's hand."""
    n = len(labels)
    shape = letters.choose(labels, hands.shapes[np.arange(n), labels])
    sloppiness = np.exp(hands.sloppiness + rng.normal(0, 0.27, n)).astype(np.float32)
    points = shape.sharp + (shape.smooth - shape.sharp) * _column(hands.roundness)
    points = _shake_strokes(points, shape.stroke, sloppiness, rng)
    points = _cut_ends(points, shape.stroke, rng)
    waves = [hands.bend, _waves(rng, n, 3, 0.035), _waves(rng, n, 3, 0.03, fastest=13.5)]
    for wave in np.moveaxis(np.concatenate(waves, axis=1), 1, 0):
        along = points[..., 0] * wave[:, 0:1] + points[..., 1] * wave[:, 1:2] + wave[:, 2:3]
        points = points + np.sin(along)[..., np.newaxis] * (wave[:, 3:5] * sloppiness[:, np.newaxis])[:, np.newaxis]
    points = points @ _slants(hands, rng)
    pen = np.exp(hands.pen + 0.06 * _LOW[labels] + rng.normal(0, 0.07, n)).clip(0.8, 1.9)
    points = _fit(_snap(_fit(points, pen), shape.stroke, hands.grid, rng), pen) + (SIDE - 1) / 2
    return _rasterise(points.astype(np.float32), shape.stroke, pen, hands.softness)


def _fit(points: np.ndarray, pen: np.ndarray) -> np.ndarray:
    """In pixels, centred on 0, so that the ink's longer side fills INK."""
    low, high = points.min(axis=1, keepdims=True), points.max(axis=1, keepdims=True)
    return np.asarray(
        (points - (low + high) / 2) * (INK - 1 - 2 * _column(pen)) / (high - low).max(axis=2, keepdims=True)
    )


def _shake_strokes(
    points: np.ndarray, stroke: np.ndarray, sloppiness: np.ndarray, rng: np.random.Generator
) -> np.ndarray:
    """Moves, turns and stretches every stroke a little about its centre: pens do not land where they should."""
    n, rows, size = len(points), np.arange(len(points))[:, np.newaxis], (len(points), letters.MAX_STROKES)
    each = rows * letters.MAX_STROKES + stroke
    count = np.bincount(each.ravel(), minlength=n * letters.MAX_STROKES).clip(1)
    centres = [np.bincount(each.ravel(), points[..., axis].ravel(), len(count)) / count for axis in (0, 1)]
    centre = np.stack(centres, axis=-1)[each].astype(np.float32)
    turn, stretch = (rng.normal(0, s, size) * sloppiness[:, np.newaxis] for s in (0.07, 0.08))
    shift = rng.normal(0, 0.035, (*size, 2)) * sloppiness[:, np.newaxis, np.newaxis]
    turn, stretch = turn[rows, stroke].astype(np.float32), np.exp(stretch)[rows, stroke].astype(np.float32)
    x, y = np.moveaxis(points - centre, -1, 0) * stretch
    turned = np.stack([x * np.cos(turn) - y * np.sin(turn), x * np.sin(turn) + y * np.cos(turn)], axis=-1)
    return np.asarray(centre + turned + shift[rows, stroke].astype(np.float32))


def _cut_ends(points: np.ndarray, stroke: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Leaves out a part at half of all ends of strokes: the tablet noticed the pen late, or the writer lifted early."""
    rows, size = np.arange(len(points))[:, np.newaxis], (2, len(points), letters.MAX_STROKES)
    start, end = (np.abs(rng.normal(0, 0.04, size)) * (rng.random(size) < 0.5))[:, rows, stroke]
    first, last = _ends(stroke)
    index = np.arange(stroke.shape[1])
    at = first + (start + (index - first) / (last - first) * (1 - start - end)) * (last - first)
    before = np.minimum(np.floor(at).astype(np.int64), last - 1)
    share = (at - before)[..., np.newaxis].astype(np.float32)
    return np.asarray(points[rows, before] * (1 - share) + points[rows, before + 1] * share)


def _ends(stroke: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """int64 [n, points] twice: the first and the last point of each point's stroke."""
    index, change = np.arange(stroke.shape[1]), stroke[:, 1:] != stroke[:, :-1]
    first = np.maximum.accumulate(np.pad(change * index[1:], ((0, 0), (1, 0))), axis=1)
    last = np.pad(np.where(change, index[:-1], index[-1]), ((0, 0), (0, 1)), constant_values=index[-1])
    return first, np.minimum.accumulate(last[:, ::-1], axis=1)[:, ::-1]


def _slants(hands: Hands, rng: np.random.Generator) -> np.ndarray:
    """[n, 2, 2] for row vectors: width, then slant (y points down), then turn."""
    n = len(hands.slant)
    width = np.exp(hands.width + rng.normal(0, 0.21, n))
    slant, turn = hands.slant + rng.normal(0, 0.12, n), hands.turn + rng.normal(0, 0.07, n)
    zero, one = np.zeros(n), np.ones(n)
    skew = np.stack([width, zero, -slant, one], axis=-1).reshape(n, 2, 2)
    spin = np.stack([np.cos(turn), np.sin(turn), -np.sin(turn), np.cos(turn)], axis=-1).reshape(n, 2, 2)
    return np.asarray(skew @ spin, np.float32)


def _snap(points: np.ndarray, stroke: np.ndarray, grid: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Where a writer's tablet is coarse: straight lines between points on its grid, every 4 to 21 points."""
    coarse = np.flatnonzero(grid)
    side = grid[coarse, np.newaxis, np.newaxis].astype(np.float32)
    origin = rng.uniform(0, 1, (len(coarse), 1, 2)).astype(np.float32) * side
    step = rng.integers(4, 22, len(coarse))[:, np.newaxis]
    first, last = _ends(stroke[coarse])
    index, rows = np.arange(stroke.shape[1]), np.arange(len(coarse))[:, np.newaxis]
    before = first + (index - first) // step * step
    after = np.minimum(before + step, last)
    share = ((index - before) / np.maximum(after - before, 1))[..., np.newaxis].astype(np.float32)
    on_grid = np.round((points[coarse] + origin) / np.maximum(side, 1e-6)) * side - origin
    snapped = points.copy()
    snapped[coarse] = on_grid[rows, before] * (1 - share) + on_grid[rows, after] * share
    return snapped


def _rasterise(points: np.ndarray, stroke: np.ndarray, pen: np.ndarray, softness: np.ndarray) -> np.ndarray:
    """Lays ink along the strokes, spreads it by a Gaussian, and saturates it where the line is `pen` pixels off."""
    n = len(points)
    step = np.linalg.norm(np.diff(points, axis=1), axis=2) * (stroke[:, 1:] == stroke[:, :-1])
    ink = np.zeros(stroke.shape, np.float32)
    ink[:, 1:] += step / 2
    ink[:, :-1] += step / 2
    corner = np.floor(points).astype(np.int64)
    right, down = np.moveaxis(points - corner, -1, 0)
    base = np.arange(n)[:, np.newaxis] * SIDE * SIDE + corner[..., 1] * SIDE + corner[..., 0]
    image = np.zeros(n * SIDE * SIDE)
    for offset, share in (
        (0, (1 - right) * (1 - down)),
        (1, right * (1 - down)),
        (SIDE, (1 - right) * down),
        (SIDE + 1, right * down),
    ):
        image += np.bincount((base + offset).ravel(), (ink * share).ravel(), minlength=len(image))
    pixels = np.arange(SIDE)
    distance = (pixels[:, np.newaxis] - pixels) ** 2
    spread = np.exp(-distance / (2 * _column(softness) ** 2)).astype(np.float32)
    spread /= spread.sum(axis=2, keepdims=True)
    blurred = spread @ image.reshape(n, SIDE, SIDE).astype(np.float32) @ spread.transpose(0, 2, 1)
    # A long line's profile is exp(-d²/2s²) / (s√2π) at distance d; this makes it one half at d = pen.
    gain = softness * np.sqrt(2 * np.pi) * np.exp(pen**2 / (2 * softness**2)) / 2
    return np.asarray(np.rint(255 * np.minimum(1, blurred * _column(gain))), np.uint8)


def _column(values: np.ndarray) -> np.ndarray:
    return np.asarray(values, np.float32)[:, np.newaxis, np.newaxis]
