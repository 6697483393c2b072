"""Claim: a conversion takes little time and memory, and what comes out is run for less CPU than onnx-tf's.

    python -m benchmarks.conversion.cost --folder measured [--only resnet18] [--rounds 7]

Each model is exported (`models.py`; opset 15, which onnx-tf has, where PyTorch can) and converted by each converter in
a process of its own: CPU seconds, and peak memory beyond that of TensorFlow's import. Then one process with one thread
runs both SavedModels and ONNX Runtime in turn on the same batches; the median of the rounds' CPU time counts.
`--gigabytes 2.5` converts, loads and checks a synthetic model of that size with its data in a file of their own.
"""

import argparse
import json
import os
import resource
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

BATCHES = (1, 32)
SECONDS = 0.2  # of CPU time that a round lasts at least, for each of those compared
CONVERTERS = ("seaway", "onnx-tf")
MODELS = ("emnist", "resnet18", "mobilenet_v3_large", "inception_v3", "vit_b_16")
OPSET = 15


def main() -> None:
    parser = argparse.ArgumentParser("python -m benchmarks.conversion.cost")
    parser.add_argument("--folder", type=Path, help="where ONNX files are found or put, and SavedModels")
    parser.add_argument("--only", nargs="+", default=list(MODELS))
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--gigabytes", type=float, help="a synthetic model of this size instead")
    parser.add_argument("--part", nargs="+", help="what a process of its own does")
    given = parser.parse_args()
    if given.part:
        name, *words = given.part
        print(json.dumps({"export": export, "convert": convert, "infer": infer}[name](*words)))
    elif not given.folder:
        parser.error("give --folder")
    elif given.gigabytes:
        synthetic(given.folder, given.gigabytes)
    else:
        compare(given.folder, given.only, given.rounds)


def compare(folder: Path, names: list[str], rounds: int) -> None:
    from benchmarks.processes import machine
    from benchmarks.tables import table

    folder.mkdir(parents=True, exist_ok=True)
    conversions, runs = [], []
    for name in names:
        path = folder / f"{name}.onnx"
        if not path.exists():
            part("export", name, path)
        saved = {c: folder / f"{name}-{c}" for c in CONVERTERS}
        size = path.stat().st_size / 1e6
        told = {c: part("convert", c, path, saved[c]) for c in CONVERTERS}
        for converter, got in told.items():
            row = [f"{got['seconds']:.1f}", f"{got['megabytes']:.0f}", f"{got['megabytes'] / size:.1f}"] if got else []
            conversions.append([name, f"{size:.0f}", converter, *(row or ["refused", "", ""])])
        print(f"{name}: {told}", file=sys.stderr, flush=True)
        got = part("infer", rounds, path, *(saved[c] for c in CONVERTERS if told[c]))
        print(f"{name}: {got}", file=sys.stderr, flush=True)
        for batch in map(str, BATCHES):
            one = {key: value * 1e3 for key, value in got[batch].items()}
            ratios = [f"{one['seaway'] / one[k]:.2f}" if k in one else "" for k in ("onnx-tf", "onnxruntime")]
            times = [f"{one[k]:.2f}" if k in one else "" for k in ("seaway", "onnx-tf", "onnxruntime")]
            runs.append([name, batch, *times, *ratios])
    print(machine(), end="\n\n")
    print(table(["model", "MB", "converter", "CPU s", "peak MB beyond TensorFlow", "times the file"], conversions))
    head = ["model", "batch", "seaway, CPU ms", "onnx-tf", "ONNX Runtime", "of onnx-tf's", "of ONNX Runtime's"]
    print(table(head, runs))


def part(*words: Any) -> dict[str, Any]:
    """What a process of its own answered; nothing where it failed, with its last line on stderr."""
    command = [sys.executable, "-m", "benchmarks.conversion.cost", "--part", *map(str, words)]
    environment = {**os.environ, "TF_CPP_MIN_LOG_LEVEL": "3"}
    done = subprocess.run(command, capture_output=True, text=True, env=environment, check=False)
    if done.returncode:
        print(f"{words}: {(done.stderr.strip().splitlines() or ['?'])[-1][:300]}", file=sys.stderr)
        return {}
    return dict(json.loads(done.stdout.splitlines()[-1]))


def export(name: str, path: str) -> dict[str, Any]:
    from benchmarks.conversion import models

    models.export(name, "script", path, opset=OPSET)
    return {}


def convert(converter: str, path: str, saved: str) -> dict[str, Any]:
    from seaway import quiet

    quiet.import_tensorflow()
    from seaway.convert import convert as converting
    from seaway.convert.native import net  # noqa: F401  what is imported is no part of the conversion

    before, began = _peak(), time.process_time()
    converting.convert(Path(path), Path(saved), converter)
    return {"seconds": time.process_time() - began, "megabytes": _peak() - before}


