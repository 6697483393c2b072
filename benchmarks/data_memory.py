"""Claim: a dataset as large as EMNIST (814,255 pictures) is made and looked at in less than 1 GB of memory.

    python benchmarks/data_memory.py [--source strokes:814255]

Runs `components.explore` in a process of its own and prints its highest resident memory, with the time and the CPU time
it took. No peer: the bound is the claim. The same number of pictures is 638 MB as bytes and 2.6 GB as float32.
"""

import argparse
import datetime
import platform
import resource
import subprocess
import sys
import tempfile
import time
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
LIMIT_MB = 1000


def main() -> None:
    parser = argparse.ArgumentParser(description="Peak memory of the explore stage.")
    parser.add_argument("--source", default="strokes:814255", help="as explore's; smaller to try: strokes:14000")
    parser.add_argument("--folder", type=Path, help="where to write the dataset for the time being (0.7 GB)")
    given = parser.parse_args()
    with tempfile.TemporaryDirectory(dir=given.folder) as holder:
        dataset, report = Path(holder, "dataset"), Path(holder, "report.html")
        command = ["-m", "components.explore", "--source", given.source, "--dataset", dataset, "--report", report]
        start = time.monotonic()
        subprocess.run([sys.executable, *command], cwd=ROOT, check=True)
        seconds = time.monotonic() - start
        written = sum(path.stat().st_size for path in dataset.iterdir()) / 1e6
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    peak = used.ru_maxrss * 1024 / 1e6
    commit = subprocess.run(["git", "rev-parse", "--short", "HEAD"], cwd=ROOT, capture_output=True, text=True).stdout
    print(f"{datetime.date.today()}, commit {commit.strip()}, {platform.machine()}, Python {platform.python_version()}")
    print("| source | dataset on disk | seconds | CPU s | peak memory |\n|---|---|---|---|---|")
    spent = used.ru_utime + used.ru_stime
    print(f"| {given.source} | {written:.0f} MB | {seconds:.0f} | {spent:.0f} | {peak:.0f} MB |")
    if peak >= LIMIT_MB:
        sys.exit(f"more than {LIMIT_MB} MB")


if __name__ == "__main__":
    main()
