from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from seaway.artifacts import card as cards
from seaway.artifacts.card import Card

Maker = Callable[..., Path]


def make_dataset(folder: Path, classes: int = 3, count: int = 120, size: int = 12, rare: int = 1) -> Path:
    """Bars at one height a class, with noise: a few epochs learn it. A dataset artifact like explore's. Of the last
    class every `rare`th picture is there."""
    folder.mkdir(parents=True)
    chance = np.random.default_rng(7)
    for part, number in (("train", count), ("test", 30)):
        labels = (np.arange(number) % classes).astype(np.uint8)
        labels = labels[(labels < classes - 1) | (np.arange(number) % rare == 0)]
        images = chance.integers(0, 60, (len(labels), size, size), dtype=np.uint8)
        for image, label in zip(images, labels, strict=True):
            image[2 + 3 * label : 4 + 3 * label, 2:-2] = 255
        np.save(folder / f"{part}_images.npy", images)
        np.save(folder / f"{part}_labels.npy", labels)
    labels = tuple("ABCDEFGH"[:classes])
    cards.write(folder, Card(kind="dataset", name="bars", labels=labels, settings={"source": "bars"}))
    return folder


@pytest.fixture(scope="session")
def dataset(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_dataset(tmp_path_factory.mktemp("data") / "dataset")


@pytest.fixture(scope="session")
def make() -> Maker:
    return make_dataset
