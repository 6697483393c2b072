"""What a training run can be told, and what it refuses."""

import dataclasses
import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from seaway.errors import InvalidInput
from seaway.train import sampling

# These may differ when a run is resumed: they change how fast it goes, not where it goes.
INCIDENTAL = ("threads", "device", "save_seconds")

# What each net still gains from, on tens of thousands of pictures; a net that is not named here gets the cnn's.
EPOCHS = {"cnn": 9, "cnn-large": 28, "linear": 12, "mlp": 8}


@dataclass(frozen=True, slots=True)
class Settings:
    """The defaults suit every net; see `python -m seaway.train --help` for what each means."""

    net: str = "cnn"
    epochs: int = 0  # as many as EPOCHS says
    sampling: str = sampling.NONE
    batch_size: int = 256
    learning_rate: float = 3e-3
    weight_decay: float = 0.02
    label_smoothing: float = 0.05
    affine: float = 0.8
    elastic: float = 0.4
    pen: float = 1.0
    warm_up: float = 0.2
    ema: float = 0.998
    validation: float = 0.02
    patience: int = 0
    seed: int = 0
    amp: bool = False
    compile: bool = False
    threads: int = 0
    device: str = "cpu"
    save_seconds: float = 20.0

    def check(self) -> None:
        """Raises InvalidInput that names a setting out of its range."""
        sampling.check(self.sampling)
        for name, (low, high) in _RANGES.items():
            value = getattr(self, name)
            if not math.isfinite(value) or not low <= value <= high:
                raise InvalidInput(f"--{option(name)} is {value}: it must be between {low} and {high}")
        if self.patience and not self.validation:
            raise InvalidInput("--patience needs pictures to validate on: give --validation, as 0.02")

    def resolved(self, growth: float = 1.0) -> "Settings":
        """The same with the number of epochs filled in. Where `sampling` makes an epoch `growth` times as large as the
        training set, they are so many fewer: all samplings learn from about as many pictures."""
        own = EPOCHS.get(self.net, EPOCHS["cnn"])
        return dataclasses.replace(self, epochs=self.epochs or max(1, round(own / growth)))

    def essential(self) -> dict[str, Any]:
        """The settings that decide the result, as JSON values."""
        return {key: value for key, value in dataclasses.asdict(self).items() if key not in INCIDENTAL}


def option(name: str) -> str:
    return name.replace("_", "-")


def parsed(given: Mapping[str, str], further: Mapping[str, str] = {}) -> Settings:
    """{"learning_rate": "0.001"} as Settings, checked. `further` are those that have no option of their own where the
    others were given. Raises InvalidInput for unknown names, wrong values and what is given in both."""
    for key in further:
        if known(key) in given:
            raise InvalidInput(f"--training {key}={further[key]}: it has an option of its own, --{option(known(key))}")
    values = {known(key): value(known(key), text) for key, text in {**given, **further}.items()}
    settings = Settings(**values)
    settings.check()
    return settings


def known(name: str) -> str:
    """`learning-rate` as the field of Settings that it means. Raises InvalidInput where there is none."""
    field, fields = name.strip().replace("-", "_"), [field.name for field in dataclasses.fields(Settings)]
    if field not in fields:
        raise InvalidInput(f"{name}: training has no such setting; there are {', '.join(map(option, fields))}")
    return field


def kind(field: str) -> type:
    return type(getattr(Settings(), field))


def value(field: str, text: str) -> Any:
    """What a setting is where it is written as `text`. Raises InvalidInput."""
    wanted, text = kind(field), text.strip()
    if wanted is bool:
        if text not in _SWITCH:
            raise InvalidInput(f"--{option(field)} is {text!r}: write true or false")
        return _SWITCH[text]
    try:
        return wanted(text)
    except ValueError:
        what = "a whole number" if wanted is int else "a number"
        raise InvalidInput(f"--{option(field)} is {text!r}: {what} is wanted") from None


_SWITCH = {"true": True, "True": True, "false": False, "False": False}

_RANGES: dict[str, tuple[float, float]] = {
    "epochs": (0, 100_000),
    "batch_size": (2, 65_536),  # BatchNorm needs two
    "learning_rate": (1e-9, 1e3),
    "weight_decay": (0, 10),
    "label_smoothing": (0, 0.9),
    "affine": (0, 3),
    "elastic": (0, 3),
    "pen": (0, 3),
    "warm_up": (0, 0.9),
    "ema": (0, 0.99999),
    "validation": (0, 0.5),
    "patience": (0, 100_000),
    "seed": (0, 2**31 - 1),
    "threads": (0, 1024),
    "save_seconds": (0, 86_400),
}
