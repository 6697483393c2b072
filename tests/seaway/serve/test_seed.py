"""Seeding an empty repository with the bundled example, completely and once, even concurrently."""

import json
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from seaway.artifacts import artifact_metadata, atomic, model_repository
from seaway.errors import MetadataError, Unavailable
from seaway.serve.seed import EXAMPLE, seed

COMMAND = [sys.executable, "-m", "seaway.serve.seed", "--model-repository"]
ROOT = Path(__file__).resolve().parents[3]


def assert_seeded(repository: Path) -> None:
    assert model_repository.models(repository) == ["characters"]
    assert model_repository.versions(repository, "characters") == [1]
    assert model_repository.labels(repository, "characters") == {"stable": 1}
    artifact_metadata.check(
        model_repository.path(repository, "characters", 1), "version", at=model_repository.METADATA_FILE
    )
    assert "versions: 1" in (repository / model_repository.CONFIG).read_text()
    assert not [*repository.rglob(f"{atomic.INCOMING}*")]


def test_an_empty_repository_gets_the_example(tmp_path: Path) -> None:
    assert seed(tmp_path)
    assert_seeded(tmp_path)
    assert seed(tmp_path), "the example is already there the second time"
    assert_seeded(tmp_path)


def test_a_repository_with_a_model_is_not_changed(tmp_path: Path) -> None:
    model_repository.publish(tmp_path, "other", lambda folder: (folder / "saved_model.pb").write_text("model"))
    before = sorted(tmp_path.rglob("*"))
    assert not seed(tmp_path)
    assert sorted(tmp_path.rglob("*")) == before


def test_another_version_of_the_model_is_not_labelled(tmp_path: Path) -> None:
    seed(tmp_path)
    (tmp_path / "characters" / model_repository.LABELS).unlink()
    model_repository.publish(tmp_path, "characters", lambda folder: (folder / "saved_model.pb").write_text("unproven"))
    assert not seed(tmp_path)
    assert model_repository.labels(tmp_path, "characters") == {}


def test_existing_labels_are_kept(tmp_path: Path) -> None:
    seed(tmp_path)
    labels = tmp_path / "characters" / model_repository.LABELS
    labels.write_text(json.dumps({"canary": 1}))
    assert seed(tmp_path)
    assert model_repository.labels(tmp_path, "characters") == {"canary": 1}


def test_several_at_once_all_succeed(tmp_path: Path) -> None:
    seeders = [subprocess.Popen([*COMMAND, tmp_path], cwd=ROOT, stdout=subprocess.PIPE, text=True) for _ in range(4)]
    said = [seeder.communicate(timeout=120)[0] for seeder in seeders]
    assert [seeder.returncode for seeder in seeders] == [0] * 4
    assert said == [f"{tmp_path} has the example\n"] * 4
    assert_seeded(tmp_path)


def test_a_seed_that_was_killed_midway_is_completed(tmp_path: Path) -> None:
    slow = (
        "import sys, time\nfrom pathlib import Path\nfrom seaway.serve import seed\n"
        "whole = seed._copy\n"
        "def copy(example, folder):\n"
        "    (folder / 'half').write_text('a file'); print('copying', flush=True); time.sleep(600)\n"
        "seed._copy = copy\nseed.seed(Path(sys.argv[1]))"
    )
    killed = subprocess.Popen([sys.executable, "-c", slow, tmp_path], cwd=ROOT, stdout=subprocess.PIPE, text=True)
    assert killed.stdout
    assert killed.stdout.readline() == "copying\n"
    waits = subprocess.Popen([*COMMAND, tmp_path], cwd=ROOT, stdout=subprocess.DEVNULL)
    time.sleep(0.5)
    assert waits.poll() is None, "it did not wait for the one that was copying"
    killed.send_signal(signal.SIGKILL)
    killed.communicate()
    assert waits.wait(timeout=120) == 0
    assert_seeded(tmp_path)


def test_a_seed_that_was_killed_before_the_label_is_completed(tmp_path: Path) -> None:
    seed(tmp_path)
    (tmp_path / "characters" / model_repository.LABELS).unlink()
    assert seed(tmp_path)
    assert_seeded(tmp_path)


def test_a_missing_repository_is_an_error_and_not_created(tmp_path: Path) -> None:
    with pytest.raises(Unavailable, match="is it mounted"):
        seed(tmp_path / "gone")
    assert not (tmp_path / "gone").exists()
    done = subprocess.run([*COMMAND, tmp_path / "gone"], cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 1
    assert done.stderr.count("\n") == 1


def test_a_damaged_example_is_refused(tmp_path: Path) -> None:
    example, repository = tmp_path / "example", tmp_path / "models"
    shutil.copytree(EXAMPLE, example)
    repository.mkdir()
    with (example / "saved_model.pb").open("ab") as opened:
        opened.write(b"x")
    with pytest.raises(MetadataError, match="was changed"):
        seed(repository, example)
    assert model_repository.models(repository) == []
