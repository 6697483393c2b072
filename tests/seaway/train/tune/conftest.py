import dataclasses
from pathlib import Path

import pytest

from seaway.explore.explore import explore
from seaway.train.settings import Settings
from seaway.train.tune import folder as sweep_folder
from seaway.train.tune import space, study
from seaway.train.tune.results import Sweep

SHARED = Settings(net="mlp", epochs=2, batch_size=32, validation=0.1, threads=1)


@pytest.fixture(scope="session")
def dataset(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("strokes") / "dataset"
    explore("strokes:500", folder)
    return folder


@pytest.fixture(scope="session")
def search():
    """Searches in this process; all trials have the settings in `shared`."""

    def run(
        dataset: Path, folder: Path, *lines: str, trials=3, metric="accuracy", pruning=False, stopping=bool, **shared
    ) -> Sweep:
        settings, dimensions = space.parse(lines, (), dataclasses.replace(SHARED, **shared))
        with sweep_folder.locked(folder):
            return study.search(
                space.SweepConfig(dataset, settings, dimensions, metric, pruning), folder, trials, stopping
            )

    return run


@pytest.fixture(scope="session")
def three(dataset, search, tmp_path_factory) -> Sweep:
    """Three trials over the default space, uninterrupted."""
    return search(dataset, tmp_path_factory.mktemp("three") / "sweep")
