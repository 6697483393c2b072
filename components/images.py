"""The image of each stage: what is in it, its lock and its tag; the only place where a reference or a tag is chosen.

python -m components.images [STAGE …] [--registry seaway]      (prints the references that `make images` builds)

A tag is made from what goes into the image: the stage's own files, the parts of `seaway/` that they import, all of
`loadtest/` where they import any of it (its locustfile is started, not imported), its locks and the Dockerfile. So a
changed stage has a new image, and Kubeflow's cache, whose key holds the image, runs it again, and nothing else.
"python" stands in the tag because kfp's local runner looks for it.
"""

import argparse
import ast
import hashlib
import re
import shutil
from collections.abc import Iterator
from functools import cache
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
REGISTRY = "seaway"
OURS = ("seaway", "loadtest", "components")
STARTED_FROM = "loadtest"
DOCKERFILE = "components/Dockerfile"

# image → its locks in requirements/. KFP's executor, which starts every stage of a pipeline, is locked on its own.
LOCKS = {
    "explore": ("kfp", "explore"),
    "train": ("kfp", "train"),
    "export": ("kfp", "train"),  # one layer with PyTorch, 5 GB, for both
    "convert": ("kfp", "convert"),
    "validate": ("kfp", "validate"),
    "publish": ("kfp", "publish"),
    "deploy": ("kfp", "deploy"),
    "load": ("kfp", "load"),
    "promote": ("kfp", "deploy"),
    "outcome": ("kfp", "deploy"),
    "preflight": ("kfp", "deploy"),
    "serve": ("serve",),
    "serve-onnx": ("serve-onnx",),
}
FIRST = "tensorflow-cpu"  # installed before all else, so that images with different locks share the layer: 1 GB
FOLDERS = {"serve-onnx": "serve"}  # where an image is not named after its folder in components/
BESIDE = {"serve": "examples/characters"}  # what a folder's image holds beside code: a model for an empty volume


def image(stage: str, registry: str = REGISTRY) -> str:
    """The stage's full image reference, e.g. "seaway/train:python3.11-0a1b2c3d4e5f"."""
    return f"{registry}/{stage}:python3.11-{digest(stage)[:12]}"


@cache
def digest(stage: str) -> str:
    """sha256 (hex) of the names and bytes of all that the image is made of."""
    whole = hashlib.sha256()
    for path in [*sources(stage), *locks(stage), ROOT / DOCKERFILE]:
        content = path.read_bytes() if path.exists() else b""  # installed without its repository: nothing to build from
        whole.update(f"{path.relative_to(ROOT).as_posix()}\0{len(content)}\0".encode() + content)
    return whole.hexdigest()


def locks(stage: str) -> list[Path]:
    """What is to be installed, together and without further dependencies."""
    return [ROOT / "requirements" / f"{lock}.txt" for lock in LOCKS[stage]]


def sources(stage: str) -> list[Path]:
    """The stage's own files but its KFP spec, every file of ours that they import, directly or not, and what it serves
    at first: all that is copied into the image."""
    folder = FOLDERS.get(stage, stage)
    waiting = [path for path in _files(ROOT / "components" / folder) if path.name != "component.py"]
    if folder in BESIDE:
        waiting += _files(ROOT / BESIDE[folder])
    found: set[Path] = set()
    while waiting:
        path = waiting.pop()
        if path not in found:
            found.add(path)
            waiting += _imported(path) if path.suffix == ".py" else []
    return sorted(found)


def _files(folder: Path) -> list[Path]:
    return [path for path in sorted(folder.rglob("*")) if path.is_file() and path.parent.name != "__pycache__"]


def _imported(path: Path) -> Iterator[Path]:
    packages = [ROOT / folder / "__init__.py" for folder in list(path.relative_to(ROOT).parents)[:-1]]
    yield from (package for package in packages if package.is_file())
    for node in ast.walk(ast.parse(path.read_bytes())):
        if isinstance(node, ast.ImportFrom) and node.module:
            names = [node.module, *(f"{node.module}.{alias.name}" for alias in node.names)]
        elif isinstance(node, ast.Import):
            names = [alias.name for alias in node.names]
        else:
            continue
        for name in names:
            file = ROOT.joinpath(*name.split(".")).with_suffix(".py")
            if name.split(".")[0] in OURS and file.is_file():
                yield file
            if name.split(".")[0] == STARTED_FROM:
                yield from sorted((ROOT / STARTED_FROM).glob("*.py"))


def _entry(locked: str, distribution: str) -> str:
    """What a lock says of one distribution, without comments; "" where it is not in there."""
    found = re.search(rf"^{re.escape(distribution)}==\S+(?: \\\n +--hash=\S+)+\n", locked, re.MULTILINE)
    return found[0] if found else ""


def copy(stage: str, target: Path) -> None:
    """Writes what the Dockerfile needs: target/first.txt and requirements.txt, and the stage's files in target/app."""
    target.mkdir(parents=True)
    required = "".join(lock.read_text() for lock in locks(stage))
    (target / "first.txt").write_text(_entry(required, FIRST))
    (target / "requirements.txt").write_text(required)
    for path in [*sources(stage), ROOT / "LICENSE", ROOT / "NOTICE"]:
        copied = target / "app" / path.relative_to(ROOT)
        copied.parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(path, copied)  # its bytes alone: a checkout's modes may keep others from reading


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m components.images", description="Prints references of images.")
    parser.add_argument("stage", nargs="*", help=f"of {', '.join(LOCKS)} (default: all)")
    parser.add_argument("--registry", default=REGISTRY, help="where the images are or will be (default: %(default)s)")
    parser.add_argument("--locks", action="store_true", help="print the names of all locks, instead")
    parser.add_argument("--copy", type=Path, metavar="DIR", help="write what goes into the one stage's image, instead")
    given = parser.parse_args()
    if given.locks:
        print(*sorted({lock for locks in LOCKS.values() for lock in locks}))
        return
    if given.copy and len(given.stage) != 1:
        parser.error("--copy takes one stage")
    for stage in given.stage or LOCKS:
        if stage not in LOCKS:
            parser.error(f"no stage {stage!r}: there are {', '.join(LOCKS)}")
        if given.copy:
            copy(stage, given.copy)
        else:
            print(image(stage, given.registry))


if __name__ == "__main__":
    main()
