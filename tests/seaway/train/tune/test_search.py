"""Real sweeps of a small net over a few hundred pictures, in this process."""

import dataclasses
import json
import shlex

import numpy as np
import pytest
import torch

from seaway.artifacts import card as cards
from seaway.data import data
from seaway.errors import DataError, ModelError, Refused, Unavailable
from seaway.train import __main__ as stage
from seaway.train import train as training
from seaway.train.loop import Loop
from seaway.train.train import HISTORY, train
from seaway.train.tune import folder as places
from seaway.train.tune import page, pruner, results, scores, table, trial
from seaway.train.tune.final import train_best

FROM_LOW = "learning_rate=0.003|1e-8"


def test_a_trial_learns_what_the_train_stage_learns(three, dataset, tmp_path):
    first = three.trials[0]
    assert first.settings == {name: getattr(three.settings, name) for name in three.space}
    assert three.defaults == first
    train(dataset, tmp_path / "checkpoint", three.settings)
    history = json.loads((tmp_path / "checkpoint" / HISTORY).read_text())
    assert first.curve == tuple(row["validation_accuracy"] for row in history)
    assert first.value == pytest.approx(first.curve[-1])


def test_its_result_is_whole(three, tmp_path):
    assert [found.state for found in three.trials] == ["done"] * 3
    assert len({tuple(found.settings.values()) for found in three.trials}) == 3
    assert three.best.value == max(found.value for found in three.trials)
    assert all(found.cpu_minutes > 0 for found in three.trials)
    behind = [found for found in three.trials if not found.alike]
    assert three.best not in behind
    results.write(three, tmp_path / "sweep.json")
    held = json.loads((tmp_path / "sweep.json").read_text())
    assert held["best"] == three.best.number
    assert [row["value"] for row in held["trials"]] == [found.value for found in three.trials]
    html = page.render(three, tmp_path)
    assert html.count("<svg") == 3
    assert "http" not in html.replace("http://www.w3.org", "")
    assert f"{three.judged_on:,} pictures" in html


def test_the_command_trains_with_the_best_settings(three, tmp_path, monkeypatch):
    told = []
    monkeypatch.setattr(training, "train", lambda *given: told.append(given))
    line = shlex.split(results.command(three, tmp_path))
    assert line[:3] == ["python", "-m", "seaway.train"]
    stage.main(line[3:])
    settings = told[0][2]
    assert {name: getattr(settings, name) for name in three.space} == three.best.settings
    assert (settings.net, settings.epochs, settings.batch_size) == ("mlp", 2, 32)
    assert settings.validation == training.Settings().validation


def test_the_command_has_switches_without_values(three, tmp_path, monkeypatch):
    told = []
    monkeypatch.setattr(training, "train", lambda *given: told.append(given))
    settings = dataclasses.replace(three.settings, amp=True, threads=7)
    stage.main(shlex.split(results.command(dataclasses.replace(three, settings=settings), tmp_path))[3:])
    assert told[0][2].amp
    assert told[0][2].threads == 0  # another machine's business


def test_all_are_judged_on_the_same_pictures(dataset, search, tmp_path, monkeypatch):
    seen = []

    def spy(net, images, *rest):
        seen.append(images.tobytes())
        return predict(net, images, *rest)

    predict = trial.predict
    monkeypatch.setattr(trial, "predict", spy)
    found = search(dataset, tmp_path / "sweep", trials=2)
    assert len(seen) == 2
    assert len(set(seen)) == 1
    assert len(seen[0]) == found.judged_on * 28 * 28


def test_the_test_set_is_not_opened(dataset, search, three, tmp_path, monkeypatch):
    opened = []

    def spy(path, *rest, **more):
        opened.append(getattr(path, "name", path))
        return load(path, *rest, **more)

    load = np.load
    monkeypatch.setattr(data.np, "load", spy)
    found = search(dataset, tmp_path / "sweep", trials=1)
    assert {name for name in opened if "_" in name} == {"train_images.npy", "train_labels.npy"}
    assert found.trials[0].curve == three.trials[0].curve


def test_a_trial_that_diverges_is_a_failed_one(dataset, search, tmp_path):
    found = search(dataset, tmp_path / "sweep", "learning_rate=900|0.002", "affine=0|1", trials=4)
    failed = [one for one in found.trials if one.state == "failed"]
    assert failed
    assert all(one.settings["learning_rate"] == 900 for one in failed)
    assert all(one.reason.startswith("the loss became") and one.reason.endswith("of 2)") for one in failed)
    assert found.best.settings["learning_rate"] == 0.002
    assert "the loss became" in page.render(found, tmp_path)
    assert not (tmp_path / "sweep" / places.WORK).exists()


def test_a_trial_without_enough_memory_is_a_failed_one(dataset, search, tmp_path, monkeypatch):
    def learn(loop, *step):
        if loop.settings.affine:
            torch.empty(2**60)
        return known(loop, *step)

    known = Loop._learn
    monkeypatch.setattr(Loop, "_learn", learn)
    found = search(dataset, tmp_path / "sweep", "affine=0|1", trials=4)
    assert {one.settings["affine"]: one.state for one in found.trials} == {0: "done", 1: "failed"}
    assert all("not enough memory" in one.reason for one in found.trials if one.state == "failed")


