"""Settings by name, and those that change the loop."""

import re

import pytest
import torch

from seaway.data import datasets
from seaway.errors import InvalidInput, ModelError
from seaway.nets.build import build
from seaway.train import settings, train
from seaway.train.checkpoints import CheckpointManager, key
from seaway.train.evaluate import Normalisation
from seaway.train.loop import Loop, _bytes
from seaway.train.settings import Settings, parse_settings


def test_settings_by_name_are_of_their_types():
    settings_read = parse_settings(
        {"net": "mlp", "learning-rate": "0.001", "batch_size": "32", "amp": "true", "sampling": "oversample"}
    )
    assert settings_read == Settings(net="mlp", learning_rate=0.001, batch_size=32, amp=True, sampling="oversample")
    assert type(settings_read.batch_size) is int


@pytest.mark.parametrize(
    ("given", "words"),
    [
        ({"learningrate": "1"}, "learningrate: training has no such setting; there are net, epochs, sampling"),
        ({"batch_size": "2.5"}, "--batch-size 2.5: must be a whole number"),
        ({"learning_rate": "fast"}, "--learning-rate fast: must be a number"),
        ({"learning_rate": "nan"}, "--learning-rate nan: must be between"),
        ({"amp": "yes"}, "--amp yes: must be true or false"),
        ({"sampling": "more"}, "--sampling more: choose from"),
        ({"ema": "1"}, "--ema 1.0: must be between 0 and 0.99999"),
        ({"patience": "2", "validation": "0"}, "--patience needs validation images"),
    ],
)
def test_an_invalid_setting_is_reported(given, words):
    with pytest.raises(InvalidInput, match=words.replace("(", r"\(")):
        parse_settings(given)


def test_a_wrong_value_of_training_is_named_as_the_user_wrote_it():
    with pytest.raises(InvalidInput, match=r"^--training batch_size=1: must be between 2 and 65536$"):
        parse_settings({"net": "mlp"}, {"batch_size": "1"})
    with pytest.raises(InvalidInput, match=r"^--training batch-size=few: must be a whole number$"):
        parse_settings({"net": "mlp"}, {"batch-size": "few"})


def test_a_setting_with_an_option_of_its_own_is_not_given_twice():
    assert parse_settings({"net": "mlp"}, {"ema": "0.9"}) == Settings(net="mlp", ema=0.9)
    with pytest.raises(InvalidInput, match="--training net=cnn: this setting has an option of its own, --net"):
        parse_settings({"net": "mlp"}, {"net": "cnn"})


@pytest.fixture
def looped(dataset):
    """Runs the loop with these settings and returns it."""

    def run(loss_sync_steps=1, **changes):
        images = datasets.load(dataset)
        torch.manual_seed(0)
        net = build("mlp", images.train_images.shape[1:], len(images.labels))
        loop = Loop(net, images, Normalisation(0.2, 0.3), Settings(net="mlp", **{"batch_size": 16, **changes}))
        loop.loss_sync_steps = loss_sync_steps
        loop.run(CheckpointManager(None, "", 1e9), lambda _: None, lambda _: None)
        return loop

    return run


def test_averaged_weights_are_kept_and_lie_between_those_of_the_steps(looped):
    plain, loop = looped(epochs=3, validation=0, ema=0), looped(epochs=3, validation=0, ema=0.95)
    name = "1.weight"
    assert torch.equal(plain.best[name], plain.net.state_dict()[name])
    assert torch.equal(loop.net.state_dict()[name], plain.net.state_dict()[name]), "steps are the same"
    assert torch.equal(loop.best[name], loop.averaged.state_dict()[name])
    torch.manual_seed(0)
    first = build("mlp", (12, 12), 3).state_dict()[name]
    whole = float((plain.best[name] - first).norm())
    assert 0 < float((loop.best[name] - plain.best[name]).norm()) < whole


