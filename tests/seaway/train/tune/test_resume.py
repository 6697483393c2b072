"""Sweeps that are killed, interrupted or broken off anywhere, and come to what an uninterrupted one comes to."""

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import torch

from seaway.train.tune import folder as places
from seaway.train.tune import scores, study
from seaway.train.tune.progress import Progress
from seaway.train.tune.space import Range

ROOT = Path(__file__).parents[4]
AN_EPOCH = 12  # steps


def command(dataset, folder, *more):
    options = ["--net", "mlp", "--epochs", "2", "--trials", "3", "--no-prune"]
    shared = ["--set", "batch_size=32", "--set", "threads=1", "--set", "save_seconds=0"]
    arguments = ["sweep", "--dataset", str(dataset), "--folder", str(folder), *options, *shared, *more]
    return [sys.executable, "-m", "seaway.cli.main", *arguments]


def start(dataset, folder, *more):
    environment = os.environ | {"COLUMNS": "160", "NO_COLOR": "1"}
    return subprocess.Popen(command(dataset, folder, *more), cwd=ROOT, env=environment, stdout=-1, stderr=-1, text=True)


def stop_within_the_second_trial(process, folder):
    """SIGSTOP where the second trial has saved its state within its second epoch. Returns the steps that are done."""
    deadline = time.monotonic() + 200
    while True:
        assert process.poll() is None, process.communicate()[1]
        assert time.monotonic() < deadline
        time.sleep(0.005)
        if not places.outcome(folder, 1).exists():
            continue
        process.send_signal(signal.SIGSTOP)  # so that it stays where it is seen to be
        if AN_EPOCH < saved_step(folder) < 2 * AN_EPOCH:
            return saved_step(folder)
        process.send_signal(signal.SIGCONT)


def saved_step(folder):
    found = list((folder / places.WORK).glob("train-*/state.pt"))
    return torch.load(found[0], weights_only=True)["step"] if found else 0


def outcomes(found):
    return [(one.settings, one.curve, one.value, one.state) for one in found.trials]


def test_kill_9_loses_nothing(dataset, search, three, tmp_path, capsys):
    folder = tmp_path / "sweep"
    process = start(dataset, folder)
    try:
        step = stop_within_the_second_trial(process, folder)
    finally:
        process.kill()
        process.communicate()
    found = search(dataset, folder)
    said = capsys.readouterr().err
    assert f"trial 2/3: goes on after {step} of {2 * AN_EPOCH} steps" in said
    assert "trial 1/3" not in said  # it was finished
    assert "epoch 1/2" not in said.partition("trial 3/3")[0]  # as was the second one's first epoch
    assert outcomes(found) == outcomes(three)
    assert not (folder / places.WORK).exists()


def test_ctrl_c_keeps_everything_and_says_how_to_go_on(dataset, tmp_path):
    folder = tmp_path / "sweep"
    process = start(dataset, folder)
    try:
        stop_within_the_second_trial(process, folder)
        process.send_signal(signal.SIGINT)
        process.send_signal(signal.SIGCONT)
        told, said = process.communicate(timeout=100)
    finally:
        process.kill()
    assert process.returncode == 130, said
    assert "1 of 3 trials are finished. Nothing is lost: run the same again to go on." in told
    assert "Traceback" not in said
    held = json.loads((folder / places.JSON).read_text())
    assert [row["state"] for row in held["trials"]] == ["done", "unfinished"]
    assert (folder / places.HTML).exists()
    assert saved_step(folder) > AN_EPOCH


@pytest.mark.parametrize(
    ("where", "name"),
    [
        (Progress, "begin"),  # settings proposed, nothing learnt
        (Progress, "epoch"),  # an epoch reported, its state not yet saved
        (scores, "figure"),  # all learnt, the outcome not yet in the study
        (Progress, "end"),  # in the study, the next one not begun
    ],
)
def test_it_goes_on_from_anywhere(dataset, search, three, tmp_path, monkeypatch, where, name):
    """Nothing in the sweep tidies up after an error that it does not know, so this ends it as a kill would."""

    class End(Exception):
        pass

    calls = []

    def end(*given):
        calls.append(given)
        if len(calls) == 2:
            raise End
        return known(*given)

    known = getattr(where, name)
    monkeypatch.setattr(where, name, end)
    with pytest.raises(End):
        search(dataset, tmp_path / "sweep", save_seconds=0)
    found = search(dataset, tmp_path / "sweep", save_seconds=0)
    assert outcomes(found) == outcomes(three)


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
    assert [(one.state, one.settings) for one in paused.trials[1:]] == [("unfinished", {})]
    monkeypatch.undo()
    found = search(dataset, tmp_path / "sweep")
    assert [one.settings for one in found.trials] == [one.settings for one in three.trials]


def test_a_pause_comes_within_an_epoch_or_after_it(dataset, search, three, tmp_path):
    """Asked to pause at every step, a sweep does one step at a time and comes to the same."""
    runs = 1
    while not (
        found := search(dataset, tmp_path / "sweep", trials=1, stopping=iter([False, *[True] * 5]).__next__)
    ).finished:
        runs += 1
    assert runs > AN_EPOCH
    assert (found.trials[0].curve, found.trials[0].value) == (three.trials[0].curve, three.trials[0].value)


def test_a_trial_that_ends_the_process_again_and_again_is_given_up(dataset, search, tmp_path, monkeypatch):
    class End(BaseException):
        pass

    def end(*_):
        raise End

    monkeypatch.setattr(Progress, "step", end)
    for _ in range(study.ENDED):
        with pytest.raises(End):
            search(dataset, tmp_path / "sweep", trials=1)
    (one,) = search(dataset, tmp_path / "sweep", trials=1).trials
    assert (one.state, one.reason.partition(",")[0]) == ("failed", "the process ended 3 times after step 0")
