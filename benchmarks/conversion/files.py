"""Claim: how many of 30 ONNX files, as popular exporters, optimisers and quantizers write them, convert exactly.

    python -m benchmarks.conversion.files --folder measured [--only forest SVC] [--again]

benchmarks/conversion/recipes*.py list the files: scikit-learn, XGBoost, LightGBM, Keras, PyTorch, ONNX Runtime. Each
is made in a process of its own (a missing package skips it), then converted, saved, loaded, and called with 256 fresh
rows, which ONNX Runtime gets too, on one thread: on more its DynamicQuantizeLSTM gives other results. "exact": shapes,
types, integers, strings and places of NaN are the same in every row, and floats differ by at most TOLERANCE of the
output's range. The folder keeps files and results; --again converts anew.
Needs pip install skl2onnx onnxmltools tf2onnx xgboost lightgbm pandas beside torch.
"""

import argparse
import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.conversion import recipes_classical, recipes_networks  # noqa: F401  they fill RECIPES
from benchmarks.conversion.recipes import RECIPES

TOLERANCE = 1e-5
TIMEOUT_S = 600
MODEL, INPUTS, RESULT = "model.onnx", "inputs.npz", "result.json"


def main() -> None:
    parser = argparse.ArgumentParser("python -m benchmarks.conversion.files")
    parser.add_argument("--folder", type=Path, help="a folder that keeps files and results")
    parser.add_argument("--only", nargs="+", default=[""], help="only files with one of these in their name")
    parser.add_argument(
        "--again", action="store_true", help="convert and compare again, even if the folder has results"
    )
    parser.add_argument("--make", nargs=2, metavar=("NAME", "FOLDER"), help="make one file")
    parser.add_argument("--check", type=Path, metavar="FOLDER", help="convert one file; prints its figures as JSON")
    arguments = parser.parse_args()
    if arguments.make:
        make(arguments.make[0], Path(arguments.make[1]))
    elif arguments.check:
        print(json.dumps(check(arguments.check)))
    elif not arguments.folder:
        parser.error("give --folder")
    else:
        report(arguments.folder, arguments.only, arguments.again)


def make(name: str, folder: Path) -> None:
    inputs = RECIPES[name](folder / MODEL)
    np.savez(folder / INPUTS, **inputs)


def check(folder: Path) -> dict[str, Any]:
    """{"refused": reason} or {"differs": [what], "difference": the largest as a share of its output's range}."""
    import onnxruntime

    from seaway import tensorflow_import

    tf = tensorflow_import.import_tensorflow()
    from seaway.convert.convert import convert
    from seaway.errors import SeawayError

    with np.load(folder / INPUTS) as stored:
        inputs = {name: stored[name] for name in stored.files}
    options = onnxruntime.SessionOptions()
    options.log_severity_level, options.intra_op_num_threads = 3, 1
    session = onnxruntime.InferenceSession(str(folder / MODEL), options, ["CPUExecutionProvider"])
    feeds = {name: x.astype(object) if x.dtype.kind == "U" else x for name, x in inputs.items()}
    expected = dict(zip((o.name for o in session.get_outputs()), session.run(None, feeds), strict=True))
    try:
        metadata = convert(folder / MODEL, folder / "saved_model", "seaway")
    except SeawayError as error:
        return {"refused": str(error)}
    call = tf.saved_model.load(str(folder / "saved_model")).signatures["serving_default"]
    names = zip((i.name for i in session.get_inputs()), (t.name for t in metadata.inputs), strict=True)
    results = call(**{renamed: tf.constant(feeds[name]) for name, renamed in names})
    differs, largest = [], 0.0
    for name, value in expected.items():
        what, difference = compared(results[name].numpy(), np.asarray(value))
        differs += [f"{name}: {what}"] if what else []
        largest = max(largest, difference)
    return {"differs": differs, "difference": largest}


def compared(actual: np.ndarray, expected: np.ndarray) -> tuple[str, float]:
    """What is wrong ("" if nothing), and the largest difference as a share of the expected output's range."""
    if actual.shape != expected.shape:
        return f"shape {list(actual.shape)}, not {list(expected.shape)}", 0.0
    if expected.dtype.kind in "OSU":
        actual = np.array([text.decode() for text in actual.reshape(-1)], object).reshape(expected.shape)
    elif actual.dtype != expected.dtype:
        return f"type {actual.dtype}, not {expected.dtype}", 0.0
    if expected.dtype.kind != "f":
        wrong = int(np.sum(actual != expected))
        return (f"{wrong} of {expected.size} values are others" if wrong else ""), 0.0
    finite = np.isfinite(expected)
    if not np.array_equal(actual[~finite], expected[~finite], equal_nan=True) or not np.isfinite(actual[finite]).all():
        return "other infinities or NaN", 0.0
    values = expected[finite].astype(np.float64)
    scale = float(np.ptp(values)) or float(np.abs(values).max(initial=0)) or 1.0
    differences = np.abs(actual[finite] - values) / scale
    above = int(np.sum(differences > TOLERANCE))
    return (f"{above} of {values.size} floats differ by more" if above else ""), float(differences.max(initial=0))


def report(folder: Path, only: list[str], again: bool) -> None:
    from benchmarks.tables import table

    rows, exact = [], 0
    for name in (name for name in RECIPES if any(part in name for part in only)):
        figures = one(folder / name.replace(",", "").replace(" ", "-"), name, again)
        print(f"{name}: {figures}", file=sys.stderr, flush=True)
        verdict = next((f"{key} ({figures[key]})" for key in ("skipped", "failed", "refused") if key in figures), "")
        if not verdict:
            verdict = f"wrong ({'; '.join(figures['differs'])})" if figures["differs"] else "exact"
        exact += verdict == "exact"
        rows.append([name, verdict, f"{figures['difference']:.1e}" if "difference" in figures else ""])
    print(f"{exact} of {len(rows)} exact\n")
    print(table(["file", "", "largest difference"], rows))


def one(folder: Path, name: str, again: bool) -> dict[str, Any]:
    """The figures of one file: those of `check`, or {"skipped": reason} if it cannot be made, or {"failed": reason}."""
    folder.mkdir(parents=True, exist_ok=True)
    if (folder / RESULT).exists() and not again:
        return dict(json.loads((folder / RESULT).read_text()))
    figures: dict[str, Any] = {}
    if not (folder / INPUTS).exists():
        figures = _process("skipped", "--make", name, folder)
    if not figures:
        figures = _process("failed", "--check", folder)
    if "skipped" not in figures:
        (folder / RESULT).write_text(json.dumps(figures))
    return figures


def _process(failure: str, *words: object) -> dict[str, Any]:
    """Runs one step; {failure: last line of its errors} if it failed, its JSON output, or {}."""
    command = [sys.executable, "-m", "benchmarks.conversion.files", *map(str, words)]
    environment = {**os.environ, "TF_CPP_MIN_LOG_LEVEL": "3"}
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=TIMEOUT_S, env=environment)
    except subprocess.TimeoutExpired:
        return {failure: f"not done after {TIMEOUT_S} s"}
    if done.returncode:
        return {failure: (done.stderr.strip().splitlines() or [f"exit status {done.returncode}"])[-1][:300]}
    last = (done.stdout.strip().splitlines() or [""])[-1]
    return dict(json.loads(last)) if words[0] == "--check" else {}


if __name__ == "__main__":
    main()
