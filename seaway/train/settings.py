"""The settings of a training run, and their limits."""

import dataclasses
import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from seaway.errors import InvalidInput
from seaway.train import sampling

# These may differ when a run is resumed: they change its speed, not its result.
INCIDENTAL = ("threads", "device", "save_seconds")

# As many as each net still gains from, on tens of thousands of images; any other net gets the cnn's.
EPOCHS = {"cnn": 9, "cnn-large": 28, "linear": 12, "mlp": 8}

# What earlier versions wrote into checkpoints and sweeps, and made the keys of unfinished runs of.
_FORMER_NAMES = {"pen": "stroke_jitter"}
_FORMER_SAMPLINGS = {"down": sampling.UNDERSAMPLE, "up": sampling.OVERSAMPLE, "synthetic": sampling.AUGMENT}


@dataclass(frozen=True, slots=True)
class Settings:
    """The defaults suit every net; `python -m seaway.train --help` explains each setting."""

    net: str = "cnn"
    epochs: int = 0  # those in EPOCHS
    sampling: str = sampling.NONE
    batch_size: int = 256
    learning_rate: float = 3e-3
    weight_decay: float = 0.02
    label_smoothing: float = 0.05
    affine: float = 0.8
    elastic: float = 0.4
    stroke_jitter: float = 1.0
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

    def check(self, sources: Mapping[str, str] = {}) -> None:
        """Raises InvalidInput for a setting that is out of its range; `sources`: name → what the user wrote, if not the
        train stage's option."""
        sampling.check(self.sampling)
        for name, (low, high) in _RANGES.items():
            value = getattr(self, name)
            if not math.isfinite(value) or not low <= value <= high:
                source = sources.get(name) or f"--{option(name)} {value}"
                raise InvalidInput(f"{source}: must be between {low} and {high}")
        if self.patience and not self.validation:
            raise InvalidInput("--patience needs validation images: add --validation, e.g. 0.02")

    def resolved(self, epoch_growth: float = 1.0) -> "Settings":
        """The same with the number of epochs filled in: fewer by the factor by which `sampling` makes an epoch larger
        than the training set, so that every sampling trains on about as many images."""
        default = EPOCHS.get(self.net, EPOCHS["cnn"])
        return dataclasses.replace(self, epochs=self.epochs or max(1, round(default / epoch_growth)))

    def essential(self) -> dict[str, Any]:
        """The settings that determine the result, as JSON values."""
        return {key: value for key, value in dataclasses.asdict(self).items() if key not in INCIDENTAL}


def option(name: str) -> str:
    return name.replace("_", "-")


def current(stored: Mapping[str, Any]) -> dict[str, Any]:
    """Settings from a file of any version, under today's names and with today's values."""
    names = {name: _replace_last_word(name, _FORMER_NAMES) for name in stored}
    return {
        names[name]: _FORMER_SAMPLINGS.get(value, value) if names[name] == "sampling" else value
        for name, value in stored.items()
    }


def former(settings: Mapping[str, Any]) -> dict[str, Any]:
    """Settings under the names and with the values of the first version: the inverse of `current`."""
    samplings = {new: old for old, new in _FORMER_SAMPLINGS.items()}
    return {
        former_name(name): samplings.get(value, value) if name == "sampling" else value
        for name, value in settings.items()
    }


def former_name(name: str) -> str:
    return {new: old for old, new in _FORMER_NAMES.items()}.get(name, name)


def _replace_last_word(name: str, replacements: Mapping[str, str]) -> str:
    """`--search pen` as well as `pen`: both are keys of a sweep's identity."""
    before, space, word = name.rpartition(" ")
    return before + space + replacements.get(word, word)


def parse_settings(options: Mapping[str, str], training: Mapping[str, str] = {}) -> Settings:
    """{"learning_rate": "0.001"} as Settings, checked. `training` has the settings without an option of their own.

    Raises InvalidInput for unknown names, wrong values, and a setting that is in both.
    """
    for name, text in training.items():
        if setting_name(name) in options:
            raise InvalidInput(
                f"--training {name}={text}: this setting has an option of its own, --{option(setting_name(name))}"
            )
    texts = {setting_name(name): text for name, text in {**options, **training}.items()}
    sources = {setting_name(name): f"--training {name}={text}" for name, text in training.items()}
    settings = Settings(**{name: parse_value(name, text, sources.get(name, "")) for name, text in texts.items()})
    settings.check(sources)
    return settings


def setting_name(name: str) -> str:
    """The field of Settings that `learning-rate` or `learning_rate` names. Raises InvalidInput if there is none."""
    field, fields = name.strip().replace("-", "_"), [field.name for field in dataclasses.fields(Settings)]
    if field not in fields:
        raise InvalidInput(f"{name}: training has no such setting; there are {', '.join(map(option, fields))}")
    return field


def setting_type(field: str) -> type:
    return type(getattr(Settings(), field))


def parse_value(field: str, text: str, source: str = "") -> Any:
    """The value of a setting, from text; `source`: what the user wrote, if not the option. Raises InvalidInput."""
    expected, text = setting_type(field), text.strip()
    source = source or f"--{option(field)} {text}"
    if expected is bool:
        if text not in _BOOLEANS:
            raise InvalidInput(f"{source}: must be true or false")
        return _BOOLEANS[text]
    try:
        return expected(text)
    except ValueError:
        kind = "a whole number" if expected is int else "a number"
        raise InvalidInput(f"{source}: must be {kind}") from None


_BOOLEANS = {"true": True, "True": True, "false": False, "False": False}

_RANGES: dict[str, tuple[float, float]] = {
    "epochs": (0, 100_000),
    "batch_size": (2, 65_536),  # BatchNorm needs two
    "learning_rate": (1e-9, 1e3),
    "weight_decay": (0, 10),
    "label_smoothing": (0, 0.9),
    "affine": (0, 3),
    "elastic": (0, 3),
    "stroke_jitter": (0, 3),
    "warm_up": (0, 0.9),
    "ema": (0, 0.99999),
    "validation": (0, 0.5),
    "patience": (0, 100_000),
    "seed": (0, 2**31 - 1),
    "threads": (0, 1024),
    "save_seconds": (0, 86_400),
}
