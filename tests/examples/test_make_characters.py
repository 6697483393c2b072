"""The script that makes the bundled example, on little data: all stages run and the gate passes."""

import subprocess
import sys
from pathlib import Path

import pytest

from seaway.artifacts import artifact_metadata, model_repository

ROOT = Path(__file__).parents[2]


@pytest.mark.slow
def test_it_publishes_a_version_through_all_stages(tmp_path: Path) -> None:
    command = [sys.executable, "-m", "examples.make_characters", "--source", "strokes:500", "--epochs", "1"]
    command += ["--out", str(tmp_path)]
    made = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=280)
    assert made.returncode == 0, made.stdout + made.stderr
    version = tmp_path / "characters" / "1"
    metadata = artifact_metadata.check(version, "version", at=model_repository.METADATA_FILE)
    assert metadata.parents["parity"].parents["saved_model"].settings["converter"] == "seaway"
    assert {"model.onnx", "card.json", "labels.txt", "golden.npz", "conversion.json", "parity.json"} == {
        path.name for path in (version / model_repository.EXTRA).iterdir()
    }
    assert str(tmp_path) not in (version / model_repository.METADATA_FILE).read_text(encoding="utf-8")
