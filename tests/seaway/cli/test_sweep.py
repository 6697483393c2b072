"""`seaway sweep` as it is called: what it refuses, and how that ends."""

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
    ("arguments", "status", "said"),
    [
        (["--trials", "0"], 2, "--trials"),
        (["--metric", "f1"], 2, "--metric"),
        (["--search", "speed=1..2"], 1, "speed: training has no such setting"),
        (["--dataset", "nowhere"], 1, "nowhere"),
        (["--data", "idx:nowhere"], 1, "no such folder"),
        (["--data", "strokes", "--dataset", "d"], 1, "give one of the two"),
        (["--folder", "."], 1, "is no sweep's folder and not empty"),
    ],
)
def test_bad_options_end_with_a_message(tmp_path, monkeypatch, capsys, arguments, status, said):
    (tmp_path / "something").touch()
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "argv", ["seaway", "sweep", *arguments])
    with pytest.raises(SystemExit) as ended:
        main()
    assert ended.value.code == status
    assert said in capsys.readouterr().err


def test_a_folder_holds_the_pictures_of_its_own_source(tmp_path):
    common = ["--net", "mlp", "--epochs", "1", "--trials", "1", "--search", "affine=0..2", "--final"]
    found = sweep(tmp_path, "--data", "strokes:500", *common)
    assert found.returncode == 0, found.stderr
    assert "It has training's own settings" in found.stdout
    where = ".seaway/sweeps/mlp"
    last = found.stdout.splitlines()[-1]
    assert last.startswith(f"python -m seaway.train --dataset {where}/dataset --checkpoint {where}/checkpoint")
    assert "test accuracy" in found.stderr
    folder = tmp_path / ".seaway" / "sweeps" / "mlp"
    kept = {path.name for path in folder.iterdir()}
    assert {"study.db", "trials", "dataset", "sweep.json", "sweep.html", "checkpoint", "train.html"} <= kept
    other = sweep(tmp_path, "--data", "strokes:600", *common)
    assert other.returncode == 1
    assert "holds a sweep on strokes:500, and this is strokes:600; give another --folder" in other.stderr


def test_nothing_heavy_is_loaded_for_help():
    heavy = ("torch", "optuna", "matplotlib")
    loaded = f"import sys, seaway.cli.main; print([name for name in {heavy} if name in sys.modules])"
    done = subprocess.run([sys.executable, "-c", loaded], cwd=ROOT, capture_output=True, text=True, timeout=100)
    assert done.stdout.strip() == "[]", done.stderr
