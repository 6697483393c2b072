"""Which trials are stopped, on studies in memory."""

import optuna
import pytest
from optuna.trial import TrialState, create_trial

from seaway.train.tune.pruner import COMPARED, Behind

EPOCHS = 6


def stops(value: float, epoch: int, done: int = COMPARED, more_is_better: bool = True) -> bool:
    """Whether a trial at `value` after `epoch` is stopped, where the done ones were around 0.7 then, ± 0.02."""
    study = optuna.create_study()
    for number in range(done):
        course = dict.fromkeys(range(1, EPOCHS + 1), 0.7 + 0.001 * (number % 2))
        study.add_trial(create_trial(value=0.7, intermediate_values=course, user_attrs={"error": 0.02}))
    running = create_trial(state=TrialState.RUNNING, intermediate_values={epoch: value})
    return Behind(more_is_better, EPOCHS).prune(study, running)


@pytest.fixture(autouse=True)
def quiet():
    optuna.logging.set_verbosity(optuna.logging.ERROR)


def test_by_more_than_chance():
    assert stops(0.65, epoch=3)
    assert not stops(0.67, epoch=3)  # behind the median, within two standard errors


def test_for_a_loss_it_is_the_other_way_round():
    assert stops(0.75, epoch=3, more_is_better=False)
    assert not stops(0.65, epoch=3, more_is_better=False)


@pytest.mark.parametrize(("epoch", "stopped"), [(1, False), (2, True), (5, True), (6, False)])
def test_neither_at_first_nor_at_the_end(epoch, stopped):
    assert stops(0.1, epoch) == stopped


def test_not_before_there_is_something_to_compare_with():
    assert not stops(0.1, epoch=3, done=COMPARED - 1)
