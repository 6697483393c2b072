"""The image of each stage: the only place where a reference or a tag is chosen.

A tag is made from what goes into the stage: its own files, the parts of `seaway/` that they import, all of `loadtest/`
where they import any of it (its locustfile is started, not imported), and the lock. So a changed stage has a new image,
and Kubeflow's cache, whose key holds the image, runs it again, and nothing else. "python" stands in the tag because
kfp's local runner looks for it.
"""

import ast
import hashlib
from collections.abc import Iterator
from functools import cache
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
REGISTRY = "seaway"
LOCK = "requirements/dev.txt"
OURS = ("seaway", "loadtest", "components")
STARTED_FROM = "loadtest"


def image(stage: str, registry: str = REGISTRY) -> str:
    """The stage's full image reference, e.g. "seaway/train:python3.11-0a1b2c3d4e5f"."""
    return f"{registry}/{stage}:python3.11-{digest(stage)[:12]}"


@cache
def digest(stage: str) -> str:
    """sha256 (hex) of the names and bytes of all that the stage runs."""
    whole = hashlib.sha256()
    for path in [*sources(stage), ROOT / LOCK]:
        content = path.read_bytes() if path.exists() else b""
        whole.update(f"{path.relative_to(ROOT).as_posix()}\0{len(content)}\0".encode() + content)
    return whole.hexdigest()


def sources(stage: str) -> list[Path]:
    """The stage's own Python files but its KFP spec, and every file of ours that they import, directly or not."""
    waiting = [p for p in sorted((ROOT / "components" / stage).rglob("*.py")) if p.name != "component.py"]
    found: set[Path] = set()
    while waiting:
        path = waiting.pop()
        if path not in found:
            found.add(path)
            waiting += _imported(path)
    return sorted(found)


def _imported(path: Path) -> Iterator[Path]:
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
