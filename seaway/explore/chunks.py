"""Chunked reading: a dataset may be larger than the memory that a stage may use."""

import mmap
from collections.abc import Iterator

import numpy as np

from seaway.platform import memory

_CHUNK_PIXELS = 1 << 22  # 16 MB as float32


def chunks(images: np.ndarray) -> Iterator[tuple[slice, np.ndarray]]:
    """Consecutive slices of uint8 [N, H, W], each with its images; use them before you fetch the next slice."""
    step = max(1, _CHUNK_PIXELS // images[0].size)
    for start in range(0, len(images), step):
        part = slice(start, min(start + step, len(images)))
        yield part, np.asarray(images[part])
        release_pages(images)


def release_pages(images: np.ndarray) -> None:
    """Gives back the pages of a memory map that were read, because they count as this process's memory."""
    base: object = images.base
    if isinstance(base, mmap.mmap):
        memory.drop_pages(base)
