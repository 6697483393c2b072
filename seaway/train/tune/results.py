"""What came of a sweep: its trials, which of them are as good as the best, and the command that trains the best."""

import dataclasses
import json
import shlex
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from seaway.artifacts import atomic
from seaway.train.settings import INCIDENTAL, Settings, option
from seaway.train.tune import folder as places
from seaway.train.tune.scores import METRICS, alike
from seaway.train.tune.space import Value

SCHEMA_VERSION = 1
State = Literal["done", "stopped early", "failed", "unfinished"]


@dataclass(frozen=True, slots=True)
class Trial:
    """`curve` has the metric after each epoch; `value`, of a trial that is done, is the last of it.

    `error` is the value's standard error; `behind` how much worse it is than the best, never below 0, and
    `behind_error` the standard error of that.
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
    def alike(self) -> bool:
        """Whether it cannot be told from the best by the validation pictures."""
        return self.behind is not None and self.behind_error is not None and alike(self.behind, self.behind_error)


@dataclass(frozen=True, slots=True)
class Sweep:
    """`settings` are what all trials share, `space` what was searched, as it was written; `final` the winner's card."""

    dataset: str
    source: str
    metric: str
    settings: Settings
    space: dict[str, str]
    pruning: bool
    learnt_from: int
    judged_on: int
    wanted: int
    trials: tuple[Trial, ...]
    final: dict[str, float] = dataclasses.field(default_factory=dict)

    @property
    def measured(self) -> str:
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
        """The first of the best ones."""
        sign = 1 if METRICS[self.metric] else -1
        return max(self.done, key=lambda trial: sign * (trial.value or 0), default=None)

    @property
    def defaults(self) -> Trial | None:
        """The trial with the settings that training has by itself."""
        own = {name: getattr(self.settings, name) for name in self.space}
        return next((trial for trial in self.trials if trial.settings == own), None)

    def ordered(self) -> list[Trial]:
        """The best first; then those that were stopped, the furthest first; then the failed ones."""
        sign = -1 if METRICS[self.metric] else 1
        states = ("done", "unfinished", "stopped early", "failed")

        def place(trial: Trial) -> tuple[float, ...]:
            epochs = 0 if trial.state == "done" else -len(trial.curve)
            last = sign * trial.curve[-1] if trial.curve else 0
            return (states.index(trial.state), epochs, last, trial.number)

        return sorted(self.trials, key=place)


def winner(sweep: Sweep) -> Settings:
    """What to train the best with: the share for validation is training's own again, the rest is learnt from."""
    assert sweep.best
    found: dict[str, Any] = {**sweep.best.settings, "validation": Settings().validation}
    return dataclasses.replace(sweep.settings, **found)


def command(sweep: Sweep, folder: Path) -> str:
    """The train stage with the best settings, for a shell: net, epochs, and whatever is not the stage's default."""
    words = ["python", "-m", "seaway.train", "--dataset", sweep.dataset]
    words += ["--checkpoint", str(folder / places.CHECKPOINT), "--report", str(folder / places.REPORT)]
    for name, value in dataclasses.asdict(winner(sweep)).items():
        if name in ("net", "epochs") or (value != getattr(Settings(), name) and name not in INCIDENTAL):
            words += [f"--{option(name)}"] + ([] if value is True else [str(value)])  # a switch has no value
    return shlex.join(words)


def write(sweep: Sweep, path: Path) -> None:
    """As JSON; an existing file is replaced at once."""
    best = sweep.best
    raw = {
        "schema_version": SCHEMA_VERSION,
        "best": best.number if best else None,
        **dataclasses.asdict(dataclasses.replace(sweep, trials=())),
        "trials": [{**dataclasses.asdict(trial), "alike": trial.alike} for trial in sweep.trials],
    }
    with atomic.file(path) as part:
        part.write_text(json.dumps(raw, indent=1, allow_nan=False) + "\n", encoding="utf-8")
