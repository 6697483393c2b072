"""A real process is killed in the middle of an epoch, and another one continues."""

import dataclasses
import resource
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
import torch

from seaway.artifacts import artifact_metadata
from seaway.errors import InvalidInput
from seaway.nets.build import build
from seaway.train import loop, sampling
from seaway.train.checkpoints import SCHEMA_VERSION
from seaway.train.loop import split
from seaway.train.train import Settings, train

ROOT = Path(__file__).parents[3]
SETTINGS = Settings(epochs=3, batch_size=8, validation=0.1, threads=1, sampling="augment", ema=0.9, stroke_jitter=0.5)
OPTIONS = ["--epochs", "3", "--batch-size", "8", "--validation", "0.1", "--threads", "1"]  # the same
OPTIONS += ["--sampling", "augment", "--ema", "0.9", "--stroke-jitter", "0.5"]
COUNT = 400  # images
STEPS_PER_EPOCH = (
    sampling.size((np.arange(COUNT) % 3).astype(np.uint8)[split(COUNT, 0.1, 0)[0]], "augment") // 8
)  # steps


@pytest.fixture(scope="module")
def bars(make, tmp_path_factory):
    return make(tmp_path_factory.mktemp("bars") / "dataset", count=COUNT)


@pytest.fixture(scope="module")
def uninterrupted(bars, tmp_path_factory):
    checkpoint = tmp_path_factory.mktemp("whole") / "checkpoint"
    train(bars, checkpoint, SETTINGS)
    return checkpoint


@pytest.fixture(scope="module")
def killed(bars, tmp_path_factory):
    """The work folder of a run that was killed -9 inside its second or third epoch."""
    work = tmp_path_factory.mktemp("killed") / "work"
    checkpoint = work.parent / "checkpoint"
    process = subprocess.Popen(command(bars, checkpoint, work, "--save-seconds", "0"), cwd=ROOT)
    deadline = time.monotonic() + 120
    try:
        while True:
            assert process.poll() is None, "the run ended before it could be killed"
            assert time.monotonic() < deadline
            process.send_signal(signal.SIGSTOP)  # so that it stays where it is seen to be
            if saved_step(work) > STEPS_PER_EPOCH and saved_step(work) % STEPS_PER_EPOCH:
                break
            process.send_signal(signal.SIGCONT)
            time.sleep(0.002)
    finally:
        process.kill()
        process.wait()
    assert not checkpoint.exists()
    return work


@pytest.fixture
def work(killed, tmp_path):
    """A copy of the killed run's work folder, and the state file in it."""
    shutil.copytree(killed, tmp_path / "work")
    return tmp_path / "work"


def command(dataset, checkpoint, work, *more):
    options = ["--dataset", dataset, "--checkpoint", checkpoint, "--work", work, *OPTIONS, *more]
    return [sys.executable, "-m", "seaway.train", *map(str, options)]


def saved_step(work):
    states = list(work.glob("train-*/state.pt"))
    return torch.load(states[0], weights_only=True)["step"] if states else 0


def assert_same_bits(checkpoint, whole):
    weights, expected = (torch.load(folder / "weights.pt", weights_only=True) for folder in (checkpoint, whole))
    assert weights.keys() == expected.keys()
    assert [name for name, value in expected.items() if not torch.equal(weights[name], value)] == []
    assert artifact_metadata.read(checkpoint).sha256 == artifact_metadata.read(whole).sha256


def test_a_new_process_continues_and_ends_with_the_same_bits(bars, work, uninterrupted, tmp_path):
    ran = subprocess.run(command(bars, tmp_path / "second", work), cwd=ROOT, capture_output=True, text=True)
    assert ran.returncode == 0, ran.stderr
    assert "resumed from" in ran.stderr
    assert "epoch 1/3" not in ran.stderr
    assert "epoch 3/3" in ran.stderr
    assert_same_bits(tmp_path / "second", uninterrupted)
    assert list(work.iterdir()) == []


def spoil_by_truncation(path):
    path.write_bytes(path.read_bytes()[:-2000])


def spoil_by_rewriting(path):
    path.write_text("this is no state")


def spoil_by_schema(path):
    torch.save(torch.load(path, weights_only=True) | {"schema_version": 0}, path)


def spoil_by_key(path):
    torch.save(torch.load(path, weights_only=True) | {"key": "0" * 32}, path)


