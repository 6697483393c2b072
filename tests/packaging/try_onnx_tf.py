"""Runs the command that `--converter onnx-tf` prints without onnx-tf, on a Python that onnx-tf does not support.

    python tests/packaging/try_onnx_tf.py --python 3.13

Installs Seaway with its extra `convert` in a separate environment (0.7 GB, removed afterwards), tries to convert a
small network there, runs only the pip command of the error, converts, and compares TensorFlow's output for random input
with ONNX's reference evaluator. The exit status is 0 if all of that works. `make verify-release` runs it; the test
suite only checks the message (tests/seaway/cli/test_convert.py).
"""

import argparse
import os
import re
import shlex
import subprocess
import sys
import tempfile
from pathlib import Path

from installs import interpreter

ROOT = Path(__file__).resolve().parents[2]
TOLERANCE = 1e-6  # of probabilities

MAKE = """
import numpy as np, onnx
from onnx import TensorProto, helper, numpy_helper
random = np.random.default_rng(0)
weights = {
    "kernel": random.normal(size=(4, 1, 3, 3)) / 3,
    "bias": random.normal(size=4),
    "dense": random.normal(size=(4 * 6 * 6, 5)) / 12,
}
nodes = [
    helper.make_node("Conv", ["x", "kernel", "bias"], ["conv"]),
    helper.make_node("Relu", ["conv"], ["relu"]),
    helper.make_node("Flatten", ["relu"], ["flat"]),
    helper.make_node("MatMul", ["flat", "dense"], ["logits"]),
    helper.make_node("Softmax", ["logits"], ["scores"]),
]
graph = helper.make_graph(
    nodes,
    "net",
    [helper.make_tensor_value_info("x", TensorProto.FLOAT, ["n", 1, 8, 8])],
    [helper.make_tensor_value_info("scores", TensorProto.FLOAT, ["n", 5])],
    [numpy_helper.from_array(array.astype(np.float32), name) for name, array in weights.items()],
)
onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 13)], ir_version=8), "model.onnx")
"""
COMPARE = """
import numpy as np, onnx.reference, sys, tensorflow as tf
x = np.random.default_rng(1).random((3, 1, 8, 8), dtype=np.float32)
[expected] = onnx.reference.ReferenceEvaluator("model.onnx").run(None, {"x": x})
scores = tf.saved_model.load("saved_model").signatures["serving_default"](x=tf.constant(x))["scores"].numpy()
print(f"{np.abs(scores - expected).max():.3e} {np.ptp(expected):.3e}")
"""


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--python", default="3.13", help="a version or a path (default: %(default)s)")
    parser.add_argument(
        "--seaway", nargs="+", default=[f"{ROOT}[convert]"], metavar="REQUIREMENT", help="requirements to install"
    )
    options = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="seaway-onnx-tf-") as folder:
        difference, spread = attempt(Path(folder), interpreter(options.python) or options.python, options.seaway)
    print(
        f"onnx-tf's SavedModel differs from ONNX's reference by {difference:.1e} at most, of a spread of {spread:.2f}"
    )
    if not difference <= TOLERANCE < spread:
        sys.exit(f"that is more than {TOLERANCE:g}, or all outputs are alike")


def attempt(folder: Path, python: str, seaway: list[str]) -> tuple[float, float]:
    """(largest difference, spread of the expected values); exits if a step fails."""
    run(folder, python, "-m", "venv", "environment")
    own = str(folder / "environment" / "bin" / "python")
    run(folder, own, "-m", "pip", "install", "--quiet", "--disable-pip-version-check", *seaway)
    run(folder, own, "-c", MAKE)
    convert = (own, "-m", "seaway.cli.main", "convert", "model.onnx", "saved_model", "--converter", "onnx-tf")
    command = pip_command(run(folder, *convert, status=1).stderr)
    print(f"{run(folder, own, '--version').stdout.strip()}: {command}", flush=True)
    run(folder, own, "-m", *shlex.split(command))
    run(folder, *convert)
    difference, spread = run(folder, own, "-c", COMPARE).stdout.split()
    return float(difference), float(spread)


def pip_command(message: str) -> str:
    match = re.search(r"pip install --no-deps [\w.=\- ]*[\w.]", message)
    if not match:
        sys.exit(f"no pip command in the message: {message}")
    return match[0]


def run(folder: Path, *command: str, status: int = 0) -> "subprocess.CompletedProcess[str]":
    """Runs a command without this process's Python variables."""
    environment = {key: value for key, value in os.environ.items() if not key.startswith(("PYTHON", "VIRTUAL"))}
    done = subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True)
    if done.returncode != status:
        sys.exit(f"{shlex.join(command)} ended with {done.returncode}:\n{done.stdout}{done.stderr}")
    return done


if __name__ == "__main__":
    main()
