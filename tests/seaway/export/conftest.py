"""Users' nets on the path, and a trained checkpoint with its dataset, small and not of EMNIST's sizes."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch

from seaway.artifacts import artifact_metadata
from seaway.artifacts.artifact_metadata import ArtifactMetadata
from seaway.export.export import export_model
from seaway.nets.build import build

FIXTURES = Path(__file__).resolve().parents[2] / "fixtures"
LABELS = tuple("ABCDEFG")
SIZE = (20, 16)


@pytest.fixture(autouse=True)
def users_nets(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(FIXTURES)


@pytest.fixture
def ship(tmp_path: Path) -> Callable[..., tuple[ArtifactMetadata, Path]]:
    """Exports `python:shipped_nets:<net>` with its own weights; returns the metadata and the artifact's folder.

    As a classifier, unless another `activation` is given.
    """

    def _ship(net: str, *inputs: str, **options: object) -> tuple[ArtifactMetadata, Path]:
        onnx = tmp_path / "onnx"
        arguments: dict[str, object] = {"weights": None, "inputs": list(inputs or ["4"]), "activation": "softmax"}
        arguments |= options
        return export_model(f"python:shipped_nets:{net}", onnx, **arguments), onnx  # type: ignore[arg-type]

    return _ship


@pytest.fixture
def dataset(tmp_path: Path) -> Path:
    generator = np.random.default_rng(3)
    folder = tmp_path / "dataset"
    folder.mkdir()
    for part, count in (("train", 40), ("test", 150)):
        labels = np.append(np.arange(7), generator.choice(7, count - 7, p=[0.4, 0.3, 0.1, 0.1, 0.04, 0.03, 0.03]))
        np.save(folder / f"{part}_images.npy", generator.integers(0, 256, (count, *SIZE), dtype=np.uint8))
        np.save(folder / f"{part}_labels.npy", labels.astype(np.uint8))
    artifact_metadata.write(folder, ArtifactMetadata(kind="dataset", name="characters", labels=LABELS))
    return folder


@pytest.fixture
def checkpoint(tmp_path: Path, dataset: Path) -> Path:
    return write_checkpoint(tmp_path / "checkpoint", dataset)


def write_checkpoint(folder: Path, dataset: Path, **more: object) -> Path:
    torch.manual_seed(5)
    net = build("cnn", SIZE, len(LABELS)).train()
    for _ in range(3):  # so that batch normalisation's running statistics matter
        net(torch.randn(16, 1, *SIZE) * 2 + 1)
    folder.mkdir()
    torch.save(net.state_dict(), folder / "weights.pt")
    settings = {"net": "cnn", "image_size": list(SIZE), "classes": len(LABELS), "mean": 0.17, "std": 0.33}
    parents = {"dataset": artifact_metadata.read(dataset)}
    metadata = ArtifactMetadata(kind="checkpoint", name="characters", labels=LABELS, settings=settings, parents=parents)
    artifact_metadata.write(folder, artifact_metadata.dataclasses.replace(metadata, **more))  # type: ignore[arg-type]
    return folder
