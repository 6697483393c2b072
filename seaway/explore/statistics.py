"""One pass over all images: each class's mean and deviation, blank images, and fingerprints to find duplicates."""

from dataclasses import dataclass

import numpy as np

from seaway.data.datasets import ProgressCallback
from seaway.explore import duplicates
from seaway.explore.chunks import chunks

INK = 128  # pixels at least this bright are ink
# Checked in this order: the first that fits an image is its kind.
BLANKS = {
    "empty": "no pixel is ink",
    "nearly empty": "less than 0.5% of the pixels are ink",
    "nearly full": "more than 90% of the pixels are ink",
}


@dataclass(frozen=True, slots=True)
class Scan:
    """One part of a dataset, N images of K classes.

    fingerprints    to find duplicates
    blank           uint8 [N]: 0, or 1 + the index in BLANKS
    sums, squares   float64 [K, H, W]: sums over each class's pixels and their squares
    """

    fingerprints: duplicates.Fingerprints
    blank: np.ndarray
    sums: np.ndarray
    squares: np.ndarray

    @property
    def brightness(self) -> float:
        """The mean of all pixels, 0..255."""
        return float(self.sums.sum() / (len(self.blank) * self.sums[0].size))


@dataclass(frozen=True, slots=True)
class ClassStatistics:
    """Mean and standard deviation of each class's training images, float32 [K, H, W]; 0 where there are none."""

    mean: np.ndarray
    deviation: np.ndarray


def scan(images: np.ndarray, labels: np.ndarray, classes: int, progress: ProgressCallback) -> Scan:
    """Scans images uint8 [N, H, W] with labels [N]."""
    count, height, width = images.shape
    matrix = duplicates.block_matrix(height, width)
    hashes = np.zeros(count, np.uint64)
    blocks, blank = np.zeros((count, matrix.shape[1]), np.float32), np.zeros(count, np.uint8)
    sums, squares = np.zeros((classes, height * width)), np.zeros((classes, height * width))
    for part, chunk in chunks(images):
        order = np.argsort(labels[part], kind="stable")
        present, starts = np.unique(labels[part][order], return_index=True)
        pixels = chunk.reshape(len(chunk), -1).astype(np.float32)
        hashes[part] = duplicates.hashes(chunk)
        blocks[part] = pixels @ matrix
        blank[part] = _blank((chunk >= INK).mean(axis=(1, 2)))
        pixels = pixels[order]
        sums[present] += np.add.reduceat(pixels, starts, dtype=np.float64)
        squares[present] += np.add.reduceat(pixels * pixels, starts, dtype=np.float64)
        progress(part.stop, count)
    fingerprints = duplicates.Fingerprints(hashes, blocks, blank == 0)
    return Scan(fingerprints, blank, sums.reshape(-1, height, width), squares.reshape(-1, height, width))


def class_statistics(scan: Scan, counts: np.ndarray) -> ClassStatistics:
    """Means and deviations from the scan of the training images and their counts int64 [K]."""
    n = np.maximum(counts, 1)[:, np.newaxis, np.newaxis]
    mean = scan.sums / n
    variance = np.maximum(scan.squares / n - mean**2, 0)
    return ClassStatistics(mean.astype(np.float32), np.sqrt(variance).astype(np.float32))


def _blank(ink: np.ndarray) -> np.ndarray:
    return np.select([ink == 0, ink < 0.005, ink > 0.9], [1, 2, 3], 0).astype(np.uint8)
