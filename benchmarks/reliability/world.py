"""What a scenario plays in: a volume of small models, and a server over it."""

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
from seaway.artifacts import card as cards
from seaway.artifacts import golden, store
from seaway.artifacts.card import Card, Tensor, Tolerance

OFFSETS = (2.0, 3.0)  # the two models answer x/2 + 2 and x/2 + 3
MODELS = processes.ROOT / "tests" / "seaway" / "serve" / "make_models.py"
SOFT_FILES = 1024  # what a shell usually allows; the server has to raise it by itself


class World:
    """`offsets`: of what is published, by name/version."""

    def __init__(self, folder: Path) -> None:
        self.folder, self.models, self.volume = folder, folder / "models", folder / "volume"
        self.volume.mkdir()
        self.offsets: dict[str, float] = {}
        aborting = str(self.models / "aborting" / "1")
        for program in ([str(MODELS), str(self.models)], ["-m", "benchmarks.reliability.make_abort", aborting]):
            done = subprocess.run([sys.executable, *program], capture_output=True, text=True, cwd=processes.ROOT)
            if done.returncode:
                raise SystemExit(f"the models could not be made:\n{done.stderr[-2000:]}")

    def fresh(self) -> None:
        """A volume of half/1, and the models that can abort."""
        shutil.rmtree(self.volume)
        for model in ("hard", "aborting"):
            shutil.copytree(self.models / model, self.volume / model)
        self.offsets.clear()
        self.publish(0)

    def publish(self, which: int, cut: bool = False) -> int:
        """The next version of half, from the first or the second model; `cut`: its graph ends too soon."""

        def fill(folder: Path) -> None:
            shutil.copytree(self.models / "half" / str(which + 1), folder, dirs_exist_ok=True)
            extra = folder / store.EXTRA
            extra.mkdir()
            graph = folder / "saved_model.pb"
            if cut:
                graph.write_bytes(graph.read_bytes()[:200])
            x = np.array([0, 1, 2, 80], np.float32)
            golden.write(extra / golden.GOLDEN, golden.Golden({"x": x}, {"y": x / 2 + np.float32(OFFSETS[which])}))
            tensors = (Tensor("x", "float32", (None,)),), (Tensor("y", "float32", (None,)),)
            card = Card("version", "half", *tensors, tolerances={"y": Tolerance(1e-6, 1e-6)})
            cards.write(folder, card, at=store.CARD)

        number = store.publish(self.volume, "half", fill)
        self.offsets[f"half/{number}"] = OFFSETS[which]
        return number

    def serve(self, *options: str) -> Server:
        """Ready; latest versions, looked for twice a second."""
        hard = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
        files = ["prlimit", f"--nofile={SOFT_FILES}:{hard}"]
        given = ["--default-version", "latest", "--poll-seconds", "0.5", *options]
        return processes.seaway(self.volume, self.folder / "server.log", *given, prefix=files)


def status(server: Server) -> dict[str, Any]:
    with urllib.request.urlopen(f"http://127.0.0.1:{server.admin_port}/status", timeout=30) as answer:
        found: dict[str, Any] = json.loads(answer.read())
    return found


def workers(server: Server) -> list[int]:
    """The processes that hold the models now."""
    return [worker["pid"] for worker in status(server)["workers"] if worker["pid"]]
