"""The results of a sweep: its trials, how they compare with the best, and the command that trains the best settings."""

import dataclasses
import json
import shlex
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from seaway.artifacts import artifact_metadata, atomic
from seaway.train.settings import INCIDENTAL, Settings, current, option
from seaway.train.tune import folder as sweep_folder
from seaway.train.tune import scores
from seaway.train.tune.scores import METRICS, within_2se
from seaway.train.tune.space import SweepConfig, Value

if TYPE_CHECKING:
    import optuna
    from optuna.trial import FrozenTrial

    from seaway.train.tune.trial import TrialContext

SCHEMA_VERSION = 1
State = Literal["done", "pruned", "failed", "unfinished"]
STATES: dict[str, State] = {"COMPLETE": "done", "PRUNED": "pruned", "FAIL": "failed", "RUNNING": "unfinished"}

# sweep.json keeps the words of its first version.
_STORED_KEYS = {"train_size": "learnt_from", "validation_size": "judged_on"}
_STORED_STATES = {"pruned": "stopped early"}


@dataclass(frozen=True, slots=True)
class Trial:
    """One trial. `curve` has the metric after each epoch; `value`, of a trial that is done, is the last of them.

    `error` is the standard error of `value`; `behind` is how much worse the trial is than the best, never below 0, and
    `behind_error` the standard error of that difference.
    """

    number: int
    settings: dict[str, Value]
    state: State
    curve: tuple[float, ...]
    cpu_minutes: float
    value: float | None = None
    error: float | None = None
    behind: float | None = None
    behind_error: float | None = None
    reason: str = ""

    @property
    def within_2se(self) -> bool:
        """Whether the validation images cannot distinguish it from the best trial."""
        return self.behind is not None and self.behind_error is not None and within_2se(self.behind, self.behind_error)


@dataclass(frozen=True, slots=True)
class Sweep:
    """All trials share `settings`; `space` is what was searched, as written; `final` has the winner's test metrics."""

    dataset: str
    source: str
    metric: str
    settings: Settings
    space: dict[str, str]
    pruning: bool
    train_size: int
    validation_size: int
    wanted: int
    trials: tuple[Trial, ...]
    final: dict[str, float] = dataclasses.field(default_factory=dict)

    @property
    def metric_name(self) -> str:
        """The metric in words."""
        return self.metric.replace("_", " ")

    @property
    def done(self) -> list[Trial]:
        return [trial for trial in self.trials if trial.state == "done"]

    @property
    def finished(self) -> int:
        return sum(trial.state != "unfinished" for trial in self.trials)

    @property
    def best(self) -> Trial | None:
        """The trial with the best value, the first one if several share it."""
        sign = 1 if METRICS[self.metric] else -1
        return max(self.done, key=lambda trial: sign * (trial.value or 0), default=None)

    @property
    def defaults(self) -> Trial | None:
        """The trial with the train stage's default settings."""
        default_values = {name: getattr(self.settings, name) for name in self.space}
        return next((trial for trial in self.trials if trial.settings == default_values), None)

    def ordered(self) -> list[Trial]:
        """The best first; then unfinished and pruned trials, those that ran longest first; then the failed ones."""
        sign = -1 if METRICS[self.metric] else 1
        states = ("done", "unfinished", "pruned", "failed")

        def rank(trial: Trial) -> tuple[float, ...]:
            epochs = 0 if trial.state == "done" else -len(trial.curve)
            last = sign * trial.curve[-1] if trial.curve else 0
            return (states.index(trial.state), epochs, last, trial.number)

        return sorted(self.trials, key=rank)


