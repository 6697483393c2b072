"""What the default training reaches, and what it costs in CPU time.

    python -m benchmarks.training.bars --source idx:DIR
    python -m benchmarks.training.bars --dataset dataset --nets cnn-large --threads 2

Each net is trained by `python -m seaway.train` with its defaults, on one thread, in a process of its own; its user
and system time cover everything from the interpreter's start to the written checkpoint. Prints a Markdown table. On a
machine that does other things as well a step costs up to twice the CPU time.
"""

import argparse
import datetime
import os
import platform
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path

from seaway.artifacts import card as cards
from seaway.artifacts.card import Card
from seaway.platform import cgroup

BARS = {"mlp": (0.74, 2), "cnn": (0.805, 15), "cnn-large": (0.82, 60)}  # test accuracy, CPU minutes


@dataclass(frozen=True)
class Cost:
    cpu_minutes: float
    wall_minutes: float


def main() -> None:
    parser = argparse.ArgumentParser("python -m benchmarks.training.bars", description=(__doc__ or "").splitlines()[0])
    data = parser.add_mutually_exclusive_group(required=True)
    data.add_argument("--source", help="data source, e.g. emnist or idx:../shared/data/handwriting")
    data.add_argument("--dataset", type=Path, help="dataset artifact that is there already")
    parser.add_argument("--nets", nargs="+", choices=sorted(BARS), default=["mlp", "cnn"])
    parser.add_argument("--threads", default="1", help="CPU threads (default: 1)")
    given = parser.parse_args()
    with tempfile.TemporaryDirectory() as held:
        dataset = given.dataset or Path(held) / "dataset"
        if given.source:
            run("seaway.explore", "--source", given.source, "--dataset", dataset)
        rows = []
        for net in given.nets:
            checkpoint = Path(held) / net
            options = ["--dataset", dataset, "--checkpoint", checkpoint, "--net", net, "--threads", given.threads]
            rows.append(row(net, run("seaway.train", *options), cards.read(checkpoint)))
        source = str(cards.read(dataset).settings.get("source", dataset))
    print(heading(source, given.threads))
    print("| net | test accuracy | balanced | epochs | CPU min | wall min | bar |")
    print("|---|---|---|---|---|---|---|")
    print("\n".join(rows))


def run(module: str, *options: object) -> Cost:
    """Runs a stage and returns what it cost; stops the benchmark where it fails."""
    began = time.monotonic()
    process = subprocess.Popen([sys.executable, "-m", module, *map(str, options)])
    _, status, used = os.wait4(process.pid, 0)
    process.returncode = os.waitstatus_to_exitcode(status)
    if process.returncode:
        raise SystemExit(f"python -m {module} failed with {process.returncode}; see its message above")
    return Cost((used.ru_utime + used.ru_stime) / 60, (time.monotonic() - began) / 60)


def row(net: str, cost: Cost, card: Card) -> str:
    accuracy, minutes = BARS[net]
    met = card.metrics["accuracy"] >= accuracy and cost.cpu_minutes <= minutes
    cells = [
        net,
        f"{card.metrics['accuracy']:.2%}",
        f"{card.metrics['balanced_accuracy']:.2%}",
        str(card.settings["epochs"]),
        f"{cost.cpu_minutes:.1f}",
        f"{cost.wall_minutes:.1f}",
        f"{'met' if met else 'missed'}: ≥ {accuracy:.1%} in ≤ {minutes} CPU min",
    ]
    return "| " + " | ".join(cells) + " |"


def heading(source: str, threads: str) -> str:
    commit = subprocess.run(["git", "rev-parse", "--short", "HEAD"], capture_output=True, text=True).stdout.strip()
    today = datetime.datetime.now(datetime.UTC).date()
    machine = f"{cgroup.cores()} cores, {platform.machine()}"
    return f"{source}, {today}, commit {commit or 'unknown'}, {machine}, {threads} thread(s)\n"


if __name__ == "__main__":
    main()
