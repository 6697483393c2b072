"""Claim: exploring and training on a dataset as large as EMNIST (814,255 images) takes little memory.

    python -m benchmarks.training.memory [--source strokes:814255] [--net mlp]

Runs `seaway.explore`, then `seaway.train` for one epoch, each in a process of its own, and prints its peak resident
memory and its time; for training also the memory beyond that of a process that only imports torch. There is no peer to
compare with: the bounds are the claim. The same number of images is 638 MB as bytes and 2.6 GB as float32.
"""

import argparse
import datetime
import os
import platform
import subprocess
import sys
import tempfile
import time
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
EXPLORE_MB, TRAIN_MB = 1000, 2000


def main() -> None:
    parser = argparse.ArgumentParser("python -m benchmarks.training.memory", description="Peak memory of two stages.")
    parser.add_argument("--source", default="strokes:814255", help="as for explore; to try it, strokes:14000")
    parser.add_argument("--net", default="mlp", help="network to train for one epoch (default: mlp)")
    parser.add_argument("--folder", type=Path, help="folder for the temporary dataset (0.7 GB)")
    args = parser.parse_args()
    with tempfile.TemporaryDirectory(dir=args.folder) as folder:
        dataset, report = Path(folder, "dataset"), Path(folder, "report.html")
        explored = run("-m", "seaway.explore", "--source", args.source, "--dataset", dataset, "--report", report)
        options = ("--dataset", dataset, "--checkpoint", Path(folder, "checkpoint"), "--net", args.net, "--epochs", 1)
        trained = run("-m", "seaway.train", *options, "--report", report)
        written = sum(path.stat().st_size for path in dataset.iterdir()) / 1e6
    torch = run("-c", "import torch")
    beyond = trained[0] - torch[0]
    commit = subprocess.run(["git", "rev-parse", "--short", "HEAD"], cwd=ROOT, capture_output=True, text=True).stdout
    print(f"{datetime.date.today()}, commit {commit.strip()}, {platform.machine()}, Python {platform.python_version()}")
    print(f"{args.source}: {written:.0f} MB on the disk\n")
    print("| stage | seconds | CPU s | peak memory | beyond torch itself |\n|---|---|---|---|---|")
    print(f"| explore, with report | {explored[1]:.0f} | {explored[2]:.0f} | {explored[0]:.0f} MB | |")
    times = f"{trained[1]:.0f} | {trained[2]:.0f}"
    print(f"| train {args.net}, one epoch | {times} | {trained[0]:.0f} MB | {beyond:.0f} MB |")
    if explored[0] >= EXPLORE_MB or beyond >= TRAIN_MB:
        sys.exit(f"exploring took more than {EXPLORE_MB} MB, or training more than {TRAIN_MB} MB beyond torch")


def run(*words: object) -> tuple[float, float, float]:
    """Peak resident MB, seconds, CPU seconds. Stops the benchmark if the process fails."""
    start = time.monotonic()
    process = subprocess.Popen([sys.executable, *map(str, words)], cwd=ROOT)
    _, status, usage = os.wait4(process.pid, 0)
    if status:
        sys.exit(f"{' '.join(map(str, words))}: failed; see its message above")
    return usage.ru_maxrss * 1024 / 1e6, time.monotonic() - start, usage.ru_utime + usage.ru_stime


if __name__ == "__main__":
    main()
