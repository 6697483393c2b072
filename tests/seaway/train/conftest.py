from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from seaway.artifacts import artifact_metadata
from seaway.artifacts.artifact_metadata import ArtifactMetadata

Maker = Callable[..., Path]


def make_dataset(folder: Path, classes: int = 3, count: int = 120, size: int = 12, rare: int = 1) -> Path:
    """A dataset artifact like explore's: bars at one height per class, with noise, which a few epochs learn. The last
    class has only every `rare`th image."""
    folder.mkdir(parents=True)
    rng = np.random.default_rng(7)
    for part, number in (("train", count), ("test", 30)):
        labels = (np.arange(number) % classes).astype(np.uint8)
        labels = labels[(labels < classes - 1) | (np.arange(number) % rare == 0)]
        images = rng.integers(0, 60, (len(labels), size, size), dtype=np.uint8)
        for image, label in zip(images, labels, strict=True):
            image[2 + 3 * label : 4 + 3 * label, 2:-2] = 255
        np.save(folder / f"{part}_images.npy", images)
        np.save(folder / f"{part}_labels.npy", labels)
    labels = tuple("ABCDEFGH"[:classes])
    artifact_metadata.write(
        folder, ArtifactMetadata(kind="dataset", name="bars", labels=labels, settings={"source": "bars"})
    )
    return folder


@pytest.fixture(scope="session")
def dataset(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_dataset(tmp_path_factory.mktemp("data") / "dataset")


@pytest.fixture(scope="session")
def make() -> Maker:
    return make_dataset
