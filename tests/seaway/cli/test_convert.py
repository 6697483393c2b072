"""`seaway convert` as a user runs it on a bare ONNX file."""

import os
import re
import subprocess
import sys
from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from seaway.artifacts import artifact_metadata
from seaway.convert.convert import INSTALL_ONNX_TF

ROOT = Path(__file__).resolve().parents[3]
# Runs the command, then prints which frameworks its process has loaded; hides `onnx_tf`.
PROGRAM = """
import sys
if "--converter" in sys.argv:
    sys.modules["onnx_tf"] = None
from seaway.cli.main import main
try:
    main()
finally:
    print("loaded:", *sorted({"torch", "torchvision", "tensorflow"} & {*sys.modules}))
"""


def seaway(folder: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    environment = os.environ | {"PYTHONPATH": str(ROOT), "COLUMNS": "160", "NO_COLOR": "1"}
    command = [sys.executable, "-c", PROGRAM, *arguments]
    return subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True, timeout=200)


@pytest.fixture
def place(tmp_path: Path) -> Path:
    """A folder with model.onnx: a dense layer and a softmax; the input's name is no Python identifier."""
    weight = np.random.default_rng(0).normal(size=(6, 4)).astype(np.float32)
    nodes = [helper.make_node("MatMul", ["the.x", "w"], ["l"]), helper.make_node("Softmax", ["l"], ["scores"])]
    graph = helper.make_graph(
        nodes,
        "net",
        [helper.make_tensor_value_info("the.x", TensorProto.FLOAT, ["n", 6])],
        [helper.make_tensor_value_info("scores", TensorProto.FLOAT, ["n", 4])],
        [numpy_helper.from_array(weight, "w")],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 13)], ir_version=8)
    onnx.save(model, tmp_path / "model.onnx")
    return tmp_path


def test_a_bare_file_becomes_a_savedmodel_without_torch(place: Path) -> None:
    done = seaway(place, "convert", "model.onnx", "saved_model", "--no-check")
    assert done.returncode == 0, done.stderr
    assert "Δ" not in done.stdout
    assert artifact_metadata.check(place / "saved_model", "saved_model").inputs[0].name == "the_x"
    assert "converting 2 nodes of opset 13 with seaway" in done.stdout
    assert done.stdout.splitlines()[-1] == "loaded: tensorflow"


def test_check_compares_on_random_input(place: Path) -> None:
    done = seaway(place, "convert", "model.onnx", "saved_model")
    assert done.returncode == 0, done.stderr
    match = re.search(r"^convert: scores: max \|Δ\| (\S+) vs ONNX Runtime, for values up to (\S+)$", done.stdout, re.M)
    assert match, done.stdout
    assert float(match[1]) <= 1e-6 < 0.1 < float(match[2]) <= 1
    assert done.stdout.splitlines()[-1] == "loaded: tensorflow"


def test_without_onnx_tf_the_message_says_how_to_install_it(place: Path) -> None:
    """tests/packaging/try_onnx_tf.py runs the command that this prints."""
    done = seaway(place, "convert", "model.onnx", "saved_model", "--converter", "onnx-tf")
    assert done.returncode == 1
    assert re.findall(r"pip install [^(]*[^( ]", done.stderr) == [INSTALL_ONNX_TF]
    assert done.stderr.count("\n") == 1
    assert done.stdout == "loaded:\n", "the message comes before any file is read"
    assert not (place / "saved_model").exists()
    version = INSTALL_ONNX_TF.rpartition(" ")[2]
    assert re.search(rf"(?m)^{re.escape(version)} \\$", (ROOT / "requirements" / "dev.txt").read_text())


def test_a_missing_file_is_reported_in_one_line(place: Path) -> None:
    done = seaway(place, "convert", "none.onnx", "saved_model")
    assert (done.returncode, done.stderr.count("\n")) == (1, 1)
    assert done.stderr.startswith("seaway: none.onnx: no such file")
