"""The stage as a command, in a process of its own."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from seaway.artifacts import artifact_metadata

ROOT = Path(__file__).resolve().parents[3]
FIXTURES = ROOT / "tests" / "fixtures"


def export(*arguments: object, cwd: Path = FIXTURES) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "seaway.export", *map(str, arguments)]
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    return subprocess.run(command, cwd=cwd, env=environment, capture_output=True, text=True, timeout=200)


def test_a_net_in_the_current_directory(tmp_path: Path) -> None:
    churn = ("--model", "python:shipped_nets:churn", "--input", "numeric:6", "--input", "category:3:int64")
    done = export(*churn, "--onnx", tmp_path / "onnx")
    assert (done.returncode, done.stderr) == (0, "")
    assert "churn, opset 20" in done.stdout
    assert artifact_metadata.check(tmp_path / "onnx", "onnx").name == "churn"


def test_a_checkpoint(checkpoint: Path, dataset: Path, tmp_path: Path) -> None:
    done = export("--checkpoint", checkpoint, "--dataset", dataset, "--onnx", tmp_path / "onnx", "--name", "letters")
    assert done.returncode == 0, done.stderr
    assert "PyTorch on the test set" in done.stderr
    assert artifact_metadata.check(tmp_path / "onnx", "onnx").name == "letters"


def test_an_error_is_one_line_without_a_trace_or_a_graph(tmp_path: Path) -> None:
    done = export("--model", "python:shipped_nets:Branches", "--input", "4", "--onnx", tmp_path / "onnx")
    assert done.returncode == 1
    assert done.stdout == ""
    assert done.stderr.startswith("python -m seaway.export: forward() has data-dependent control flow or constants")
    assert done.stderr.count("\n") == 1
    assert not (tmp_path / "onnx").exists()


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (["--model", "python:a:b", "--onnx", "o"], "--model needs --input"),
        (["--checkpoint", "c", "--onnx", "o"], "--checkpoint needs --dataset"),
        (
            ["--checkpoint", "c", "--dataset", "d", "--weights", "w.pt", "--onnx", "o"],
            "--weights can only be used with --model",
        ),
        (["--model", "python:a:b", "--dataset", "d", "--onnx", "o"], "--dataset needs --checkpoint"),
        (["--model", "python:a:b", "--checkpoint", "c", "--onnx", "o"], "not allowed with"),
    ],
)
def test_options_that_do_not_go_together(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], arguments: list[str], says: str
) -> None:
    from seaway.export.__main__ import main

    monkeypatch.setattr(sys, "argv", ["export", *arguments])
    with pytest.raises(SystemExit) as stopped:
        main()
    assert stopped.value.code == 2
    assert says in capsys.readouterr().err
