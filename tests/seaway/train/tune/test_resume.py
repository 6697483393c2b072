"""Sweeps that are killed or interrupted anywhere end with the result of an uninterrupted each."""

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import torch

from seaway.train.tune import folder as sweep_folder
from seaway.train.tune import scores, study
from seaway.train.tune.progress import Progress
from seaway.train.tune.space import Range

ROOT = Path(__file__).parents[4]
STEPS_PER_EPOCH = 12  # steps


def command(dataset, folder, *more):
    options = ["--net", "mlp", "--epochs", "2", "--trials", "3", "--no-prune"]
    shared = ["--set", "batch_size=32", "--set", "threads=1", "--set", "save_seconds=0"]
    arguments = ["sweep", "--dataset", str(dataset), "--folder", str(folder), *options, *shared, *more]
    return [sys.executable, "-m", "seaway.cli.main", *arguments]


def start(dataset, folder, *more):
    environment = os.environ | {"COLUMNS": "160", "NO_COLOR": "1"}
    return subprocess.Popen(command(dataset, folder, *more), cwd=ROOT, env=environment, stdout=-1, stderr=-1, text=True)


def stop_within_the_second_trial(process, folder):
    """Sends SIGSTOP when the second trial has saved its state within its second epoch. Returns the steps done."""
    deadline = time.monotonic() + 200
    while True:
        assert process.poll() is None, process.communicate()[1]
        assert time.monotonic() < deadline
        time.sleep(0.005)
        if not sweep_folder.predictions_path(folder, 1).exists():
            continue
        process.send_signal(signal.SIGSTOP)  # so that it stays where it is seen to be
        if STEPS_PER_EPOCH < saved_step(folder) < 2 * STEPS_PER_EPOCH:
            return saved_step(folder)
        process.send_signal(signal.SIGCONT)


def saved_step(folder):
    states = list((folder / sweep_folder.WORK).glob("train-*/state.pt"))
    return torch.load(states[0], weights_only=True)["step"] if states else 0


def outcomes(sweep):
    return [(each.settings, each.curve, each.value, each.state) for each in sweep.trials]


def test_kill_9_loses_nothing(dataset, search, three, tmp_path, capsys):
    folder = tmp_path / "sweep"
    process = start(dataset, folder)
    try:
        step = stop_within_the_second_trial(process, folder)
    finally:
        process.kill()
        process.communicate()
    sweep = search(dataset, folder)
    stderr = capsys.readouterr().err
    assert f"trial 2/3: resumes after {step} of {2 * STEPS_PER_EPOCH} steps" in stderr
    assert "trial 1/3" not in stderr  # it was finished
    assert "epoch 1/2" not in stderr.partition("trial 3/3")[0]  # as was the second one's first epoch
    assert outcomes(sweep) == outcomes(three)
    assert not (folder / sweep_folder.WORK).exists()


def test_ctrl_c_keeps_everything_and_says_how_to_continue(dataset, tmp_path):
    folder = tmp_path / "sweep"
    process = start(dataset, folder)
    try:
        stop_within_the_second_trial(process, folder)
        process.send_signal(signal.SIGINT)
        process.send_signal(signal.SIGCONT)
        stdout, stderr = process.communicate(timeout=100)
    finally:
        process.kill()
    assert process.returncode == 130, stderr
    assert "1 of 3 trials are finished. Run the same command again to continue." in stdout
    assert "Traceback" not in stderr
    stored = json.loads((folder / sweep_folder.JSON).read_text())
    assert [row["state"] for row in stored["trials"]] == ["done", "unfinished"]
    assert (folder / sweep_folder.HTML).exists()
    assert saved_step(folder) > STEPS_PER_EPOCH


@pytest.mark.parametrize(
    ("where", "name"),
    [
        (Progress, "begin"),  # settings proposed, not yet trained
        (Progress, "epoch"),  # an epoch reported, its state not yet saved
        (scores, "score"),  # fully trained, the result not yet in the study
        (Progress, "end"),  # in the study, the next one not yet begun
    ],
)
def test_it_continues_from_anywhere(dataset, search, three, tmp_path, monkeypatch, where, name):
    """The sweep does not clean up after an unknown error, so this ends it as a kill would."""

    class End(Exception):
        pass

    calls = []

    def end(*args):
        calls.append(args)
        if len(calls) == 2:
            raise End
        return original(*args)

    original = getattr(where, name)
    monkeypatch.setattr(where, name, end)
    with pytest.raises(End):
        search(dataset, tmp_path / "sweep", save_seconds=0)
    sweep = search(dataset, tmp_path / "sweep", save_seconds=0)
    assert outcomes(sweep) == outcomes(three)


def test_settings_that_were_half_proposed_are_proposed_again(dataset, search, three, tmp_path, monkeypatch):
    class End(Exception):
        pass

    def end(self, trial):
        if trial.number == 1:
            raise End
        return suggest(self, trial)

    suggest = Range.suggest
    monkeypatch.setattr(Range, "suggest", end)
    with pytest.raises(End):
        search(dataset, tmp_path / "sweep")
    paused = search(dataset, tmp_path / "sweep", stopping=lambda: True)
    assert [(each.state, each.settings) for each in paused.trials[1:]] == [("unfinished", {})]
    monkeypatch.undo()
    sweep = search(dataset, tmp_path / "sweep")
    assert [each.settings for each in sweep.trials] == [each.settings for each in three.trials]


def test_a_pause_comes_within_an_epoch_or_after_it(dataset, search, three, tmp_path):
    """A sweep that is asked to pause at every step does one step at a time, with the same result."""
    runs = 1
    while not (
        sweep := search(dataset, tmp_path / "sweep", trials=1, stopping=iter([False, *[True] * 5]).__next__)
    ).finished:
        runs += 1
    assert runs > STEPS_PER_EPOCH
    assert (sweep.trials[0].curve, sweep.trials[0].value) == (three.trials[0].curve, three.trials[0].value)


def test_a_trial_that_crashes_the_process_repeatedly_fails(dataset, search, tmp_path, monkeypatch):
    class End(BaseException):
        pass

    def end(*_):
        raise End

    monkeypatch.setattr(Progress, "step", end)
    for _ in range(study.MAX_CRASHES):
        with pytest.raises(End):
            search(dataset, tmp_path / "sweep", trials=1)
    (trial,) = search(dataset, tmp_path / "sweep", trials=1).trials
    assert (trial.state, trial.reason.partition(",")[0]) == ("failed", "the process ended 3 times after step 0")
