"""What a wheel holds beside seaway/: `seaway/_kfp/`, from which an installed package loads KFP's definitions.

    components/<stage>/component.py  ─▶  seaway/_kfp/components/<stage>/component.py
    pipelines/*.py                   ─▶  seaway/_kfp/pipelines/
    the images' tags                 ─▶  seaway/_kfp/images.json      (seaway/pipeline/images.py)

An editable install holds none of it: its files are the checkout's.
"""

import importlib
import json
import sys
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from hatchling.builders.hooks.plugin.interface import BuildHookInterface

CARRIED = "seaway/_kfp"


class CarryDefinitions(BuildHookInterface):  # type: ignore[type-arg]
    """Hatchling finds it by being the only hook of this file."""

    def initialize(self, version: str, build_data: dict[str, Any]) -> None:
        """Adds the files to the wheel. Raises FileNotFoundError where one is missing."""
        if version == "editable":
            return
        root = Path(self.root)
        self._written = TemporaryDirectory()
        tags = Path(self._written.name) / "images.json"
        images = _images(root)
        tags.write_text(json.dumps({stage: images.tag(stage) for stage in images.STAGES}, indent=1) + "\n")
        build_data["force_include"][str(tags)] = f"{CARRIED}/images.json"
        for file in _definitions(root, list(filter(images.in_pipelines, images.STAGES))):
            build_data["force_include"][str(file)] = f"{CARRIED}/{file.relative_to(root).as_posix()}"

    def finalize(self, version: str, build_data: dict[str, Any], artifact_path: str) -> None:
        if version != "editable":
            self._written.cleanup()


def _images(root: Path) -> Any:
    """seaway.pipeline.images of what is being built, which takes nothing but Python's own library."""
    sys.path.insert(0, str(root))
    try:
        images = importlib.import_module("seaway.pipeline.images")
    finally:
        sys.path.remove(str(root))
    if root.resolve() != images.ROOT:
        raise RuntimeError(f"{root} is being built, but another seaway was imported: {images.ROOT}")
    return images


def _definitions(root: Path, stages: list[str]) -> list[Path]:
    """The components' files and the pipelines'. Raises FileNotFoundError."""
    pipelines = sorted((root / "pipelines").glob("*.py"))
    if not pipelines:
        raise FileNotFoundError(f"{root / 'pipelines'}: no pipeline is there")
    files = [root / "components" / stage / "component.py" for stage in stages] + pipelines
    for file in files:
        if not file.is_file():
            raise FileNotFoundError(f"{file} is missing")
    return files
