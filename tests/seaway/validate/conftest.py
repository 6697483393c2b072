"""A real chain, made once: a small character net through export and convert; each test breaks a copy of its own.

Parts of the chain can be rebuilt from an edited ONNX model, so that a SavedModel is wrong but its metadata is not.
"""

import dataclasses
import functools
import shutil
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
import torch
import torchvision  # noqa: F401  before TensorFlow: the other way round, importing it ends the process
from onnx import numpy_helper

from seaway.artifacts import artifact_metadata
from seaway.artifacts.artifact_metadata import ArtifactMetadata
from seaway.convert.convert import DEFAULT_CONVERTER, convert_artifact
from seaway.export.export import export_checkpoint
from seaway.nets.build import build
from seaway.validate.validate import validate

LABELS = ("0", "1", "A", "B", "é", "b", "c")
SIZE = (20, 16)

Change = Callable[[Any], None]


@dataclass(frozen=True)
class Chain:
    folder: Path

    @property
    def dataset(self) -> Path:
        return self.folder / "dataset"

    @property
    def onnx(self) -> Path:
        return self.folder / "onnx"

    @property
    def saved_model(self) -> Path:
        return self.folder / "saved_model"

    @property
    def parity(self) -> Path:
        return self.folder / "parity"

    @property
    def report(self) -> Path:
        return self.folder / "report.html"

    def validate(self, dataset: bool = True, report: bool = False) -> ArtifactMetadata:
        images, page = self.dataset if dataset else None, self.report if report else None
        return validate(self.onnx, self.saved_model, images, self.parity, page)

    def edit_onnx(self, change: Change, rewrite_metadata: bool = True) -> None:
        """Changes model.onnx after export; `rewrite_metadata` makes the metadata match it."""
        edit(self.onnx, change)
        if rewrite_metadata:
            artifact_metadata.write(self.onnx, artifact_metadata.read(self.onnx))

    def convert(self, converter: str = DEFAULT_CONVERTER) -> None:
        convert_artifact(self.onnx, self.saved_model, converter)

    def convert_edited(
        self, change: Change, labels: tuple[str, ...] | None = None, converter: str = DEFAULT_CONVERTER
    ) -> None:
        """A SavedModel from an edited ONNX model, with the metadata of the right SavedModel."""
        other = self.folder / "edited"
        shutil.copytree(self.onnx, other)
        edit(other, change)
        metadata = artifact_metadata.read(other)
        artifact_metadata.write(other, dataclasses.replace(metadata, labels=labels or metadata.labels))
        convert_artifact(other, self.saved_model, converter)
        shutil.copy(self.onnx / "labels.txt", self.saved_model)
        parent = artifact_metadata.read(self.onnx)
        converted = artifact_metadata.read(self.saved_model)
        artifact_metadata.write(
            self.saved_model, dataclasses.replace(converted, labels=parent.labels, parents={"onnx": parent})
        )


def edit(folder: Path, change: Change) -> None:
    model = onnx.load(folder / "model.onnx")
    change(model)
    onnx.save(model, folder / "model.onnx")


def on_weight(name: str, change: Callable[[np.ndarray], np.ndarray]) -> Change:
    """The change of one initializer."""

    def apply(model: Any) -> None:
        initializer = next(i for i in model.graph.initializer if i.name == name)
        initializer.CopyFrom(numpy_helper.from_array(change(numpy_helper.to_array(initializer).copy()), name))

    return apply


@pytest.fixture(scope="session")
def weight_change() -> Callable[[str, Callable[[np.ndarray], np.ndarray]], Change]:
    return on_weight


@pytest.fixture(scope="session")
def untouched_by_converter(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], Chain]:
    @functools.cache
    def build(converter: str) -> Chain:
        chain = Chain(tmp_path_factory.mktemp("chain"))
        _write_dataset(chain.dataset)
        _write_checkpoint(chain.folder / "checkpoint", chain.dataset)
        export_checkpoint(chain.folder / "checkpoint", chain.dataset, chain.onnx, converter=converter)
        chain.convert(converter)
        return chain

    return build


@pytest.fixture(scope="session")
def untouched(untouched_by_converter: Callable[[str], Chain]) -> Chain:
    return untouched_by_converter(DEFAULT_CONVERTER)


@pytest.fixture
def chain(untouched: Chain, tmp_path: Path) -> Chain:
    """A copy to break."""
    return Chain(Path(shutil.copytree(untouched.folder, tmp_path / "chain")))


@pytest.fixture
def chain_of(untouched_by_converter: Callable[[str], Chain], tmp_path: Path, converter: str) -> Chain:
    """A copy to break, exported for the test's `converter`."""
    return Chain(Path(shutil.copytree(untouched_by_converter(converter).folder, tmp_path / "chain")))


def _write_dataset(folder: Path) -> None:
    """Noise with a dark border, as characters have."""
    folder.mkdir()
    rng = np.random.default_rng(3)
    for part, count in (("train", 20), ("test", 300)):
        images = np.zeros((count, *SIZE), np.uint8)
        images[:, 2:-2, 2:-2] = rng.integers(0, 256, (count, SIZE[0] - 4, SIZE[1] - 4))
        np.save(folder / f"{part}_images.npy", images)
        np.save(folder / f"{part}_labels.npy", np.resize(np.arange(len(LABELS), dtype=np.uint8), count))
    artifact_metadata.write(folder, ArtifactMetadata(kind="dataset", name="characters", labels=LABELS))


def _write_checkpoint(folder: Path, dataset: Path) -> None:
    """Not trained, but with running statistics that matter and logits that differ."""
    torch.manual_seed(5)
    net = build("cnn", SIZE, len(LABELS)).train()
    for _ in range(3):
        net(torch.randn(16, 1, *SIZE) * 2 + 1)
    for parameter in net.parameters():  # nor may a bias be zero, which no scaling changes
        parameter.data.add_(torch.randn_like(parameter) * 0.05)
    folder.mkdir()
    torch.save(net.state_dict(), folder / "weights.pt")
    settings = {"net": "cnn", "image_size": list(SIZE), "classes": len(LABELS), "mean": 0.17, "std": 0.33}
    parents = {"dataset": artifact_metadata.read(dataset)}
    artifact_metadata.write(
        folder, ArtifactMetadata("checkpoint", "characters", labels=LABELS, settings=settings, parents=parents)
    )
