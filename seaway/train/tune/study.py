"""The search: Optuna proposes and stops, the train stage's loop learns, and all that happened stays in the folder.

What is proposed depends on the seed, the trial's number and the trials before it alone. So a sweep that was ended in
whatever way goes on as if nothing had happened: the unfinished trial from its saved state, then the next ones.
"""

import dataclasses
import shutil
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import optuna
from optuna.exceptions import StorageInternalError
from optuna.trial import FrozenTrial, TrialState
from sqlalchemy.exc import SQLAlchemyError
from sqlalchemy.pool import NullPool

from seaway.errors import ModelError, Refused, Unavailable
from seaway.train.loop import Epoch
from seaway.train.train import code
from seaway.train.tune import folder as places
from seaway.train.tune import scores, trial
from seaway.train.tune.collect import STATES, collect, record
from seaway.train.tune.progress import Progress
from seaway.train.tune.pruner import Behind
from seaway.train.tune.results import Sweep
from seaway.train.tune.space import Choice, Plan, Value
from seaway.train.tune.trial import Ground

NAME = "sweep"
RANDOM = 8  # trials before the sampler begins to learn from them
ENDED = 3  # times that the process may end where a trial stands: more often, and it is the trial's fault


def search(plan: Plan, folder: Path, trials: int, stopping: Callable[[], bool]) -> Sweep:
    """Goes on until there are `trials` finished ones, or `stopping` says True; the folder's lock is the caller's.

    Raises Refused where the folder holds another sweep; InvalidInput, DataError, CardError, ModelError, Unavailable.
    """
    on = trial.ground(plan.dataset, plan.settings)
    for dimension in plan.space:
        for net in dimension.values if isinstance(dimension, Choice) and dimension.name == "net" else ():
            trial.check(dataclasses.replace(plan.settings, net=str(net)), on)
    trial.check(plan.settings, on)
    with _study(folder / places.STUDY, plan, on) as study:
        finished = len(_trials(study, *STATES)) - len(_trials(study, TrialState.RUNNING))
        with Progress(plan.metric, plan.settings.epochs, trials, finished) as progress:
            progress.known([held.values[0] for held in _trials(study, TrialState.COMPLETE)])
            while finished < trials and not stopping():
                finished += _one(study, plan, on, folder, progress, stopping)
        return collect(study, plan, on, folder, trials)


@contextmanager
def _study(path: Path, plan: Plan, on: Ground) -> Iterator[optuna.Study]:
    """The folder's study, or a new one whose first trial has training's own settings, where they are in the space."""
    optuna.logging.set_verbosity(optuna.logging.ERROR)
    pruner = Behind(scores.METRICS[plan.metric], plan.settings.epochs)
    storage = None
    try:
        # Without a pool: where a file is broken the storage is never made, and nobody could close a pool's connection.
        storage = optuna.storages.RDBStorage(f"sqlite:///{path.absolute()}", engine_kwargs={"poolclass": NullPool})
        study = optuna.create_study(
            storage=storage,
            study_name=NAME,
            direction="maximize" if scores.METRICS[plan.metric] else "minimize",
            load_if_exists=True,
            pruner=pruner if plan.pruning else optuna.pruners.NopPruner(),
        )
        _same(study, plan.identity(on.sha256) | code(plan.settings.net), path.parent)
        own = {dimension.name: getattr(plan.settings, dimension.name) for dimension in plan.space}
        if not study.trials and all(dimension.holds(own[dimension.name]) for dimension in plan.space):
            study.enqueue_trial(own)
        yield study
    except (StorageInternalError, SQLAlchemyError) as error:
        reason = str(getattr(error.__cause__ or error, "orig", error))
        raise Unavailable(
            f"{path}: cannot be used ({reason}); free space if the disk is full, and run again to go on. "
            "If it is broken, give another --folder"
        ) from None
    finally:
        if storage:
            storage.remove_session()
            storage.engine.dispose()


def _same(study: optuna.Study, asked: dict[str, str], folder: Path) -> None:
    held = study.user_attrs.get("identity")
    if held is None:
        study.set_user_attr("identity", asked)
        return
    names = [name for name in {**held, **asked} if held.get(name) != asked.get(name)]
    if names:
        said = "; ".join(f"{name} {held.get(name, 'none')}, now {asked.get(name, 'none')}" for name in names)
        raise Refused(
            f"{folder} holds a sweep with other settings ({said}): give the same to go on with it, or another --folder"
        )


