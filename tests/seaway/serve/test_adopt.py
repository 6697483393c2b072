"""A SavedModel from elsewhere as a version: what a server would refuse is not published, the rest is run and served."""

import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from seaway.artifacts import artifact_metadata, model_repository
from seaway.artifacts import golden as goldens
from seaway.artifacts.artifact_metadata import ArtifactMetadata, Tolerance
from seaway.errors import InvalidInput, ModelError
from seaway.serve import adopt
from seaway.serve.worker import version

ROOT = Path(__file__).resolve().parents[3]


@pytest.fixture
def repository(tmp_path: Path) -> Path:
    folder = tmp_path / "repository"
    folder.mkdir()
    return folder


def extra(repository: Path, name: str) -> Path:
    return model_repository.path(repository, name, 1) / model_repository.EXTRA


def test_it_is_published_with_its_own_outputs(models: Path, repository: Path) -> None:
    assert adopt.publish(models / "half" / "1", repository, "half") == 1
    metadata = model_repository.read_metadata(repository, "half", 1)
    assert metadata.reference == "the SavedModel"
    examples = goldens.read(extra(repository, "half") / goldens.GOLDEN)
    assert set(metadata.tolerances) == set(examples.whole()[0].outputs)
    folder = model_repository.path(repository, "half", 1)
    assert artifact_metadata.check(folder, "version", at=model_repository.METADATA_FILE) == metadata
    assert adopt.publish(models / "half" / "1", repository, "half") == 2


def test_a_server_serves_it_and_compares_it(models: Path, repository: Path, start: Any) -> None:
    adopt.publish(models / "half" / "1", repository, "half")
    server = start(repository)
    server.wait_ready()
    examples = goldens.read(extra(repository, "half") / goldens.GOLDEN).whole()[0]
    reply = server.predict("half", {"instances": next(iter(examples.inputs.values())).tolist()})
    assert reply.status == 200, reply.body
    np.testing.assert_allclose(reply.json()["predictions"], next(iter(examples.outputs.values())), rtol=1e-5)


def test_own_examples(models: Path, repository: Path, tmp_path: Path) -> None:
    adopt.publish(models / "half" / "1", repository, "half")
    [tensor] = model_repository.read_metadata(repository, "half", 1).inputs
    mine = np.arange(3).astype(tensor.dtype)
    np.savez(tmp_path / "mine.npz", **{tensor.name: mine})
    adopt.publish(models / "half" / "1", repository, "mine", tmp_path / "mine.npz")
    examples = goldens.read(extra(repository, "mine") / goldens.GOLDEN)
    assert examples.whole()[0].inputs[tensor.name].tolist() == mine.tolist()
    np.savez(tmp_path / "mine.npz", other=mine)
    with pytest.raises(InvalidInput, match=rf"contains other, needed: {tensor.name} {tensor.dtype}"):
        adopt.publish(models / "half" / "1", repository, "mine", tmp_path / "mine.npz")


def test_without_random_numbers_that_run_it_has_no_examples(
    models: Path, repository: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    def fails(*_: Any) -> Any:
        raise InvalidInput("an index out of range")

    monkeypatch.setattr(adopt.savedmodel.SavedModel, "predict", fails)
    adopt.publish(models / "half" / "1", repository, "half")
    assert "no golden examples" in capsys.readouterr().out
    assert not (extra(repository, "half") / goldens.GOLDEN).exists()


def test_its_examples_are_of_one_signature(models: Path, repository: Path) -> None:
    """The others may have the same names for other types, and for other results."""
    assert adopt.publish(models / "types" / "1", repository, "types") == 1
    assert model_repository.read_metadata(repository, "types", 1).settings[version.GOLDEN_SIGNATURE] == "bool"


def test_what_a_server_refuses_is_not_published(models: Path, repository: Path, tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    with pytest.raises(ModelError, match=r"saved_model\.pb"):
        adopt.publish(tmp_path / "empty", repository, "empty")
    (tmp_path / "empty" / "saved_model.pb").write_bytes((models / "half" / "1" / "saved_model.pb").read_bytes()[:50])
    with pytest.raises(ModelError, match="not a SavedModel, or a truncated one"):
        adopt.publish(tmp_path / "empty", repository, "empty")
    (tmp_path / "empty" / "assets").mkdir()
    (tmp_path / "empty" / "assets" / "words.txt").symlink_to("/etc/passwd")
    with pytest.raises(ModelError, match=r"words\.txt: a link"):
        adopt.publish(tmp_path / "empty", repository, "empty")
    assert model_repository.versions(repository, "empty") == []


def test_the_command(models: Path, tmp_path: Path) -> None:
    environment = os.environ | {"PYTHONPATH": str(ROOT), "COLUMNS": "160", "NO_COLOR": "1"}
    command = [sys.executable, "-m", "seaway.cli.main", "ship", str(models / "half" / "1"), "--name", "mine"]
    done = subprocess.run(command, cwd=tmp_path, env=environment, capture_output=True, text=True, timeout=200)
    assert done.returncode == 0, done.stderr
    assert "mine is version 1 in" in done.stdout
    assert "--backend savedmodel" in done.stdout
    command += ["--input", "3"]
    done = subprocess.run(command, cwd=tmp_path, env=environment, capture_output=True, text=True, timeout=200)
    assert done.returncode == 1
    assert "--input: a SavedModel has its own" in done.stderr


def test_a_server_names_the_savedmodel_as_the_reference() -> None:
    metadata = ArtifactMetadata(
        "version", "m", tolerances={"y": Tolerance(0, 0)}, settings={"reference": "the SavedModel"}
    )
    with pytest.raises(ModelError, match="output 'y' differs from the SavedModel's by up to 1; convert"):
        version._compare(metadata, "serving_default", "y", np.zeros(2), np.ones(2))
