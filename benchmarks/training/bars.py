"""Accuracy and CPU time of training with the default settings.

    python -m benchmarks.training.bars --source idx:DIR
    python -m benchmarks.training.bars --dataset dataset --nets cnn-large --threads 2

Trains each net by `python -m seaway.train` with its defaults, on one thread, in a process of its own; user and system
time cover everything from the interpreter's start to the written checkpoint. Prints a Markdown table. On a busy machine
a step costs up to twice the CPU time.
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

from seaway.artifacts import artifact_metadata
from seaway.artifacts.artifact_metadata import ArtifactMetadata
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
    data.add_argument("--dataset", type=Path, help="existing dataset artifact")
    parser.add_argument("--nets", nargs="+", choices=sorted(BARS), default=["mlp", "cnn"])
    parser.add_argument("--threads", default="1", help="CPU threads (default: 1)")
    args = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        dataset = args.dataset or Path(folder) / "dataset"
        if args.source:
            run("seaway.explore", "--source", args.source, "--dataset", dataset)
        rows = []
        for net in args.nets:
            checkpoint = Path(folder) / net
            options = ["--dataset", dataset, "--checkpoint", checkpoint, "--net", net, "--threads", args.threads]
            rows.append(row(net, run("seaway.train", *options), artifact_metadata.read(checkpoint)))
        source = str(artifact_metadata.read(dataset).settings.get("source", dataset))
    print(heading(source, args.threads))
    print("| net | test accuracy | balanced | epochs | CPU min | wall min | bar |")
    print("|---|---|---|---|---|---|---|")
    print("\n".join(rows))


def run(module: str, *options: object) -> Cost:
    """Runs a stage and returns its cost; stops the benchmark if it fails."""
    start = time.monotonic()
    process = subprocess.Popen([sys.executable, "-m", module, *map(str, options)])
    _, status, usage = os.wait4(process.pid, 0)
    process.returncode = os.waitstatus_to_exitcode(status)
    if process.returncode:
        raise SystemExit(f"python -m {module} failed with {process.returncode}; see its message above")
    return Cost((usage.ru_utime + usage.ru_stime) / 60, (time.monotonic() - start) / 60)


def row(net: str, cost: Cost, metadata: ArtifactMetadata) -> str:
    accuracy, minutes = BARS[net]
    met = metadata.metrics["accuracy"] >= accuracy and cost.cpu_minutes <= minutes
    cells = [
        net,
        f"{metadata.metrics['accuracy']:.2%}",
        f"{metadata.metrics['balanced_accuracy']:.2%}",
        str(metadata.settings["epochs"]),
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
