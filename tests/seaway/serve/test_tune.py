"""`seaway tune-serving` on the bundled model in both engines, each in processes of its own."""

import os
import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import numpy_helper
from typer.testing import CliRunner

from seaway.artifacts import artifact_metadata, golden, model_repository, serving_profile
from seaway.artifacts.serving_profile import Candidate
from seaway.cli.main import app
from seaway.errors import ModelError, NotFound, Unavailable
from seaway.platform import cgroup
from seaway.serve import tune

EXAMPLE = Path(__file__).parents[3] / "seaway" / "example" / "characters" / "1"
QUICK = {"batches": (1, 2), "rounds": 2, "seconds": 0.0}


@pytest.fixture
def repository(tmp_path, monkeypatch):
    """A copy of the example, for one core: one thread each, three candidates."""
    monkeypatch.setattr(cgroup, "cores", lambda: 1)
    shutil.copytree(EXAMPLE, tmp_path / "models" / "characters" / "1")
    return tmp_path / "models"


def publish_again(repository, change):
    """Changes the version's files and writes its metadata anew, as if it had been published so."""
    folder = repository / "characters" / "1"
    change(folder)
    metadata = artifact_metadata.read(folder, model_repository.METADATA_FILE)
    return artifact_metadata.write(folder, metadata, at=model_repository.METADATA_FILE)


def without_saved_model(folder):
    (folder / "saved_model.pb").unlink()
    shutil.rmtree(folder / "variables", ignore_errors=True)


@pytest.mark.slow
def test_both_engines_are_measured_and_the_profile_says_why(repository):
    told = []
    profile, file = tune.tune(repository, "characters", 1, told.append, **QUICK)
    assert [one.candidate for one in profile.measurements] == [
        Candidate("savedmodel", 1, 1, onednn=True),
        Candidate("savedmodel", 1, 1, onednn=False),
        Candidate("onnx", 1, 1),
    ]
    assert all(one.ms.keys() == {"1", "2"} and min(one.ms.values()) > 0 for one in profile.measurements)
    assert len(profile.ratios) == 2
    assert profile.chosen in [one.candidate for one in profile.measurements]
    assert "ONNX Runtime was " in profile.reason
    assert {*profile.parity["savedmodel"]} == {"serving_default", "logits", "from_png"}
    assert {*profile.parity["onnx"]} == {"serving_default", "logits", "from_png", "from_png, preprocessed"}
    count = len(golden.read(EXAMPLE / "assets.extra" / "golden.npz").inputs["image"])
    for signatures in profile.parity.values():
        assert signatures["serving_default"].examples == count
        assert signatures["from_png"].examples > 10
        assert all(one.wrong == 0 and one.max_abs < 1e-3 for one in signatures.values())
    metadata = model_repository.read_metadata(repository, "characters", 1)
    assert serving_profile.find(repository, "characters", metadata) == profile
    assert file == serving_profile.path(repository, "characters", metadata.sha256)
    assert [text.partition(":")[0] for text in told] == ["1 of 3", "2 of 3", "3 of 3", "round 1 of 2", "round 2 of 2"]
    shown = "\n".join(tune.lines(profile))
    assert shown.count(" ms") == 6
    assert f"* {profile.chosen.title}" in shown
    assert f"settings: SEAWAY_BACKEND={profile.chosen.backend}" in shown


@pytest.mark.slow
def test_an_engine_with_other_outputs_is_not_chosen(repository):
    def change(folder):
        file = folder / "assets.extra" / "model.onnx"
        model = onnx.load(file)
        weights = max(model.graph.initializer, key=lambda one: len(one.raw_data))
        changed = numpy_helper.to_array(weights) * np.float32(1.5)
        weights.CopyFrom(numpy_helper.from_array(changed, weights.name))
        onnx.save(model, file)

    publish_again(repository, change)
    profile, _ = tune.tune(repository, "characters", 1, lambda text: None, **QUICK)
    assert profile.chosen.backend == "savedmodel"
    assert profile.reason.startswith("ONNX Runtime cannot serve it: signature ")
    assert " golden examples: output " in profile.reason
    assert profile.parity.keys() == {"savedmodel"}
    assert profile.ratios == ()


def test_a_version_with_one_engine_says_so(repository):
    publish_again(repository, without_saved_model)
    done = CliRunner().invoke(app, ["tune-serving", "characters", "--model-repository", str(repository)])
    assert done.exit_code == 0, done.output
    assert "chosen on 1 core" in done.output
    assert "ONNX Runtime, 1 thread: the version has no SavedModel, so nothing was compared" in done.output
    metadata = model_repository.read_metadata(repository, "characters", 1)
    profile = serving_profile.find(repository, "characters", metadata)
    assert profile.settings == {"SEAWAY_BACKEND": "onnx", "SEAWAY_THREADS": "1"}
    assert f"--model-repository {repository} --backend onnx --threads 1" in done.output


def test_without_a_usable_engine_nothing_is_written(repository):
    def change(folder):
        without_saved_model(folder)
        (folder / "assets.extra" / "model.onnx").write_bytes(b"no model")

    metadata = publish_again(repository, change)
    with pytest.raises(
        ModelError, match=r"characters/1: no engine can serve it: ONNX Runtime: .* cannot load the model"
    ):
        tune.tune(repository, "characters", 1, lambda text: None, **QUICK)
    assert not serving_profile.path(repository, "characters", metadata.sha256).exists()


