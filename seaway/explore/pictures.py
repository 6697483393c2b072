"""What one reading of all pictures tells: each class's mean and spread, blanks, what finds copies."""

from dataclasses import dataclass

import numpy as np

from seaway.data.data import Progress
from seaway.explore import copies
from seaway.explore.chunks import chunks

LIT = 128  # a pixel this bright is ink
# Checked in this order: a picture is the first that it fits.
BLANKS = {
    "empty": "no pixel is ink",
    "nearly empty": "less than 0.5 % of the pixels are ink",
    "nearly full": "more than 90 % of the pixels are ink",
}


@dataclass(frozen=True, slots=True)
class Scan:
    """One part of a dataset, N pictures of K classes.

    marks           what copies are found by
    blank           uint8 [N]: 0, or 1 + the place in BLANKS
    sums, squares   float64 [K, H, W], over each class's pixels and their squares
    """

    marks: copies.Marks
    blank: np.ndarray
    sums: np.ndarray
    squares: np.ndarray

    @property
    def brightness(self) -> float:
        """Mean of all pixels, 0..255."""
        return float(self.sums.sum() / (len(self.blank) * self.sums[0].size))


@dataclass(frozen=True, slots=True)
class Looks:
    """Mean and standard deviation of each class's training pictures, float32 [K, H, W]; 0 where there are none."""

    mean: np.ndarray
    deviation: np.ndarray


def scan(images: np.ndarray, labels: np.ndarray, classes: int, progress: Progress) -> Scan:
    """From uint8 [N, H, W] and [N]."""
    count, height, width = images.shape
    matrix = copies.block_matrix(height, width)
    hashes = np.zeros(count, np.uint64)
    blocks, blank = np.zeros((count, matrix.shape[1]), np.float32), np.zeros(count, np.uint8)
    sums, squares = np.zeros((classes, height * width)), np.zeros((classes, height * width))
    for part, pictures in chunks(images):
        order = np.argsort(labels[part], kind="stable")
        present, starts = np.unique(labels[part][order], return_index=True)
        pixels = pictures.reshape(len(pictures), -1).astype(np.float32)
        hashes[part] = copies.hashes(pictures)
        blocks[part] = pixels @ matrix
        blank[part] = _blank((pictures >= LIT).mean(axis=(1, 2)))
        pixels = pixels[order]
        sums[present] += np.add.reduceat(pixels, starts, dtype=np.float64)
        squares[present] += np.add.reduceat(pixels * pixels, starts, dtype=np.float64)
        progress(part.stop, count)
    marks = copies.Marks(hashes, blocks, blank == 0)
    return Scan(marks, blank, sums.reshape(-1, height, width), squares.reshape(-1, height, width))


def looks(scanned: Scan, counts: np.ndarray) -> Looks:
    """Of a scan and its counts int64 [K]."""
    n = np.maximum(counts, 1)[:, np.newaxis, np.newaxis]
    mean = scanned.sums / n
    variance = np.maximum(scanned.squares / n - mean**2, 0)
    return Looks(mean.astype(np.float32), np.sqrt(variance).astype(np.float32))


def _blank(lit: np.ndarray) -> np.ndarray:
    return np.select([lit == 0, lit < 0.005, lit > 0.9], [1, 2, 3], 0).astype(np.uint8)
