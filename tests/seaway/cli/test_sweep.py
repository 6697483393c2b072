"""`seaway sweep` as a command: options that it refuses, and its messages."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from seaway.cli.main import main

ROOT = Path(__file__).resolve().parents[3]


def sweep(folder: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    environment = os.environ | {"PYTHONPATH": str(ROOT), "COLUMNS": "160", "NO_COLOR": "1"}
    command = [sys.executable, "-m", "seaway.cli.main", "sweep", *arguments]
    return subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True, timeout=200)


@pytest.mark.parametrize(
    ("arguments", "status", "message"),
    [
        (["--trials", "0"], 2, "--trials"),
        (["--metric", "f1"], 2, "--metric"),
        (["--search", "speed=1..2"], 1, "speed: training has no such setting"),
        (["--dataset", "nowhere"], 1, "nowhere"),
        (["--data", "idx:nowhere"], 1, "no such folder"),
        (["--data", "strokes", "--dataset", "d"], 1, "give one of the two"),
        (["--folder", "."], 1, "not empty, and not a sweep's folder"),
    ],
)
def test_invalid_options_end_with_a_message(tmp_path, monkeypatch, capsys, arguments, status, message):
    (tmp_path / "something").touch()
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "argv", ["seaway", "sweep", *arguments])
    with pytest.raises(SystemExit) as ended:
        main()
    assert ended.value.code == status
    assert message in capsys.readouterr().err


def test_a_folder_is_for_one_data_source(tmp_path, report_faults):
    common = ["--net", "mlp", "--epochs", "1", "--trials", "1", "--search", "affine=0..2", "--final"]
    done = sweep(tmp_path, "--data", "strokes:500", *common)
    assert done.returncode == 0, done.stderr
    assert "It has the default settings" in done.stdout
    where = ".seaway/sweeps/mlp"
    last = done.stdout.splitlines()[-1]
    assert last.startswith(f"python -m seaway.train --dataset {where}/dataset --checkpoint {where}/checkpoint")
    assert "test accuracy" in done.stderr
    folder = tmp_path / ".seaway" / "sweeps" / "mlp"
    files = {path.name for path in folder.iterdir()}
    assert {"study.db", "trials", "dataset", "sweep.json", "sweep.html", "checkpoint", "train.html"} <= files
    assert report_faults(folder / "sweep.html") == []
    text = (folder / "sweep.html").read_text(encoding="utf-8")
    assert "1 of 1 trials, 1 epoch each" in text
    assert "Learning curves" not in text, "one epoch makes no curve"
    other = sweep(tmp_path, "--data", "strokes:600", *common)
    assert other.returncode == 1
    assert "holds a sweep on strokes:500, not on strokes:600; give another --folder" in other.stderr


def test_no_heavy_package_is_loaded_for_help():
    heavy = ("torch", "optuna", "matplotlib")
    loaded = f"import sys, seaway.cli.main; print([name for name in {heavy} if name in sys.modules])"
    done = subprocess.run([sys.executable, "-c", loaded], cwd=ROOT, capture_output=True, text=True, timeout=100)
    assert done.stdout.strip() == "[]", done.stderr
