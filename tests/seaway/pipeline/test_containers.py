"""Stages in containers, as far as they can be tested without Docker; tests/e2e/test_images.py runs them."""

import os
import subprocess
import sys
from pathlib import Path

from seaway.cli.run import reads
from seaway.pipeline import containers, definitions, images


def test_the_images_of_a_pipeline_are_those_of_its_stages() -> None:
    characters, ship = map(definitions.pipeline, ("characters", "ship"))
    stages = [stage for stage in images.STAGES if not stage.startswith(("serve", "run_summary", "preflight"))]
    assert containers.images(characters) == {images.image(stage) for stage in stages}
    assert containers.images(ship) == {images.image(stage) for stage in ("export", "convert", "validate", "publish")}


def test_missing_docker_is_reported_before_any_work(tmp_path: Path) -> None:
    done = subprocess.run(
        [sys.executable, "-m", "seaway.cli.main", "run", "--runner", "docker"],
        cwd=tmp_path,
        env=os.environ | {"PYTHONPATH": str(images.ROOT), "DOCKER_HOST": f"unix://{tmp_path}/nobody.sock"},
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert done.returncode == 1
    assert "Docker does not respond" in done.stderr
    assert "omit --runner docker" in done.stderr
    assert done.stdout == ""


def test_folders_that_stages_read_for_a_source(tmp_path: Path) -> None:
    (tmp_path / "a#b").mkdir()
    assert reads("strokes:1500") == reads("emnist") == []
    assert reads(f"idx:{tmp_path}") == reads(f"idx:{tmp_path}#balanced") == [tmp_path]
    assert reads(f"idx:{tmp_path}/a#b") == [tmp_path / "a#b"]
