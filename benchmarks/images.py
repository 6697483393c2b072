"""Sizes of the images, and how long building one takes: with nothing cached, and after a change of one line.

    python -m benchmarks.images [STAGE …]

Each image is built by `make images`: first without Docker's layer cache, but with pip's wheels at hand where they were
downloaded before; then in a copy of the repository with a comment added to the stage's __main__.py. An image whose
requirements another one has installed just now takes that layer over, and says so. The copy's images are removed again.
No peer: what is measured is what a change costs a developer, and what a node has to pull. Needs Docker.
"""

import argparse
import datetime
import os
import platform
import shutil
import subprocess
import tempfile
import time
from pathlib import Path

from benchmarks.tables import table
from components import images


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.images", description="Images: sizes and build times.")
    parser.add_argument("stage", nargs="*", default=[*images.LOCKS], help="which to build (default: all)")
    given = parser.parse_args()
    rows, installed = [], {}
    for stage in given.stage:
        lock = images.LOCKS[stage]
        cold = _build(images.ROOT, stage, *([] if lock in installed else ["ARGS=--no-cache"]))
        shared = f" (layer of {installed[lock]})" if lock in installed else ""
        installed.setdefault(lock, stage)
        rows.append([stage, *_sizes(images.image(stage)), f"{cold:.0f}{shared}", f"{_build_changed(stage):.1f}"])
        print(*rows[-1], flush=True)
    commit = _said("git", "describe", "--always", "--dirty", "--exclude=*")
    print(f"\n{datetime.date.today()}, commit {commit}, {os.cpu_count()} cores, {platform.machine()}\n")
    print(table(["image", "MB", "of which requirements", "code, MB", "cold, s", "one line changed, s"], rows))


def _build(repository: Path, stage: str, *arguments: str) -> float:
    """Seconds."""
    start = time.monotonic()
    made = subprocess.run(
        ["make", "images", f"STAGE={stage}", *arguments], cwd=repository, capture_output=True, text=True
    )
    if made.returncode:
        raise SystemExit(f"make images STAGE={stage}: {made.stderr[-3000:]}")
    return time.monotonic() - start


def _build_changed(stage: str) -> float:
    with tempfile.TemporaryDirectory() as holder:
        for name in _said("git", "ls-files").splitlines():
            Path(holder, name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(images.ROOT / name, Path(holder, name))
        program = Path(holder, "components", images.FOLDERS.get(stage, stage), "__main__.py")
        program.write_text(program.read_text() + f"# changed at {time.time()}\n")
        seconds = _build(Path(holder), stage)
        reference = subprocess.run(
            ["python3", "-m", "components.images", stage], cwd=holder, check=True, capture_output=True, text=True
        ).stdout.strip()
        subprocess.run(["docker", "rmi", reference], check=True, capture_output=True)
    return seconds


def _sizes(reference: str) -> tuple[str, str, str]:
    """Of the image, of the layer that pip made, and of the stage's files, in MB."""
    total = int(_said("docker", "image", "inspect", "--format", "{{.Size}}", reference))
    history = _said(
        "docker", "history", "--no-trunc", "--human=false", "--format", "{{.Size}}\t{{.CreatedBy}}", reference
    )
    layers = [(int(size), by) for size, _, by in (line.partition("\t") for line in history.splitlines())]
    wheels = sum(size for size, by in layers if "pip install" in by)
    code = sum(size for size, by in layers if "/collected/app" in by)
    return f"{total / 1e6:,.0f}", f"{wheels / 1e6:,.0f}", f"{code / 1e6:.1f}"


def _said(*command: str) -> str:
    return subprocess.run(command, cwd=images.ROOT, check=True, capture_output=True, text=True).stdout.strip()


if __name__ == "__main__":
    main()