def test_losses_fetched_every_few_steps_are_the_same(looped):
    each, rarely = looped(epochs=3), looped(epochs=3, loss_sync_steps=4)
    assert each.steps_per_epoch % 4, "the last ones are fetched at the end of an epoch"
    assert rarely.history == each.history
    assert all(torch.equal(value, rarely.best[name]) for name, value in each.best.items())


def test_the_step_of_an_infinite_loss_is_reported(looped):
    def message(loss_sync_steps):
        with pytest.raises(ModelError) as raised:
            looped(loss_sync_steps=loss_sync_steps, epochs=20, learning_rate=1000.0, warm_up=0.0, amp=True)
        return str(raised.value)

    each = message(1)
    assert re.search(r"the loss became (nan|inf) at step [1-9]\d* \(epoch \d+ of 20\)", each)
    assert message(4) == each


def test_training_ends_when_patience_does(looped):
    loop = looped(epochs=50, validation=0.2, learning_rate=1e-9, patience=3)  # learns nothing, so nothing gets better
    figures = [row["validation_figure"] for row in loop.history]
    assert len(figures) < 50
    assert max(figures[:-3]) >= max(figures[-3:])
    assert len(looped(epochs=6, validation=0.2, learning_rate=1e-9).history) == 6


def test_balanced_accuracy_decides_the_best_epoch_if_classes_are_evened_out(looped):
    for choice, figure in (("none", "validation_accuracy"), ("weighted", "validation_balanced_accuracy")):
        for row in looped(epochs=2, validation=0.3, sampling=choice).history:
            assert row["validation_figure"] == row[figure]


def test_bfloat16_learns_about_the_same(looped):
    exact, rough = looped(epochs=4, validation=0), looped(epochs=4, validation=0, amp=True)
    assert rough.history[-1]["loss"] == pytest.approx(exact.history[-1]["loss"], rel=0.1)
    assert not torch.equal(rough.best["1.weight"], exact.best["1.weight"])
    assert rough.best["1.weight"].dtype == torch.float32


def test_images_on_the_device_are_the_same(looped):
    loop = looped(epochs=1)
    rows, repeats = torch.tensor([3, 5, 8]), torch.zeros(3, dtype=torch.bool)
    torch.manual_seed(0)
    read = loop._augmented(rows, repeats, 3, 0)
    loop.images = _bytes(loop.dataset.train_images)
    torch.manual_seed(0)
    assert torch.equal(loop._augmented(rows, repeats, 3, 0), read)


def test_a_failed_compilation_is_reported(dataset, tmp_path, monkeypatch):
    def broken(function):
        def call(*_):
            raise RuntimeError("no C++ compiler\nand more")

        return call

    monkeypatch.setattr(torch, "compile", broken)
    with pytest.raises(InvalidInput, match=r"--compile cannot be used \(no C\+\+ compiler\)"):
        train.train(dataset, tmp_path / "checkpoint", Settings(net="mlp", compile=True))


def test_every_setting_is_an_option_with_a_help_text():
    from seaway.train.__main__ import HELP

    assert {*HELP} == {*Settings.__slots__}
    assert {*settings._RANGES} < {*HELP}


@pytest.mark.parametrize("former", ["down", "up", "synthetic"])
def test_settings_of_earlier_versions_are_read_under_today_s_names(former):
    stored = {"net": "mlp", "sampling": former, "pen": 0.5, "--search pen": "0..1"}
    sampling = {"down": "undersample", "up": "oversample", "synthetic": "augment"}[former]
    assert settings.current(stored) == {
        "net": "mlp", "sampling": sampling, "stroke_jitter": 0.5, "--search stroke_jitter": "0..1"
    }  # fmt: skip
    assert settings.former({"sampling": sampling, "stroke_jitter": 0.5}) == {"sampling": former, "pen": 0.5}


def test_an_unfinished_run_of_an_earlier_version_is_found_by_its_key():
    run = Settings(sampling="augment").resolved()
    assert key(run.essential(), "0" * 64) == "1047f79c8471834cfd60fb8a3f9d61c9"  # as computed before the renaming
