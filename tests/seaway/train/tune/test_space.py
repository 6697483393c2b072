"""The search space, and what is refused before any trial."""

import pytest

from seaway.errors import InvalidInput
from seaway.train.settings import EPOCHS, Settings
from seaway.train.tune import space
from seaway.train.tune.space import Choice, Range


def test_ranges_and_choices_have_the_settings_types():
    lines = ["learning-rate=1e-3..1e-2,log", "batch_size=64..256", "elastic=0|0.5", "net=cnn|mlp"]
    settings, dimensions = space.parse(lines, ["affine=0", "device=cpu"], Settings(epochs=3))
    assert dimensions == (
        Range("learning_rate", 1e-3, 1e-2, log=True, whole=False),
        Range("batch_size", 64, 256, log=False, whole=True),
        Choice("elastic", (0.0, 0.5)),
        Choice("net", ("cnn", "mlp")),
    )
    assert (settings.affine, settings.epochs, settings.elastic) == (0.0, 3, Settings().elastic)


def test_the_default_space_omits_shared_settings_and_contains_the_defaults():
    settings, dimensions = space.parse((), ["affine=0"], Settings())
    assert [dimension.name for dimension in dimensions] == [
        "learning_rate",
        "weight_decay",
        "label_smoothing",
        "elastic",
    ]
    assert all(dimension.contains(getattr(settings, dimension.name)) for dimension in dimensions)


def test_nets_are_compared_over_the_same_epochs():
    settings, _ = space.parse(["net=mlp|cnn-large"], (), Settings(net="mlp"))
    assert settings.epochs == EPOCHS["cnn-large"] > EPOCHS["mlp"]


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("speed=1..2", "speed: training has no such setting; there are net, epochs"),
        ("affine", "give NAME=LOW..HIGH"),
        ("affine=", "give NAME=LOW..HIGH"),
        ("affine=0.5", "--set affine=0.5"),
        ("affine=1|1", "give NAME=LOW..HIGH"),
        ("affine=1..0.5", "1 is not below 0.5"),
        ("affine=0..1,log", "begins above 0"),
        ("affine=0..1,cube", "'cube' after the range"),
        ("affine=nan..1", "not below|must be between"),
        ("affine=0..9", "--search affine=0..9: must be between 0 and 3"),
        ("learning_rate=high..low", "--search learning_rate=high..low: must be a number"),
        ("learning_rate=big|small", "--search learning_rate=big.small: must be a number"),
        ("batch_size=1.5..3", "--search batch_size=1.5..3: must be a whole number"),
        ("batch_size=1|64", r"--search batch_size=1\|64: must be between 2 and 65536"),
        ("net=1..2", "net is not a number"),
        ("epochs=2..4", "must be the same in all trials"),
        ("seed=1..4", "must be the same in all trials"),
    ],
)
def test_bad_lines_are_refused(line, message):
    with pytest.raises(InvalidInput, match=message):
        space.parse([line], (), Settings())


@pytest.mark.parametrize(
    ("lines", "shared", "message"),
    [
        (["affine=0..1", "affine=0..2"], [], "already searched"),
        (["affine=0..1"], ["affine=0"], "leave one of the two out"),
        ([], ["affine"], "give NAME=VALUE"),
        ([], ["affine=much"], "--set affine=much: must be a number"),
        ([], ["affine=9"], "^--set affine=9: must be between 0 and 3"),
        ([], [line.partition("=")[0] + "=0.01" for line in space.DEFAULT], "nothing is left"),
    ],
)
def test_lines_that_contradict_each_other_are_refused(lines, shared, message):
    with pytest.raises(InvalidInput, match=message):
        space.parse(lines, shared, Settings())


def test_values_have_few_digits_and_stay_in_their_range():
    class HighestValue:
        def suggest_float(self, name, low, high, log):
            return high

    assert Range("affine", 0.0, 1.23456, log=False, whole=False).suggest(HighestValue()) == 1.23
    assert Range("affine", 1.2341, 1.2342, log=False, whole=False).suggest(HighestValue()) == 1.2341
