"""Claim: a dataset as large as EMNIST (814,255 pictures) is made, looked at and trained on in little memory.

    python -m benchmarks.training.memory [--source strokes:814255] [--net mlp]

Runs `seaway.explore`, then `seaway.train` for one epoch, each in a process of its own, and prints its highest
resident memory with the time it took; for training also what is left of it without a process that only imports torch.
No peer: the bounds are the claim. The same number of pictures is 638 MB as bytes and 2.6 GB as float32.
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
    parser.add_argument("--source", default="strokes:814255", help="as explore's; smaller to try: strokes:14000")
    parser.add_argument("--net", default="mlp", help="whose epoch is trained (default: mlp)")
    parser.add_argument("--folder", type=Path, help="where to write the dataset for the time being (0.7 GB)")
    given = parser.parse_args()
    with tempfile.TemporaryDirectory(dir=given.folder) as holder:
        dataset, report = Path(holder, "dataset"), Path(holder, "report.html")
        explored = run("-m", "seaway.explore", "--source", given.source, "--dataset", dataset, "--report", report)
        options = ("--dataset", dataset, "--checkpoint", Path(holder, "checkpoint"), "--net", given.net, "--epochs", 1)
        trained = run("-m", "seaway.train", *options, "--report", report)
        written = sum(path.stat().st_size for path in dataset.iterdir()) / 1e6
    torch = run("-c", "import torch")
    beyond = trained[0] - torch[0]
    commit = subprocess.run(["git", "rev-parse", "--short", "HEAD"], cwd=ROOT, capture_output=True, text=True).stdout
    print(f"{datetime.date.today()}, commit {commit.strip()}, {platform.machine()}, Python {platform.python_version()}")
    print(f"{given.source}: {written:.0f} MB on the disk\n")
    print("| stage | seconds | CPU s | peak memory | of it beyond torch itself |\n|---|---|---|---|---|")
    print(f"| explore, with its report | {explored[1]:.0f} | {explored[2]:.0f} | {explored[0]:.0f} MB | |")
    took = f"{trained[1]:.0f} | {trained[2]:.0f}"
    print(f"| train {given.net}, an epoch | {took} | {trained[0]:.0f} MB | {beyond:.0f} MB |")
    if explored[0] >= EXPLORE_MB or beyond >= TRAIN_MB:
        sys.exit(f"more than {EXPLORE_MB} MB to explore, or than {TRAIN_MB} MB beyond torch to train")


def run(*words: object) -> tuple[float, float, float]:
    """Peak resident MB, seconds, CPU seconds. Stops the benchmark where the process fails."""
    start = time.monotonic()
    process = subprocess.Popen([sys.executable, *map(str, words)], cwd=ROOT)
    _, status, used = os.wait4(process.pid, 0)
    if status:
        sys.exit(f"{' '.join(map(str, words))}: failed; see its message above")
    return used.ru_maxrss * 1024 / 1e6, time.monotonic() - start, used.ru_utime + used.ru_stime


if __name__ == "__main__":
    main()
