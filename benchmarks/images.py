"""Sizes of the container images, and the build time after a change of a stage's code or of its lock (a cold build).

    python -m benchmarks.images [STAGE …]

`make images` builds each image, for its size; then in a copy of the repository with a comment added to the stage's
__main__.py; then with a comment added to its lock as well, which downloads and installs everything but the base image.
The copies' images are removed again; `docker builder prune` frees their build cache. No peer: the figures are a
developer's wait after a change, and the size that a node has to pull. Needs Docker.
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

PACKAGES = {"serve-onnx": "serve", "serve-tfs": "serve"}  # image → package, where the names differ


def main() -> None:
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.images", description="Container images: sizes and build times."
    )
    parser.add_argument("stage", nargs="*", default=[*images.STAGES], help="which to build (default: all)")
    args = parser.parse_args()
    rows, first_with_lock = [], dict[bytes, str]()
    for stage in args.stage:
        _make(images.ROOT, stage)
        lock = images.locks(stage)[-1]
        same_lock = first_with_lock.setdefault(lock.read_bytes(), stage)
        with tempfile.TemporaryDirectory() as folder:
            copy = _copy(Path(folder))
            _append_comment(copy / "seaway" / PACKAGES.get(stage, stage) / "__main__.py")
            code_changed = f"{_make_and_remove(copy, stage):.1f}"
            _append_comment(copy / lock.relative_to(images.ROOT))
            lock_changed = f"{_make_and_remove(copy, stage):.0f}" if same_lock == stage else f"as {same_lock}"
        rows.append([stage, *_sizes(images.image(stage)), lock_changed, code_changed])
        print(*rows[-1], flush=True)
    commit = _output("git", "describe", "--always", "--dirty", "--exclude=*")
    print(f"\n{datetime.date.today()}, commit {commit}, {cgroup.cores()} cores, {platform.machine()}\n")
    print(table(["image", "MB", "requirements, MB", "code, MB", "lock changed, s", "code changed, s"], rows))


def _copy(folder: Path) -> Path:
    for name in _output("git", "ls-files").splitlines():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(images.ROOT / name, folder / name)
    return folder


def _append_comment(file: Path) -> None:
    file.write_text(file.read_text() + f"# changed at {time.time()}\n")


def _make_and_remove(repository: Path, stage: str) -> float:
    build_s = _make(repository, stage)
    _output("docker", "rmi", _output("python3", "-m", "seaway.pipeline.images", stage, cwd=repository))
    return build_s


def _make(repository: Path, stage: str) -> float:
    """Builds the image; returns the seconds it took."""
    started_at = time.monotonic()
    _output("make", "images", f"STAGE={stage}", cwd=repository)
    return time.monotonic() - started_at


def _sizes(reference: str) -> tuple[str, str, str]:
    """Sizes of the image, of the layer with its requirements, and of the stage's files, in MB."""
    total = int(_output("docker", "image", "inspect", "--format", "{{.Size}}", reference))
    history = _output(
        "docker", "history", "--no-trunc", "--human=false", "--format", "{{.Size}}\t{{.CreatedBy}}", reference
    )
    layers = [(int(size), by) for size, _, by in (line.partition("\t") for line in history.splitlines())]
    requirements = sum(size for size, by in layers if "pip install" in by)
    code = sum(size for size, by in layers if "/collected/app" in by)
    return f"{total / 1e6:,.0f}", f"{requirements / 1e6:,.0f}", f"{code / 1e6:.1f}"


def _output(*command: str, cwd: Path = images.ROOT) -> str:
    completed = subprocess.run(command, cwd=cwd, capture_output=True, text=True)
    if completed.returncode:
        raise SystemExit(f"{' '.join(command)}:\n{completed.stderr[-3000:]}")
    return completed.stdout.strip()


if __name__ == "__main__":
    main()