def collect(study: "optuna.Study", config: SweepConfig, context: "TrialContext", folder: Path, wanted: int) -> Sweep:
    """The sweep's result, from Optuna's trials and the predictions in the folder."""
    trials = tuple(from_optuna(frozen) for frozen in study.trials if frozen.state.name in STATES)
    sweep = Sweep(
        dataset=str(config.dataset),
        source=str(artifact_metadata.read(config.dataset).settings.get("source", config.dataset)),
        metric=config.metric,
        settings=config.settings,
        space={dimension.name: str(dimension) for dimension in config.space},
        pruning=config.pruning,
        train_size=context.train_size,
        validation_size=len(context.labels),
        wanted=max(wanted, sum(trial.state != "unfinished" for trial in trials)),
        trials=trials,
    )
    if sweep.best is None:
        return sweep
    best = scores.read(sweep_folder.predictions_path(folder, sweep.best.number))

    def compared(trial: Trial) -> Trial:
        if trial.state != "done":
            return trial
        predictions = scores.read(sweep_folder.predictions_path(folder, trial.number))
        distance, error = scores.difference(best, predictions, context.labels, config.metric)
        return dataclasses.replace(trial, behind=abs(distance), behind_error=error)

    return dataclasses.replace(sweep, trials=tuple(compared(trial) for trial in sweep.trials))


def from_optuna(frozen: "FrozenTrial") -> Trial:
    """Optuna's record of a trial as ours, not yet compared with the best."""
    attributes: dict[str, Any] = frozen.user_attrs
    state = STATES[frozen.state.name]
    return Trial(
        number=frozen.number + 1,
        settings=current(attributes.get("settings", {})),
        state=state,
        curve=tuple(frozen.intermediate_values[epoch] for epoch in sorted(frozen.intermediate_values)),
        cpu_minutes=attributes.get("cpu_seconds", 0.0) / 60,
        value=frozen.value if state == "done" else None,
        error=attributes.get("error") if state == "done" else None,
        reason=attributes.get("reason", ""),
    )


def winner(sweep: Sweep) -> Settings:
    """The best trial's settings, with the default validation share: the final training uses all other images."""
    assert sweep.best
    changes: dict[str, Any] = {**sweep.best.settings, "validation": Settings().validation}
    return dataclasses.replace(sweep.settings, **changes)


def command(sweep: Sweep, folder: Path) -> str:
    """The shell command that trains the best settings: net, epochs, and whatever differs from the defaults."""
    words = ["python", "-m", "seaway.train", "--dataset", sweep.dataset]
    words += ["--checkpoint", str(folder / sweep_folder.CHECKPOINT), "--report", str(folder / sweep_folder.REPORT)]
    for name, value in dataclasses.asdict(winner(sweep)).items():
        if name in ("net", "epochs") or (value != getattr(Settings(), name) and name not in INCIDENTAL):
            words += [f"--{option(name)}"] + ([] if value is True else [str(value)])  # a switch has no value
    return shlex.join(words)


def write(sweep: Sweep, path: Path) -> None:
    """Writes the sweep as JSON; replaces an existing file atomically."""
    best = sweep.best
    shared = dataclasses.asdict(dataclasses.replace(sweep, trials=()))
    raw = {
        "schema_version": SCHEMA_VERSION,
        "best": best.number if best else None,
        **{_STORED_KEYS.get(key, key): value for key, value in shared.items()},
        "trials": [
            {
                **dataclasses.asdict(trial),
                "state": _STORED_STATES.get(trial.state, trial.state),
                "within_2se": trial.within_2se,
            }
            for trial in sweep.trials
        ],
    }
    with atomic.file(path) as part:
        part.write_text(json.dumps(raw, indent=1, allow_nan=False) + "\n", encoding="utf-8")


# ---- the table and its interpretation, for terminal and report


def headers(sweep: Sweep) -> list[str]:
    settings = [name.replace("_", " ") for name in sweep.space]
    return ["trial", "state", sweep.metric_name, "gap to best", "epochs", "CPU minutes", *settings]


def rows(sweep: Sweep) -> list[list[str]]:
    """A row of text for each trial, the best first."""
    return [_row(sweep, trial) for trial in sweep.ordered()]


