"""`seaway doctor`: what is installed, what is missing, how to mend it."""

import importlib.metadata
import math
import re
import shutil
import socket
import subprocess
import sys
from pathlib import Path
from typing import NamedTuple

import typer

from seaway.cli import options
from seaway.platform import cgroup, memory

ROOT = Path(__file__).resolve().parents[2]
LOCK = ROOT / "requirements" / "dev.txt"
NEEDED = ("torch", "torchvision", "onnx", "onnx-tf", "onnxruntime", "tensorflow-cpu", "kfp", "locust")
REINSTALL = "make setup"


class Finding(NamedTuple):
    """`good` is None for what is only needed for some work."""

    what: str
    good: bool | None
    found: str
    mend: str = ""


def doctor() -> None:
    """Tells what is installed, what is missing and how to mend it. Exit status 1 if `seaway run` would not work.

    [bold]Example[/bold]

      seaway doctor
    """
    from rich.console import Console
    from rich.table import Table

    findings = [_python(), *(_package(name) for name in NEEDED), _frameworks(), _disk(), _memory(), _port(), *_tools()]
    table = Table("", "what", "found", "how to mend it")
    for finding in findings:
        sign = {True: "[green]ok[/green]", False: "[red]bad[/red]", None: "[yellow]--[/yellow]"}[finding.good]
        table.add_row(sign, finding.what, finding.found, "" if finding.good else finding.mend)
    Console().print(table)
    if any(finding.good is False for finding in findings):
        raise typer.Exit(1)


def _python() -> Finding:
    version = ".".join(map(str, sys.version_info[:3]))
    return Finding("Python 3.11", sys.version_info[:2] == (3, 11), version, "make setup PYTHON=python3.11")


def _package(name: str) -> Finding:
    wanted = re.search(rf"^{re.escape(name)}==(\S+)", LOCK.read_text(), re.MULTILINE) if LOCK.exists() else None
    try:
        found = importlib.metadata.version(name)
    except importlib.metadata.PackageNotFoundError:
        return Finding(name, False, "missing", REINSTALL)
    as_locked = wanted is None or found == wanted[1]
    return Finding(name, as_locked, found, f"the lock says {wanted[1]}: {REINSTALL}" if wanted else "")


def _frameworks() -> Finding:
    """Imports torch and TensorFlow for real, each in a process of its own."""
    broken = []
    for module in ("torch", "tensorflow"):
        tried = subprocess.run([sys.executable, "-c", f"import {module}"], capture_output=True, text=True, timeout=300)
        if tried.returncode:
            broken.append(f"{module}: {(tried.stderr.strip().splitlines() or ['killed'])[-1]}")
    return Finding("torch and TensorFlow import", not broken, "; ".join(broken) or "yes", f"rm -r .venv && {REINSTALL}")


def _disk() -> Finding:
    free = shutil.disk_usage(Path.cwd()).free / 1e9
    return Finding("2 GB of disk for a run", free >= 2, f"{free:.1f} GB free here", "free some space, or use --root")


def _memory() -> Finding:
    available = memory.available_bytes()
    if available is None:
        return Finding("3 GB of memory for a run", None, "cannot be told here")
    free = min(available, cgroup.memory_bytes() or math.inf) / 1e9  # what is available is so to the whole machine
    return Finding("3 GB of memory for a run", free >= 3, f"{free:.1f} GB available", "end other programs")


def _port() -> Finding:
    port = options.DEFAULT_PORT
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind(("127.0.0.1", port))
        except OSError as error:
            return Finding(f"port {port}", None, str(error.strerror), "seaway run --port 8601")
    return Finding(f"port {port}", True, "free")


def _tools() -> list[Finding]:
    wanted = {"docker": "only for images", "kubectl": "only for a cluster", "kind": "only for a cluster of your own"}
    return [
        Finding(tool, True if shutil.which(tool) else None, shutil.which(tool) or "missing", why)
        for tool, why in wanted.items()
    ]
