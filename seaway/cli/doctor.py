"""`seaway doctor`: what is installed, what is missing, how to mend it.

In a checkout everything is wanted, in the versions of its lock; of an installed package the extras that are there."""

import importlib.metadata
import math
import re
import shutil
import socket
import subprocess
import sys
from collections.abc import Sequence
from importlib.util import find_spec
from pathlib import Path
from typing import NamedTuple

import typer

from seaway import extras
from seaway.cli import options
from seaway.platform import cgroup, memory

ROOT = Path(__file__).resolve().parents[2]
LOCK = ROOT / "requirements" / "dev.txt"
NEEDED = ("torch", "torchvision", "onnx", "onnx-tf", "onnxruntime", "tensorflow-cpu", "kfp", "locust")
ALWAYS = ("onnxruntime", "numpy", "pillow")  # those of the default install that are looked for
REINSTALL = "make setup"
EITHER = {"tensorflow-cpu": "tensorflow"}  # which serves as well
ADDS = {  # extra → what it is for
    "tensorflow": "serve --backend savedmodel",
    "convert": "convert",
    "cluster": "status; deploy, promote, rollback, versions on a cluster",
    "load": "load, verify, evaluate",
    "pipelines": "compile, submit, run --runner docker",
    "train": "sweep",
    "ship": "ship",
    "all": "run",
}
FRAMEWORKS = {"torch": "torch", "tensorflow": "TensorFlow"}
MOST_NAMED = 3  # packages of an extra that is missing
SUPPORTED = ((3, 11), (3, 12), (3, 13))


class Finding(NamedTuple):
    """`good` is None for what is only needed for some work."""

    what: str
    good: bool | None
    found: str
    mend: str = ""


def doctor() -> None:
    """Tells what is installed, what is missing and how to mend it. Exit status 1 if what is installed would not work.

    In a checkout that is all that `seaway run` needs; what an extra of the package would add is no fault.

    [bold]Example[/bold]

      seaway doctor
    """
    from rich.console import Console
    from rich.markup import escape
    from rich.table import Table

    findings = [*(_locked() if LOCK.exists() else _installed()), _port(), *_tools()]
    table = Table("", "what", "found", "how to mend it")
    for finding in findings:
        sign = {True: "[green]ok[/green]", False: "[red]bad[/red]", None: "[yellow]--[/yellow]"}[finding.good]
        texts = (finding.what, finding.found, "" if finding.good else finding.mend)
        table.add_row(sign, *map(escape, texts))
    Console().print(table)
    if any(finding.good is False for finding in findings):
        raise typer.Exit(1)


def _locked() -> list[Finding]:
    """Of a checkout, where `seaway run` is to work."""
    return [_python(), *map(_package, NEEDED), _frameworks([*FRAMEWORKS]), _disk(), _memory()]


def _installed() -> list[Finding]:
    """Of a package from a wheel: what is there has to work; what an extra adds is named."""
    absent = {extra: extras.missing(extra) for extra in extras.EXTRAS}
    present = [name for name in FRAMEWORKS if find_spec(name)]
    findings = [_python(), *map(_package, ALWAYS)]
    findings += [_extra(extra, modules) for extra, modules in absent.items()]
    findings += [_frameworks(present)] if present else []
    room = [_disk(), _memory()]
    return findings + (room if not absent["all"] else [one._replace(good=one.good or None) for one in room])


def _extra(extra: str, absent: list[str]) -> Finding:
    more = ", …" if len(absent) > MOST_NAMED else ""
    found = f"not installed: {', '.join(absent[:MOST_NAMED])}{more}" if absent else "installed"
    what = f"seaway[{extra}]"
    return Finding(what, None if absent else True, found, f'pip install "{what}", for {ADDS[extra]}')


def _python() -> Finding:
    version = ".".join(map(str, sys.version_info[:3]))
    return Finding("Python 3.11 to 3.13", sys.version_info[:2] in SUPPORTED, version, "make setup PYTHON=python3.11")


def _package(name: str) -> Finding:
    wanted = re.search(rf"^{re.escape(name)}==(\S+)", LOCK.read_text(), re.MULTILINE) if LOCK.exists() else None
    mend = REINSTALL if LOCK.exists() else "pip install --force-reinstall seaway"
    found = _version(name) or _version(EITHER.get(name, ""))
    if not found:
        return Finding(name, False, "missing", mend)
    as_locked = wanted is None or found == wanted[1]
    return Finding(name, as_locked, found, f"the lock says {wanted[1]}: {REINSTALL}" if wanted else "")


def _version(name: str) -> str:
    """ "" for what is not installed."""
    try:
        return importlib.metadata.version(name) if name else ""
    except importlib.metadata.PackageNotFoundError:
        return ""


def _frameworks(modules: Sequence[str]) -> Finding:
    """Imports torch and TensorFlow for real, each in a process of its own."""
    broken = []
    for module in modules:
        tried = subprocess.run([sys.executable, "-c", f"import {module}"], capture_output=True, text=True, timeout=300)
        if tried.returncode:
            broken.append(f"{module}: {(tried.stderr.strip().splitlines() or ['killed'])[-1]}")
    mend = f"rm -r .venv && {REINSTALL}" if LOCK.exists() else "pip install them anew"
    return Finding(
        f"{' and '.join(FRAMEWORKS[module] for module in modules)} import", not broken, "; ".join(broken) or "yes", mend
    )


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
