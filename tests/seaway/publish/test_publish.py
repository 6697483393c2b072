import json
import os
import shutil
import signal
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor

import pytest
import toy

from seaway.artifacts import card as cards
from seaway.artifacts import golden, store
from seaway.errors import CardError, InvalidInput, Refused, Unavailable
from seaway.publish.publish import publish


@pytest.fixture
def made(tmp_path):
    return toy.make(tmp_path / "made")


@pytest.fixture
def volume(tmp_path):
    folder = tmp_path / "volume"
    folder.mkdir()
    return folder


@pytest.fixture
def mounted(tmp_path):
    """Mounts a tmpfs with the given options; skips where that is not permitted."""
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


def command(made, volume, *more):
    stage = [sys.executable, "-m", "seaway.publish"]
    paths = ["--onnx", made.onnx, "--saved-model", made.saved_model, "--parity", made.parity, "--volume", volume]
    return subprocess.run([*stage, *paths, *more], capture_output=True, text=True, timeout=60, check=False)


def files(folder):
    return sorted(str(path.relative_to(folder)) for path in folder.rglob("*") if path.is_file())


@pytest.mark.parametrize("umask", [0o000, 0o077], ids=["umask 0", "umask 077"])
def test_the_server_s_user_reads_what_the_stage_s_wrote_and_no_other_changes_it(made, volume, umask):
    before = os.umask(umask)
    try:
        publish(made.onnx, made.saved_model, made.parity, volume)
    finally:
        os.umask(before)
    found = {path: path.stat().st_mode & 0o777 for path in volume.rglob("*")}
    assert {mode for path, mode in found.items() if path.is_file()} == {0o644}
    assert {mode for path, mode in found.items() if path.is_dir()} == {0o755}


