"""Scores and their standard errors, against known values."""

import math

import numpy as np
import pytest
import torch

from seaway.train.evaluate import measure
from seaway.train.tune import scores
from seaway.train.tune.scores import Predictions

LABELS = np.repeat(np.array([0, 1, 2], np.uint8), [60, 30, 10])


def guesses(right_share: float, seed: int) -> Predictions:
    rng = np.random.default_rng(seed)
    right = rng.random(len(LABELS)) < right_share
    return Predictions(np.where(right, LABELS, (LABELS + 1) % 3).astype(np.uint8), rng.random(100).astype(np.float32))


def test_the_scores_are_those_of_training():
    logits = torch.randn(100, 3, generator=torch.Generator().manual_seed(1))
    losses = torch.nn.functional.cross_entropy(logits, torch.from_numpy(LABELS.astype(np.int64)), reduction="none")
    predictions, result = (
        Predictions(logits.argmax(1).numpy().astype(np.uint8), losses.numpy()),
        measure(logits, LABELS),
    )
    for metric in scores.METRICS:
        assert scores.score(predictions, LABELS, metric)[0] == pytest.approx(getattr(result, metric), rel=1e-5)


def test_the_error_of_an_accuracy_is_the_binomial_one():
    share, error = scores.score(guesses(0.7, 1), LABELS, "accuracy")
    assert error == pytest.approx(math.sqrt(share * (1 - share) / 99))


def test_the_error_of_a_balanced_accuracy_is_that_of_its_classes():
    predictions = guesses(0.7, 2)
    recalls = [(predictions.predicted == LABELS)[label == LABELS] for label in range(3)]
    variances = [recall.var(ddof=1) / len(recall) for recall in recalls]
    assert scores.score(predictions, LABELS, "balanced_accuracy")[1] == pytest.approx(math.sqrt(sum(variances)) / 3)


def test_a_difference_is_computed_image_by_image():
    """Two trials that fail on nearly the same images differ significantly, though not by their combined errors."""
    first = guesses(0.7, 3)
    predicted = first.predicted.copy()
    predicted[np.flatnonzero(predicted == LABELS)[:6]] += 3  # six more errors
    distance, error = scores.difference(first, Predictions(predicted, first.losses), LABELS, "accuracy")
    alone = scores.score(first, LABELS, "accuracy")[1]
    assert distance == pytest.approx(0.06)
    assert not scores.within_2se(distance, error)
    assert scores.within_2se(distance, math.hypot(alone, alone))


def test_equal_predictions_are_within_two_standard_errors():
    same = guesses(0.7, 4)
    for metric in scores.METRICS:
        assert scores.within_2se(*scores.difference(same, same, LABELS, metric))
