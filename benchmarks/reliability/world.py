"""The environment of a scenario: a repository of small models, and a server on it."""

import json
import resource
import shutil
import subprocess
import sys
import urllib.request
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks import processes
from benchmarks.processes import Server
from seaway.artifacts import artifact_metadata, golden, model_repository
from seaway.artifacts.artifact_metadata import ArtifactMetadata, Tensor, Tolerance

OFFSETS = (2.0, 3.0)  # the two models return x/2 + 2 and x/2 + 3
MODELS = processes.ROOT / "tests" / "seaway" / "serve" / "make_models.py"
SOFT_FILES = 1024  # the usual limit of a shell; the server must raise it itself


class World:
    """`offsets` of the published versions, by name/version."""

    def __init__(self, folder: Path) -> None:
        self.folder, self.models, self.repository = folder, folder / "models", folder / "models"
        self.repository.mkdir()
        self.offsets: dict[str, float] = {}
        model_aborts = str(self.models / "aborting" / "1")
        for program in ([str(MODELS), str(self.models)], ["-m", "benchmarks.reliability.make_abort", model_aborts]):
            done = subprocess.run([sys.executable, *program], capture_output=True, text=True, cwd=processes.ROOT)
            if done.returncode:
                raise SystemExit(f"the models could not be made:\n{done.stderr[-2000:]}")

    def reset(self) -> None:
        """Resets the repository to half/1 and the models that can abort."""
        shutil.rmtree(self.repository)
        for model in ("hard", "aborting"):
            shutil.copytree(self.models / model, self.repository / model)
        self.offsets.clear()
        self.publish(0)

    def publish(self, which: int, cut: bool = False) -> int:
        """Publishes the next version of half, from the first or the second model; `cut`: with a truncated graph."""

        def fill(folder: Path) -> None:
            shutil.copytree(self.models / "half" / str(which + 1), folder, dirs_exist_ok=True)
            extra = folder / model_repository.EXTRA
            extra.mkdir()
            graph = folder / "saved_model.pb"
            if cut:
                graph.write_bytes(graph.read_bytes()[:200])
            x = np.array([0, 1, 2, 80], np.float32)
            golden.write(extra / golden.GOLDEN, golden.Golden({"x": x}, {"y": x / 2 + np.float32(OFFSETS[which])}))
            tensors = (Tensor("x", "float32", (None,)),), (Tensor("y", "float32", (None,)),)
            metadata = ArtifactMetadata("version", "half", *tensors, tolerances={"y": Tolerance(1e-6, 1e-6)})
            artifact_metadata.write(folder, metadata, at=model_repository.METADATA_FILE)

        number = model_repository.publish(self.repository, "half", fill)
        self.offsets[f"half/{number}"] = OFFSETS[which]
        return number

    def serve(self, *options: str) -> Server:
        """Starts a server and waits until it is ready. It serves latest versions, and polls twice a second."""
        hard = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
        files = ["prlimit", f"--nofile={SOFT_FILES}:{hard}"]
        arguments = ["--default-version", "latest", "--poll-interval-s", "0.5", *options]
        return processes.seaway(self.repository, self.folder / "server.log", *arguments, prefix=files)


def status(server: Server) -> dict[str, Any]:
    with urllib.request.urlopen(f"http://127.0.0.1:{server.admin_port}/status", timeout=30) as response:
        result: dict[str, Any] = json.loads(response.read())
    return result


def workers(server: Server) -> list[int]:
    """The PIDs of the current workers."""
    return [worker["pid"] for worker in status(server)["workers"] if worker["pid"]]
