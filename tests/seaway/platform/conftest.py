import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

HERE = Path(__file__).parent
ROOT = HERE.parents[2]


@pytest.fixture
def elsewhere(tmp_path: Path) -> dict[str, str]:
    """The environment of a process that runs on another system; REFUSED names what says which calls it was refused."""
    found = {k: v for k, v in os.environ.items() if not k.startswith("SEAWAY_")}
    path = os.pathsep.join(filter(None, [str(HERE / "elsewhere"), found.get("PYTHONPATH")]))
    return found | {"PYTHONPATH": path, "REFUSED": str(tmp_path / "refused")}


@pytest.fixture
def run_elsewhere(elsewhere: dict[str, str]) -> Callable[..., str]:
    """Runs a program there, which must succeed; what it printed."""

    def run(program: str, *arguments: str) -> str:
        command = [sys.executable, "-c", program, *arguments]
        done = subprocess.run(command, env=elsewhere, cwd=ROOT, capture_output=True, text=True, timeout=280)
        assert done.returncode == 0, done.stdout + done.stderr
        return done.stdout

    return run
