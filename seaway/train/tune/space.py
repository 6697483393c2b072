"""What a sweep searches, `learning_rate=1e-3..1e-2,log` or `batch_size=64|128`, and what all trials share, `affine=0`.

Names are those of the train stage's settings. A value that training would refuse is refused here, before any trial.
"""

import contextlib
import dataclasses
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, cast

from seaway.errors import InvalidInput
from seaway.train.settings import Settings, kind, known, value

if TYPE_CHECKING:
    from optuna import Trial

Value = int | float | str | bool

# Around the defaults of the train stage, as far as any of them has been seen to help.
DEFAULT = (
    "learning_rate=5e-4..1e-2,log",
    "weight_decay=2e-3..2e-1,log",
    "label_smoothing=0..0.15",
    "affine=0.3..1.5",
    "elastic=0..1",
)
# Significant digits of a number that is searched: more could not be told apart, and nobody wants to type them.
DIGITS = 3

_SAME = {
    "epochs": "trials that are stopped early are compared at the same epoch of the same schedule",
    "sampling": "it changes what an epoch is, so trials could not be compared at the same one",
    "patience": "trials that are compared have gone the same way",
    "validation": "all trials are judged on the same pictures",
    "seed": "all trials are judged on the same pictures, which the seed draws",
    "threads": "it changes how long a trial takes, not what comes of it",
    "device": "it changes how long a trial takes, not what comes of it",
    "save_seconds": "it changes nothing of what comes of a trial",
}


@dataclass(frozen=True, slots=True)
class Range:
    """All numbers from `low` to `high`, tried evenly, or with `log` evenly over the powers of ten."""

    name: str
    low: float
    high: float
    log: bool
    whole: bool

    def suggest(self, trial: "Trial") -> Value:
        """The trial's value, of DIGITS significant digits and within the range; the trial keeps it with all digits."""
        if self.whole:
            return trial.suggest_int(self.name, int(self.low), int(self.high), log=self.log)
        value = trial.suggest_float(self.name, self.low, self.high, log=self.log)
        return min(max(float(f"{value:.{DIGITS}g}"), self.low), self.high)

    def holds(self, value: Value) -> bool:
        return not isinstance(value, str) and self.low <= value <= self.high

    def __str__(self) -> str:
        return f"{self.low:g}..{self.high:g}{',log' if self.log else ''}"


@dataclass(frozen=True, slots=True)
class Choice:
    """One of several values."""

    name: str
    values: tuple[Value, ...]

    def suggest(self, trial: "Trial") -> Value:
        return cast(Value, trial.suggest_categorical(self.name, self.values))

    def holds(self, value: Value) -> bool:
        return value in self.values

    def __str__(self) -> str:
        return "|".join(map(str, self.values))


Dimension = Range | Choice


@dataclass(frozen=True, slots=True)
class Plan:
    """What is to be searched. `settings`, resolved, are what all trials share."""

    dataset: Path
    settings: Settings
    space: tuple[Dimension, ...]
    metric: str
    pruning: bool

    def identity(self, sha256: str) -> dict[str, str]:
        """What has to be the same for a sweep to go on, on the dataset with this digest."""
        searched = {f"--search {dimension.name}": str(dimension) for dimension in self.space}
        shared = {k: str(v) for k, v in self.settings.essential().items() if f"--search {k}" not in searched}
        return {"dataset": sha256[:12], "metric": self.metric, "pruning": str(self.pruning), **shared, **searched}


def parse(given: Sequence[str], shared: Sequence[str], settings: Settings) -> tuple[Settings, tuple[Dimension, ...]]:
    """`settings` with `shared`'s values, and what is searched: what is given, or DEFAULT without what is shared.

    The settings come back resolved. Raises InvalidInput.
    """
    fixed = {}
    for text in shared:
        name, rest = _split("--set", text, "NAME=VALUE, as affine=0")
        with _in(f"--set {text}"):
            fixed[name] = value(name, rest)
    dimensions: list[Dimension] = []
    for text in given or [line for line in DEFAULT if line.partition("=")[0] not in fixed]:
        dimension = _dimension(text)
        if dimension.name in [other.name for other in dimensions]:
            raise InvalidInput(
                f"--search {text}: {dimension.name} is searched already; give one range for each setting"
            )
        if dimension.name in fixed:
            raise InvalidInput(f"--search {text}: --set gives {dimension.name} one value; leave one of the two out")
        dimensions.append(dimension)
    if not dimensions:
        raise InvalidInput("nothing is left to be searched: give --search, as learning_rate=1e-3..1e-2,log")
    settings = dataclasses.replace(settings, **fixed)
    settings.check()
    for dimension in dimensions:
        _check(dimension, settings)
    return _resolved(settings, dimensions), tuple(dimensions)


def _dimension(text: str) -> Dimension:
    form = "NAME=LOW..HIGH, NAME=LOW..HIGH,log or NAME=A|B|C"
    name, rest = _split("--search", text, form)
    where = f"--search {text}"
    if name in _SAME:
        raise InvalidInput(f"{where}: {name} has to be the same in all trials, since {_SAME[name]}")
    if ".." not in rest:
        with _in(where):
            values = tuple(value(name, part) for part in rest.split("|"))
        if len(set(values)) < 2:
            raise InvalidInput(f"{where}: give {form}; one value for all trials is --set {text}")
        return Choice(name, values)
    bounds, _, scale = rest.partition(",")
    if scale not in ("", "log"):
        raise InvalidInput(f"{where}: {scale!r} after the range; only 'log' may stand there")
    if kind(name) not in (int, float):
        raise InvalidInput(f"{where}: {name} is no number, so it has no range; give its values, as {name}=A|B")
    with _in(where):
        low, high = (value(name, part) for part in bounds.split("..", 1))
    if low >= high:
        raise InvalidInput(f"{where}: the range is empty, {low:g} is not below {high:g}; give the lower end first")
    if scale == "log" and low <= 0:
        raise InvalidInput(f"{where}: a range over powers of ten begins above 0, not at {low:g}")
    return Range(name, low, high, bool(scale), kind(name) is int)


def _split(option: str, text: str, form: str) -> tuple[str, str]:
    name, equals, rest = text.partition("=")
    if not equals or not rest:
        raise InvalidInput(f"{option} {text!r}: give {form}")
    with _in(f"{option} {text}"):
        return known(name), rest


@contextlib.contextmanager
def _in(where: str) -> Iterator[None]:
    """Says at the head of an error where it is."""
    try:
        yield
    except InvalidInput as error:
        raise InvalidInput(f"{where}: {error}") from None


def _check(dimension: Dimension, settings: Settings) -> None:
    """Both ends, or every choice, as training itself would check them."""
    ends = (dimension.low, dimension.high) if isinstance(dimension, Range) else dimension.values
    for end in ends:
        with _in(f"--search {dimension.name}={dimension}"):
            dataclasses.replace(settings, **{dimension.name: end}).check()  # type: ignore[arg-type]


def _resolved(settings: Settings, dimensions: Sequence[Dimension]) -> Settings:
    """Where nets are searched and no epochs are given, all have those of the net that is worth the most."""
    nets = next((d.values for d in dimensions if isinstance(d, Choice) and d.name == "net"), (settings.net,))
    every = [dataclasses.replace(settings, net=str(net)).resolved().epochs for net in nets]
    return dataclasses.replace(settings, epochs=max(every))