def infer(rounds: str, path: str, *saved: str) -> dict[str, Any]:
    """Batch → name → CPU seconds of one inference."""
    runs, shape = _runs(path, saved)
    found: dict[str, Any] = {}
    for batch in BATCHES:
        images = np.random.default_rng(batch).normal(size=(batch, *shape)).astype(np.float32)
        counts = {name: _count(run, images) for name, run in runs.items()}
        times: dict[str, list[float]] = {name: [] for name in runs}
        for _ in range(int(rounds)):
            for name, run in runs.items():
                times[name].append(_seconds(run, images, counts[name]))
        found[str(batch)] = {name: float(np.median(values)) for name, values in times.items()}
    return found


def _runs(path: str, saved: tuple[str, ...]) -> tuple[dict[str, Callable[[np.ndarray], Any]], tuple[int, ...]]:
    import onnxruntime

    from seaway import quiet

    tf = quiet.import_tensorflow()
    tf.config.threading.set_intra_op_parallelism_threads(1)
    tf.config.threading.set_inter_op_parallelism_threads(1)
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = options.inter_op_num_threads = 1
    session = onnxruntime.InferenceSession(path, options, providers=["CPUExecutionProvider"])
    own = session.get_inputs()[0]
    runs: dict[str, Callable[[np.ndarray], Any]] = {}
    for folder in saved:
        loaded = tf.saved_model.load(folder)
        call = loaded.signatures["serving_default"]
        (name,) = call.structured_input_signature[1]
        runs[next(c for c in CONVERTERS if folder.endswith(c))] = (
            lambda x, call=call, name=name, kept=loaded: call(**{name: tf.constant(x)})  # type: ignore[misc]
        )
    runs["onnxruntime"] = lambda x: session.run(None, {own.name: x})
    return runs, tuple(own.shape[1:])


def _count(run: Callable[[np.ndarray], Any], images: np.ndarray) -> int:
    """How many inferences a round has; the first ones, which are slower, are not counted."""
    run(images)
    run(images)
    return max(1, round(SECONDS / _seconds(run, images, 1)))


def _seconds(run: Callable[[np.ndarray], Any], images: np.ndarray, count: int) -> float:
    began = time.process_time()
    for _ in range(count):
        run(images)
    return (time.process_time() - began) / count


def _peak() -> float:
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1e3


def synthetic(folder: Path, gigabytes: float) -> None:
    """A chain of products of [4096, 4096], whose answer is known: every matrix turns the vector by one place."""
    import onnx
    from onnx import helper

    folder.mkdir(parents=True, exist_ok=True)
    side = 4096
    count = round(gigabytes * 1e9 / (4 * side * side))
    path = folder / "synthetic.onnx"
    nodes = [helper.make_node("MatMul", [f"x{i}", f"w{i}"], [f"x{i + 1}"]) for i in range(count)]
    ends = [helper.make_tensor_value_info(n, onnx.TensorProto.FLOAT, ["n", side]) for n in ("x0", f"x{count}")]
    graph = helper.make_graph(nodes, "synthetic", ends[:1], ends[1:])
    with (folder / "synthetic.data").open("wb") as file:
        for i in range(count):
            tensor = graph.initializer.add(name=f"w{i}", data_type=onnx.TensorProto.FLOAT, dims=[side, side])
            tensor.data_location = onnx.TensorProto.EXTERNAL
            tensor.external_data.add(key="location", value="synthetic.data")
            tensor.external_data.add(key="offset", value=str(i * 4 * side * side))
            matrix = np.roll(np.eye(side, dtype=np.float32), 1, axis=1)
            matrix[i, i] = 1e-3  # no two are equal
            file.write(matrix.tobytes())
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", OPSET)], ir_version=8)
    path.write_bytes(model.SerializeToString())
    got = part("convert", "seaway", path, folder / "synthetic-seaway")
    began = time.process_time()
    runs, _ = _runs(str(path), (str(folder / "synthetic-seaway"),))
    x = np.random.default_rng(1).normal(size=(1, side)).astype(np.float32)
    wanted = runs["onnxruntime"](x)[0]
    (answer,) = runs["seaway"](x).values()
    same = float(np.abs(answer.numpy() - wanted).max())
    seconds = time.process_time() - began
    size = count * 4 * side * side / 1e9
    print(f"{size:.2f} GB: {got}, largest difference {same:.2g}, loading and running {seconds:.1f} CPU s")


if __name__ == "__main__":
    main()
