"""Each stage's image: its files, its locks and its tag. References and tags are chosen only here.

python -m seaway.pipeline.images [STAGE …] [--registry seaway]      (prints the references that `make images` builds)

A tag is a digest of the image's content: the stage's entry modules, every Seaway module that they import, directly or
not, the data files of all these, its locks and the Dockerfile. So a changed stage gets a new image, and Kubeflow's
cache, whose key holds the image, reruns that stage only. The tag contains "python" because kfp's local runner looks for
it. An installed package has no locks to compute tags from: it contains the tags of the checkout that it was built from
(images.json, written by hatch_build.py).
"""

import ast
import hashlib
import json
import re
import shutil
from collections.abc import Iterator
from functools import cache
from pathlib import Path

from seaway.arguments import ArgumentParser
from seaway.errors import NotFound

ROOT = Path(__file__).resolve().parents[2]  # of a checkout
PACKAGED_TAGS = Path(__file__).resolve().parents[1] / "_kfp" / "images.json"  # of an installed package
REGISTRY = "seaway"
PACKAGE = "seaway"
DOCKERFILE = "components/Dockerfile"
EXECUTOR = "components/kfp.txt"  # lock of KFP's executor, which starts every pipeline stage

STAGES = (
    "explore", "train", "export", "convert", "validate", "publish", "deploy", "load", "promote", "run_summary",
    "preflight", "serve", "serve-onnx", "serve-tfs",
)  # fmt: skip
SERVER = (  # modules that `python -m seaway.serve` starts or imports by name, and the measurement of both engines
    "seaway.serve.__main__",
    "seaway.serve.seed",
    "seaway.serve.tune",
    "seaway.serve.worker.forkserver",
    "seaway.serve.worker.measure",
    "seaway.serve.backends.onnx",
    "seaway.serve.backends.savedmodel",
)
# Image → its entry modules, if these are not just the stage's __main__.
ENTRIES = {
    "serve": SERVER,
    "serve-onnx": SERVER,
    "serve-tfs": (*SERVER, "seaway.serve.tfs_command"),
    "load": ("seaway.load.__main__", "seaway.load.locustfile", "seaway.load.grpc_client"),
}
# Module → a folder of data files that it reads.
DATA = {
    "seaway.data.letters": "seaway/data/alphabets",
    "seaway.serve.supervisor.app": "seaway/serve/page",
    "seaway.serve.seed": "seaway/example",
    "seaway.reporting.report": "seaway/reporting/templates",
    "seaway.explore.report.thumbnails": "seaway/explore/report/templates",
}
FIRST_INSTALLED = "tensorflow-cpu"  # in a layer of its own, 1 GB, that images with different locks share


def image(stage: str, registry: str = REGISTRY) -> str:
    """Returns the stage's full image reference, e.g. "seaway/train:python3.11-0a1b2c3d4e5f".

    Raises NotFound if neither a checkout nor the installed package knows the stage.
    """
    return f"{registry}/{stage}:{tag(stage)}"


def tag(stage: str) -> str:
    """Returns e.g. "python3.11-0a1b2c3d4e5f": computed in a checkout, otherwise as packaged. Raises NotFound."""
    if (ROOT / DOCKERFILE).is_file():
        if stage not in STAGES:
            raise NotFound(f"no image {stage!r}; choose from {', '.join(STAGES)}")
        return f"python3.11-{digest(stage)[:12]}"
    tags = packaged_tags()
    if stage not in tags:
        raise NotFound(f"{PACKAGED_TAGS}: names no image for {stage!r}; it has {', '.join(tags)}: reinstall seaway")
    return tags[stage]


def packaged_tags() -> dict[str, str]:
    """Returns stage → tag from the installed package. Raises NotFound."""
    try:
        tags: dict[str, str] = json.loads(PACKAGED_TAGS.read_text(encoding="utf-8"))
    except OSError:
        raise NotFound(f"{PACKAGED_TAGS} is missing, which has the tags of Seaway's images: reinstall seaway") from None
    return tags