def test_a_version_has_the_layout_of_tensorflow_serving_and_its_evidence_beside_it(made, volume):
    assert made.publish(volume) == 1
    assert files(volume) == [
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
    version = store.path(volume, "toy", 1)
    card = cards.check(version, "version", at=store.CARD)
    exported = cards.read(made.onnx)
    assert (card.name, card.labels, card.inputs, card.outputs) == ("toy", toy.LABELS, exported.inputs, exported.outputs)
    assert card.parents["parity"].parents["onnx"].parents["dataset"].kind == "dataset"
    assert "specific { versions: 1 }" in (volume / "models.config").read_text(), "the latest, where no label is set"
    assert golden.read(version / store.EXTRA / golden.GOLDEN).inputs.keys() == {"image"}
    assert "time" not in json.dumps(json.loads((version / store.CARD).read_text()))


def test_the_same_content_keeps_its_number_and_other_content_gets_the_next(made, volume, tmp_path, capsys):
    assert made.publish(volume) == 1
    assert made.publish(volume) == 1
    assert "toy/1" in capsys.readouterr().out
    assert toy.make(tmp_path / "other", seed=1).publish(volume) == 2
    assert made.publish(volume) == 1
    assert store.versions(volume, "toy") == [1, 2]


def test_a_damaged_version_is_not_taken_for_the_same_and_a_foreign_one_does_not_disturb(made, volume):
    made.publish(volume)
    (store.path(volume, "toy", 1) / "saved_model.pb").write_bytes(b"flipped bits")
    (volume / "toy" / "7").mkdir()
    (volume / "toy" / "7" / "saved_model.pb").write_bytes(b"put here by hand")
    assert made.publish(volume) == 8


def test_the_name_can_be_chosen_but_must_fit_into_a_url(made, volume):
    assert publish(made.onnx, made.saved_model, made.parity, volume, "kiosk") == 1
    assert store.models(volume) == ["kiosk"]
    assert store.read_card(volume, "kiosk", 1).name == "kiosk"
    with pytest.raises(InvalidInput, match="cannot be a model's name"):
        publish(made.onnx, made.saved_model, made.parity, volume, "../kiosk")


@pytest.mark.parametrize("other", ["onnx", "saved_model"])
def test_parity_of_another_model_is_refused(made, volume, tmp_path, other):
    parts = {"onnx": made.onnx, "saved_model": made.saved_model, "parity": made.parity}
    parts[other] = getattr(toy.make(tmp_path / "other", seed=1), other)
    with pytest.raises(Refused, match=f"another {other}"):
        publish(**parts, volume=volume)
    assert files(volume) == []


def test_an_artifact_changed_after_its_card_is_refused(made, volume):
    (made.saved_model / "saved_model.pb").write_bytes(b"other weights")
    with pytest.raises(CardError, match="changed after its card"):
        made.publish(volume)
    assert files(volume) == []


def test_a_missing_volume_is_not_made_on_the_wrong_disk(made, tmp_path):
    done = command(made, tmp_path / "unmounted")
    assert done.returncode == 1
    assert "is it mounted?" in done.stderr
    assert not (tmp_path / "unmounted").exists()


def test_the_stage_prints_the_number_last(made, volume):
    assert command(made, volume).stdout.splitlines()[-1] == "1"
    assert command(made, volume, "--name", "kiosk").stdout.splitlines()[-1] == "1"


def test_two_publishers_at_once_get_two_numbers_and_the_same_content_one(made, volume, tmp_path):
    other = toy.make(tmp_path / "other", seed=1)
    with ThreadPoolExecutor(4) as pool:
        done = list(pool.map(lambda artifacts: command(artifacts, volume), [made, other, made, other]))
    numbers = [int(d.stdout.splitlines()[-1]) for d in done]
    assert numbers[0] == numbers[2] != numbers[1] == numbers[3]
    assert store.versions(volume, "toy") == [1, 2]
    for number in (1, 2):
        cards.check(store.path(volume, "toy", number), "version", at=store.CARD)


KILLED = """
import os, pathlib, signal, sys
from seaway.publish import publish as stage
die = lambda *a, **k: os.kill(os.getpid(), signal.SIGKILL)
moment = sys.argv[1]
if moment == "copying":
    copy, stage.shutil.copyfile = stage.shutil.copyfile, lambda a, b: (copy(a, b), die())
elif moment == "before the card":
    stage.cards.write = die
else:
    stage.store.atomic.sync = die
stage.publish(*map(pathlib.Path, sys.argv[2:]))
"""


@pytest.mark.parametrize("moment", ["copying", "before the card", "before the name"])
def test_kill_9_leaves_nothing_visible_and_the_next_run_cleans_up(made, volume, moment):
    paths = [made.onnx, made.saved_model, made.parity, volume]
    done = subprocess.run([sys.executable, "-c", KILLED, moment, *paths], check=False, timeout=60)
    assert done.returncode == -signal.SIGKILL
    assert any(path.name.startswith(".incoming-") for path in (volume / "toy").iterdir())
    assert store.models(volume) == []
    assert made.publish(volume) == 1
    assert [path.name for path in (volume / "toy").iterdir()] == ["1"]
    cards.check(store.path(volume, "toy", 1), "version", at=store.CARD)


def test_a_full_disk_is_a_clear_message_and_nothing_is_left(made, mounted):
    volume = mounted("size=16k")
    done = command(made, volume)
    assert done.returncode == 1
    assert "the disk is full" in done.stderr
    assert "Traceback" not in done.stderr
    assert files(volume) == []
    subprocess.run(["mount", "-o", "remount,size=1m", volume], check=True)
    assert command(made, volume).stdout == "1\n"


def test_a_read_only_volume_is_a_clear_message(made, mounted):
    volume = mounted("ro")
    done = command(made, volume)
    assert done.returncode == 1
    assert f"{volume}/toy: it is read-only" in done.stderr


def test_a_volume_that_goes_away_midway_is_a_clear_message(made, volume, monkeypatch):
    copy = shutil.copyfile

    def vanish(source, target):
        if volume.exists():
            shutil.rmtree(volume)
        return copy(source, target)

    monkeypatch.setattr("seaway.publish.publish.shutil.copyfile", vanish)
    with pytest.raises(Unavailable, match="still mounted"):
        made.publish(volume)


def test_a_version_is_written_for_all_to_read(made, volume):
    made.publish(volume)
    assert store.path(volume, "toy", 1).stat().st_mode & 0o055 == 0o055
