import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

HERE = Path(__file__).parent
ROOT = HERE.parents[2]


@pytest.fixture
def other_system(tmp_path: Path) -> dict[str, str]:
    """The environment of a process on a simulated non-Linux system, which logs refused calls to the file REFUSED."""
    environment = {k: v for k, v in os.environ.items() if not k.startswith("SEAWAY_")}
    path = os.pathsep.join(filter(None, [str(HERE / "simulated_darwin"), environment.get("PYTHONPATH")]))
    return environment | {"PYTHONPATH": path, "REFUSED": str(tmp_path / "refused")}


@pytest.fixture
def run_on_other_system(other_system: dict[str, str]) -> Callable[..., str]:
    """Runs a program there, which must succeed; returns its output."""

    def run(program: str, *arguments: str) -> str:
        command = [sys.executable, "-c", program, *arguments]
        done = subprocess.run(command, env=other_system, cwd=ROOT, capture_output=True, text=True, timeout=280)
        assert done.returncode == 0, done.stdout + done.stderr
        return done.stdout

    return run
