import dataclasses
import json
from pathlib import Path

import numpy as np
import pytest

from seaway.artifacts import artifact_metadata
from seaway.artifacts.artifact_metadata import ArtifactMetadata, Tensor, Tolerance
from seaway.errors import InvalidInput, MetadataError

METADATA_FILE = ArtifactMetadata(
    kind="onnx",
    name="größe",
    inputs=(Tensor("image", "float32", (None, 28, 28, 1)),),
    outputs=(Tensor("scores", "float32", (None, 2)),),
    labels=("a", "ß"),
    tolerances={"scores": Tolerance(1e-5, 1e-4)},
    metrics={"accuracy": 0.5},
    settings={"opset": 15, "nested": {"list": [1, 2]}},
    weights={"w": "00"},
    parents={"dataset": ArtifactMetadata(kind="dataset", name="größe", sha256="ab")},
)


@pytest.fixture
def artifact(tmp_path: Path) -> Path:
    (tmp_path / "sub").mkdir()
    (tmp_path / "model").write_bytes(b"abc")
    (tmp_path / "sub" / "file").write_bytes(b"def")
    artifact_metadata.write(tmp_path, METADATA_FILE)
    return tmp_path


def test_metadata_reads_back_as_written(artifact: Path) -> None:
    found = artifact_metadata.check(artifact, "onnx")
    assert dataclasses.replace(found, sha256="") == METADATA_FILE
    assert len(found.sha256) == 64


def test_the_digest_is_the_same_for_the_same_content(artifact: Path) -> None:
    first = artifact_metadata.read(artifact).sha256
    assert artifact_metadata.write(artifact, METADATA_FILE).sha256 == first


def change_byte(artifact: Path) -> None:
    (artifact / "sub" / "file").write_bytes(b"deg")


def rename(artifact: Path) -> None:
    (artifact / "model").rename(artifact / "model2")


def add(artifact: Path) -> None:
    (artifact / "new").touch()


def remove(artifact: Path) -> None:
    (artifact / "model").unlink()


def edit_card(artifact: Path) -> None:
    raw = json.loads((artifact / "card.json").read_text())
    raw["labels"] = ["ß", "a"]
    (artifact / "card.json").write_text(json.dumps(raw))


@pytest.mark.parametrize("tamper", [change_byte, rename, add, remove, edit_card])
def test_any_change_is_detected(artifact: Path, tamper) -> None:
    tamper(artifact)
    with pytest.raises(MetadataError, match=r"was changed after its metadata was written"):
        artifact_metadata.check(artifact)


def test_wrong_kind(artifact: Path) -> None:
    with pytest.raises(MetadataError, match="expected an artifact of kind 'parity', but its metadata says 'onnx'"):
        artifact_metadata.check(artifact, "parity")


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "not JSON"),
        ("[1]", "schema_version is None"),
        ('{"schema_version": 2}', "schema_version is 2, this Seaway reads 1"),
        ('{"schema_version": 1}', "not valid artifact metadata"),
        ('{"schema_version": 1, "kind": "onnx", "name": 3, "inputs": 7}', "not valid artifact metadata"),
    ],
)
def test_unreadable_metadata(tmp_path: Path, text: str, message: str) -> None:
    (tmp_path / "card.json").write_text(text)
    with pytest.raises(MetadataError, match=message):
        artifact_metadata.read(tmp_path)


def test_only_an_artifact_of_the_same_kind_may_be_replaced(
    artifact: Path, tmp_path_factory: pytest.TempPathFactory
) -> None:
    other = tmp_path_factory.mktemp("other")
    artifact_metadata.check_target(artifact, "onnx")
    artifact_metadata.check_target(other, "onnx")
    artifact_metadata.check_target(other / "none", "onnx")
    with pytest.raises(InvalidInput, match="contains onnx, which a new checkpoint would replace"):
        artifact_metadata.check_target(artifact, "checkpoint")
    (other / "photo.jpg").write_bytes(b"dear to somebody")
    for path in (other, other / "photo.jpg"):
        with pytest.raises(InvalidInput, match=f"{path}: already exists and contains something else"):
            artifact_metadata.check_target(path, "onnx")


def test_missing_metadata(tmp_path: Path) -> None:
    with pytest.raises(MetadataError, match="is not an artifact of Seaway, or is incomplete"):
        artifact_metadata.read(tmp_path)


def test_writing_nan_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="not JSON compliant"):
        artifact_metadata.write(tmp_path, dataclasses.replace(METADATA_FILE, metrics={"loss": float("nan")}))
    assert list(tmp_path.iterdir()) == []


def test_the_checksum_ignores_layout_but_not_values() -> None:
    weight = np.random.default_rng(0).normal(size=(4, 3, 5, 5)).astype(np.float32)
    same = artifact_metadata.checksum(weight)
    assert artifact_metadata.checksum(weight.transpose(2, 3, 1, 0)) == same
    assert artifact_metadata.checksum(weight.reshape(12, 25)) == same
    assert artifact_metadata.checksum(weight * np.float32(1.01)) != same
    one = weight.copy()
    one[0, 0, 0, 0] = np.nextafter(one[0, 0, 0, 0], np.float32(9))
    assert artifact_metadata.checksum(one) != same
    assert artifact_metadata.checksum(weight.astype(np.float64)) != same


def version_of(dataset: dict[str, object], checkpoint: dict[str, object]) -> ArtifactMetadata:
    data = ArtifactMetadata(kind="dataset", name="d", settings=dataset, metrics={"train": 1200.0})
    trained = ArtifactMetadata(kind="checkpoint", name="c", settings=checkpoint, parents={"dataset": data})
    return ArtifactMetadata(kind="version", name="v", parents={"checkpoint": trained})


@pytest.mark.parametrize(
    ("dataset", "checkpoint", "words"),
    [
        ({"source": "strokes:1400#text"}, {}, "1,200 synthetic characters (strokes:1400#text)"),
        ({"source": "emnist"}, {}, "1,200 images (emnist)"),
        (
            {"source": "strokes"},
            {"temperature_fitted_on": "real hands"},
            "1,200 synthetic characters (strokes), and one number, its temperature, from real hands",
        ),
        ({}, {}, ""),
    ],
)
def test_a_version_says_what_it_learned_from(
    dataset: dict[str, object], checkpoint: dict[str, object], words: str
) -> None:
    assert version_of(dataset, checkpoint).training_data == words
    assert ArtifactMetadata(kind="version", name="v").training_data == ""


def test_the_reference_is_named_by_the_nearest_artifact_that_names_one() -> None:
    onnx = ArtifactMetadata("onnx", "m", settings={"reference": "ONNX Runtime"})
    parity = ArtifactMetadata("parity", "m", parents={"onnx": onnx})
    assert ArtifactMetadata("version", "m", parents={"parity": parity}).reference == "ONNX Runtime"
    assert ArtifactMetadata("version", "m", settings={"reference": "the SavedModel"}).reference == "the SavedModel"
    assert ArtifactMetadata("version", "m", parents={"onnx": ArtifactMetadata("onnx", "m")}).reference == "PyTorch"