def _trials(study: optuna.Study, *states: TrialState) -> list[FrozenTrial]:
    return study.get_trials(deepcopy=False, states=states)


def _one(
    study: optuna.Study, plan: Plan, on: Ground, folder: Path, progress: Progress, stopping: Callable[[], bool]
) -> bool:
    """Goes on with the unfinished trial, or begins one. Returns whether it is finished now."""
    unfinished = _trials(study, TrialState.RUNNING)
    number = unfinished[0].number if unfinished else len(_trials(study, *STATES))
    seed = int(np.random.SeedSequence([plan.settings.seed, number]).generate_state(1)[0])
    study.sampler = optuna.samplers.TPESampler(n_startup_trials=RANDOM, seed=seed)
    # With the lock held nobody else works on it. There is no public way to take a trial up again.
    tried = optuna.Trial(study, unfinished[0]._trial_id) if unfinished else study.ask()
    values: dict[str, Any] = {dimension.name: dimension.suggest(tried) for dimension in plan.space}
    tried.set_user_attr("settings", values)
    work = folder / places.WORK
    if not unfinished:
        shutil.rmtree(work, ignore_errors=True)
    course = _Course(tried, plan, progress, stopping)
    progress.begin(number + 1, values)
    try:
        known = _known(study, values, tried, folder)
        outcome = known or trial.run(dataclasses.replace(plan.settings, **values), on, work, course)
    except trial.Paused:
        course.account()
        return False
    except optuna.TrialPruned:
        course.account()
        study.tell(tried, state=TrialState.PRUNED)
    except ModelError as error:
        course.account()
        tried.set_user_attr("reason", str(error).partition(" with --learning-rate")[0])  # the table has it
        study.tell(tried, state=TrialState.FAIL)
    else:
        course.account()
        outcome.write(places.outcome(folder, number + 1))
        value, chance = scores.figure(outcome, on.labels, plan.metric)
        tried.set_user_attr("error", chance)
        study.tell(tried, value)
    shutil.rmtree(work, ignore_errors=True)
    progress.end(record(study.trials[number]))
    return True


def _known(study: optuna.Study, values: dict[str, Value], tried: optuna.Trial, folder: Path) -> scores.Outcome | None:
    """What a trial that is done with the same settings came to, since this one would come to the very same."""
    for same in _trials(study, TrialState.COMPLETE):
        if same.user_attrs["settings"] == values:
            tried.set_user_attr("reason", f"as trial {same.number + 1}")
            for epoch in same.intermediate_values.keys() - study.trials[tried.number].intermediate_values.keys():
                tried.report(same.intermediate_values[epoch], epoch)
            return scores.read(places.outcome(folder, same.number + 1))
    return None


class _Course:
    """What becomes of one trial while it lasts: its figures and its CPU time go into the study, epoch by epoch."""

    def __init__(self, tried: optuna.Trial, plan: Plan, progress: Progress, stopping: Callable[[], bool]) -> None:
        self._trial, self._plan, self._progress = tried, plan, progress
        self.stopping = stopping
        self._reported = set(tried.study.trials[tried.number].intermediate_values)
        self._counted = time.process_time()

    def begin(self, step: int, steps: int) -> None:
        at, times = self._trial.user_attrs.get("begun", (step, 0))
        times = times + 1 if at == step else 1
        if times > ENDED:
            raise ModelError(f"the process ended {ENDED} times after step {step}, perhaps for lack of memory")
        self._trial.set_user_attr("begun", (step, times))
        self._progress.resume(step, steps)

    def after_step(self) -> None:
        self._progress.step()

    def after_epoch(self, row: Epoch) -> None:
        epoch = int(row["epoch"])
        value = trial.value(row, self._plan.metric)
        if epoch not in self._reported:  # ended before its state was saved, an epoch is learnt again
            self._trial.report(value, epoch)
        self.account()
        self._progress.epoch(epoch, value)
        if self._trial.should_prune():
            raise optuna.TrialPruned

    def account(self) -> None:
        """Adds the CPU time since the last call."""
        now = time.process_time()
        used = self._trial.user_attrs.get("cpu_seconds", 0.0) + now - self._counted
        self._trial.set_user_attr("cpu_seconds", used)
        self._counted = now
