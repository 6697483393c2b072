"""`seaway doctor`: what is installed, what is missing, how to fix it.

In a checkout every package has to be there, in the locked version; an installed package may lack extras."""

import importlib.metadata
import math
import re
import shutil
import socket
import sys
from pathlib import Path
from typing import NamedTuple

import typer

from seaway import extras
from seaway.arguments import seaway_command
from seaway.cli import options
from seaway.platform import cgroup, memory

ROOT = Path(__file__).resolve().parents[2]
LOCK = ROOT / "requirements" / "dev.txt"
REQUIRED = ("torch", "torchvision", "onnx", "onnx-tf", "onnxruntime", "tensorflow-cpu", "kfp", "locust")
DEFAULT_PACKAGES = ("onnxruntime", "numpy", "pillow")  # those of the default install that are checked
REINSTALL = "make setup"
ALTERNATIVES = {"tensorflow-cpu": "tensorflow"}
USES = {  # extra → the verbs that need it
    "tensorflow": "serve --backend savedmodel",
    "convert": "convert",
    "cluster": "status; deploy, promote, rollback, versions on a cluster",
    "otel": "serve --otlp-endpoint",
    "load": "load, verify",
    "pipelines": "compile, submit, run --runner docker",
    "train": "sweep",
    "ship": "ship",
    "all": "run",
}
MAX_NAMED = 3  # missing modules of an extra that are listed
SUPPORTED = ((3, 11), (3, 12), (3, 13))


class Finding(NamedTuple):
    """The result of one check. `ok` is None for a failed check of something that only some verbs need."""

    check: str
    ok: bool | None
    result: str
    fix: str = ""


def doctor() -> None:
    """Checks the installation, and says what is missing and how to fix it.

    The exit status is 1 if a check fails. In a checkout everything that `seaway run` needs has to be installed; missing
    extras of a package are not an error.

    [bold]Example[/bold]

      seaway doctor
    """
    from rich.console import Console
    from rich.markup import escape
    from rich.table import Table

    findings = [*(_check_checkout() if LOCK.exists() else _check_package()), _port(), *_tools()]
    table = Table("status", "check", "result", "fix")
    for finding in findings:
        state = {True: "[green]ok[/green]", False: "[red]fail[/red]", None: "[yellow]optional[/yellow]"}[finding.ok]
        texts = (finding.check, finding.result, "" if finding.ok else finding.fix)
        table.add_row(state, *map(escape, texts))
    Console().print(table)
    if any(finding.ok is False for finding in findings):
        raise typer.Exit(1)


def _check_checkout() -> list[Finding]:
    """A checkout has to have everything that `seaway run` needs."""
    return [_python(), *map(_package, REQUIRED), _disk(), _memory()]


def _check_package() -> list[Finding]:
    """A package from a wheel may lack extras."""
    absent = {extra: extras.missing(extra) for extra in extras.EXTRAS}
    findings = [_python(), *map(_package, DEFAULT_PACKAGES)]
    findings += [_extra(extra, modules) for extra, modules in absent.items()]
    resources = [_disk(), _memory()]
    return findings + ([each._replace(ok=each.ok or None) for each in resources] if absent["all"] else resources)


def _extra(extra: str, absent: list[str]) -> Finding:
    more = ", …" if len(absent) > MAX_NAMED else ""
    result = f"not installed: {', '.join(absent[:MAX_NAMED])}{more}" if absent else "installed"
    name = f"seaway[{extra}]"
    return Finding(name, None if absent else True, result, f'pip install "{name}" (for {USES[extra]})')


def _python() -> Finding:
    version = ".".join(map(str, sys.version_info[:3]))
    fix = f"{REINSTALL} PYTHON=python3.11"
    if not LOCK.exists():
        fix = "install seaway in a virtual environment with Python 3.11, 3.12 or 3.13"
    return Finding("Python 3.11 to 3.13", sys.version_info[:2] in SUPPORTED, version, fix)


def _package(name: str) -> Finding:
    locked = re.search(rf"^{re.escape(name)}==(\S+)", LOCK.read_text(), re.MULTILINE) if LOCK.exists() else None
    installed = _version(name) or _version(ALTERNATIVES.get(name, ""))
    if not installed:
        return Finding(name, False, "missing", REINSTALL if LOCK.exists() else "pip install --force-reinstall seaway")
    matches = locked is None or installed == locked[1]
    return Finding(name, matches, installed, f"{REINSTALL} (the locked version is {locked[1]})" if locked else "")


def _version(name: str) -> str:
    """The installed version, or ""."""
    try:
        return importlib.metadata.version(name) if name else ""
    except importlib.metadata.PackageNotFoundError:
        return ""


def _disk() -> Finding:
    free = shutil.disk_usage(Path.cwd()).free / 1e9
    return Finding("2 GB of free disk space", free >= 2, f"{free:.1f} GB free here", "free some space, or use --root")


def _memory() -> Finding:
    available = memory.available_bytes()
    if available is None:
        return Finding("3 GB of free memory", None, "unknown on this system")
    free = min(available, cgroup.memory_bytes() or math.inf) / 1e9  # the first is for the whole machine
    return Finding("3 GB of free memory", free >= 3, f"{free:.1f} GB available", "close other programs")


def _port() -> Finding:
    port = options.DEFAULT_PORT
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind(("127.0.0.1", port))
        except OSError as error:
            return Finding(f"port {port}", None, str(error.strerror), seaway_command("run", "--port", 8601))
    return Finding(f"port {port}", True, "free")


def _tools() -> list[Finding]:
    uses = {"docker": "building images", "kubectl": "clusters", "kind": "a local cluster"}
    return [
        Finding(tool, True if shutil.which(tool) else None, shutil.which(tool) or "missing", f"install it for {use}")
        for tool, use in uses.items()
    ]