def _row(sweep: Sweep, trial: Trial) -> list[str]:
    value = behind = ""
    if trial.value is not None:
        value = _with_error(trial.value, trial.error)
    elif trial.curve:
        value = f"({trial.curve[-1]:.4f})"
    best = sweep.best
    if best and trial.number != best.number and trial.behind is not None:
        behind = _with_error(trial.behind, trial.behind_error)
    settings = [_format(trial.settings.get(name, "")) for name in sweep.space]
    epochs = str(len(trial.curve))
    return [str(trial.number), _state(sweep, trial), value, behind, epochs, minutes(trial.cpu_minutes), *settings]


def remarks(sweep: Sweep) -> list[tuple[str, str]]:
    """Remarks on single trials: why one failed, or which earlier trial had the same settings."""
    return [(f"trial {trial.number}", trial.reason) for trial in sweep.trials if trial.reason]


def minutes(cpu: float) -> str:
    return f"{cpu:.1f}" if cpu >= 1 else f"{cpu:.2f}"


def sentences(sweep: Sweep) -> list[str]:
    """What the numbers show, and what they do not."""
    best, done = sweep.best, len(sweep.done)
    if best is None:
        return ["No trial completed, so there is no best one."]
    which = f"the best of {done} completed trials" if done > 1 else "the only trial that completed"
    lines = [
        f"Trial {best.number} is {which}: validation {sweep.metric_name} {best.value:.4f}, with "
        f"a standard error of {best.error:.4f} on {sweep.validation_size:,} images."
    ]
    tied = [str(trial.number) for trial in sweep.ordered() if trial.within_2se and trial.number != best.number]
    if tied:
        which = f"trial {tied[0]}" if len(tied) == 1 else f"trials {', '.join(tied[:-1])} and {tied[-1]}"
        lines.append(f"These images cannot distinguish it from {which}: they differ by at most two standard errors.")
    elif done > 1:
        lines.append("All other trials are behind it by more than two standard errors of the difference.")
    lines += _against_defaults(sweep, best)
    pruned = sum(trial.state == "pruned" for trial in sweep.trials)
    if pruned:
        these = "1 trial was" if pruned == 1 else f"{pruned} trials were"
        lines.append(
            f"{these} pruned for falling behind the others at the same epoch: what more epochs would have reached is "
            "unknown."
        )
    if done > 1:
        more = "high" if METRICS[sweep.metric] else "low"
        lines.append(
            f"Because it was chosen as the best of {done}, its {sweep.metric_name} is probably a little too {more}, "
            "and another seed would change every result, which the standard errors do not cover. Only the test set "
            "gives an unbiased estimate."
        )
    return lines


def _against_defaults(sweep: Sweep, best: Trial) -> list[str]:
    defaults = sweep.defaults
    if defaults is None or defaults.state == "unfinished":
        return []
    if defaults.number == best.number:
        return ["It has the default settings" + (": the search found nothing better." if len(sweep.done) > 1 else ".")]
    if defaults.behind is None:
        state = "was pruned" if defaults.state == "pruned" else "failed"
        return [f"Trial {defaults.number}, with the default settings, {state}."]
    significance = "not a significant difference" if defaults.within_2se else "a significant difference"
    return [
        f"The default settings, trial {defaults.number}, are {defaults.behind:.4f} ± {defaults.behind_error:.4f} "
        f"behind it, {significance}."
    ]


def _with_error(value: float, error: float | None) -> str:
    return f"{value:.4f}\N{NO-BREAK SPACE}±\N{NO-BREAK SPACE}{error or 0:.4f}"


def _format(value: object) -> str:
    return f"{value:.3g}" if isinstance(value, float) else str(value)


def _state(sweep: Sweep, trial: Trial) -> str:
    """How the trial ended; for completed ones, whether it is the best or tied with it."""
    if sweep.best and trial.number == sweep.best.number:
        return "best"
    return "tied" if trial.within_2se else trial.state
