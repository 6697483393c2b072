"""What a new user waits for: CPU seconds of the first commands, beside the same with a new process for each stage.

    python -m benchmarks.first_minutes [CASE …] [--rounds 5]

CPU seconds are of the command and all its children (user and system), so that other work on the machine changes them
little. `ship` and `run` have a peer: the same command with `--runner subprocess`, kfp.local's own way; that of
`ship-resnet18` is what it cannot do without: `torch.onnx.export`, and `seaway convert --no-check`. `run` trains the
linear net for one epoch on 1,400 synthetic images and sends 1 s of load per protocol, so that what it costs beyond
training and load is most of it. `try` is in wall seconds: `make try` in a new clone, without pip's cache, until
its page is there.
"""

import argparse
import contextlib
import datetime
import os
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
import urllib.request
from collections.abc import Callable, Sequence
from pathlib import Path
from statistics import median

import psutil  # type: ignore[import-untyped]

from benchmarks.tables import table
from seaway.pipeline import local
from seaway.platform import cgroup

ROOT = Path(__file__).resolve().parents[1]
SAMPLE_INTERVAL_S = 0.05  # what a process does after the last sample is not counted
MLP = "from torch import nn\n\ndef churn():\n    return nn.Sequential(nn.Linear(6, 32), nn.ReLU(), nn.Linear(32, 2))\n"
RUN = "--data strokes:1400 --net linear --epochs 1 --load-duration-s 1 --load-users 2 --no-keep"


EXPORT = """import torch, torchvision
net, example = torchvision.models.resnet18().eval(), torch.zeros(2, 3, 224, 224)
torch.onnx.export(net, (example,), "model.onnx", dynamo=True, external_data=False,
                  dynamic_shapes=({0: torch.export.Dim.DYNAMIC},))
"""


def seaway(folder: Path, command: str) -> float:
    """Runs the command and returns the CPU seconds of its whole tree of processes."""
    return python(folder, f"-m seaway.cli.main {command}")


def python(folder: Path, command: str) -> float:
    """The same for Python with these arguments. The tree is sampled: nobody waits for the stages of a warm process."""
    environment = os.environ | {"PYTHONPATH": f"{ROOT}{os.pathsep}{folder}"}
    seconds: dict[tuple[int, float], float] = {}
    with tempfile.TemporaryFile("w+") as output:
        process = psutil.Popen(
            [sys.executable, *command.split()], cwd=folder, env=environment, stdout=output, stderr=subprocess.STDOUT
        )
        while process.poll() is None:
            with contextlib.suppress(psutil.NoSuchProcess):
                for each in (process, *process.children(recursive=True)):
                    with contextlib.suppress(psutil.NoSuchProcess):
                        times = each.cpu_times()
                        seconds[each.pid, each.create_time()] = times.user + times.system
            time.sleep(SAMPLE_INTERVAL_S)
        if process.returncode:
            output.seek(0)
            raise SystemExit(f"{command}: {output.read()[-4000:]}")
    return sum(seconds.values())


def ship(folder: Path, runner: str) -> float:
    (folder / "mine.py").write_text(MLP)
    return seaway(folder, f"ship python:mine:churn --input numbers:6 --runner {runner} --root {runner}")


def served(folder: Path, _: str) -> float:
    """Wall seconds from the end of `ship` until a running server answers for the new version."""
    repository = folder / "warm" / local.REPOSITORY
    repository.mkdir(parents=True)
    with local.server(repository, port := _free_port(), folder / "server.log"):
        ship(folder, "warm")
        began = time.monotonic()
        _wait_until_ready(f"http://127.0.0.1:{port}")
        return time.monotonic() - began


def ship_vision(folder: Path, runner: str) -> float:
    net = "python:torchvision.models:mobilenet_v3_small --input 3x224x224"
    return seaway(folder, f"ship {net} --runner {runner} --root {runner}")


def ship_resnet18(folder: Path, runner: str) -> float:
    if runner == "warm":
        return seaway(folder, "ship python:torchvision.models:resnet18 --input 3x224x224")
    (folder / "export.py").write_text(EXPORT)
    return python(folder, "export.py") + seaway(folder, "convert model.onnx saved --no-check")


def run(folder: Path, runner: str) -> float:
    return seaway(folder, f"run {RUN} --runner {runner} --root {runner}-{time.time()} --port {_free_port()}")


