"""The backend interface. A backend is a module with `load`, which only worker processes import, by name.

To add one, write a module whose `load` returns a `Backend` for a version's folder, and add it to BACKENDS.
"""

import importlib
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, Protocol

import numpy as np

from seaway.artifacts.artifact_metadata import ArtifactMetadata
from seaway.protocols.calls import Signature

BACKENDS = {  # --backend → the module that has `load`
    "savedmodel": "seaway.serve.backends.savedmodel",
    "onnx": "seaway.serve.backends.onnx",
}


class Backend(Protocol):
    """One version in memory. `definitions` are its signatures in the form of TensorFlow Serving's metadata; `platform`
    is its platform name in the Open Inference Protocol."""

    platform: str
    signatures: Mapping[str, Signature]
    definitions: Mapping[str, Any]

    def predict(
        self, signature: str, inputs: dict[str, np.ndarray], outputs: list[str] | None = None
    ) -> dict[str, np.ndarray]:
        """Runs a signature; `outputs` None returns all. Raises SeawayError with the HTTP status."""
        ...

    def close(self) -> None: ...


# Folder, metadata, threads, allowed operators
Load = Callable[[Path, ArtifactMetadata | None, int, frozenset[str]], Backend]


def module(name: str) -> Any:
    return importlib.import_module(BACKENDS[name])
