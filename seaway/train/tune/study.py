"""The search: Optuna proposes settings and prunes trials, the train stage's loop trains, the folder keeps everything.

A proposal depends only on the seed, the trial's number and the trials before it. So a sweep that was ended in any way
continues as if nothing had happened: first the unfinished trial from its saved state, then the next ones.
"""

import dataclasses
import shutil
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from statistics import median
from typing import Any

import numpy as np
import optuna
from optuna.exceptions import StorageInternalError
from optuna.pruners import BasePruner
from optuna.trial import FrozenTrial, TrialState
from sqlalchemy.exc import SQLAlchemyError
from sqlalchemy.pool import NullPool

from seaway.errors import ModelError, Refused, Unavailable
from seaway.train.loop import Epoch
from seaway.train.settings import current, former_name
from seaway.train.train import code_fingerprint
from seaway.train.tune import folder as sweep_folder
from seaway.train.tune import scores, trial
from seaway.train.tune.progress import Progress
from seaway.train.tune.results import STATES, Sweep, collect, from_optuna
from seaway.train.tune.scores import SIGNIFICANT_SE
from seaway.train.tune.space import Choice, SweepConfig, Value
from seaway.train.tune.trial import TrialContext

NAME = "sweep"
RANDOM_TRIALS = 8  # before the sampler begins to learn from them
MIN_COMPLETED = 4  # trials before any is pruned
MAX_CRASHES = 3  # of the process at the same step of a trial: after more, the trial is at fault


def search(config: SweepConfig, folder: Path, trials: int, stopping: Callable[[], bool]) -> Sweep:
    """Runs trials until `trials` are finished or `stopping` returns True; the caller holds the folder's lock.

    Raises Refused if the folder holds another sweep; InvalidInput, DataError, MetadataError, ModelError, Unavailable.
    """
    context = trial.prepare(config.dataset, config.settings)
    for dimension in config.space:
        for net in dimension.values if isinstance(dimension, Choice) and dimension.name == "net" else ():
            trial.check(dataclasses.replace(config.settings, net=str(net)), context)
    trial.check(config.settings, context)
    with _study(folder / sweep_folder.STUDY, config, context) as study:
        finished = len(_trials(study)) - len(_trials(study, TrialState.RUNNING))
        with Progress(config.metric, config.settings.epochs, trials, finished) as progress:
            progress.completed([completed.values[0] for completed in _trials(study, TrialState.COMPLETE)])
            while finished < trials and not stopping():
                finished += _run_next(study, config, context, folder, progress, stopping)
        return collect(study, config, context, folder, trials)


class MedianPruner(BasePruner):
    """Prunes a trial that is behind the median of the completed ones by more than two standard errors.

    Optuna's own, the bare median, would prune every second trial that is as good as the others: images that cannot
    distinguish two trials at the end must not decide between them midway. Called after each epoch; never prunes in the
    first third of the `epochs`, nor after the last.
    """

    def __init__(self, higher_is_better: bool, epochs: int) -> None:
        self._sign = 1 if higher_is_better else -1
        self._epochs = epochs

    def prune(self, study: optuna.Study, trial: FrozenTrial) -> bool:
        epoch = trial.last_step or 0
        if not self._epochs <= 3 * epoch < 3 * self._epochs:
            return False
        completed = study.get_trials(deepcopy=False, states=(TrialState.COMPLETE,))
        values = [other.intermediate_values[epoch] for other in completed if epoch in other.intermediate_values]
        if len(values) < MIN_COMPLETED:
            return False
        error: float = max(other.user_attrs["error"] for other in completed)
        behind = self._sign * (median(values) - trial.intermediate_values[epoch])
        return behind > SIGNIFICANT_SE * error


@contextmanager
def _study(path: Path, config: SweepConfig, context: TrialContext) -> Iterator[optuna.Study]:
    """The folder's study, or a new one whose first trial has the default settings, if the space contains them."""
    optuna.logging.set_verbosity(optuna.logging.ERROR)
    pruner = MedianPruner(scores.METRICS[config.metric], config.settings.epochs)
    storage = None
    try:
        # Without a pool: if the file is broken, RDBStorage() raises, and nothing could close a pool's connection.
        storage = optuna.storages.RDBStorage(f"sqlite:///{path.absolute()}", engine_kwargs={"poolclass": NullPool})
        study = optuna.create_study(
            storage=storage,
            study_name=NAME,
            direction="maximize" if scores.METRICS[config.metric] else "minimize",
            load_if_exists=True,
            pruner=pruner if config.pruning else optuna.pruners.NopPruner(),
        )
        _check_identity(study, config.identity(context.sha256) | code_fingerprint(config.settings.net), path.parent)
        defaults = {dimension.name: getattr(config.settings, dimension.name) for dimension in config.space}
        if not study.trials and all(dimension.contains(defaults[dimension.name]) for dimension in config.space):
            study.enqueue_trial({former_name(name): value for name, value in defaults.items()})
        yield study
    except (StorageInternalError, SQLAlchemyError) as error:
        reason = str(getattr(error.__cause__ or error, "orig", error))
        raise Unavailable(
            f"{path}: cannot be used ({reason}); if the disk is full, free some space and run again to continue. "
            "If the file is broken, give another --folder"
        ) from None
    finally:
        if storage:
            storage.remove_session()
            storage.engine.dispose()


