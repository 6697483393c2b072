"""The search space, `learning_rate=1e-3..1e-2,log` or `batch_size=64|128`, and what all trials share, `affine=0`.

Names are those of the train stage's settings. A value that training would refuse is refused here, before any trial.
"""

import contextlib
import dataclasses
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, cast

from seaway.errors import InvalidInput
from seaway.train.settings import Settings, former_name, parse_value, setting_name, setting_type

if TYPE_CHECKING:
    from optuna import Trial

Value = int | float | str | bool

# Ranges around the train stage's defaults, as wide as they have been seen to help.
DEFAULT = (
    "learning_rate=5e-4..1e-2,log",
    "weight_decay=2e-3..2e-1,log",
    "label_smoothing=0..0.15",
    "affine=0.3..1.5",
    "elastic=0..1",
)
# Significant digits of a proposed number: more would make no measurable difference, and nobody wants to type them.
DIGITS = 3

_FIXED = {
    "epochs": "pruning compares trials at the same epoch of the same schedule",
    "sampling": "it changes the size of an epoch, so trials could not be compared at the same one",
    "patience": "only trials with the same number of epochs can be compared",
    "validation": "all trials are compared on the same validation images",
    "seed": "all trials are compared on the same validation images, which the seed draws",
    "threads": "it changes how long a trial takes, not its result",
    "device": "it changes how long a trial takes, not its result",
    "save_seconds": "it does not change a trial's result",
}


@dataclass(frozen=True, slots=True)
class Range:
    """All numbers from `low` to `high`, sampled uniformly, or with `log` uniformly over the powers of ten."""

    name: str
    low: float
    high: float
    log: bool
    whole: bool

    def suggest(self, trial: "Trial") -> Value:
        """The trial's value, rounded to DIGITS significant digits within the range; Optuna keeps all digits."""
        if self.whole:
            return trial.suggest_int(former_name(self.name), int(self.low), int(self.high), log=self.log)
        value = trial.suggest_float(former_name(self.name), self.low, self.high, log=self.log)
        return min(max(float(f"{value:.{DIGITS}g}"), self.low), self.high)

    def contains(self, value: Value) -> bool:
        return not isinstance(value, str) and self.low <= value <= self.high

    def __str__(self) -> str:
        return f"{self.low:g}..{self.high:g}{',log' if self.log else ''}"


@dataclass(frozen=True, slots=True)
class Choice:
    """One of several values."""

    name: str
    values: tuple[Value, ...]

    def suggest(self, trial: "Trial") -> Value:
        return cast(Value, trial.suggest_categorical(former_name(self.name), self.values))

    def contains(self, value: Value) -> bool:
        return value in self.values

    def __str__(self) -> str:
        return "|".join(map(str, self.values))


Dimension = Range | Choice


@dataclass(frozen=True, slots=True)
class SweepConfig:
    """The search space and the settings that all trials share, resolved."""

    dataset: Path
    settings: Settings
    space: tuple[Dimension, ...]
    metric: str
    pruning: bool

    def identity(self, sha256: str) -> dict[str, str]:
        """What must be the same for a sweep to continue, on the dataset with this digest."""
        searched = {f"--search {dimension.name}": str(dimension) for dimension in self.space}
        shared = {k: str(v) for k, v in self.settings.essential().items() if f"--search {k}" not in searched}
        return {"dataset": sha256[:12], "metric": self.metric, "pruning": str(self.pruning), **shared, **searched}


def parse(lines: Sequence[str], shared: Sequence[str], settings: Settings) -> tuple[Settings, tuple[Dimension, ...]]:
    """`settings` with the values in `shared`, resolved, and the search space: `lines`, or DEFAULT without the shared.

    Raises InvalidInput.
    """
    fixed, sources = {}, {}
    for text in shared:
        name, rest = _split("--set", text, "NAME=VALUE, e.g. affine=0")
        sources[name] = f"--set {text}"
        fixed[name] = parse_value(name, rest, sources[name])
    dimensions: list[Dimension] = []
    for text in lines or [line for line in DEFAULT if line.partition("=")[0] not in fixed]:
        dimension = _dimension(text)
        if dimension.name in [other.name for other in dimensions]:
            raise InvalidInput(
                f"--search {text}: {dimension.name} is already searched; give one range for each setting"
            )
        if dimension.name in fixed:
            raise InvalidInput(f"--search {text}: --set gives {dimension.name} one value; leave one of the two out")
        dimensions.append(dimension)
    if not dimensions:
        raise InvalidInput("nothing is left to search: give --search, e.g. learning_rate=1e-3..1e-2,log")
    settings = dataclasses.replace(settings, **fixed)
    settings.check(sources)
    for dimension in dimensions:
        _check(dimension, settings)
    return _resolved(settings, dimensions), tuple(dimensions)


def _dimension(text: str) -> Dimension:
    form = "NAME=LOW..HIGH, NAME=LOW..HIGH,log or NAME=A|B|C"
    name, rest = _split("--search", text, form)
    where = f"--search {text}"
    if name in _FIXED:
        raise InvalidInput(f"{where}: {name} must be the same in all trials, because {_FIXED[name]}")
    if ".." not in rest:
        values = tuple(parse_value(name, part, where) for part in rest.split("|"))
        if len(set(values)) < 2:
            raise InvalidInput(f"{where}: give {form}; one value for all trials is --set {text}")
        return Choice(name, values)
    bounds, _, scale = rest.partition(",")
    if scale not in ("", "log"):
        raise InvalidInput(f"{where}: {scale!r} after the range; only 'log' is allowed there")
    if setting_type(name) not in (int, float):
        raise InvalidInput(f"{where}: {name} is not a number, so it has no range; give its values, e.g. {name}=A|B")
    low, high = (parse_value(name, part, where) for part in bounds.split("..", 1))
    if low >= high:
        raise InvalidInput(f"{where}: the range is empty, {low:g} is not below {high:g}; give the lower end first")
    if scale == "log" and low <= 0:
        raise InvalidInput(f"{where}: a logarithmic range begins above 0, not at {low:g}")
    return Range(name, low, high, bool(scale), setting_type(name) is int)


def _split(option: str, text: str, form: str) -> tuple[str, str]:
    name, equals, rest = text.partition("=")
    if not equals or not rest:
        raise InvalidInput(f"{option} {text!r}: give {form}")
    with _in(f"{option} {text}"):
        return setting_name(name), rest


@contextlib.contextmanager
def _in(where: str) -> Iterator[None]:
    """Prefixes errors with the option they come from."""
    try:
        yield
    except InvalidInput as error:
        raise InvalidInput(f"{where}: {error}") from None


def _check(dimension: Dimension, settings: Settings) -> None:
    """Checks both ends, or every choice, as training would."""
    values = (dimension.low, dimension.high) if isinstance(dimension, Range) else dimension.values
    for value in values:
        changed = dataclasses.replace(settings, **{dimension.name: value})  # type: ignore[arg-type]
        changed.check({dimension.name: f"--search {dimension.name}={dimension}"})


def _resolved(settings: Settings, dimensions: Sequence[Dimension]) -> Settings:
    """Fills in the epochs; if nets are searched, all get the epochs of the net that needs the most."""
    nets = next((d.values for d in dimensions if isinstance(d, Choice) and d.name == "net"), (settings.net,))
    epochs = [dataclasses.replace(settings, net=str(net)).resolved().epochs for net in nets]
    return dataclasses.replace(settings, epochs=max(epochs))
