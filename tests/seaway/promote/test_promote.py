import contextlib
import subprocess
import sys

import pytest
import toy

from seaway.artifacts import card as cards
from seaway.artifacts import store
from seaway.artifacts.card import Card
from seaway.errors import CardError, NotFound, Refused
from seaway.promote.promote import promote

GOOD = {"requests": 1000.0, "wrong": 0.0, "failed": 0.0, "foreign": 0.0}


@pytest.fixture
def volume(tmp_path):
    """A volume with two versions of "toy"."""
    folder = tmp_path / "volume"
    for seed in (1, 2):
        toy.make(tmp_path / f"made{seed}", seed=seed).publish(folder)
    return folder


def measured(folder, volume, version, metrics=None, at="2026-11-23T12:00:00+00:00"):
    folder.mkdir(parents=True)
    of = store.read_card(volume, "toy", version)
    metrics = GOOD if metrics is None else metrics
    cards.write(folder, Card("evidence", "toy", metrics=metrics, settings={"measured_at": at}, parents={"version": of}))
    return folder


def test_good_evidence_moves_stable_and_tells_what_it_replaced(volume, tmp_path):
    assert promote(volume, "toy", 1, measured(tmp_path / "e1", volume, 1)) is None
    assert promote(volume, "toy", 2, measured(tmp_path / "e2", volume, 2)) == 1
    assert store.labels(volume, "toy") == {"stable": 2}
    assert "versions: 2" in (volume / "models.config").read_text()


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        ({"wrong": 1.0}, "1 answers differed from PyTorch's"),
        ({"failed": 7.0}, "7 requests failed"),
        ({"foreign": 3.0}, "3 answers came from another version"),
        ({"requests": 0.0}, "no request was answered"),
    ],
)
def test_each_fault_is_refused_with_its_reason_and_nothing_moves(volume, tmp_path, change, reason):
    promote(volume, "toy", 1, measured(tmp_path / "good", volume, 1))
    with pytest.raises(Refused, match=reason):
        promote(volume, "toy", 2, measured(tmp_path / "bad", volume, 2, GOOD | change))
    assert store.labels(volume, "toy") == {"stable": 1}


def test_evidence_that_is_silent_is_no_evidence(volume, tmp_path):
    with pytest.raises(Refused) as refused:
        promote(volume, "toy", 1, measured(tmp_path / "empty", volume, 1, {}))
    assert str(refused.value).count("\n  - ") == 4


def test_evidence_of_another_version_is_refused(volume, tmp_path):
    with pytest.raises(Refused, match="load-test this one"):
        promote(volume, "toy", 2, measured(tmp_path / "e", volume, 1))


def test_evidence_or_version_changed_afterwards_is_refused(volume, tmp_path):
    evidence = measured(tmp_path / "e", volume, 1)
    (evidence / "load.json").write_text("{}")
    with pytest.raises(CardError, match="changed"):
        promote(volume, "toy", 1, evidence)
    (evidence / "load.json").unlink()
    (store.path(volume, "toy", 1) / "saved_model.pb").write_bytes(b"other")
    with pytest.raises(CardError, match="changed"):
        promote(volume, "toy", 1, evidence)


def test_a_version_that_is_not_there(volume):
    with pytest.raises(NotFound, match="no version 9"):
        promote(volume, "toy", 9)


def test_the_newest_stored_evidence_counts_where_none_is_given(volume):
    with pytest.raises(NotFound, match="no evidence"):
        promote(volume, "toy", 1)
    stored = store.evidence(volume, "toy", store.read_card(volume, "toy", 1).sha256)
    measured(stored / "load-a", volume, 1, GOOD, at="2026-11-23T12:00:00+00:00")
    assert promote(volume, "toy", 1) is None
    measured(stored / "load-0", volume, 1, GOOD | {"wrong": 1.0}, at="2026-11-23T12:00:01+00:00")
    with pytest.raises(Refused, match="1 answers differed"):
        promote(volume, "toy", 1)


def test_the_stage_tells_how_to_undo_and_undo_works(volume):
    for version in (1, 2):
        stored = store.evidence(volume, "toy", store.read_card(volume, "toy", version).sha256)
        measured(stored / "load-a", volume, version)

    def stage(version):
        of = ["--volume", volume, "--name", "toy", "--version", str(version)]
        command = [sys.executable, "-m", "seaway.promote", *of]
        return subprocess.run(command, capture_output=True, text=True, check=True, timeout=60).stdout

    assert stage(1) == "stable is toy/1, the first one\n"
    undo = stage(2).partition("to undo: ")[2].split()
    subprocess.run([sys.executable, *undo[1:]], check=True, timeout=60)
    assert store.labels(volume, "toy") == {"stable": 1}
    assert stage(1) == "stable is toy/1, as it was before\n"


def test_a_full_disk_is_a_clear_message_and_stable_stays(small_disk, tmp_path):
    for seed in (1, 2):
        toy.make(tmp_path / f"made{seed}", seed=seed).publish(small_disk)
    evidence = [measured(tmp_path / f"e{version}", small_disk, version) for version in (1, 2)]
    promote(small_disk, "toy", 1, evidence[0])
    with (small_disk / "filler").open("wb", buffering=0) as filler, contextlib.suppress(OSError):
        while filler.write(bytes(4096)):
            pass
    of = ["--volume", small_disk, "--name", "toy", "--version", "2", "--evidence", evidence[1]]
    command = [sys.executable, "-m", "seaway.promote", *of]
    full = subprocess.run(command, capture_output=True, text=True, check=False, timeout=60)
    assert full.returncode == 1
    assert f"{small_disk}/toy/labels.json: the disk is full" in full.stderr
    assert store.labels(small_disk, "toy") == {"stable": 1}
    (small_disk / "filler").unlink()
    subprocess.run(command, check=True, capture_output=True, timeout=60)
    assert store.labels(small_disk, "toy") == {"stable": 2}