def load(folder: Path, _: str) -> float:
    """Beyond the 5 s of load: all that Python imports, prepares and evaluates, and Locust's own work."""
    example = ROOT / "seaway" / "example"
    with local.server(example, port := _free_port(), folder / "server.log") as (url, *_):
        _wait_until_ready(url)
        return seaway(folder, f"load http://127.0.0.1:{port} --time 5 --users 1 --model-repository {example}")


def make_try(folder: Path) -> tuple[float, float]:
    """Seconds until the page of `make try` is there, in a new clone without pip's cache; MB of its environment."""
    subprocess.run(["git", "clone", "--quiet", ROOT, folder], check=True)
    command = ["make", "try", f"PORT={(port := _free_port())}", f"PYTHON={sys.executable}"]
    began = time.monotonic()
    environment = os.environ | {"PIP_NO_CACHE_DIR": "1"}
    silent = {"stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL}
    with subprocess.Popen(command, cwd=folder, env=environment, start_new_session=True, **silent) as process:
        _wait_until_ready(f"http://127.0.0.1:{port}", 600)
        seconds = time.monotonic() - began
        os.killpg(process.pid, signal.SIGTERM)
    return seconds, sum(path.lstat().st_blocks * 512 for path in (folder / ".venv-try").rglob("*")) / 1e6


CASES: dict[str, tuple[str, Callable[[Path, str], float], bool]] = {  # name → title, what to run, whether it has a peer
    "ship": ("`seaway ship`, a net of 6, 32 and 2", ship, True),
    "served": ("wall s from its end until a running server is ready", served, False),
    "ship-vision": ("`seaway ship`, mobilenet_v3_small", ship_vision, True),
    "ship-resnet18": ("`seaway ship`, resnet18", ship_resnet18, True),
    "run": ("`seaway run`, 1 epoch and 1 s of load", run, True),
    "load": ("`seaway load`, 5 s with one user", load, False),
    "doctor": ("`seaway doctor`", lambda folder, _: seaway(ROOT, "doctor"), False),
    "help": ("`seaway --help`", lambda folder, _: seaway(folder, "--help"), False),
}


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.first_minutes", description="A new user's first waits.")
    parser.add_argument("case", nargs="*", default=[*CASES, "try"], help="which to run (default: all)")
    parser.add_argument("--rounds", type=int, default=5, metavar="N", help="runs of each (default 5)")
    args = parser.parse_args()
    rows = []
    with tempfile.TemporaryDirectory() as parent:
        for case in args.case:
            if case == "try":
                tries = [make_try(Path(parent, f"try-{number}")) for number in range(args.rounds)]
                seconds, sizes_mb = zip(*tries, strict=True)
                title = f"`make try`, wall s; {max(sizes_mb):.0f} MB"
                rows.append([title, f"{median(seconds):.1f}", _range(seconds), ""])
                print(*rows[-1], flush=True)
                continue
            title, work, has_peer = CASES[case]
            own, peer = list[float](), list[float]()
            for number in range(args.rounds):
                for measured, runner in ((own, "warm"), (peer, "subprocess"))[: 1 + has_peer]:
                    folder = Path(parent, f"{case}-{number}-{runner}")
                    folder.mkdir()
                    measured.append(work(folder, runner))
                    shutil.rmtree(folder)
            rows.append([title, f"{median(own):.1f}", _range(own), f"{median(peer):.1f}" if peer else ""])
            print(*rows[-1], flush=True)
    commit = subprocess.run(
        ["git", "describe", "--always", "--dirty", "--exclude=*"], cwd=ROOT, capture_output=True, text=True, check=True
    )
    print(f"\n{datetime.date.today()}, commit {commit.stdout.strip()}, {cgroup.cores()} cores, {args.rounds} rounds\n")
    print(table(["command", "CPU s, median", "from, to", "peer, median"], rows))


def _range(values: Sequence[float]) -> str:
    return f"{min(values):.1f} to {max(values):.1f}"


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def _wait_until_ready(url: str, timeout_s: float = 60) -> None:
    deadline = time.monotonic() + timeout_s
    while time.monotonic() < deadline:
        try:
            with urllib.request.urlopen(f"{url}/readyz", timeout=2):
                return
        except OSError:
            time.sleep(0.1)
    raise SystemExit(f"{url} is not ready after {timeout_s} s")


if __name__ == "__main__":
    main()
