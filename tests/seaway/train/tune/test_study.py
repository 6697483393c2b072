"""Real sweeps of a small net over a few hundred images, in this process; and the pruner, on studies in memory."""

import contextlib
import dataclasses
import json
import shlex
import sqlite3

import numpy as np
import optuna
import pytest
import torch
from optuna.trial import TrialState, create_trial

from seaway.artifacts import artifact_metadata
from seaway.data import datasets
from seaway.errors import DataError, ModelError, Refused, Unavailable
from seaway.train import __main__ as stage
from seaway.train import train as training
from seaway.train.loop import Loop
from seaway.train.train import HISTORY, train
from seaway.train.tune import folder as sweep_folder
from seaway.train.tune import report, results, scores, study, trial
from seaway.train.tune.trial import train_best

FROM_LOW = "learning_rate=0.003|1e-8"


def test_a_trial_learns_what_the_train_stage_learns(three, dataset, tmp_path):
    first = three.trials[0]
    assert first.settings == {name: getattr(three.settings, name) for name in three.space}
    assert three.defaults == first
    train(dataset, tmp_path / "checkpoint", three.settings)
    history = json.loads((tmp_path / "checkpoint" / HISTORY).read_text())
    assert first.curve == tuple(row["validation_accuracy"] for row in history)
    assert first.value == pytest.approx(first.curve[-1])


def test_the_result_is_complete(three, tmp_path):
    assert [each.state for each in three.trials] == ["done"] * 3
    assert len({tuple(each.settings.values()) for each in three.trials}) == 3
    assert three.best.value == max(each.value for each in three.trials)
    assert all(each.cpu_minutes > 0 for each in three.trials)
    behind = [each for each in three.trials if not each.within_2se]
    assert three.best not in behind
    results.write(three, tmp_path / "sweep.json")
    stored = json.loads((tmp_path / "sweep.json").read_text())
    assert stored["best"] == three.best.number
    assert [row["value"] for row in stored["trials"]] == [each.value for each in three.trials]
    html = report.render(three, tmp_path)
    assert html.count("<svg") == 3
    assert "http" not in html.replace("http://www.w3.org", "")
    assert f"{three.validation_size:,} images" in html


def test_the_command_trains_with_the_best_settings(three, tmp_path, monkeypatch):
    calls = []
    monkeypatch.setattr(training, "train", lambda *args: calls.append(args))
    line = shlex.split(results.command(three, tmp_path))
    assert line[:3] == ["python", "-m", "seaway.train"]
    stage.main(line[3:])
    settings = calls[0][2]
    assert {name: getattr(settings, name) for name in three.space} == three.best.settings
    assert (settings.net, settings.epochs, settings.batch_size) == ("mlp", 2, 32)
    assert settings.validation == training.Settings().validation


def test_the_command_has_switches_without_values(three, tmp_path, monkeypatch):
    calls = []
    monkeypatch.setattr(training, "train", lambda *args: calls.append(args))
    settings = dataclasses.replace(three.settings, amp=True, threads=7)
    stage.main(shlex.split(results.command(dataclasses.replace(three, settings=settings), tmp_path))[3:])
    assert calls[0][2].amp
    assert calls[0][2].threads == 0  # may differ on another machine


def test_all_are_validation_size_the_same_images(dataset, search, tmp_path, monkeypatch):
    seen = []

    def spy(net, images, *rest):
        seen.append(images.tobytes())
        return predict(net, images, *rest)

    predict = trial.predict
    monkeypatch.setattr(trial, "predict", spy)
    sweep = search(dataset, tmp_path / "sweep", trials=2)
    assert len(seen) == 2
    assert len(set(seen)) == 1
    assert len(seen[0]) == sweep.validation_size * 28 * 28


def test_the_test_set_is_not_opened(dataset, search, three, tmp_path, monkeypatch):
    opened = []

    def spy(path, *rest, **more):
        opened.append(getattr(path, "name", path))
        return load(path, *rest, **more)

    load = np.load
    monkeypatch.setattr(datasets.np, "load", spy)
    sweep = search(dataset, tmp_path / "sweep", trials=1)
    assert {name for name in opened if "_" in name} == {"train_images.npy", "train_labels.npy"}
    assert sweep.trials[0].curve == three.trials[0].curve


def test_a_trial_that_diverges_fails(dataset, search, tmp_path):
    sweep = search(dataset, tmp_path / "sweep", "learning_rate=900|0.002", "affine=0|1", trials=4)
    failed = [each for each in sweep.trials if each.state == "failed"]
    assert failed
    assert all(each.settings["learning_rate"] == 900 for each in failed)
    assert all(each.reason.startswith("the loss became") and each.reason.endswith("of 2)") for each in failed)
    assert sweep.best.settings["learning_rate"] == 0.002
    assert "the loss became" in report.render(sweep, tmp_path)
    assert not (tmp_path / "sweep" / sweep_folder.WORK).exists()


