"""Which trials are stopped early: those behind the median of the others by more than chance.

The bare median, Optuna's, would stop every second of those that are as good as the others. Pictures that cannot tell
two trials apart at the end are not to do so midway.
"""

from statistics import median

from optuna import Study
from optuna.pruners import BasePruner
from optuna.trial import FrozenTrial, TrialState

from seaway.train.tune.scores import TOLD_APART

COMPARED = 4  # trials that are done before any is stopped


class Behind(BasePruner):
    """Asked after each epoch; never stops a trial in the first third of the `epochs`, nor after the last."""

    def __init__(self, more_is_better: bool, epochs: int) -> None:
        self._sign = 1 if more_is_better else -1
        self._epochs = epochs

    def prune(self, study: Study, trial: FrozenTrial) -> bool:
        epoch = trial.last_step or 0
        if not self._epochs <= 3 * epoch < 3 * self._epochs:
            return False
        done = study.get_trials(deepcopy=False, states=(TrialState.COMPLETE,))
        there = [other.intermediate_values[epoch] for other in done if epoch in other.intermediate_values]
        if len(there) < COMPARED:
            return False
        chance: float = max(other.user_attrs["error"] for other in done)
        behind = self._sign * (median(there) - trial.intermediate_values[epoch])
        return behind > TOLD_APART * chance
