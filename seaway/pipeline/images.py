"""The image of each stage: what is in it, its lock and its tag; the only place where a reference or a tag is chosen.

python -m seaway.pipeline.images [STAGE …] [--registry seaway]      (prints the references that `make images` builds)

A tag is made from what goes into the image: the modules that the stage begins with, every module of ours that they
import, directly or not, the data files of all these, its locks and the Dockerfile. So a changed stage has a new image,
and Kubeflow's cache, whose key holds the image, runs it again, and nothing else. "python" stands in the tag because
kfp's local runner looks for it. An installed package has no locks to make a tag of: it carries the tags of the checkout
that it was built from (images.json, written by hatch_build.py).
"""

import argparse
import ast
import hashlib
import json
import re
import shutil
from collections.abc import Iterator
from functools import cache
from pathlib import Path

from seaway.errors import NotFound

ROOT = Path(__file__).resolve().parents[2]  # of a checkout
CARRIED = Path(__file__).resolve().parents[1] / "_kfp" / "images.json"  # of an installed package
REGISTRY = "seaway"
OURS = "seaway"
DOCKERFILE = "components/Dockerfile"
EXECUTOR = "components/kfp.txt"  # KFP's executor, which starts every stage of a pipeline, is locked on its own

STAGES = (
    "explore", "train", "export", "convert", "validate", "publish", "deploy", "load", "promote", "outcome", "preflight",
    "serve", "serve-onnx",
)  # fmt: skip
SERVER = (  # what `python -m seaway.serve` starts by name, or imports by name
    "seaway.serve.__main__",
    "seaway.serve.seed",
    "seaway.serve.worker.nursery",
    "seaway.serve.backends.onnx",
    "seaway.serve.backends.savedmodel",
)
# Image → the modules that it begins with, where these are not the stage's __main__ alone.
ENTRIES = {"serve": SERVER, "serve-onnx": SERVER, "load": ("seaway.load.__main__", "seaway.load.locustfile")}
# Module → a folder of files that it reads.
DATA = {"seaway.serve.supervisor.app": "seaway/serve/page", "seaway.serve.seed": "seaway/example"}
FIRST = "tensorflow-cpu"  # installed before all else, so that images with different locks share the layer: 1 GB


def image(stage: str, registry: str = REGISTRY) -> str:
    """The stage's full image reference, e.g. "seaway/train:python3.11-0a1b2c3d4e5f".

    Raises NotFound where neither a checkout nor the installed package knows the stage.
    """
    return f"{registry}/{stage}:{tag(stage)}"


def tag(stage: str) -> str:
    """e.g. "python3.11-0a1b2c3d4e5f"; in a checkout of its files, else as the package carries it. Raises NotFound."""
    if (ROOT / DOCKERFILE).is_file():
        if stage not in STAGES:
            raise NotFound(f"no image {stage!r}: there are {', '.join(STAGES)}")
        return f"python3.11-{digest(stage)[:12]}"
    tags = carried()
    if stage not in tags:
        raise NotFound(f"{CARRIED}: names no image of {stage!r}; it has {', '.join(tags)}: install seaway anew")
    return tags[stage]


def carried() -> dict[str, str]:
    """Stage → tag, as the installed package says. Raises NotFound."""
    try:
        tags: dict[str, str] = json.loads(CARRIED.read_text(encoding="utf-8"))
    except OSError:
        raise NotFound(
            f"{CARRIED} is missing, which says what Seaway's images are called: install seaway anew"
        ) from None
    return tags


@cache
def digest(stage: str) -> str:
    """sha256 (hex) of the names and bytes of all that the image is made of. Raises OSError where a file is missing."""
    whole = hashlib.sha256()
    for path in [*sources(stage), *locks(stage), ROOT / DOCKERFILE]:
        content = path.read_bytes()
        whole.update(f"{path.relative_to(ROOT).as_posix()}\0{len(content)}\0".encode() + content)
    return whole.hexdigest()


def in_pipelines(stage: str) -> bool:
    """Whether it is a stage of pipelines, which has a component, and not a server."""
    return ENTRIES.get(stage) is not SERVER


def locks(stage: str) -> list[Path]:
    """What is to be installed, together and without further dependencies."""
    executor = [ROOT / EXECUTOR] if in_pipelines(stage) else []
    return [*executor, ROOT / "components" / stage / "requirements.txt"]


def sources(stage: str) -> list[Path]:
    """Every file of ours that the stage needs: all that is copied into the image."""
    waiting = [_file(module) for module in ENTRIES.get(stage, (f"seaway.{stage}.__main__",))]
    found: set[Path] = set()
    while waiting:
        path = waiting.pop()
        if path not in found:
            found.add(path)
            waiting += _imported(path) if path.suffix == ".py" else []
    return sorted(found)


def _file(module: str) -> Path:
    return ROOT.joinpath(*module.split(".")).with_suffix(".py")


def _files(folder: Path) -> list[Path]:
    return [path for path in sorted(folder.rglob("*")) if path.is_file() and path.parent.name != "__pycache__"]


def _imported(path: Path) -> Iterator[Path]:
    own = path.relative_to(ROOT)
    packages = [ROOT / folder / "__init__.py" for folder in list(own.parents)[:-1]]
    yield from (package for package in packages if package.is_file())
    if data := DATA.get(".".join(own.with_suffix("").parts)):
        yield from _files(ROOT / data)
    for node in ast.walk(ast.parse(path.read_bytes())):
        if isinstance(node, ast.ImportFrom) and node.module:
            names = [node.module, *(f"{node.module}.{alias.name}" for alias in node.names)]
        elif isinstance(node, ast.Import):
            names = [alias.name for alias in node.names]
        else:
            continue
        yield from (_file(name) for name in names if name.split(".")[0] == OURS and _file(name).is_file())


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
    parser = argparse.ArgumentParser(
        prog="python -m seaway.pipeline.images", description="Prints references of images."
    )
    parser.add_argument("stage", nargs="*", help=f"of {', '.join(STAGES)} (default: all)")
    parser.add_argument("--registry", default=REGISTRY, help="where the images are or will be (default: %(default)s)")
    parser.add_argument("--copy", type=Path, metavar="DIR", help="write what goes into the one stage's image, instead")
    given = parser.parse_args()
    if given.copy and len(given.stage) != 1:
        parser.error("--copy takes one stage")
    for stage in given.stage or STAGES:
        if stage not in STAGES:
            parser.error(f"no stage {stage!r}: there are {', '.join(STAGES)}")
        if given.copy:
            copy(stage, given.copy)
        else:
            print(image(stage, given.registry))


if __name__ == "__main__":
    main()
