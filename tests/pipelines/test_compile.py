"""The compiled IR against tests/golden. After a wanted change: `make golden`."""

import re
import subprocess
import sys
from itertools import pairwise
from pathlib import Path

import pytest
import yaml

ROOT = Path(__file__).resolve().parents[2]


def parsed(path: Path) -> object:
    """The IR as data, with each stage's image tag (made from its code) replaced by a word."""
    text = re.sub(r":python3\.11-[0-9a-f]{12}", ":TAG", path.read_text())
    return list(yaml.safe_load_all(text))


@pytest.mark.parametrize("pipeline", ["characters", "ship"])
def test_the_ir_is_the_golden_one(pipeline: str, tmp_path: Path) -> None:
    compiled = tmp_path / "compiled.yaml"
    subprocess.run([sys.executable, "-m", "pipelines.compile", pipeline, compiled], check=True, cwd=ROOT, timeout=120)
    assert parsed(compiled) == parsed(ROOT / "tests" / "golden" / f"{pipeline}.yaml")


def test_the_order_of_the_stages() -> None:
    (ir,) = parsed(ROOT / "tests" / "golden" / "characters.yaml")  # type: ignore[misc]
    tasks = ir["root"]["dag"]["tasks"]
    order = ["explore", "train", "export", "convert", "validate", "publish", "deploy", "load", "promote"]
    assert sorted(tasks) == sorted(order)
    reached = {"explore"}
    for before, stage in pairwise(order):
        assert before in tasks[stage]["dependentTasks"]
        assert set(tasks[stage]["dependentTasks"]) <= reached
        reached.add(stage)


def test_tasks_that_touch_the_volume_are_never_cached() -> None:
    (ir,) = parsed(ROOT / "tests" / "golden" / "characters.yaml")  # type: ignore[misc]
    cached = {name for name, task in ir["root"]["dag"]["tasks"].items() if task["cachingOptions"].get("enableCache")}
    assert cached == {"explore", "train", "export", "convert", "validate"}


def test_importing_the_specs_loads_no_framework() -> None:
    program = (
        "import sys, pipelines.characters, pipelines.ship, pipelines.local, cli.main\n"
        "heavy = {'torch', 'tensorflow', 'onnx', 'onnxruntime', 'locust', 'torchvision'} & set(sys.modules)\n"
        "sys.exit(f'loaded: {heavy}' if heavy else 0)"
    )
    subprocess.run([sys.executable, "-c", program], check=True, cwd=ROOT, timeout=120)
