import json
import os
import shutil
import signal
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor

import pytest
import toy

from seaway.artifacts import artifact_metadata, golden, model_repository
from seaway.errors import InvalidInput, MetadataError, Refused, Unavailable
from seaway.publish.publish import publish


@pytest.fixture
def made(tmp_path):
    return toy.make(tmp_path / "made")


@pytest.fixture
def repository(tmp_path):
    folder = tmp_path / "models"
    folder.mkdir()
    return folder


@pytest.fixture
def mounted(tmp_path):
    """Mounts a tmpfs with the given options; skips the test if that is not permitted."""
    mounts = []

    def mount(options):
        folder = tmp_path / f"mount{len(mounts)}"
        folder.mkdir()
        done = subprocess.run(
            ["mount", "-t", "tmpfs", "-o", options, "tmpfs", folder], capture_output=True, check=False
        )
        if done.returncode:
            pytest.skip(f"mounting a tmpfs is not permitted here: {done.stderr.decode().strip()}")
        mounts.append(folder)
        return folder

    yield mount
    for folder in mounts:
        subprocess.run(["umount", folder], check=True)


def command(made, repository, *more):
    stage = [sys.executable, "-m", "seaway.publish"]
    paths = ["--onnx", made.onnx, "--saved-model", made.saved_model, "--parity", made.parity]
    paths += ["--model-repository", repository]
    return subprocess.run([*stage, *paths, *more], capture_output=True, text=True, timeout=60, check=False)


def files(folder):
    return sorted(str(path.relative_to(folder)) for path in folder.rglob("*") if path.is_file())


@pytest.mark.parametrize("umask", [0o000, 0o077], ids=["umask 0", "umask 077"])
def test_other_users_can_read_what_the_stage_wrote_but_not_change_it(made, repository, umask):
    original = os.umask(umask)
    try:
        publish(made.onnx, made.saved_model, made.parity, repository)
    finally:
        os.umask(original)
    modes = {path: path.stat().st_mode & 0o777 for path in repository.rglob("*")}
    assert {mode for path, mode in modes.items() if path.is_file()} == {0o644}
    assert {mode for path, mode in modes.items() if path.is_dir()} == {0o755}


def test_a_version_has_the_layout_of_tensorflow_serving_and_its_parity_beside_it(made, repository):
    assert made.publish(repository) == 1
    assert files(repository) == [
        ".lock",
        "models.config",
        "toy/1/assets.extra/card.json",
        "toy/1/assets.extra/conversion.json",
        "toy/1/assets.extra/golden.npz",
        "toy/1/assets.extra/labels.txt",
        "toy/1/assets.extra/model.onnx",
        "toy/1/assets.extra/parity.json",
        "toy/1/saved_model.pb",
        "toy/1/variables/variables.index",
    ]
    version = model_repository.path(repository, "toy", 1)
    metadata = artifact_metadata.check(version, "version", at=model_repository.METADATA_FILE)
    exported = artifact_metadata.read(made.onnx)
    assert (metadata.name, metadata.labels, metadata.inputs, metadata.outputs) == (
        "toy",
        toy.LABELS,
        exported.inputs,
        exported.outputs,
    )
    assert metadata.parents["parity"].parents["onnx"].parents["dataset"].kind == "dataset"
    assert "specific { versions: 1 }" in (repository / "models.config").read_text(), (
        "the latest version, because no label is set"
    )
    assert golden.read(version / model_repository.EXTRA / golden.GOLDEN).inputs.keys() == {"image"}
    assert "time" not in json.dumps(json.loads((version / model_repository.METADATA_FILE).read_text()))


def test_the_same_content_keeps_its_number_and_other_content_gets_the_next(made, repository, tmp_path, capsys):
    assert made.publish(repository) == 1
    assert made.publish(repository) == 1
    assert "toy/1" in capsys.readouterr().out
    assert toy.make(tmp_path / "other", seed=1).publish(repository) == 2
    assert made.publish(repository) == 1
    assert model_repository.versions(repository, "toy") == [1, 2]


def test_a_damaged_version_does_not_count_as_published_and_a_foreign_one_does_not_matter(made, repository):
    made.publish(repository)
    (model_repository.path(repository, "toy", 1) / "saved_model.pb").write_bytes(b"flipped bits")
    (repository / "toy" / "7").mkdir()
    (repository / "toy" / "7" / "saved_model.pb").write_bytes(b"put here by hand")
    assert made.publish(repository) == 8


def test_the_name_can_be_chosen_but_must_be_allowed_in_a_url(made, repository):
    assert publish(made.onnx, made.saved_model, made.parity, repository, "kiosk") == 1
    assert model_repository.models(repository) == ["kiosk"]
    assert model_repository.read_metadata(repository, "kiosk", 1).name == "kiosk"
    with pytest.raises(InvalidInput, match="cannot be a model's name"):
        publish(made.onnx, made.saved_model, made.parity, repository, "../kiosk")