def _check_identity(study: optuna.Study, identity: dict[str, str], folder: Path) -> None:
    """Raises Refused if the study in the folder was made with other settings or data."""
    if "identity" not in study.user_attrs:
        study.set_user_attr("identity", identity)
        return
    stored = current(study.user_attrs["identity"])
    names = [name for name in {**stored, **identity} if stored.get(name) != identity.get(name)]
    if names:
        changes = "; ".join(f"{name} {stored.get(name, 'none')}, now {identity.get(name, 'none')}" for name in names)
        raise Refused(
            f"{folder} holds a sweep with other settings ({changes}): give the same ones to continue it, or another "
            "--folder"
        )


def _trials(study: optuna.Study, *states: TrialState) -> list[FrozenTrial]:
    """Trials in these states; all that were ever started if none is given."""
    return study.get_trials(deepcopy=False, states=states or tuple(TrialState[name] for name in STATES))


def _run_next(
    study: optuna.Study,
    config: SweepConfig,
    context: TrialContext,
    folder: Path,
    progress: Progress,
    stopping: Callable[[], bool],
) -> bool:
    """Resumes the unfinished trial, or starts one. Returns whether it is finished now."""
    unfinished = _trials(study, TrialState.RUNNING)
    number = unfinished[0].number if unfinished else len(_trials(study))
    seed = int(np.random.SeedSequence([config.settings.seed, number]).generate_state(1)[0])
    study.sampler = optuna.samplers.TPESampler(n_startup_trials=RANDOM_TRIALS, seed=seed)
    # The lock guarantees that nobody else works on it. Optuna has no public way to resume a trial.
    optuna_trial = optuna.Trial(study, unfinished[0]._trial_id) if unfinished else study.ask()
    settings: dict[str, Any] = {dimension.name: dimension.suggest(optuna_trial) for dimension in config.space}
    optuna_trial.set_user_attr("settings", settings)
    work = folder / sweep_folder.WORK
    if not unfinished:
        shutil.rmtree(work, ignore_errors=True)
    recorder = _Recorder(optuna_trial, config, progress, stopping)
    progress.begin(number + 1, settings)
    try:
        predictions = _from_earlier_trial(study, settings, optuna_trial, folder) or trial.run(
            dataclasses.replace(config.settings, **settings), context, work, recorder
        )
    except trial.Paused:
        recorder.add_cpu_time()
        return False
    except optuna.TrialPruned:
        recorder.add_cpu_time()
        study.tell(optuna_trial, state=TrialState.PRUNED)
    except ModelError as error:
        recorder.add_cpu_time()
        # The table has the learning rate.
        optuna_trial.set_user_attr("reason", str(error).partition(" with --learning-rate")[0])
        study.tell(optuna_trial, state=TrialState.FAIL)
    else:
        recorder.add_cpu_time()
        predictions.write(sweep_folder.predictions_path(folder, number + 1))
        score, standard_error = scores.score(predictions, context.labels, config.metric)
        optuna_trial.set_user_attr("error", standard_error)
        study.tell(optuna_trial, score)
    shutil.rmtree(work, ignore_errors=True)
    progress.end(from_optuna(study.trials[number]))
    return True


def _from_earlier_trial(
    study: optuna.Study, settings: dict[str, Value], optuna_trial: optuna.Trial, folder: Path
) -> scores.Predictions | None:
    """The predictions of a completed trial with the same settings, because this one would make the very same."""
    for earlier in _trials(study, TrialState.COMPLETE):
        if current(earlier.user_attrs["settings"]) == settings:
            optuna_trial.set_user_attr("reason", f"same as trial {earlier.number + 1}")
            reported = study.trials[optuna_trial.number].intermediate_values
            for epoch in earlier.intermediate_values.keys() - reported.keys():
                optuna_trial.report(earlier.intermediate_values[epoch], epoch)
            return scores.read(sweep_folder.predictions_path(folder, earlier.number + 1))
    return None


class _Recorder:
    """Writes a running trial's scores and CPU time into the study, epoch by epoch."""

    def __init__(
        self, optuna_trial: optuna.Trial, config: SweepConfig, progress: Progress, stopping: Callable[[], bool]
    ) -> None:
        self._trial, self._config, self._progress = optuna_trial, config, progress
        self.stopping = stopping
        self._reported = set(optuna_trial.study.trials[optuna_trial.number].intermediate_values)
        self._cpu_s = time.process_time()

    def begin(self, step: int, steps: int) -> None:
        last_step, starts = self._trial.user_attrs.get("begun", (step, 0))
        starts = starts + 1 if last_step == step else 1
        if starts > MAX_CRASHES:
            raise ModelError(f"the process ended {MAX_CRASHES} times after step {step}, perhaps for lack of memory")
        self._trial.set_user_attr("begun", (step, starts))
        self._progress.resume(step, steps)

    def after_step(self) -> None:
        self._progress.step()

    def after_epoch(self, row: Epoch) -> None:
        epoch = int(row["epoch"])
        value = trial.value(row, self._config.metric)
        if epoch not in self._reported:  # an epoch whose state was not saved in time is trained again
            self._trial.report(value, epoch)
        self.add_cpu_time()
        self._progress.epoch(epoch, value)
        if self._trial.should_prune():
            raise optuna.TrialPruned

    def add_cpu_time(self) -> None:
        """Adds the CPU time since the last call."""
        now = time.process_time()
        used = self._trial.user_attrs.get("cpu_seconds", 0.0) + now - self._cpu_s
        self._trial.set_user_attr("cpu_seconds", used)
        self._cpu_s = now
