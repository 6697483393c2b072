"""Handwriting made offline: stroke fonts, distorted as a hand distorts them. Seeded; the same on every run.

The alphabets are Hershey's stroke fonts (PyPI Hershey-Fonts). Every picture belongs to a writer, who has faces,
slant, proportions, a pen and habits of bending; each picture adds its own. No writer is in both parts. As in EMNIST,
the ink's longer side fills 24 of 28 pixels, centred; 62 classes in ByClass's order, about as unevenly filled.
"""

import hashlib
import importlib.metadata
import string
from collections.abc import Iterator
from dataclasses import dataclass, fields
from functools import cache
from pathlib import Path

import numpy as np

from seaway.data.idx import PARTS
from seaway.errors import DataError

LABELS = tuple(string.digits + string.ascii_uppercase + string.ascii_lowercase)
SIDE, INK = 28, 24
DEFAULT_COUNT, SMALLEST_COUNT = 14_000, 7 * len(LABELS)  # one test picture in seven, and of every class at least one
_PER_WRITER = 40  # EMNIST's 3,600 writers gave about 226 each; fewer, so that a small set still has many hands
_CHUNK = 4096  # pictures at a time: about 100 MB; part of the seeds, so changing it changes the pictures
_POINTS = 256  # per character: 0.5 px apart on the longest, finer than the pen
_STROKES = 16  # more than any character of these faces has
_DOUBLE = ("timesi", "timesr")  # faces that draw thick lines twice: they need a finer pen

# face → how often a writer uses it for digits, upper case, lower case. Script capitals are rarer in block writing.
_FACES = {
    "futural": (0.34, 0.34, 0.30),
    "rowmans": (0.34, 0.24, 0.20),
    "timesi": (0.12, 0.10, 0.14),
    "timesr": (0.08, 0.10, 0.06),
    "scripts": (0.12, 0.10, 0.16),
    "cursive": (0.00, 0.12, 0.14),
}
# Shares of digits, upper and lower case in EMNIST ByClass (Cohen et al. 2017, arXiv:1702.05373: 402,953 + 220,304 +
# 190,998), and English letters in percent (Lewand, Cryptological Mathematics, 2000), which EMNIST's letters follow.
_GROUPS = (402_953 / 814_255, 220_304 / 814_255, 190_998 / 814_255)
_ENGLISH = (
    *(8.17, 1.49, 2.78, 4.25, 12.70, 2.23, 2.02, 6.09, 6.97, 0.15, 0.77, 4.03, 2.41),
    *(6.75, 7.51, 1.93, 0.10, 5.99, 6.33, 9.06, 2.76, 0.98, 2.36, 0.15, 1.97, 0.07),
)
_RAREST = 1.2  # percent: EMNIST's rarest letter is about this share of its case


@dataclass(frozen=True, slots=True)
class Strokes:
    """The `strokes:N` source: N pictures, six for training to one for testing."""

    total: int = DEFAULT_COUNT
    seed: int = 0

    def __post_init__(self) -> None:
        if self.total < SMALLEST_COUNT:
            raise DataError(
                f"strokes:{self.total}: too few for {len(LABELS)} classes in both parts; "
                f"give at least strokes:{SMALLEST_COUNT}"
            )

    @property
    def labels(self) -> tuple[str, ...]:
        return LABELS

    def count(self, part: str) -> int:
        return self.total // 7 if part == "test" else self.total - self.total // 7

    def chunks(self, part: str) -> Iterator[tuple[np.ndarray, np.ndarray]]:
        """Images uint8 [n, 28, 28] and labels uint8 [n]."""
        stream = PARTS.index(part)
        rng = np.random.default_rng([self.seed, stream, 0])
        labels = rng.permutation(np.repeat(np.arange(len(LABELS), dtype=np.uint8), class_counts(self.count(part))))
        writers = hands(self, part)
        whose = rng.integers(len(writers.slant), size=len(labels))
        for number, start in enumerate(range(0, len(labels), _CHUNK)):
            some = slice(start, start + _CHUNK)
            own = np.random.default_rng([self.seed, stream, 2, number])
            yield _draw(labels[some], writers.take(whose[some]), own), labels[some]

    def fingerprint(self) -> str:
        """sha256 over N, the seed, this generator's source and the fonts' version."""
        fonts = importlib.metadata.version("Hershey-Fonts")
        what = f"strokes\0{self.total}\0{self.seed}\0{fonts}\0".encode()
        return hashlib.sha256(what + Path(__file__).read_bytes()).hexdigest()


