"""Versions that come and go while a server runs: publish, wait until it responds, remove, wait until it is unloaded."""

import json
import os
import shutil
import time
from pathlib import Path

from benchmarks import processes
from benchmarks.processes import Server
from seaway.artifacts import model_repository

POLL_INTERVAL_S = 0.1
TIMEOUT_S = 180.0
# The latest version responds as soon as it is loaded, and the one before it is unloaded
OPTIONS = ("--default-version", "latest", "--grpc-port", "0")


def publish(version: Path, repository: Path, model: str) -> int:
    """The version once more, as the next of `model`. Its files are hard links: nothing is copied, all is loaded."""

    def fill(folder: Path) -> None:
        shutil.copytree(version, folder, copy_function=os.link, dirs_exist_ok=True)

    return model_repository.publish(repository, model, fill)


def states(server: Server, model: str) -> dict[int, str]:
    """Version → state, with TensorFlow Serving's names; empty if the server does not know the model."""
    listed = json.loads(server.get(f"/v1/models/{model}")).get("model_version_status", [])
    return {int(one["version"]): one["state"] for one in listed}


def wait_until_only(server: Server, model: str, number: int | None) -> float:
    """Waits until that version of the model, or with None no version, is all that is loaded. Returns the seconds."""
    began = time.monotonic()
    wanted = {} if number is None else {number: "AVAILABLE"}
    while time.monotonic() < began + TIMEOUT_S:
        if states(server, model) == wanted:
            return time.monotonic() - began
        time.sleep(POLL_INTERVAL_S)
    raise SystemExit(f"{model}: {states(server, model)} instead of {wanted}; the server's log:\n{server.tail_log()}")


def remove(repository: Path, model: str) -> None:
    """Takes the model out of the repository at once, as `mv` does."""
    away = repository.with_name(f"removed-{model}")
    (repository / model).rename(away)
    shutil.rmtree(away)


def serve(repository: Path, folder: Path, backend: str) -> Server:
    return processes.seaway(repository, folder / f"versions-{backend}.log", "--backend", backend, *OPTIONS)
