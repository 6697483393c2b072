"""Tiny folders of IDX files, laid out and stored as EMNIST's are."""

import gzip
import struct
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import pytest


def idx_bytes(array: np.ndarray) -> bytes:
    return struct.pack(f">{1 + array.ndim}I", 0x0800 + array.ndim, *array.shape) + array.tobytes()


def pictures(labels: Sequence[int], side: int = 28) -> np.ndarray:
    """Upright pictures that tell their label and their place, and are not their own transposition."""
    images = np.zeros((len(labels), side, side), np.uint8)
    for place, label in enumerate(labels):
        images[place, 3, 5:20] = label + 1
        images[place, 20, 3] = place + 1
    return images


@pytest.fixture
def write_idx(tmp_path: Path) -> Callable[..., Path]:
    """Writes one split: `write_idx("digits", train=[0, 1], test=[1], mapping={0: "0", 1: "1"})`."""

    def write(
        split: str,
        train: Sequence[int],
        test: Sequence[int],
        mapping: dict[int, str] | None = None,
        packed: bool = True,
        folder: Path = tmp_path / "idx",
    ) -> Path:
        folder.mkdir(parents=True, exist_ok=True)
        for part, labels in (("train", train), ("test", test)):
            stored = pictures(labels).transpose(0, 2, 1)
            for kind, array in (("images-idx3", stored), ("labels-idx1", np.array(labels, np.uint8))):
                content = idx_bytes(np.ascontiguousarray(array))
                name = f"emnist-{split}-{part}-{kind}-ubyte"
                (folder / (name + ".gz" if packed else name)).write_bytes(gzip.compress(content) if packed else content)
        if mapping:
            lines = [f"{label} {ord(character)}\n" for label, character in mapping.items()]
            (folder / f"emnist-{split}-mapping.txt").write_text("".join(lines))
        return folder

    return write