def test_a_trial_without_enough_memory_fails(dataset, search, tmp_path, monkeypatch):
    def train_step(loop, *step):
        if loop.settings.affine:
            torch.empty(2**60)
        return known(loop, *step)

    known = Loop._train_step
    monkeypatch.setattr(Loop, "_train_step", train_step)
    sweep = search(dataset, tmp_path / "sweep", "affine=0|1", trials=4)
    assert {each.settings["affine"]: each.state for each in sweep.trials} == {0: "done", 1: "failed"}
    assert all("not enough memory" in each.reason for each in sweep.trials if each.state == "failed")


def test_if_all_trials_fail_there_is_no_best(dataset, search, tmp_path):
    sweep = search(dataset, tmp_path / "sweep", "learning_rate=900|1000", trials=2)
    assert sweep.best is None
    assert results.sentences(sweep) == ["No trial completed, so there is no best one."]
    assert "No trial completed" in report.render(sweep, tmp_path)


def test_a_trial_that_falls_behind_is_pruned(dataset, search, tmp_path):
    sweep = search(
        dataset, tmp_path / "sweep", FROM_LOW, "affine=0..1", trials=12, pruning=True, epochs=3, label_smoothing=0
    )
    pruned = [each for each in sweep.trials if each.state == "pruned"]
    assert pruned
    assert all(each.settings["learning_rate"] == 1e-8 and len(each.curve) < 3 and each.value is None for each in pruned)
    assert all(each.number > study.MIN_COMPLETED for each in pruned)
    assert "pruned" in report.render(sweep, tmp_path)


def test_the_same_settings_are_not_trained_twice(dataset, search, tmp_path, monkeypatch):
    trained = []
    run = trial.run
    monkeypatch.setattr(trial, "run", lambda settings, *rest: trained.append(settings) or run(settings, *rest))
    sweep = search(dataset, tmp_path / "sweep", "label_smoothing=0.05|0", trials=5)
    assert len(trained) == 2
    first = {each.settings["label_smoothing"]: each for each in reversed(sweep.trials)}
    for each in sweep.trials:
        same = first[each.settings["label_smoothing"]]
        assert (each.curve, each.value) == (same.curve, same.value)
        assert each is same or each.reason == f"same as trial {same.number}"


@pytest.mark.parametrize("metric", ["balanced_accuracy", "loss"])
def test_other_metrics(dataset, search, tmp_path, metric):
    sweep = search(dataset, tmp_path / "sweep", FROM_LOW, trials=4, metric=metric)
    assert sweep.best.settings["learning_rate"] == 0.003
    assert sweep.best.value == pytest.approx(sweep.best.curve[-1], rel=1e-4)
    assert all(each.behind >= 0 for each in sweep.done)


def test_a_finished_sweep_trains_nothing_and_more_trials_continue_it(dataset, search, three, tmp_path, monkeypatch):
    search(dataset, tmp_path / "sweep", trials=2)
    more = search(dataset, tmp_path / "sweep", trials=3)
    assert [(each.settings, each.curve) for each in more.trials] == [
        (each.settings, each.curve) for each in three.trials
    ]
    monkeypatch.setattr(trial, "run", None)
    assert search(dataset, tmp_path / "sweep", trials=3) == more


def test_another_sweep_is_refused_in_the_same_folder(dataset, search, tmp_path):
    search(dataset, tmp_path / "sweep", "affine=0..1", trials=1)
    for lines, more, message in (
        (["affine=0..2"], {}, r"--search affine 0\.\.1, now 0\.\.2"),
        (["elastic=0..1"], {}, r"--search affine 0\.\.1, now none"),
        (["affine=0..1"], {"epochs": 3}, "epochs 2, now 3"),
        (["affine=0..1"], {"metric": "loss"}, "metric accuracy, now loss"),
        (["affine=0..1"], {"seed": 1}, "seed 0, now 1"),
        (["affine=0..1"], {"pruning": True}, "pruning False, now True"),
    ):
        with pytest.raises(Refused, match=message):
            search(dataset, tmp_path / "sweep", *lines, **more)
    assert len(search(dataset, tmp_path / "sweep", "affine=0..1", trials=1, threads=2).trials) == 1


def test_one_sweep_at_a_time(dataset, search, tmp_path):
    with sweep_folder.locked(tmp_path / "sweep"), pytest.raises(Refused, match="another sweep is running there"):
        search(dataset, tmp_path / "sweep")


def test_a_broken_study_is_reported(dataset, search, tmp_path):
    with sweep_folder.locked(tmp_path / "sweep"):
        (tmp_path / "sweep" / sweep_folder.STUDY).write_bytes(b"no database" * 100)
    with pytest.raises(Unavailable, match=r"cannot be used .*not a database"):
        search(dataset, tmp_path / "sweep")


