"""Pictures by and by: a data set is larger than what a stage may hold in memory."""

import mmap
from collections.abc import Iterator

import numpy as np

from seaway.platform import memory

_PIXELS = 1 << 22  # at a time: 16 MB as float32


def chunks(images: np.ndarray) -> Iterator[tuple[slice, np.ndarray]]:
    """Consecutive slices of uint8 [N, H, W], each with its pictures, to be used before the next is asked for."""
    step = max(1, _PIXELS // images[0].size)
    for start in range(0, len(images), step):
        part = slice(start, min(start + step, len(images)))
        yield part, np.asarray(images[part])
        let_go(images)


def let_go(images: np.ndarray) -> None:
    """The pages of a memory map that were read count as this process's memory: gives them back."""
    base: object = images.base
    if isinstance(base, mmap.mmap):
        memory.let_go(base)
