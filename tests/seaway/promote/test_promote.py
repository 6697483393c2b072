import contextlib
import subprocess
import sys

import pytest
import toy

from seaway.artifacts import artifact_metadata, model_repository
from seaway.artifacts.artifact_metadata import ArtifactMetadata
from seaway.errors import MetadataError, NotFound, Refused
from seaway.promote.promote import promote

GOOD = {"requests": 1000.0, "wrong": 0.0, "failed": 0.0, "foreign": 0.0}


@pytest.fixture
def repository(tmp_path):
    """A model repository with two versions of "toy"."""
    folder = tmp_path / "models"
    for seed in (1, 2):
        toy.make(tmp_path / f"made{seed}", seed=seed).publish(folder)
    return folder


def write_evidence(folder, repository, version, metrics=None, at="2026-11-23T12:00:00+00:00"):
    folder.mkdir(parents=True)
    subject = model_repository.read_metadata(repository, "toy", version)
    metrics = GOOD if metrics is None else metrics
    artifact_metadata.write(
        folder,
        ArtifactMetadata(
            "evidence", "toy", metrics=metrics, settings={"measured_at": at}, parents={"version": subject}
        ),
    )
    return folder


def test_good_evidence_moves_stable_and_returns_the_previous_version(repository, tmp_path):
    assert promote(repository, "toy", 1, write_evidence(tmp_path / "e1", repository, 1)) is None
    assert promote(repository, "toy", 2, write_evidence(tmp_path / "e2", repository, 2)) == 1
    assert model_repository.labels(repository, "toy") == {"stable": 2}
    assert "versions: 2" in (repository / "models.config").read_text()


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        ({"wrong": 1.0}, "1 responses differed from PyTorch's"),
        ({"failed": 7.0}, "7 requests failed"),
        ({"foreign": 3.0}, "3 responses came from another version"),
        ({"requests": 0.0}, "no request got a response"),
    ],
)
def test_each_fault_is_refused_with_its_reason_and_nothing_moves(repository, tmp_path, change, reason):
    promote(repository, "toy", 1, write_evidence(tmp_path / "good", repository, 1))
    with pytest.raises(Refused, match=reason):
        promote(repository, "toy", 2, write_evidence(tmp_path / "bad", repository, 2, GOOD | change))
    assert model_repository.labels(repository, "toy") == {"stable": 1}


def test_evidence_without_metrics_is_refused(repository, tmp_path):
    with pytest.raises(Refused) as refused:
        promote(repository, "toy", 1, write_evidence(tmp_path / "empty", repository, 1, {}))
    assert str(refused.value).count("\n  - ") == 4


def test_evidence_of_another_version_is_refused(repository, tmp_path):
    with pytest.raises(Refused, match="load-test this version"):
        promote(repository, "toy", 2, write_evidence(tmp_path / "e", repository, 1))


def test_evidence_or_version_changed_afterwards_is_refused(repository, tmp_path):
    evidence = write_evidence(tmp_path / "e", repository, 1)
    (evidence / "load.json").write_text("{}")
    with pytest.raises(MetadataError, match="changed"):
        promote(repository, "toy", 1, evidence)
    (evidence / "load.json").unlink()
    (model_repository.path(repository, "toy", 1) / "saved_model.pb").write_bytes(b"other")
    with pytest.raises(MetadataError, match="changed"):
        promote(repository, "toy", 1, evidence)


def test_a_missing_version(repository):
    with pytest.raises(NotFound, match="no version 9"):
        promote(repository, "toy", 9)


def test_the_newest_stored_evidence_counts_by_default(repository):
    with pytest.raises(NotFound, match="no evidence for toy/1"):
        promote(repository, "toy", 1)
    stored = model_repository.evidence(repository, "toy", model_repository.read_metadata(repository, "toy", 1).sha256)
    write_evidence(stored / "load-a", repository, 1, GOOD, at="2026-11-23T12:00:00+00:00")
    assert promote(repository, "toy", 1) is None
    write_evidence(stored / "load-0", repository, 1, GOOD | {"wrong": 1.0}, at="2026-11-23T12:00:01+00:00")
    with pytest.raises(Refused, match="1 responses differed"):
        promote(repository, "toy", 1)


def test_the_stage_prints_how_to_undo_and_undo_works(repository):
    for version in (1, 2):
        stored = model_repository.evidence(
            repository, "toy", model_repository.read_metadata(repository, "toy", version).sha256
        )
        write_evidence(stored / "load-a", repository, version)

    def stage(version):
        options = ["--model-repository", repository, "--name", "toy", "--version", str(version)]
        command = [sys.executable, "-m", "seaway.promote", *options]
        return subprocess.run(command, capture_output=True, text=True, check=True, timeout=60).stdout

    assert stage(1) == "stable is toy/1, the first stable version\n"
    undo = stage(2).partition("to undo: ")[2]
    subprocess.run(undo, shell=True, check=True, timeout=60)
    assert model_repository.labels(repository, "toy") == {"stable": 1}
    assert stage(1) == "stable is toy/1, as before\n"


def test_a_full_disk_is_a_clear_message_and_stable_stays(small_disk, tmp_path):
    for seed in (1, 2):
        toy.make(tmp_path / f"made{seed}", seed=seed).publish(small_disk)
    evidence = [write_evidence(tmp_path / f"e{version}", small_disk, version) for version in (1, 2)]
    promote(small_disk, "toy", 1, evidence[0])
    with (small_disk / "filler").open("wb", buffering=0) as filler, contextlib.suppress(OSError):
        while filler.write(bytes(4096)):
            pass
    options = ["--model-repository", small_disk, "--name", "toy", "--version", "2", "--evidence", evidence[1]]
    command = [sys.executable, "-m", "seaway.promote", *options]
    full = subprocess.run(command, capture_output=True, text=True, check=False, timeout=60)
    assert full.returncode == 1
    assert f"{small_disk}/toy/labels.json: the disk is full" in full.stderr
    assert model_repository.labels(small_disk, "toy") == {"stable": 1}
    (small_disk / "filler").unlink()
    subprocess.run(command, check=True, capture_output=True, timeout=60)
    assert model_repository.labels(small_disk, "toy") == {"stable": 2}
