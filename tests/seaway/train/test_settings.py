"""Settings by name, and those that change how the loop goes."""

import re

import pytest
import torch

from seaway.data import data
from seaway.errors import InvalidInput, ModelError
from seaway.nets.build import build
from seaway.train import settings, train
from seaway.train.evaluate import Normalisation
from seaway.train.loop import Loop, _bytes
from seaway.train.settings import Settings, parsed
from seaway.train.state import Keeper


def test_settings_by_name_are_of_their_types():
    got = parsed({"net": "mlp", "learning-rate": "0.001", "batch_size": "32", "amp": "true", "sampling": "up"})
    assert got == Settings(net="mlp", learning_rate=0.001, batch_size=32, amp=True, sampling="up")
    assert type(got.batch_size) is int


@pytest.mark.parametrize(
    ("given", "words"),
    [
        ({"learningrate": "1"}, "learningrate: training has no such setting; there are net, epochs, sampling"),
        ({"batch_size": "2.5"}, "--batch-size is '2.5': a whole number is wanted"),
        ({"learning_rate": "fast"}, "--learning-rate is 'fast': a number is wanted"),
        ({"learning_rate": "nan"}, "--learning-rate is nan: it must be between"),
        ({"amp": "yes"}, "--amp is 'yes': write true or false"),
        ({"sampling": "more"}, "--sampling more: choose"),
        ({"ema": "1"}, "--ema is 1.0: it must be between 0 and 0.99999"),
        ({"patience": "2", "validation": "0"}, "--patience needs pictures to validate on"),
    ],
)
def test_what_is_no_setting_is_told(given, words):
    with pytest.raises(InvalidInput, match=words.replace("(", r"\(")):
        parsed(given)


def test_what_has_an_option_of_its_own_is_not_given_twice():
    assert parsed({"net": "mlp"}, {"ema": "0.9"}) == Settings(net="mlp", ema=0.9)
    with pytest.raises(InvalidInput, match="--training net=cnn: it has an option of its own, --net"):
        parsed({"net": "mlp"}, {"net": "cnn"})


@pytest.fixture
def looped(dataset):
    """Runs the loop with these settings and returns it."""

    def run(looks=1, **given):
        pictures = data.load(dataset)
        torch.manual_seed(0)
        net = build("mlp", pictures.train_images.shape[1:], len(pictures.labels))
        loop = Loop(net, pictures, Normalisation(0.2, 0.3), Settings(net="mlp", **{"batch_size": 16, **given}))
        loop.looks = looks
        loop.run(Keeper(None, "", 1e9), lambda _: None, lambda _: None)
        return loop

    return run


def test_averaged_weights_are_what_is_kept_and_lie_between_those_of_the_steps(looped):
    plain, loop = looped(epochs=3, validation=0, ema=0), looped(epochs=3, validation=0, ema=0.95)
    name = "1.weight"
    assert torch.equal(plain.best[name], plain.net.state_dict()[name])
    assert torch.equal(loop.net.state_dict()[name], plain.net.state_dict()[name]), "steps are the same"
    assert torch.equal(loop.best[name], loop.averaged.state_dict()[name])
    torch.manual_seed(0)
    first = build("mlp", (12, 12), 3).state_dict()[name]
    whole = float((plain.best[name] - first).norm())
    assert 0 < float((loop.best[name] - plain.best[name]).norm()) < whole


def test_losses_that_are_read_now_and_then_are_the_same(looped):
    each, rarely = looped(epochs=3), looped(epochs=3, looks=4)
    assert each.steps_an_epoch % 4, "the last ones are read at an epoch's end"
    assert rarely.history == each.history
    assert all(torch.equal(value, rarely.best[name]) for name, value in each.best.items())


def test_the_step_of_a_loss_that_is_no_number_is_told(looped):
    def told(looks):
        with pytest.raises(ModelError) as raised:
            looped(looks=looks, epochs=20, learning_rate=1000.0, warm_up=0.0, amp=True)
        return str(raised.value)

    each = told(1)
    assert re.search(r"the loss became (nan|inf) at step [1-9]\d* \(epoch \d+ of 20\)", each)
    assert told(4) == each


def test_training_ends_when_patience_does(looped):
    loop = looped(epochs=50, validation=0.2, learning_rate=1e-9, patience=3)  # learns nothing, so nothing gets better
    figures = [row["validation_figure"] for row in loop.history]
    assert len(figures) < 50
    assert max(figures[:-3]) >= max(figures[-3:])
    assert len(looped(epochs=6, validation=0.2, learning_rate=1e-9).history) == 6


def test_the_best_epoch_is_the_balanced_one_where_classes_are_evened_out(looped):
    for choice, figure in (("none", "validation_accuracy"), ("weighted", "validation_balanced_accuracy")):
        for row in looped(epochs=2, validation=0.3, sampling=choice).history:
            assert row["validation_figure"] == row[figure]


def test_bfloat16_learns_about_the_same(looped):
    exact, rough = looped(epochs=4, validation=0), looped(epochs=4, validation=0, amp=True)
    assert rough.history[-1]["loss"] == pytest.approx(exact.history[-1]["loss"], rel=0.1)
    assert not torch.equal(rough.best["1.weight"], exact.best["1.weight"])
    assert rough.best["1.weight"].dtype == torch.float32


def test_pictures_that_lie_on_the_device_are_the_same(looped):
    loop = looped(epochs=1)
    rows, copied = torch.tensor([3, 5, 8]), torch.zeros(3, dtype=torch.bool)
    torch.manual_seed(0)
    read = loop._drawn(rows, copied, 3, 0)
    loop.images = _bytes(loop.dataset.train_images)
    torch.manual_seed(0)
    assert torch.equal(loop._drawn(rows, copied, 3, 0), read)


def test_what_cannot_be_compiled_is_told(dataset, tmp_path, monkeypatch):
    def broken(function):
        def call(*_):
            raise RuntimeError("no C++ compiler\nand more")

        return call

    monkeypatch.setattr(torch, "compile", broken)
    with pytest.raises(InvalidInput, match=r"--compile cannot be used \(no C\+\+ compiler\)"):
        train.train(dataset, tmp_path / "checkpoint", Settings(net="mlp", compile=True))


def test_every_setting_is_an_option_with_a_text():
    from seaway.train.__main__ import HELP

    assert {*HELP} == {*Settings.__slots__}
    assert {*settings._RANGES} < {*HELP}
