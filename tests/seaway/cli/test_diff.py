"""`seaway diff` as a user runs it."""

import contextlib
import os
import subprocess
import sys
import threading
import time
import urllib.request
from pathlib import Path

import numpy as np
import onnx
import onnx.parser
import pytest

from seaway.serve import seed

ROOT = Path(__file__).resolve().parents[3]
START_TIMEOUT_S = 240
# Runs the command, then prints which frameworks its process has loaded.
PROGRAM = """
import sys
from seaway.cli.main import main
try:
    main()
finally:
    print("loaded:", *sorted({"torch", "torchvision", "tensorflow"} & {*sys.modules}))
"""
NET = """<ir_version: 8, opset_import: ["" : 17]>
  net (float[N, 3] the_x) => (float[N, 3] y)
  { a = Elu <alpha = 1.0> (the_x) b = Softmax <axis = 1> (a) y = LeakyRelu <alpha = 0.1> (b) }"""


def seaway(folder: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    environment = os.environ | {"PYTHONPATH": str(ROOT), "COLUMNS": "160", "NO_COLOR": "1"}
    command = [sys.executable, "-c", PROGRAM, *arguments]
    return subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True, timeout=200)


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """right.onnx and wrong.onnx, whose Elu differs and whose input TensorFlow would not allow; their SavedModels."""
    folder = tmp_path_factory.mktemp("diff")
    for name, alpha in (("right", 1.0), ("wrong", 1.2)):
        model = onnx.parser.parse_model(NET)
        model.graph.input[0].name = model.graph.node[0].input[0] = "the.x"
        model.graph.node[0].attribute[0].f = alpha
        for node in model.graph.node:
            node.name = f"node_{node.output[0]}"
        onnx.save(model, folder / f"{name}.onnx")
        done = seaway(folder, "convert", f"{name}.onnx", name, "--no-check")
        assert done.returncode == 0, done.stderr
    return folder


def test_a_right_conversion_agrees_without_torch(place: Path) -> None:
    done = seaway(place, "diff", "right.onnx", "right")
    assert done.returncode == 0, done.stderr
    first, second, loaded = done.stdout.splitlines()
    assert first.startswith("y: agrees; max |Δ| ")
    assert second == "no operator can be named: all 3 intermediate values of ONNX Runtime and right agree."
    assert loaded == "loaded: tensorflow"


@pytest.mark.parametrize("pair", [("right.onnx", "wrong"), ("wrong", "right.onnx"), ("right.onnx", "wrong.onnx")])
def test_the_operator_that_differs_is_named(place: Path, pair: tuple[str, str]) -> None:
    done = seaway(place, "diff", *pair)
    assert done.returncode == 1, done.stderr
    first, second, loaded = done.stdout.splitlines()
    assert first.startswith("y: differs; max |Δ| ")
    assert second.startswith("the first operator that differs is Elu (node 'node_a'): on the same inputs, a[")
    assert "torch" not in loaded
    assert ("tensorflow" in loaded) == ("wrong" in pair)


def test_given_inputs_are_used(place: Path) -> None:
    """Above zero, where both are the same."""
    np.savez(place / "positive.npz", **{"the.x": np.array([[1, 2, 3]], np.float32)})
    done = seaway(place, "diff", "right.onnx", "wrong.onnx", "--golden", "positive.npz")
    assert done.returncode == 0, done.stdout + done.stderr
    assert "all 3 intermediate values" in done.stdout


@pytest.mark.parametrize(
    ("second", "message"),
    [
        ("python:mine:net", "a PyTorch network cannot be compared directly; export it"),
        ("missing.onnx", "no ONNX file, SavedModel or version's folder"),
        ("http://127.0.0.1:9", "127.0.0.1:9"),
    ],
)
def test_what_cannot_be_compared_is_refused_in_one_line(place: Path, second: str, message: str) -> None:
    done = seaway(place, "diff", "right.onnx", second)
    assert done.returncode != 0
    assert message in done.stderr
    assert len(done.stderr.strip().splitlines()) == 1


@pytest.mark.slow
def test_a_server_is_compared_by_its_outputs_then_in_its_versions_files(tmp_path: Path) -> None:
    """The bundled model, whose SavedModel was converted before there was a record of values."""
    repository = tmp_path / "models"
    repository.mkdir()
    seed.seed(repository)
    command = [sys.executable, "-m", "seaway.serve", "--model-repository", str(repository), "--workers", "1"]
    command += ["--port", "0", "--admin-port", "0"]
    environment = os.environ | {"PYTHONPATH": str(ROOT)}
    with subprocess.Popen(command, env=environment, stderr=subprocess.PIPE, text=True) as server:
        try:
            assert server.stderr
            url = next(word for word in server.stderr.readline().split() if word.startswith("http://")).rstrip("/")
            threading.Thread(target=server.stderr.read, daemon=True).start()
            _wait_until_ready(url)
            version = next(repository.glob("*/1"))
            golden = ("--golden", str(version), "--model-repository", str(repository))
            done = seaway(tmp_path, "diff", str(version / "assets.extra" / "model.onnx"), url, *golden)
        finally:
            server.terminate()
    assert done.returncode == 0, done.stdout + done.stderr
    assert done.stdout.startswith("scores: agrees; max |Δ| ")
    assert "no operator can be named: " in done.stdout
    assert "conversion.json does not record what carries the values" in done.stdout


def _wait_until_ready(url: str) -> None:
    deadline = time.monotonic() + START_TIMEOUT_S
    while time.monotonic() < deadline:
        with contextlib.suppress(OSError), urllib.request.urlopen(f"{url}/v2/health/ready") as response:
            if response.status == 200:
                return
        time.sleep(0.5)
    raise TimeoutError(url)
