"""Runs the command that `--converter onnx-tf` prints where onnx-tf is missing, on a Python that onnx-tf never knew.

    python tests/packaging/try_onnx_tf.py --python 3.13

An environment of its own gets Seaway with its extra `convert` (0.7 GB, removed afterwards). There a small net is to be
converted; the refusal's pip command is run, and nothing else; then what TensorFlow answers to random input is compared
with ONNX's own reference evaluator. Exit status 0 where all of that holds. `make verify-release` runs it; the suite has
tests/seaway/cli/test_convert.py, which knows the message alone.
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
chance = np.random.default_rng(0)
weights = {
    "kernel": chance.normal(size=(4, 1, 3, 3)) / 3,
    "bias": chance.normal(size=4),
    "dense": chance.normal(size=(4 * 6 * 6, 5)) / 12,
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
got = tf.saved_model.load("saved_model").signatures["serving_default"](x=tf.constant(x))["scores"].numpy()
print(f"{np.abs(got - expected).max():.3e} {np.ptp(expected):.3e}")
"""


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--python", default="3.13", help="a version or a path (default: %(default)s)")
    parser.add_argument(
        "--seaway", nargs="+", default=[f"{ROOT}[convert]"], metavar="REQUIREMENT", help="what pip is given to install"
    )
    given = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="seaway-onnx-tf-") as folder:
        difference, spread = attempt(Path(folder), interpreter(given.python) or given.python, given.seaway)
    print(
        f"onnx-tf's SavedModel differs from ONNX's reference by {difference:.1e} at most, of a spread of {spread:.2f}"
    )
    if not difference <= TOLERANCE < spread:
        sys.exit(f"that is more than {TOLERANCE:g}, or all answers are alike")


def attempt(folder: Path, python: str, seaway: list[str]) -> tuple[float, float]:
    """(largest difference, spread of the expected values); exits where a step does not go as it should."""
    run(folder, python, "-m", "venv", "environment")
    own = str(folder / "environment" / "bin" / "python")
    run(folder, own, "-m", "pip", "install", "--quiet", "--disable-pip-version-check", *seaway)
    run(folder, own, "-c", MAKE)
    convert = (own, "-m", "seaway.cli.main", "convert", "model.onnx", "saved_model", "--converter", "onnx-tf")
    command = printed(run(folder, *convert, status=1).stderr)
    print(f"{run(folder, own, '--version').stdout.strip()}: {command}", flush=True)
    run(folder, own, "-m", *shlex.split(command))
    run(folder, *convert)
    difference, spread = run(folder, own, "-c", COMPARE).stdout.split()
    return float(difference), float(spread)


def printed(message: str) -> str:
    found = re.search(r"pip install --no-deps [\w.=\- ]*[\w.]", message)
    if not found:
        sys.exit(f"no command in what was said: {message}")
    return found[0]


def run(folder: Path, *command: str, status: int = 0) -> "subprocess.CompletedProcess[str]":
    """Without what this process' own environment says of Python."""
    environment = {key: value for key, value in os.environ.items() if not key.startswith(("PYTHON", "VIRTUAL"))}
    done = subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True)
    if done.returncode != status:
        sys.exit(f"{shlex.join(command)} ended with {done.returncode}:\n{done.stdout}{done.stderr}")
    return done


if __name__ == "__main__":
    main()
