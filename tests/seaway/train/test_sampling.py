"""The images of an epoch with each sampling, and training with it."""

import numpy as np
import pytest
import torch

from seaway.errors import InvalidInput
from seaway.train import sampling, train
from seaway.train.augment import AugmentParams, augment, jitter_strokes
from seaway.train.settings import Settings

COUNTS = {0: 40, 2: 7, 3: 11}  # no image of class 1
LABELS = np.random.default_rng(1).permutation(np.repeat([*COUNTS], [*COUNTS.values()]).astype(np.uint8))


def sampled(choice, seed=0):
    indices, repeats = sampling.draw(LABELS, choice, np.random.default_rng(seed))
    assert len(indices) == len(repeats) == sampling.size(LABELS, choice)
    return indices, repeats


@pytest.mark.parametrize("choice", ["none", "weighted"])
def test_every_image_once(choice):
    indices, repeats = sampled(choice)
    assert sorted(indices) == list(range(58))
    assert not repeats.any()


def test_undersample_cuts_every_class_to_the_rarest_and_chooses_anew():
    indices, repeats = sampled("undersample")
    assert dict(zip(*np.unique(LABELS[indices], return_counts=True), strict=True)) == {0: 7, 2: 7, 3: 7}
    assert len({*indices}) == 21
    assert not repeats.any()
    assert {*indices} != {*sampled("undersample", seed=1)[0]}


@pytest.mark.parametrize("choice", ["oversample", "augment"])
def test_oversample_and_augment_raise_every_class_to_the_most_common_evenly(choice):
    indices, repeats = sampled(choice)
    assert dict(zip(*np.unique(LABELS[indices], return_counts=True), strict=True)) == {0: 40, 2: 40, 3: 40}
    assert {*indices} == {*range(58)}, "nothing is left out"
    for label, count in COUNTS.items():
        times = np.unique(indices[LABELS[indices] == label], return_counts=True)[1]
        assert {*times} <= {40 // count, 40 // count + 1}
    assert repeats.sum() == 120 - 58
    assert sorted(indices[~repeats]) == list(range(58)), "each is there once as it is"


def test_the_order_is_a_function_of_the_seed_and_mixes_classes():
    assert np.array_equal(sampled("oversample")[0], sampled("oversample")[0])
    indices, _ = sampled("oversample")
    assert np.count_nonzero(np.diff(LABELS[indices].astype(int))) > 40, "not one class after the other"


def test_weights_make_all_classes_count_alike():
    weights = sampling.weights(LABELS, 4, "weighted")
    assert weights.dtype == np.float32
    totals = [weights[label] * count for label, count in COUNTS.items()]
    assert totals == pytest.approx([58 / 3] * 3)
    assert float(weights[LABELS].mean()) == pytest.approx(1)
    assert sampling.weights(LABELS, 4, "oversample") is None


def test_the_message_for_an_unknown_sampling_lists_the_choices():
    with pytest.raises(
        InvalidInput, match="--sampling more: choose from none, weighted, undersample, oversample, augment"
    ):
        Settings(sampling="more").check()


def test_larger_epochs_are_fewer():
    assert Settings(net="mlp").resolved(4.0).epochs == round(Settings(net="mlp").resolved().epochs / 4)
    assert Settings(net="mlp").resolved(1000.0).epochs == 1
    assert Settings(net="mlp", epochs=5).resolved(4.0).epochs == 5, "an explicit number stays"


# ---- augmented images


UNCHANGED, PARAMS = AugmentParams(0, 0, 0), AugmentParams(0.8, 0.4, 1)


def cross():
    images = torch.zeros(1, 1, 28, 28)
    images[..., 13:15, 4:24] = images[..., 4:24, 13:15] = 1
    return images


def test_repeats_are_augmented_and_the_others_stay():
    torch.manual_seed(0)
    images, repeats = cross().repeat(6, 1, 1, 1), torch.tensor([True, False] * 3)
    made = augment(images, UNCHANGED, repeats)
    assert torch.equal(made[~repeats], images[~repeats])
    assert made.min() >= 0
    assert made.max() <= 1
    for one in made[repeats]:
        assert float((one - images[0]).abs().mean()) > 0.01
    assert not torch.equal(made[0], made[2])


def test_a_part_of_a_batch_is_augmented_as_in_the_whole():
    images, repeats = cross().repeat(6, 1, 1, 1), torch.tensor([True, True, False] * 2)
    torch.manual_seed(3)
    whole = augment(images, PARAMS, repeats)
    torch.manual_seed(3)
    assert torch.equal(augment(images[2:5], PARAMS, repeats[2:5], 6, 2), whole[2:5])


def test_jitter_makes_strokes_wider_and_thinner_and_no_ink_elsewhere():
    torch.manual_seed(0)
    images = cross().repeat(400, 1, 1, 1)
    made = jitter_strokes(images, 1)
    ink = made.sum(dim=(1, 2, 3)) / images.sum(dim=(1, 2, 3))
    assert 0.1 < float(ink.min()) < 0.6
    assert 1.3 < float(ink.max()) < 2.5
    assert made.min() >= 0
    assert made.max() <= 1
    assert made[..., 0, :].abs().max() == 0
    assert torch.equal(jitter_strokes(images, 0), images)


# ---- in training


@pytest.mark.parametrize("choice", sampling.CHOICES)
def test_it_trains_with_each(choice, make, tmp_path):
    folder = make(tmp_path / "dataset", rare=5)
    metadata = train.train(
        folder, tmp_path / "checkpoint", Settings(net="mlp", sampling=choice, epochs=12, batch_size=16, validation=0)
    )
    assert metadata.settings["sampling"] == choice
    assert metadata.metrics["accuracy"] > 0.8
