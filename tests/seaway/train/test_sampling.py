"""What an epoch is made of, for each sampling, and that training takes it so."""

import numpy as np
import pytest
import torch

from seaway.errors import InvalidInput
from seaway.train import sampling, train
from seaway.train.augment import Hand, drawn, pen
from seaway.train.settings import Settings

COUNTS = {0: 40, 2: 7, 3: 11}  # no picture of class 1
LABELS = np.random.default_rng(1).permutation(np.repeat([*COUNTS], [*COUNTS.values()]).astype(np.uint8))


def sampled(choice, seed=0):
    places, copied = sampling.draw(LABELS, choice, np.random.default_rng(seed))
    assert len(places) == len(copied) == sampling.size(LABELS, choice)
    return places, copied


@pytest.mark.parametrize("choice", ["none", "weighted"])
def test_every_picture_once(choice):
    places, copied = sampled(choice)
    assert sorted(places) == list(range(58))
    assert not copied.any()


def test_down_cuts_every_class_to_the_rarest_and_chooses_anew():
    places, copied = sampled("down")
    assert dict(zip(*np.unique(LABELS[places], return_counts=True), strict=True)) == {0: 7, 2: 7, 3: 7}
    assert len({*places}) == 21
    assert not copied.any()
    assert {*places} != {*sampled("down", seed=1)[0]}


@pytest.mark.parametrize("choice", ["up", "synthetic"])
def test_up_raises_every_class_to_the_commonest_evenly(choice):
    places, copied = sampled(choice)
    assert dict(zip(*np.unique(LABELS[places], return_counts=True), strict=True)) == {0: 40, 2: 40, 3: 40}
    assert {*places} == {*range(58)}, "nothing is left out"
    for label, count in COUNTS.items():
        times = np.unique(places[LABELS[places] == label], return_counts=True)[1]
        assert {*times} <= {40 // count, 40 // count + 1}
    assert copied.sum() == 120 - 58
    assert sorted(places[~copied]) == list(range(58)), "each is there once as it is"


def test_the_order_is_a_function_of_the_seed_and_mixes_classes():
    assert np.array_equal(sampled("up")[0], sampled("up")[0])
    places, _ = sampled("up")
    assert np.count_nonzero(np.diff(LABELS[places].astype(int))) > 40, "not one class after the other"


def test_weights_make_all_classes_count_alike():
    weights = sampling.weights(LABELS, 4, "weighted")
    assert weights.dtype == np.float32
    totals = [weights[label] * count for label, count in COUNTS.items()]
    assert totals == pytest.approx([58 / 3] * 3)
    assert float(weights[LABELS].mean()) == pytest.approx(1)
    assert sampling.weights(LABELS, 4, "up") is None


def test_an_unknown_sampling_names_those_there_are():
    with pytest.raises(InvalidInput, match="--sampling more: choose none, down, up, synthetic, weighted"):
        Settings(sampling="more").check()


def test_epochs_that_are_larger_are_fewer():
    assert Settings(net="mlp").resolved(4.0).epochs == round(Settings(net="mlp").resolved().epochs / 4)
    assert Settings(net="mlp").resolved(1000.0).epochs == 1
    assert Settings(net="mlp", epochs=5).resolved(4.0).epochs == 5, "what is asked for is done"


# ---- synthetic pictures


AS_IT_IS, HAND = Hand(0, 0, 0), Hand(0.8, 0.4, 1)


def cross():
    images = torch.zeros(1, 1, 28, 28)
    images[..., 13:15, 4:24] = images[..., 4:24, 13:15] = 1
    return images


def test_copies_are_drawn_anew_and_the_others_stay():
    torch.manual_seed(0)
    images, copied = cross().repeat(6, 1, 1, 1), torch.tensor([True, False] * 3)
    made = drawn(images, AS_IT_IS, copied)
    assert torch.equal(made[~copied], images[~copied])
    assert made.min() >= 0
    assert made.max() <= 1
    for one in made[copied]:
        assert float((one - images[0]).abs().mean()) > 0.01
    assert not torch.equal(made[0], made[2])


def test_a_part_of_a_batch_is_drawn_as_in_the_whole():
    images, copied = cross().repeat(6, 1, 1, 1), torch.tensor([True, True, False] * 2)
    torch.manual_seed(3)
    whole = drawn(images, HAND, copied)
    torch.manual_seed(3)
    assert torch.equal(drawn(images[2:5], HAND, copied[2:5], 6, 2), whole[2:5])


def test_the_pen_makes_strokes_wider_and_thinner_and_no_ink_elsewhere():
    torch.manual_seed(0)
    images = cross().repeat(400, 1, 1, 1)
    made = pen(images, 1)
    ink = made.sum(dim=(1, 2, 3)) / images.sum(dim=(1, 2, 3))
    assert 0.1 < float(ink.min()) < 0.6
    assert 1.3 < float(ink.max()) < 2.5
    assert made.min() >= 0
    assert made.max() <= 1
    assert made[..., 0, :].abs().max() == 0
    assert torch.equal(pen(images, 0), images)


# ---- in training


@pytest.mark.parametrize("choice", sampling.CHOICES)
def test_it_trains_with_each(choice, make, tmp_path):
    folder = make(tmp_path / "dataset", rare=5)
    card = train.train(
        folder, tmp_path / "checkpoint", Settings(net="mlp", sampling=choice, epochs=12, batch_size=16, validation=0)
    )
    assert card.settings["sampling"] == choice
    assert card.metrics["accuracy"] > 0.8