@pytest.mark.parametrize("other", ["onnx", "saved_model"])
def test_parity_of_another_model_is_refused(made, repository, tmp_path, other):
    parts = {"onnx": made.onnx, "saved_model": made.saved_model, "parity": made.parity}
    parts[other] = getattr(toy.make(tmp_path / "other", seed=1), other)
    with pytest.raises(Refused, match=f"a different {other} artifact"):
        publish(**parts, repository=repository)
    assert files(repository) == []


def test_an_artifact_changed_after_its_metadata_was_written_is_refused(made, repository):
    (made.saved_model / "saved_model.pb").write_bytes(b"other weights")
    with pytest.raises(MetadataError, match="changed after its metadata"):
        made.publish(repository)
    assert files(repository) == []


def test_a_missing_repository_is_not_created_on_the_wrong_disk(made, tmp_path):
    done = command(made, tmp_path / "unmounted")
    assert done.returncode == 1
    assert "is it mounted?" in done.stderr
    assert not (tmp_path / "unmounted").exists()


def test_the_stage_prints_the_number_last(made, repository):
    assert command(made, repository).stdout.splitlines()[-1] == "1"
    assert command(made, repository, "--name", "kiosk").stdout.splitlines()[-1] == "1"


def test_two_publishers_at_once_get_two_numbers_and_the_same_content_one(made, repository, tmp_path):
    other = toy.make(tmp_path / "other", seed=1)
    with ThreadPoolExecutor(4) as pool:
        done = list(pool.map(lambda artifacts: command(artifacts, repository), [made, other, made, other]))
    numbers = [int(d.stdout.splitlines()[-1]) for d in done]
    assert numbers[0] == numbers[2] != numbers[1] == numbers[3]
    assert model_repository.versions(repository, "toy") == [1, 2]
    for number in (1, 2):
        artifact_metadata.check(
            model_repository.path(repository, "toy", number), "version", at=model_repository.METADATA_FILE
        )


KILLED = """
import os, pathlib, signal, sys
from seaway.publish import publish as stage
die = lambda *a, **k: os.kill(os.getpid(), signal.SIGKILL)
moment = sys.argv[1]
if moment == "copying":
    copy, stage.shutil.copyfile = stage.shutil.copyfile, lambda a, b: (copy(a, b), die())
elif moment == "before the metadata":
    stage.artifact_metadata.write = die
else:
    stage.model_repository.atomic.sync = die
stage.publish(*map(pathlib.Path, sys.argv[2:]))
"""


@pytest.mark.parametrize("moment", ["copying", "before the metadata", "before the name"])
def test_kill_9_leaves_nothing_visible_and_the_next_run_cleans_up(made, repository, moment):
    paths = [made.onnx, made.saved_model, made.parity, repository]
    done = subprocess.run([sys.executable, "-c", KILLED, moment, *paths], check=False, timeout=60)
    assert done.returncode == -signal.SIGKILL
    assert any(path.name.startswith(".incoming-") for path in (repository / "toy").iterdir())
    assert model_repository.models(repository) == []
    assert made.publish(repository) == 1
    assert [path.name for path in (repository / "toy").iterdir()] == ["1"]
    artifact_metadata.check(model_repository.path(repository, "toy", 1), "version", at=model_repository.METADATA_FILE)


def test_a_full_disk_is_a_clear_message_and_nothing_is_left(made, mounted):
    repository = mounted("size=16k")
    done = command(made, repository)
    assert done.returncode == 1
    assert "the disk is full" in done.stderr
    assert "Traceback" not in done.stderr
    assert files(repository) == []
    subprocess.run(["mount", "-o", "remount,size=1m", repository], check=True)
    assert command(made, repository).stdout == "1\n"


def test_a_read_only_repository_is_a_clear_message(made, mounted):
    repository = mounted("ro")
    done = command(made, repository)
    assert done.returncode == 1
    assert f"{repository}/toy: it is read-only" in done.stderr


def test_a_repository_that_disappears_midway_is_a_clear_message(made, repository, monkeypatch):
    copy = shutil.copyfile

    def vanish(source, target):
        if repository.exists():
            shutil.rmtree(repository)
        return copy(source, target)

    monkeypatch.setattr("seaway.publish.publish.shutil.copyfile", vanish)
    with pytest.raises(Unavailable, match="still mounted"):
        made.publish(repository)


def test_everyone_can_read_a_version(made, repository):
    made.publish(repository)
    assert model_repository.path(repository, "toy", 1).stat().st_mode & 0o055 == 0o055