@pytest.mark.parametrize(
    ("spoil", "message"),
    [
        (spoil_by_truncation, "is broken"),
        (spoil_by_rewriting, "is broken"),
        (spoil_by_schema, "was written by an older version of Seaway"),
        (spoil_by_key, "belongs to other settings or data"),
    ],
)
def test_an_unusable_state_is_reported_and_ignored(bars, work, uninterrupted, tmp_path, capsys, spoil, message):
    [state] = work.glob("train-*/state.pt")
    spoil(state)
    train(bars, tmp_path / "checkpoint", SETTINGS, work=work)
    stderr = capsys.readouterr().err
    assert f"{state} {message}" in stderr
    assert "epoch 1/3" in stderr
    assert_same_bits(tmp_path / "checkpoint", uninterrupted)


def of_a_newer_seaway(state):
    return state | {"schema_version": SCHEMA_VERSION + 1}


def of_another_net(state):
    return state | {"net": build("mlp", (12, 12), 3).state_dict()}


def of_an_optimizer_of_less(state):
    groups = [group | {"params": group["params"][1:]} for group in state["optimizer"]["param_groups"]]
    return state | {"optimizer": state["optimizer"] | {"param_groups": groups}}


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (of_a_newer_seaway, r"state\.pt was written by a newer version .*schema_version \d+, this one reads \d+\)"),
        (
            of_another_net,
            r"train-\w+: the state does not fit cnn as it is now \(Error\(s\) in loading state_dict",
        ),
        (of_an_optimizer_of_less, r"does not fit cnn as it is now \(loaded state dict contains"),
    ],
)
def test_a_state_that_another_version_can_continue_from_is_refused_and_kept(bars, work, tmp_path, change, message):
    [path] = work.glob("train-*/state.pt")
    torch.save(change(torch.load(path, weights_only=True)), path)
    before = path.read_bytes()
    with pytest.raises(InvalidInput, match=f"{message}.*continue with th.* version.*to start from the beginning"):
        train(bars, tmp_path / "checkpoint", SETTINGS, work=work)
    assert path.read_bytes() == before
    assert not (tmp_path / "checkpoint").exists()


def test_other_settings_do_not_find_the_state(bars, work, tmp_path, capsys):
    other = Settings(epochs=1, batch_size=8, validation=0.1, threads=1)
    train(bars, tmp_path / "checkpoint", other, work=work)
    assert "resumed" not in capsys.readouterr().err
    assert saved_step(work) > STEPS_PER_EPOCH  # the other run's is still there


def test_a_full_disk_is_reported_and_the_last_state_stays(bars, work, tmp_path):
    before = saved_step(work)

    def no_large_files():
        resource.setrlimit(resource.RLIMIT_FSIZE, (4096, 4096))

    ran = subprocess.run(
        command(bars, tmp_path / "second", work),
        cwd=ROOT,
        capture_output=True,
        text=True,
        preexec_fn=no_large_files,
    )
    assert ran.returncode == 1
    assert "state.pt: the training state cannot be saved (" in ran.stderr
    assert "run again to continue from the last saved state" in ran.stderr
    assert "Traceback" not in ran.stderr
    assert saved_step(work) == before
    assert not (tmp_path / "second").exists()


def test_a_checkpoint_that_cannot_be_written_names_the_place_and_costs_no_training(bars, tmp_path, small_disk):
    (small_disk / "full").write_bytes(bytes(1 << 20))
    with pytest.raises(OSError, match="No space left") as caught:
        train(bars, small_disk / "checkpoint", SETTINGS, work=tmp_path / "work")
    assert str(small_disk) in caught.value.filename
    assert saved_step(tmp_path / "work") == 3 * STEPS_PER_EPOCH
    metadata = train(bars, tmp_path / "checkpoint", SETTINGS, work=tmp_path / "work")
    assert metadata.kind == "checkpoint"


def test_an_epoch_that_ends_in_its_validation_is_validated_again(bars, uninterrupted, tmp_path, monkeypatch):
    """A state saved after an epoch's last step, before the epoch is closed, would leave it out of the history."""

    class End(Exception):
        pass

    def end(*_):
        raise End

    settings = dataclasses.replace(SETTINGS, save_seconds=0)
    with monkeypatch.context() as patched, pytest.raises(End):
        patched.setattr(loop, "predict", end)
        train(bars, tmp_path / "checkpoint", settings, tmp_path / "work")
    train(bars, tmp_path / "checkpoint", settings, tmp_path / "work")
    assert_same_bits(tmp_path / "checkpoint", uninterrupted)