def class_counts(total: int) -> np.ndarray:
    """int64 [62]: how many of each class among `total`, by EMNIST's shares, at least one of each."""
    letters = np.maximum(_ENGLISH, _RAREST)
    shares = np.concatenate([np.full(10, 0.1) * _GROUPS[0], *(letters / letters.sum() * g for g in _GROUPS[1:])])
    exact = 1 + shares * (total - len(LABELS))
    counts: np.ndarray = np.floor(exact).astype(np.int64)
    counts[np.argsort(counts - exact, kind="stable")[: total - counts.sum()]] += 1  # largest remainders
    return counts


@dataclass(frozen=True, slots=True)
class Hands:
    """Writers' habits, one row each. Lengths are shares of a capital's height, `pen` is half a line in pixels."""

    faces: np.ndarray  # int64 [n, 3], for digits, upper and lower case
    slant: np.ndarray  # horizontal shift per height
    turn: np.ndarray  # radians
    width: np.ndarray  # log of width to height
    roundness: np.ndarray  # 0: corners as in the font, 1: rounded off
    pen: np.ndarray
    softness: np.ndarray  # standard deviation of the line's edge in pixels
    bend: np.ndarray  # [n, 3, 5]: waves through the plane that bend all this writer's characters alike

    @classmethod
    def draw(cls, rng: np.random.Generator, n: int) -> "Hands":
        usage = np.array(list(_FACES.values()))
        return cls(
            faces=np.stack([rng.choice(len(usage), size=n, p=usage[:, group]) for group in range(3)], axis=1),
            slant=rng.normal(0.08, 0.18, n),
            turn=rng.normal(0, 0.05, n),
            width=rng.normal(0, 0.13, n),
            roundness=rng.uniform(0.2, 1, n),
            pen=rng.uniform(0.85, 1.6, n),
            softness=rng.uniform(0.5, 0.7, n),
            bend=_waves(rng, n, 3, 0.027),
        )

    def take(self, rows: np.ndarray) -> "Hands":
        return Hands(**{field.name: getattr(self, field.name)[rows] for field in fields(self)})


