"""Sizes of the images, and what a change costs: of one line of a stage's code, and of its lock (so everything anew).

    python -m benchmarks.images [STAGE …]

Each image is built by `make images`, for its size; then in a copy of the repository with a comment added to the stage's
__main__.py, then also with one added to its lock, which is a cold build but for the base image: downloading and
installing. The copies' images are removed again; `docker builder prune` frees what the cache keeps of them. No peer:
what is measured is what a change costs a developer, and what a node has to pull. Needs Docker.
"""

import argparse
import datetime
import platform
import shutil
import subprocess
import tempfile
import time
from pathlib import Path

from benchmarks.tables import table
from seaway.pipeline import images
from seaway.platform import cgroup

PACKAGES = {"serve-onnx": "serve"}  # where an image is not named after its package


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.images", description="Images: sizes and build times.")
    parser.add_argument("stage", nargs="*", default=[*images.STAGES], help="which to build (default: all)")
    given = parser.parse_args()
    rows, first = [], dict[bytes, str]()
    for stage in given.stage:
        _make(images.ROOT, stage)
        lock = images.locks(stage)[-1]
        layers_of = first.setdefault(lock.read_bytes(), stage)
        with tempfile.TemporaryDirectory() as holder:
            copy = _copy(Path(holder))
            _change(copy / "seaway" / PACKAGES.get(stage, stage) / "__main__.py")
            changed = f"{_make_and_remove(copy, stage):.1f}"
            _change(copy / lock.relative_to(images.ROOT))
            cold = f"{_make_and_remove(copy, stage):.0f}" if layers_of == stage else f"as {layers_of}"
        rows.append([stage, *_sizes(images.image(stage)), cold, changed])
        print(*rows[-1], flush=True)
    commit = _said("git", "describe", "--always", "--dirty", "--exclude=*")
    print(f"\n{datetime.date.today()}, commit {commit}, {cgroup.cores()} cores, {platform.machine()}\n")
    print(table(["image", "MB", "of which requirements", "code, MB", "lock changed, s", "code changed, s"], rows))


def _copy(folder: Path) -> Path:
    for name in _said("git", "ls-files").splitlines():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(images.ROOT / name, folder / name)
    return folder


def _change(file: Path) -> None:
    file.write_text(file.read_text() + f"# changed at {time.time()}\n")


def _make_and_remove(repository: Path, stage: str) -> float:
    seconds = _make(repository, stage)
    _said("docker", "rmi", _said("python3", "-m", "seaway.pipeline.images", stage, at=repository))
    return seconds


def _make(repository: Path, stage: str) -> float:
    """Seconds that building takes."""
    start = time.monotonic()
    _said("make", "images", f"STAGE={stage}", at=repository)
    return time.monotonic() - start


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


def _said(*command: str, at: Path = images.ROOT) -> str:
    ended = subprocess.run(command, cwd=at, capture_output=True, text=True)
    if ended.returncode:
        raise SystemExit(f"{' '.join(command)}:\n{ended.stderr[-3000:]}")
    return ended.stdout.strip()


if __name__ == "__main__":
    main()
