"""The environment of a report: date, versions, CPUs and command line."""

import json
import platform
import re
import shlex
import subprocess
import sys
from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path

from seaway.platform import cgroup
from seaway.version import VERSION

ROOT = Path(__file__).resolve().parents[2]  # of a checkout
LIBRARIES = ("torch", "tensorflow", "onnx", "onnxruntime", "numpy", "optuna", "locust")


def describe() -> dict[str, str]:
    """Only libraries that this process has imported are named."""
    return {
        "date": f"{datetime.now(UTC):%Y-%m-%d %H:%M} UTC",
        "Seaway": f"{VERSION}{_commit()}",
        "Python": platform.python_version(),
        "libraries": ", ".join(
            f"{name} {sys.modules[name].__version__}" for name in LIBRARIES if sys.modules.get(name)
        ),
        "CPUs": str(cgroup.cores()),
    }


def command_line(argv: Sequence[str]) -> str:
    """For a shell, without passwords; of a pipeline's stage, its name and parameters."""
    words = [Path(argv[0]).name, *argv[1:]]
    if "--executor_input" in words:  # KFP's: a JSON document, with the paths of all artifacts
        inputs = json.loads(words[words.index("--executor_input") + 1]).get("inputs", {})
        stage = words[words.index("--function_to_execute") + 1]
        words = [stage, *(f"{name}={value}" for name, value in inputs.get("parameterValues", {}).items())]
    elif spec := sys.modules["__main__"].__spec__:
        words[:1] = ["python", "-m", spec.name.removesuffix(".__main__")]
    return hide_passwords(shlex.join(words))


def hide_passwords(text: str) -> str:
    """The text without the users and passwords of URLs."""
    return re.sub(r"//[^/@\s]*@", "//…@", text)


def _commit() -> str:
    """ ", commit c3e24f2b1a5d" in a checkout with git, else ""."""
    if not (ROOT / ".git").exists():
        return ""
    command = ["git", "-C", str(ROOT), "describe", "--always", "--dirty", "--exclude=*", "--abbrev=12"]
    try:
        return f", commit {subprocess.check_output(command, stderr=subprocess.DEVNULL, text=True).strip()}"
    except (OSError, subprocess.CalledProcessError):
        return ""