def hands(source: Strokes, part: str) -> Hands:
    """The part's writers."""
    rng = np.random.default_rng([source.seed, PARTS.index(part), 1])
    return Hands.draw(rng, max(8, source.count(part) // _PER_WRITER))


def _waves(rng: np.random.Generator, n: int, k: int, size: float) -> np.ndarray:
    """[n, k, 5]: wave vector x, y (radians per height), phase, displacement x, y."""
    angle, speed = rng.uniform(0, 2 * np.pi, (n, k)), rng.uniform(2.5, 7.5, (n, k))
    phase, move = rng.uniform(0, 2 * np.pi, (n, k)), rng.normal(0, size, (2, n, k))
    return np.stack([np.cos(angle) * speed, np.sin(angle) * speed, phase, *move], axis=-1).astype(np.float32)


def _draw(labels: np.ndarray, hands: Hands, rng: np.random.Generator) -> np.ndarray:
    """uint8 [n, 28, 28] for labels [n], each in its writer's hand."""
    n = len(labels)
    group = np.digitize(labels, (10, 36))
    face = hands.faces[np.arange(n), group]
    sharp, smooth, centre, stroke = (table[face, labels] for table in _alphabets())
    points = sharp + (smooth - sharp) * _column(hands.roundness)
    points = _shake_strokes(points, centre, stroke, rng)
    for wave in np.moveaxis(np.concatenate([hands.bend, _waves(rng, n, 3, 0.027)], axis=1), 1, 0):
        along = points[..., 0] * wave[:, 0:1] + points[..., 1] * wave[:, 1:2] + wave[:, 2:3]
        points = points + np.sin(along)[..., np.newaxis] * wave[:, np.newaxis, 3:5]
    points = points @ _slants(hands, rng)
    fineness = np.array([0.75 if name in _DOUBLE else 1 for name in _FACES])[face]
    pen = hands.pen * fineness * np.exp(rng.normal(0, 0.05, n))
    low, high = points.min(axis=1, keepdims=True), points.max(axis=1, keepdims=True)
    scale = (INK - 1 - 2 * _column(pen)) / (high - low).max(axis=2, keepdims=True)
    points = (points - (low + high) / 2) * scale + (SIDE - 1) / 2
    return _rasterise(points.astype(np.float32), stroke, pen, hands.softness)


def _shake_strokes(points: np.ndarray, centre: np.ndarray, stroke: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Moves, turns and stretches every stroke a little about its centre: pens do not land where they should."""
    rows = np.arange(len(points))[:, np.newaxis]
    shape = (len(points), _STROKES)
    turn = rng.normal(0, 0.05, shape).astype(np.float32)[rows, stroke]
    stretch = np.exp(rng.normal(0, 0.05, shape)).astype(np.float32)[rows, stroke]
    shift = rng.normal(0, 0.022, (*shape, 2)).astype(np.float32)[rows, stroke]
    x, y = np.moveaxis(points - centre, -1, 0) * stretch
    turned = np.stack([x * np.cos(turn) - y * np.sin(turn), x * np.sin(turn) + y * np.cos(turn)], axis=-1)
    return np.asarray(centre + turned + shift)


def _slants(hands: Hands, rng: np.random.Generator) -> np.ndarray:
    """[n, 2, 2] for row vectors: width, then slant (y points down), then turn."""
    n = len(hands.slant)
    width = np.exp(hands.width + rng.normal(0, 0.07, n))
    slant, turn = hands.slant + rng.normal(0, 0.05, n), hands.turn + rng.normal(0, 0.05, n)
    zero, one = np.zeros(n), np.ones(n)
    skew = np.stack([width, zero, -slant, one], axis=-1).reshape(n, 2, 2)
    spin = np.stack([np.cos(turn), np.sin(turn), -np.sin(turn), np.cos(turn)], axis=-1).reshape(n, 2, 2)
    return np.asarray(skew @ spin, np.float32)


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
    picture = np.zeros(n * SIDE * SIDE)
    for offset, share in (
        (0, (1 - right) * (1 - down)),
        (1, right * (1 - down)),
        (SIDE, (1 - right) * down),
        (SIDE + 1, right * down),
    ):
        picture += np.bincount((base + offset).ravel(), (ink * share).ravel(), minlength=len(picture))
    pixels = np.arange(SIDE)
    distance = (pixels[:, np.newaxis] - pixels) ** 2
    spread = np.exp(-distance / (2 * _column(softness) ** 2)).astype(np.float32)
    spread /= spread.sum(axis=2, keepdims=True)
    blurred = spread @ picture.reshape(n, SIDE, SIDE).astype(np.float32) @ spread.transpose(0, 2, 1)
    # A long line's profile is exp(-d²/2s²) / (s√2π) at distance d; this makes it one half at d = pen.
    gain = softness * np.sqrt(2 * np.pi) * np.exp(pen**2 / (2 * softness**2)) / 2
    return np.asarray(np.rint(255 * np.minimum(1, blurred * _column(gain))), np.uint8)


def _column(values: np.ndarray) -> np.ndarray:
    return np.asarray(values, np.float32)[:, np.newaxis, np.newaxis]


@cache
def _alphabets() -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """[faces, 62, points, …]: points as in the font, smoothed; the centre of each point's stroke, the stroke's number.

    Heights are in capitals, y points down, characters are centred on 0.
    """
    from HersheyFonts import HersheyFonts

    tables: list[list[tuple[np.ndarray, ...]]] = []
    for face in _FACES:
        font = HersheyFonts()
        font.load_default_font(face)
        tables.append([_resample(font.all_glyphs[character].strokes) for character in LABELS])
    faces = [[np.stack(column) for column in zip(*table, strict=True)] for table in tables]
    sharp, smooth, centre, stroke = (np.stack(column) for column in zip(*faces, strict=True))
    return sharp, smooth, centre, stroke


def _resample(strokes: list[list[tuple[float, float]]]) -> tuple[np.ndarray, ...]:
    """One character's strokes as 256 points, evenly spaced along them."""
    lines = [np.array(line, float) / 21 for line in strokes if len(line) > 1]  # 21 units: a capital in all faces
    everything = np.concatenate(lines)
    middle = (everything.min(axis=0) + everything.max(axis=0)) / 2
    runs = [np.concatenate([[0], np.cumsum(np.linalg.norm(np.diff(line, axis=0), axis=1))]) for line in lines]
    lengths = np.array([run[-1] for run in runs])
    shares = 3 + np.floor((_POINTS - 3 * len(lines)) * lengths / lengths.sum()).astype(int)
    shares[lengths.argmax()] += _POINTS - shares.sum()
    sharp, smooth, centre = [], [], []
    for line, run, count in zip(lines, runs, shares, strict=True):
        at = np.linspace(0, run[-1], count)
        even = np.stack([np.interp(at, run, line[:, axis] - middle[axis]) for axis in (0, 1)], axis=1)
        sharp.append(even)
        smooth.append(_round_off(even, at))
        centre.append(np.broadcast_to(even.mean(axis=0), even.shape))
    whole = [np.concatenate(parts).astype(np.float32) for parts in (sharp, smooth, centre)]
    return *whole, np.repeat(np.arange(len(lines)), shares)


def _round_off(even: np.ndarray, at: np.ndarray) -> np.ndarray:
    """A running mean along the stroke, narrower towards the ends, which stay; dots stay as they are."""
    if at[-1] < 0.4:
        return even
    reach = np.minimum(0.07, np.minimum(at, at[-1] - at))
    near = np.abs(at - at[:, np.newaxis]) <= reach[:, np.newaxis] + 1e-9
    return np.asarray(near @ even / near.sum(axis=1, keepdims=True))
