"""Figures and their standard errors, against what is known of them."""

import math

import numpy as np
import pytest
import torch

from seaway.train.evaluate import measure
from seaway.train.tune import scores
from seaway.train.tune.scores import Outcome

LABELS = np.repeat(np.array([0, 1, 2], np.uint8), [60, 30, 10])


def guesses(right_share: float, seed: int) -> Outcome:
    chance = np.random.default_rng(seed)
    right = chance.random(len(LABELS)) < right_share
    return Outcome(np.where(right, LABELS, (LABELS + 1) % 3).astype(np.uint8), chance.random(100).astype(np.float32))


def test_the_figures_are_those_of_training():
    logits = torch.randn(100, 3, generator=torch.Generator().manual_seed(1))
    losses = torch.nn.functional.cross_entropy(logits, torch.from_numpy(LABELS.astype(np.int64)), reduction="none")
    outcome, result = Outcome(logits.argmax(1).numpy().astype(np.uint8), losses.numpy()), measure(logits, LABELS)
    for metric in scores.METRICS:
        assert scores.figure(outcome, LABELS, metric)[0] == pytest.approx(getattr(result, metric), rel=1e-5)


def test_the_error_of_an_accuracy_is_the_binomial_one():
    share, error = scores.figure(guesses(0.7, 1), LABELS, "accuracy")
    assert error == pytest.approx(math.sqrt(share * (1 - share) / 99))


def test_the_error_of_a_balanced_accuracy_is_that_of_its_classes():
    outcome = guesses(0.7, 2)
    recalls = [(outcome.taken == LABELS)[label == LABELS] for label in range(3)]
    variances = [recall.var(ddof=1) / len(recall) for recall in recalls]
    assert scores.figure(outcome, LABELS, "balanced_accuracy")[1] == pytest.approx(math.sqrt(sum(variances)) / 3)


def test_a_difference_is_judged_picture_by_picture():
    """Two that fail on nearly the same pictures are told apart where two errors taken together would not."""
    first = guesses(0.7, 3)
    taken = first.taken.copy()
    taken[np.flatnonzero(taken == LABELS)[:6]] += 3  # six more that are wrong
    distance, error = scores.difference(first, Outcome(taken, first.losses), LABELS, "accuracy")
    alone = scores.figure(first, LABELS, "accuracy")[1]
    assert distance == pytest.approx(0.06)
    assert not scores.alike(distance, error)
    assert scores.alike(distance, math.hypot(alone, alone))


def test_the_same_answers_are_alike():
    same = guesses(0.7, 4)
    for metric in scores.METRICS:
        assert scores.alike(*scores.difference(same, same, LABELS, metric))