def test_unknown_nets_and_too_few_images_are_refused(dataset, search, tmp_path):
    with pytest.raises(ModelError, match="'resnet' is not a network"):
        search(dataset, tmp_path / "sweep", "net=mlp|resnet")
    with pytest.raises(DataError, match="at least 20 are needed"):
        search(dataset, tmp_path / "sweep", validation=0.02)


def test_the_winner_is_tested_once(dataset, search, tmp_path, monkeypatch):
    sweep = search(dataset, tmp_path / "sweep", "affine=0|1", trials=2)
    final = train_best(sweep, tmp_path / "sweep")
    metadata = artifact_metadata.read(tmp_path / "sweep" / sweep_folder.CHECKPOINT)
    assert final.final == metadata.metrics
    assert metadata.settings["affine"] == sweep.best.settings["affine"]
    assert metadata.settings["validation"] == training.Settings().validation
    assert f"accuracy {metadata.metrics['accuracy']:.4f}" in report.render(final, tmp_path)
    monkeypatch.setattr("seaway.train.tune.trial.train", None)
    assert train_best(sweep, tmp_path / "sweep") == final


def test_predictions_are_read_as_they_were_written(tmp_path):
    predictions = scores.Predictions(np.array([1, 2], np.uint8), np.array([0.5, 1.5], np.float32))
    predictions.write(tmp_path / "trials" / "1.npz")
    stored = scores.read(tmp_path / "trials" / "1.npz")
    assert stored.predicted.tolist() == [1, 2]
    assert stored.losses.tolist() == [0.5, 1.5]


def test_a_sweep_of_an_earlier_version_continues(dataset, search, tmp_path, monkeypatch):
    """Its study has the setting under its former name, and its sweep.json the words of the first version."""
    expected = search(dataset, tmp_path / "whole", "stroke_jitter=0..1", trials=3)
    first = search(dataset, tmp_path / "sweep", "stroke_jitter=0..1", trials=2)
    with contextlib.closing(sqlite3.connect(tmp_path / "sweep" / sweep_folder.STUDY)) as database, database:
        assert set(database.execute("SELECT param_name FROM trial_params")) == {("pen",)}
        for table in ("study_user_attributes", "trial_user_attributes"):
            database.execute(f"UPDATE {table} SET value_json = replace(value_json, 'stroke_jitter', 'pen')")
        identity = database.execute("SELECT value_json FROM study_user_attributes").fetchone()[0]
    assert "--search pen" in identity
    sweep = search(dataset, tmp_path / "sweep", "stroke_jitter=0..1", trials=3)
    assert [each.settings for each in sweep.trials] == [each.settings for each in expected.trials]
    assert sweep.trials[0].settings == first.trials[0].settings == {"stroke_jitter": 1.0}


def test_the_stored_result_keeps_the_words_of_the_first_version(three, tmp_path):
    pruned = dataclasses.replace(three.trials[0], state="pruned")
    results.write(dataclasses.replace(three, trials=(pruned, *three.trials[1:])), tmp_path / "sweep.json")
    stored = json.loads((tmp_path / "sweep.json").read_text())
    assert (stored["learnt_from"], stored["judged_on"]) == (three.train_size, three.validation_size)
    assert not {"train_size", "validation_size"} & stored.keys()
    assert stored["trials"][0]["state"] == "stopped early"


# ---- the pruner


PRUNER_EPOCHS = 6


def prunes(value: float, epoch: int, completed: int = study.MIN_COMPLETED, higher_is_better: bool = True) -> bool:
    """Whether a trial at `value` after `epoch` is pruned, if the completed ones were around 0.7 then, ± 0.02."""
    optuna.logging.set_verbosity(optuna.logging.ERROR)
    in_memory = optuna.create_study()
    for number in range(completed):
        curve = dict.fromkeys(range(1, PRUNER_EPOCHS + 1), 0.7 + 0.001 * (number % 2))
        in_memory.add_trial(create_trial(value=0.7, intermediate_values=curve, user_attrs={"error": 0.02}))
    running = create_trial(state=TrialState.RUNNING, intermediate_values={epoch: value})
    return study.MedianPruner(higher_is_better, PRUNER_EPOCHS).prune(in_memory, running)


def test_a_trial_is_pruned_if_it_is_significantly_behind():
    assert prunes(0.65, epoch=3)
    assert not prunes(0.67, epoch=3)  # behind the median, within two standard errors


def test_a_trial_with_a_high_loss_is_pruned():
    assert prunes(0.75, epoch=3, higher_is_better=False)
    assert not prunes(0.65, epoch=3, higher_is_better=False)


@pytest.mark.parametrize(("epoch", "pruned"), [(1, False), (2, True), (5, True), (6, False)])
def test_no_trial_is_pruned_at_the_beginning_or_the_end(epoch, pruned):
    assert prunes(0.1, epoch) == pruned


def test_no_trial_is_pruned_before_enough_have_completed():
    assert not prunes(0.1, epoch=3, completed=study.MIN_COMPLETED - 1)
