"""Adds `seaway/_kfp/` to a wheel: the KFP definitions that an installed package loads.

    components/<stage>/component.py  ─▶  seaway/_kfp/components/<stage>/component.py
    pipelines/*.py                   ─▶  seaway/_kfp/pipelines/
    the images' tags                 ─▶  seaway/_kfp/images.json      (seaway/pipeline/images.py)

An editable install has none of it and uses the checkout's files.
"""

import importlib
import json
import sys
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from hatchling.builders.hooks.plugin.interface import BuildHookInterface

PACKAGED = "seaway/_kfp"


class PackageDefinitions(BuildHookInterface):  # type: ignore[type-arg]
    """Hatchling finds this hook because it is the only one in the file."""

    def initialize(self, version: str, build_data: dict[str, Any]) -> None:
        """Adds the files to the wheel. Raises FileNotFoundError if one is missing."""
        if version == "editable":
            return
        root = Path(self.root)
        self._generated = TemporaryDirectory()
        tags = Path(self._generated.name) / "images.json"
        images = _images(root)
        tags.write_text(json.dumps({stage: images.tag(stage) for stage in images.STAGES}, indent=1) + "\n")
        build_data["force_include"][str(tags)] = f"{PACKAGED}/images.json"
        for file in _definitions(root, list(filter(images.in_pipelines, images.STAGES))):
            build_data["force_include"][str(file)] = f"{PACKAGED}/{file.relative_to(root).as_posix()}"

    def finalize(self, version: str, build_data: dict[str, Any], artifact_path: str) -> None:
        if version != "editable":
            self._generated.cleanup()


def _images(root: Path) -> Any:
    """Imports seaway.pipeline.images, which needs only the standard library, from the tree that is being built."""
    sys.path.insert(0, str(root))
    try:
        images = importlib.import_module("seaway.pipeline.images")
    finally:
        sys.path.remove(str(root))
    if root.resolve() != images.ROOT:
        raise RuntimeError(f"building {root}, but another seaway was imported: {images.ROOT}")
    return images


def _definitions(root: Path, stages: list[str]) -> list[Path]:
    """Returns the files of components and pipelines. Raises FileNotFoundError."""
    pipelines = sorted((root / "pipelines").glob("*.py"))
    if not pipelines:
        raise FileNotFoundError(f"{root / 'pipelines'}: no pipeline found")
    files = [root / "components" / stage / "component.py" for stage in stages] + pipelines
    for file in files:
        if not file.is_file():
            raise FileNotFoundError(f"{file} is missing")
    return files
