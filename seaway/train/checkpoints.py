"""The saved state of an unfinished run, from which a restarted task continues as if nothing had happened.

WORK/train-<key>/state.pt holds one dict (`weights_only` loadable). The key is a hash of the settings that determine the
result and of the dataset's digest, so a run finds only its own state, whatever output path it is restarted with.
"""

import hashlib
import io
import json
import shutil
import time
from pathlib import Path
from typing import Any

import torch

from seaway.artifacts import atomic
from seaway.errors import InvalidInput, Unavailable, explain
from seaway.train.settings import former

SCHEMA_VERSION = 2
STATE = "state.pt"


def key(settings: dict[str, Any], dataset: str) -> str:
    """32 hex digits for these settings on the dataset with this digest; the same in every version of Seaway."""
    text = json.dumps({"settings": former(settings), "dataset": dataset}, sort_keys=True)
    return hashlib.sha256(text.encode()).hexdigest()[:32]


class CheckpointManager:
    """Saves and loads one run's state; without a `work` folder it does nothing."""

    def __init__(self, work: Path | None, key: str, interval_s: float) -> None:
        self.folder = work / f"train-{key}" if work else None
        self._key = key
        self._interval_s = interval_s
        self._saved_at = time.monotonic()

    @property
    def due(self) -> bool:
        return self.folder is not None and time.monotonic() - self._saved_at >= self._interval_s

    def save(self, state: dict[str, Any]) -> None:
        """Replaces the saved state atomically. Raises Unavailable if it cannot be written; the last one stays."""
        if self.folder is None:
            return
        try:
            with atomic.file(self.folder / STATE) as part:
                save({"schema_version": SCHEMA_VERSION, "key": self._key, **state}, part)
        except OSError as error:
            raise Unavailable(
                f"{self.folder / STATE}: the training state cannot be saved ({explain(error)}); "
                "run again to continue from the last saved state"
            ) from None
        self._saved_at = time.monotonic()

    def load(self) -> tuple[dict[str, Any] | None, str]:
        """The saved state, or None with a sentence that says why it cannot be used ("" if there is none).

        Raises InvalidInput for the state of a newer Seaway, which can continue from it: it may have cost hours.
        """
        if self.folder is None or not (self.folder / STATE).exists():
            return None, ""
        path = self.folder / STATE
        try:
            state = torch.load(path, map_location="cpu", weights_only=True)
        except Exception as error:  # torch raises anything from EOFError to RuntimeError for a broken file
            return None, f"{path} is broken ({type(error).__name__}), so training starts from the beginning"
        version = state.get("schema_version") if isinstance(state, dict) else None
        if isinstance(version, int) and version > SCHEMA_VERSION:
            raise InvalidInput(
                f"{path} was written by a newer version of Seaway (schema_version {version}, this one reads "
                f"{SCHEMA_VERSION}): continue with that version, or remove the file to start from the beginning"
            )
        if version != SCHEMA_VERSION:
            return None, f"{path} was written by an older version of Seaway, so training starts from the beginning"
        if state.get("key") != self._key:
            return None, f"{path} belongs to other settings or data, so training starts from the beginning"
        return state, ""

    def remove(self) -> None:
        if self.folder is not None:
            shutil.rmtree(self.folder, ignore_errors=True)


def save(value: object, path: Path) -> None:
    """torch.save that raises OSError if the disk is full (torch's own writer raises a bare RuntimeError)."""
    buffer = io.BytesIO()
    torch.save(value, buffer)
    path.write_bytes(buffer.getvalue())  # bytes that are shared, not copied; a view would outlive a failed write
