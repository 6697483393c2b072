"""What holds a model: a backend is a module with `load`, imported by name in the workers' processes alone.

A third one is a module whose `load` makes an object with these members of a version's folder, and a line in BACKENDS.
"""

import importlib
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, Protocol

import numpy as np

from seaway.artifacts.card import Card
from seaway.protocols.calls import Signature

BACKENDS = {  # --backend → the module that has `load`
    "savedmodel": "seaway.serve.backends.savedmodel",
    "onnx": "seaway.serve.backends.onnx",
}


class Backend(Protocol):
    """One version in memory. `definitions` are its signatures as TensorFlow Serving's metadata prints them;
    `platform` is the Open Inference Protocol's name for what it is."""

    platform: str
    signatures: Mapping[str, Signature]
    definitions: Mapping[str, Any]

    def predict(
        self, signature: str, inputs: dict[str, np.ndarray], outputs: list[str] | None = None
    ) -> dict[str, np.ndarray]:
        """Runs a signature; `outputs` None gives all. Raises SeawayError with the status that HTTP should show."""
        ...

    def close(self) -> None: ...


Load = Callable[[Path, Card | None, int, frozenset[str]], Backend]  # folder, card, threads, operators allowed


def module(name: str) -> Any:
    return importlib.import_module(BACKENDS[name])
