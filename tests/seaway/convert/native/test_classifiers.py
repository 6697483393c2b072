"""torchvision's classifiers from PyTorch's exporters: one per family that accepts small images.

benchmarks/conversion/models.py has all of them at their own size, and segmentation and detection.
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
def test_a_classifier_is_converted(tf: Any, exported: Path, name: str, exporter: str) -> None:
    figures = models.check(exported / f"{name}-{exporter}.onnx")
    assert figures["difference"] <= 1e-4 and figures["agreed"] == 1