def test_where_all_fail_there_is_no_best(dataset, search, tmp_path):
    found = search(dataset, tmp_path / "sweep", "learning_rate=900|1000", trials=2)
    assert found.best is None
    assert table.sentences(found) == ["No trial came to its end, so there is no best one."]
    assert "No trial came to its end" in page.render(found, tmp_path)


def test_a_trial_that_falls_behind_is_stopped(dataset, search, tmp_path):
    found = search(
        dataset, tmp_path / "sweep", FROM_LOW, "affine=0..1", trials=12, pruning=True, epochs=3, label_smoothing=0
    )
    stopped = [one for one in found.trials if one.state == "stopped early"]
    assert stopped
    assert all(one.settings["learning_rate"] == 1e-8 and len(one.curve) < 3 and one.value is None for one in stopped)
    assert all(one.number > pruner.COMPARED for one in stopped)
    assert "stopped early" in page.render(found, tmp_path)


def test_the_same_settings_are_not_trained_twice(dataset, search, tmp_path, monkeypatch):
    trained = []
    run = trial.run
    monkeypatch.setattr(trial, "run", lambda settings, *rest: trained.append(settings) or run(settings, *rest))
    found = search(dataset, tmp_path / "sweep", "label_smoothing=0.05|0", trials=5)
    assert len(trained) == 2
    first = {one.settings["label_smoothing"]: one for one in reversed(found.trials)}
    for one in found.trials:
        same = first[one.settings["label_smoothing"]]
        assert (one.curve, one.value) == (same.curve, same.value)
        assert one is same or one.reason == f"as trial {same.number}"


@pytest.mark.parametrize("metric", ["balanced_accuracy", "loss"])
def test_other_metrics(dataset, search, tmp_path, metric):
    found = search(dataset, tmp_path / "sweep", FROM_LOW, trials=4, metric=metric)
    assert found.best.settings["learning_rate"] == 0.003
    assert found.best.value == pytest.approx(found.best.curve[-1], rel=1e-4)
    assert all(one.behind >= 0 for one in found.done)


def test_a_finished_sweep_trains_nothing_and_more_trials_go_on(dataset, search, three, tmp_path, monkeypatch):
    search(dataset, tmp_path / "sweep", trials=2)
    more = search(dataset, tmp_path / "sweep", trials=3)
    assert [(one.settings, one.curve) for one in more.trials] == [(one.settings, one.curve) for one in three.trials]
    monkeypatch.setattr(trial, "run", None)
    assert search(dataset, tmp_path / "sweep", trials=3) == more


def test_another_sweep_does_not_get_the_folder(dataset, search, tmp_path):
    search(dataset, tmp_path / "sweep", "affine=0..1", trials=1)
    for lines, more, said in (
        (["affine=0..2"], {}, r"--search affine 0\.\.1, now 0\.\.2"),
        (["elastic=0..1"], {}, r"--search affine 0\.\.1, now none"),
        (["affine=0..1"], {"epochs": 3}, "epochs 2, now 3"),
        (["affine=0..1"], {"metric": "loss"}, "metric accuracy, now loss"),
        (["affine=0..1"], {"seed": 1}, "seed 0, now 1"),
        (["affine=0..1"], {"pruning": True}, "pruning False, now True"),
    ):
        with pytest.raises(Refused, match=said):
            search(dataset, tmp_path / "sweep", *lines, **more)
    assert len(search(dataset, tmp_path / "sweep", "affine=0..1", trials=1, threads=2).trials) == 1


def test_one_sweep_at_a_time(dataset, search, tmp_path):
    with places.alone(tmp_path / "sweep"), pytest.raises(Refused, match="another sweep is at work there"):
        search(dataset, tmp_path / "sweep")


def test_a_broken_study_is_told(dataset, search, tmp_path):
    with places.alone(tmp_path / "sweep"):
        (tmp_path / "sweep" / places.STUDY).write_bytes(b"no database" * 100)
    with pytest.raises(Unavailable, match=r"cannot be used .*not a database"):
        search(dataset, tmp_path / "sweep")


def test_unknown_nets_and_few_pictures_are_no_trials(dataset, search, tmp_path):
    with pytest.raises(ModelError, match="'resnet' is no network"):
        search(dataset, tmp_path / "sweep", "net=mlp|resnet")
    with pytest.raises(DataError, match="fewer than 20 tell nothing"):
        search(dataset, tmp_path / "sweep", validation=0.02)


def test_the_winner_is_tested_once(dataset, search, tmp_path, monkeypatch):
    found = search(dataset, tmp_path / "sweep", "affine=0|1", trials=2)
    final = train_best(found, tmp_path / "sweep")
    card = cards.read(tmp_path / "sweep" / places.CHECKPOINT)
    assert final.final == card.metrics
    assert card.settings["affine"] == found.best.settings["affine"]
    assert card.settings["validation"] == training.Settings().validation
    assert f"accuracy {card.metrics['accuracy']:.4f}" in page.render(final, tmp_path)
    monkeypatch.setattr("seaway.train.tune.final.train", None)
    assert train_best(found, tmp_path / "sweep") == final


def test_outcomes_come_back_as_they_were(tmp_path):
    outcome = scores.Outcome(np.array([1, 2], np.uint8), np.array([0.5, 1.5], np.float32))
    outcome.write(tmp_path / "trials" / "1.npz")
    held = scores.read(tmp_path / "trials" / "1.npz")
    assert held.taken.tolist() == [1, 2]
    assert held.losses.tolist() == [0.5, 1.5]
