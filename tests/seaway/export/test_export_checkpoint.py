"""A trained net: normalization inside, golden images from the test set, PyTorch's outputs for all of it."""

from pathlib import Path

import numpy as np
import onnxruntime
import pytest
import torch

from seaway.artifacts import artifact_metadata, golden
from seaway.artifacts.artifact_metadata import Tensor
from seaway.data import datasets
from seaway.errors import InvalidInput, MetadataError, ModelError
from seaway.export.export import export_checkpoint
from seaway.nets.build import build


def expected(checkpoint: Path, images: np.ndarray) -> np.ndarray:
    """Logits by hand: PyTorch's net on normalized images in NCHW."""
    settings = artifact_metadata.read(checkpoint).settings
    net = build("cnn", tuple(settings["image_size"]), settings["classes"])
    net.load_state_dict(torch.load(checkpoint / "weights.pt", weights_only=True))
    inputs = (torch.from_numpy(images / np.float32(255)) - settings["mean"]) / settings["std"]
    with torch.no_grad():
        return net.eval()(inputs[:, None]).numpy()


def test_the_artifact(checkpoint: Path, dataset: Path, tmp_path: Path) -> None:
    onnx = tmp_path / "onnx"
    metadata = export_checkpoint(checkpoint, dataset, onnx)
    assert artifact_metadata.check(onnx, "onnx") == metadata
    assert metadata.inputs == (Tensor("image", "float32", (None, 20, 16, 1)),)
    assert metadata.outputs == (Tensor("scores", "float32", (None, 7)), Tensor("logits", "float32", (None, 7)))
    assert metadata.labels == tuple("ABCDEFG")
    assert (onnx / "labels.txt").read_text() == "A\nB\nC\nD\nE\nF\nG\n"
    assert metadata.parents == {"checkpoint": artifact_metadata.read(checkpoint)}
    assert metadata.settings["unused_weights"] == []
    images = datasets.load(dataset)

    whole = golden.read(onnx / golden.TEST_OUTPUTS)
    assert whole.inputs == {}
    logits = expected(checkpoint, images.test_images)
    assert np.allclose(whole.outputs["logits"], logits, atol=1e-5)
    assert np.allclose(whole.outputs["scores"], torch.from_numpy(logits).softmax(1).numpy(), atol=1e-6)
    assert metadata.metrics["accuracy"] == pytest.approx((logits.argmax(1) == images.test_labels).mean())

    session = onnxruntime.InferenceSession(onnx / "model.onnx", providers=["CPUExecutionProvider"])
    (outputs,) = session.run(["logits"], {"image": datasets.model_input(images.test_images)})
    assert golden.compare(outputs, logits, metadata.tolerances["logits"]).wrong == 0


def test_golden_images_cover_every_class(checkpoint: Path, dataset: Path, tmp_path: Path) -> None:
    export_checkpoint(checkpoint, dataset, tmp_path / "onnx")
    test_set = datasets.load(dataset)
    examples = golden.read(tmp_path / "onnx" / golden.GOLDEN)
    images = examples.inputs["image"]
    assert images.shape == (64, 20, 16, 1)
    test_images = datasets.model_input(test_set.test_images)
    rows = [int(np.flatnonzero((test_images == image).all((1, 2, 3)))[0]) for image in images]
    assert set(test_set.test_labels[rows]) == set(range(7))
    assert np.allclose(examples.outputs["logits"], expected(checkpoint, test_set.test_images[rows]), atol=1e-5)


def test_the_same_checkpoint_gives_the_same_bytes(checkpoint: Path, dataset: Path, tmp_path: Path) -> None:
    first = export_checkpoint(checkpoint, dataset, tmp_path / "one")
    second = export_checkpoint(checkpoint, dataset, tmp_path / "two")
    assert first.sha256 == second.sha256


def rewrite_metadata(folder: Path, **more: object) -> None:
    artifact_metadata.write(folder, artifact_metadata.dataclasses.replace(artifact_metadata.read(folder), **more))  # type: ignore[arg-type]


def test_another_dataset_is_refused(checkpoint: Path, dataset: Path, tmp_path: Path) -> None:
    labels = np.load(dataset / "test_labels.npy")
    np.save(dataset / "test_labels.npy", labels[::-1])
    with pytest.raises(MetadataError, match="changed after its metadata"):
        export_checkpoint(checkpoint, dataset, tmp_path / "onnx")
    rewrite_metadata(dataset)
    with pytest.raises(InvalidInput, match=r"--dataset .* was trained on another one"):
        export_checkpoint(checkpoint, dataset, tmp_path / "onnx")
    assert not (tmp_path / "onnx").exists()


def test_a_normalization_other_than_the_trained_one_is_refused(checkpoint: Path, dataset: Path, tmp_path: Path) -> None:
    right = export_checkpoint(checkpoint, dataset, tmp_path / "onnx").metrics["accuracy"]
    rewrite_metadata(checkpoint, metrics={"accuracy": right})
    export_checkpoint(checkpoint, dataset, tmp_path / "onnx")
    rewrite_metadata(checkpoint, metrics={"accuracy": right + 0.05})
    with pytest.raises(ModelError, match="mean and std"):
        export_checkpoint(checkpoint, dataset, tmp_path / "onnx")


def test_a_broken_checkpoint(checkpoint: Path, dataset: Path, tmp_path: Path) -> None:
    settings = artifact_metadata.read(checkpoint).settings
    rewrite_metadata(checkpoint, settings={**settings, "net": "no_such_net"})
    with pytest.raises(ModelError, match="no_such_net"):
        export_checkpoint(checkpoint, dataset, tmp_path / "onnx")
    rewrite_metadata(checkpoint, settings={key: value for key, value in settings.items() if key != "mean"})
    with pytest.raises(MetadataError, match="lacks 'mean'"):
        export_checkpoint(checkpoint, dataset, tmp_path / "onnx")
    rewrite_metadata(checkpoint, settings={**settings, "classes": 9})
    with pytest.raises(ModelError, match=r"--checkpoint .*weights\.pt: they do not fit the model"):
        export_checkpoint(checkpoint, dataset, tmp_path / "onnx")
    rewrite_metadata(checkpoint, settings={**settings, "net": "mlp"})
    with pytest.raises(ModelError, match=r"--checkpoint .*weights\.pt: they do not fit the model"):
        export_checkpoint(checkpoint, dataset, tmp_path / "onnx")
    (checkpoint / "weights.pt").write_bytes((checkpoint / "weights.pt").read_bytes()[:-99])
    with pytest.raises(MetadataError, match="changed after its metadata"):
        export_checkpoint(checkpoint, dataset, tmp_path / "onnx")
    with pytest.raises(MetadataError, match="not an artifact of Seaway"):
        export_checkpoint(tmp_path / "nothing", dataset, tmp_path / "onnx")
    with pytest.raises(MetadataError, match="expected an artifact of kind 'checkpoint'"):
        export_checkpoint(dataset, dataset, tmp_path / "onnx")


def test_a_checkpoint_of_a_newer_seaway(checkpoint: Path, dataset: Path, tmp_path: Path) -> None:
    path = checkpoint / "card.json"
    path.write_text(path.read_text().replace('"schema_version": 1', '"schema_version": 2'))
    with pytest.raises(
        MetadataError, match=f"{path}: schema_version is 2, this Seaway reads 1.*or use the Seaway version that wrote"
    ):
        export_checkpoint(checkpoint, dataset, tmp_path / "onnx")
    assert not (tmp_path / "onnx").exists()
