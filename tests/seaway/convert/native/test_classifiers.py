"""torchvision's classifiers as PyTorch's exporters write them: one of a family, where small pictures are enough for it.

All of them, at their own size, and segmentation and detection: benchmarks/conversion/models.py.
"""

import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from benchmarks.conversion import models

SIDE = 64
SCRIPT = (
    "convnext_tiny", "densenet121", "efficientnet_b0", "googlenet", "mobilenet_v3_small", "regnet_y_400mf", "resnet18",
    "shufflenet_v2_x0_5", "squeezenet1_1", "swin_t",
)  # fmt: skip
CHOSEN = [*((name, "script") for name in SCRIPT), ("mobilenet_v3_small", "dynamo"), ("resnet18", "dynamo")]


@pytest.fixture(scope="module")
def exported(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """NAME-EXPORTER.onnx, written by one process with torch."""
    folder = tmp_path_factory.mktemp("classifiers")
    code = (
        "from benchmarks.conversion import models\n"
        f"for name, exporter in {CHOSEN}:\n"
        f"    models.export(name, exporter, f'{folder}/{{name}}-{{exporter}}.onnx', {SIDE})"
    )
    root = Path(models.__file__).parents[2]
    done = subprocess.run([sys.executable, "-c", code], cwd=root, capture_output=True, text=True)
    assert not done.returncode, done.stderr
    return folder


@pytest.mark.slow
@pytest.mark.parametrize(("name", "exporter"), CHOSEN)
def test_a_classifier_comes_over(tf: Any, exported: Path, name: str, exporter: str) -> None:
    got = models.check(exported / f"{name}-{exporter}.onnx")
    assert got["difference"] <= 1e-4 and got["agreed"] == 1