@cache
def digest(stage: str) -> str:
    """Returns the sha256 (hex) of the names and bytes of the image's files. Raises OSError if a file is missing."""
    sha256 = hashlib.sha256()
    for path in [*sources(stage), *locks(stage), ROOT / DOCKERFILE]:
        content = path.read_bytes()
        sha256.update(f"{path.relative_to(ROOT).as_posix()}\0{len(content)}\0".encode() + content)
    return sha256.hexdigest()


def in_pipelines(stage: str) -> bool:
    """Whether it is a pipeline stage with a component, and not a server."""
    return not stage.startswith("serve")


def locks(stage: str) -> list[Path]:
    """Returns the image's lock files, to be installed together and without further dependencies."""
    executor = [ROOT / EXECUTOR] if in_pipelines(stage) else []
    return [*executor, ROOT / "components" / stage / "requirements.txt"]


def sources(stage: str) -> list[Path]:
    """Returns every Seaway file that the stage needs, which are the files copied into the image."""
    pending = [_module_file(module) for module in ENTRIES.get(stage, (f"seaway.{stage}.__main__",))]
    collected: set[Path] = set()
    while pending:
        path = pending.pop()
        if path not in collected:
            collected.add(path)
            pending += _imported(path) if path.suffix == ".py" else []
    return sorted(collected)


def _module_file(module: str) -> Path:
    return ROOT.joinpath(*module.split(".")).with_suffix(".py")


def _folder_files(folder: Path) -> list[Path]:
    return [path for path in sorted(folder.rglob("*")) if path.is_file() and path.parent.name != "__pycache__"]


def _imported(path: Path) -> Iterator[Path]:
    relative = path.relative_to(ROOT)
    packages = [ROOT / folder / "__init__.py" for folder in list(relative.parents)[:-1]]
    yield from (package for package in packages if package.is_file())
    if data := DATA.get(".".join(relative.with_suffix("").parts)):
        yield from _folder_files(ROOT / data)
    for node in ast.walk(ast.parse(path.read_bytes())):
        if isinstance(node, ast.ImportFrom) and node.module:
            names = [node.module, *(f"{node.module}.{alias.name}" for alias in node.names)]
        elif isinstance(node, ast.Import):
            names = [alias.name for alias in node.names]
        else:
            continue
        yield from (
            _module_file(name) for name in names if name.split(".")[0] == PACKAGE and _module_file(name).is_file()
        )


def _lock_entry(locked: str, distribution: str) -> str:
    """Returns a lock's entry for one distribution, without comments; "" if it has none."""
    match = re.search(rf"^{re.escape(distribution)}==\S+(?: \\\n +--hash=\S+)+\n", locked, re.MULTILINE)
    return match[0] if match else ""


def copy(stage: str, target: Path) -> None:
    """Writes the Dockerfile's inputs: target/first.txt, target/requirements.txt and the stage's files in target/app."""
    target.mkdir(parents=True)
    requirements = "".join(lock.read_text() for lock in locks(stage))
    (target / "first.txt").write_text(_lock_entry(requirements, FIRST_INSTALLED))
    (target / "requirements.txt").write_text(requirements)
    for path in [*sources(stage), ROOT / "LICENSE", ROOT / "NOTICE"]:
        copy_path = target / "app" / path.relative_to(ROOT)
        copy_path.parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(path, copy_path)  # without its mode, which may deny other users read access


def main() -> None:
    parser = ArgumentParser(prog="python -m seaway.pipeline.images", description="Prints image references.")
    parser.add_argument("stage", nargs="*", help=f"one or more of {', '.join(STAGES)} (default: all)")
    parser.add_argument("--registry", default=REGISTRY, help="registry of the images (default: %(default)s)")
    parser.add_argument(
        "--copy", type=Path, metavar="DIR", help="instead, write the content of one stage's image there"
    )
    args = parser.parse_args()
    if args.copy and len(args.stage) != 1:
        parser.error("--copy takes one stage")
    for stage in args.stage or STAGES:
        if stage not in STAGES:
            parser.error(f"no stage {stage!r}; choose from {', '.join(STAGES)}")
        if args.copy:
            copy(stage, args.copy)
        else:
            print(image(stage, args.registry))


if __name__ == "__main__":
    main()
