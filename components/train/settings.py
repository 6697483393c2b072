"""What a training run can be told, and what it refuses."""

import dataclasses
import math
from dataclasses import dataclass
from typing import Any

from seaway.errors import InvalidInput

# These may differ when a run is resumed: they change how fast it goes, not where it goes.
INCIDENTAL = ("threads", "device", "save_seconds")

# What each net still gains from, on tens of thousands of pictures; a net that is not named here gets the cnn's.
EPOCHS = {"cnn": 14, "mlp": 12}


@dataclass(frozen=True, slots=True)
class Settings:
    """The defaults suit every net; see `python -m components.train --help` for what each means."""

    net: str = "cnn"
    epochs: int = 0  # as many as EPOCHS says
    batch_size: int = 128
    learning_rate: float = 2e-3
    weight_decay: float = 0.02
    label_smoothing: float = 0.05
    affine: float = 1.0
    elastic: float = 0.5
    warm_up: float = 0.2
    validation: float = 0.02
    seed: int = 0
    threads: int = 0
    device: str = "cpu"
    save_seconds: float = 20.0

    def resolved(self) -> "Settings":
        """The same with the number of epochs filled in. Raises InvalidInput that names a setting out of its range."""
        for name, (low, high) in _RANGES.items():
            value = getattr(self, name)
            if not math.isfinite(value) or not low <= value <= high:
                option = name.replace("_", "-")
                raise InvalidInput(f"--{option} is {value}: it must be between {low} and {high}")
        return dataclasses.replace(self, epochs=self.epochs or EPOCHS.get(self.net, EPOCHS["cnn"]))

    def essential(self) -> dict[str, Any]:
        """The settings that decide the result, as JSON values."""
        return {key: value for key, value in dataclasses.asdict(self).items() if key not in INCIDENTAL}


_RANGES: dict[str, tuple[float, float]] = {
    "epochs": (0, 100_000),
    "batch_size": (2, 65_536),  # BatchNorm needs two
    "learning_rate": (1e-9, 1e3),
    "weight_decay": (0, 10),
    "label_smoothing": (0, 0.9),
    "affine": (0, 3),
    "elastic": (0, 3),
    "warm_up": (0, 0.9),
    "validation": (0, 0.5),
    "seed": (0, 2**31 - 1),
    "threads": (0, 1024),
    "save_seconds": (0, 86_400),
}