def test_without_golden_examples_no_engine_can_be_checked(repository):
    publish_again(repository, lambda folder: (folder / "assets.extra" / "golden.npz").unlink())
    with pytest.raises(NotFound, match=r"golden\.npz is missing: without golden examples no engine can be checked"):
        tune.tune(repository, "characters", 1)


def test_a_repository_that_is_not_writable_is_told_before_the_measurement(repository, monkeypatch):
    monkeypatch.setattr(os, "access", lambda path, mode: mode != os.W_OK)  # tests may run as root, who may write
    with pytest.raises(Unavailable, match=r"/characters: not writable, so the serving profile could not be stored"):
        tune.tune(repository, "characters", 1)


@pytest.mark.parametrize("text", ["characters/x", "/3", "characters/", "characters/3/4"])
def test_what_is_no_version_says_so(text):
    done = CliRunner().invoke(app, ["tune-serving", text])
    assert "is not a model and version: give NAME or NAME/VERSION" in str(done.exception)


def test_candidates_split_a_batch_or_share_its_threads(monkeypatch):
    monkeypatch.setattr(cgroup, "cores", lambda: 2)
    assert tune.candidates("onnx") == [Candidate("onnx", 1, 2), Candidate("onnx", 2, 1)]
    assert len(tune.candidates("savedmodel")) == 4
    monkeypatch.setattr(cgroup, "cores", lambda: 8)  # seven workers, one thread each
    assert tune.candidates("onnx") == [Candidate("onnx", 1, 1)]


def test_the_parity_is_that_of_the_settings_that_remain(repository, monkeypatch):
    """oneDNN's kernels may be too inexact for a model: then TensorFlow serves without them."""

    def measure(subject, candidate):
        if candidate.onednn:
            raise ModelError("signature 'serving_default' is wrong for 3 of 40 golden examples")
        parity = {"serving_default": {"examples": 40, "wrong": 0, "max_abs": 1e-6}}
        ms = {"savedmodel": 1.0, "onnx": 2.0}[candidate.backend]
        return {"parity": parity, "preprocessed": None, "ms": {str(rows): ms for rows in subject.batches}}

    monkeypatch.setattr(tune._Subject, "measure", measure)
    told = []
    profile, _ = tune.tune(repository, "characters", 1, told.append)
    assert profile.settings["TF_ENABLE_ONEDNN_OPTS"] == "0"
    assert profile.reason == "ONNX Runtime was 0.50 times as fast (0.50 to 0.50 in 5 rounds)"
    assert profile.parity.keys() == {"savedmodel", "onnx"}
    assert "is wrong for 3 of 40 golden examples" in told[0]
    metadata = model_repository.read_metadata(repository, "characters", 1)
    assert serving_profile.find(repository, "characters", metadata) == profile


# ---- the choice, of given measurements

SAVED_MODEL, ONNX = Candidate("savedmodel", 1, 1, onednn=True), Candidate("onnx", 1, 1)


@pytest.mark.parametrize(
    ("ratios", "chosen", "reason"),
    [
        ((1.9, 2.0, 2.1), ONNX, "ONNX Runtime was 2.00 times as fast (1.90 to 2.10 in 3 rounds), in the mean of batch"),
        ((0.99, 2.0, 2.1), SAVED_MODEL, "which is within noise, so the SavedModel stays"),
        ((1.01, 1.04, 1.2), SAVED_MODEL, "which is within noise, so the SavedModel stays"),
        ((0.5, 0.6, 0.7), SAVED_MODEL, "ONNX Runtime was 0.60 times as fast (0.50 to 0.70 in 3 rounds)"),
    ],
)
def test_onnx_runtime_must_be_faster_in_every_round(ratios, chosen, reason):
    found = {one: tune._Result({"1": 1.0, "8": 2.0}, {}) for one in (SAVED_MODEL, ONNX)}
    winner, text = tune._choose({"savedmodel": SAVED_MODEL, "onnx": ONNX}, found, ratios)
    assert winner == chosen
    assert reason in text
    assert ("noise" in text) == ("noise" in reason)


def test_default_settings_stay_within_noise():
    other = replace(SAVED_MODEL, onednn=False)
    found = {SAVED_MODEL: tune._Result({"1": 1.0, "8": 4.0}, {}), other: tune._Result({"1": 1.0, "8": 3.8}, {})}
    assert tune._best(found, "savedmodel") == SAVED_MODEL
    found[other] = tune._Result({"1": 1.0, "8": 3.0}, {})
    assert tune._best(found, "savedmodel") == other
    found[other] = replace(found[other], failed="it cannot be loaded")
    assert tune._best(found, "savedmodel") == SAVED_MODEL
    assert tune._best(found, "onnx") is None


def test_another_class_for_a_preprocessed_image_excludes_onnx_runtime():
    metadata = artifact_metadata.read(EXAMPLE, model_repository.METADATA_FILE)
    scores = np.full((2, 62), 0.001, np.float32)
    scores[:, 3] = 0.9
    other = scores[:, ::-1]
    close = scores + np.float32(1e-6)
    for outputs, failed in ((close, ""), (other, "from_png gives 2 of 2 images another class than TensorFlow's")):
        found = {
            SAVED_MODEL: tune._Result({"1": 1.0}, {}, scores.tolist()),
            ONNX: tune._Result({"1": 1.0}, {}, outputs.tolist()),
        }
        compared = tune._compare_preprocessed(found, metadata)
        assert compared[ONNX].failed == failed
        assert compared[ONNX].parity["from_png, preprocessed"].wrong == (2 if failed else 0)
        assert compared[SAVED_MODEL] == found[SAVED_MODEL]
