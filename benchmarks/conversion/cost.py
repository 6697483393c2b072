"""Claim: a conversion takes little time and memory, and its result needs less CPU than onnx-tf's.

    python -m benchmarks.conversion.cost --folder measured [--only resnet18] [--rounds 7]

Each model is exported (`models.py`; opset 15, the newest for onnx-tf) and converted by each converter in its own
process: CPU seconds, and peak memory beyond TensorFlow's import. Then one process with one thread runs both SavedModels
and ONNX Runtime in turn on the same batches; the result is the median CPU time of the rounds.
`--gigabytes 2.5` converts, loads and checks a synthetic model of that size with external data.
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
MIN_ROUND_S = 0.2  # CPU time of a round, for each runtime
CONVERTERS = ("seaway", "onnx-tf")
MODELS = ("emnist", "resnet18", "mobilenet_v3_large", "inception_v3", "vit_b_16")
OPSET = 15


def main() -> None:
    parser = argparse.ArgumentParser("python -m benchmarks.conversion.cost")
    parser.add_argument(
        "--folder", type=Path, help="a folder for ONNX files and SavedModels; existing ONNX files are used"
    )
    parser.add_argument("--only", nargs="+", default=list(MODELS))
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--gigabytes", type=float, help="use a synthetic model of this size instead")
    parser.add_argument("--part", nargs="+", help="for internal use: the part that a child process runs")
    arguments = parser.parse_args()
    if arguments.part:
        name, *words = arguments.part
        print(json.dumps({"export": export, "convert": convert, "infer": infer}[name](*words)))
    elif not arguments.folder:
        parser.error("give --folder")
    elif arguments.gigabytes:
        synthetic(arguments.folder, arguments.gigabytes)
    else:
        compare(arguments.folder, arguments.only, arguments.rounds)


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
        conversions_of = {c: part("convert", c, path, saved[c]) for c in CONVERTERS}
        for converter, figures in conversions_of.items():
            row = (
                [f"{figures['seconds']:.1f}", f"{figures['megabytes']:.0f}", f"{figures['megabytes'] / size:.1f}"]
                if figures
                else []
            )
            conversions.append([name, f"{size:.0f}", converter, *(row or ["refused", "", ""])])
        print(f"{name}: {conversions_of}", file=sys.stderr, flush=True)
        figures = part("infer", rounds, path, *(saved[c] for c in CONVERTERS if conversions_of[c]))
        print(f"{name}: {figures}", file=sys.stderr, flush=True)
        for batch in map(str, BATCHES):
            times_ms = {key: value * 1e3 for key, value in figures[batch].items()}
            ratios = [
                f"{times_ms['seaway'] / times_ms[k]:.2f}" if k in times_ms else "" for k in ("onnx-tf", "onnxruntime")
            ]
            times = [f"{times_ms[k]:.2f}" if k in times_ms else "" for k in ("seaway", "onnx-tf", "onnxruntime")]
            runs.append([name, batch, *times, *ratios])
    print(machine(), end="\n\n")
    print(table(["model", "MB", "converter", "CPU s", "peak MB beyond TensorFlow", "times the file"], conversions))
    head = ["model", "batch", "seaway, CPU ms", "onnx-tf", "ONNX Runtime", "of onnx-tf's", "of ONNX Runtime's"]
    print(table(head, runs))


def part(*words: Any) -> dict[str, Any]:
    """The result of a part in a child process; empty if it failed, with its last line on stderr."""
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
    from seaway import tensorflow_import

    tensorflow_import.import_tensorflow()
    from seaway.convert import convert as converting
    from seaway.convert.native import net  # noqa: F401  so that the import does not count

    before, began = _peak(), time.process_time()
    converting.convert(Path(path), Path(saved), converter)
    return {"seconds": time.process_time() - began, "megabytes": _peak() - before}


def infer(rounds: str, path: str, *saved: str) -> dict[str, Any]:
    """Batch → name → CPU seconds of one inference."""
    runs, shape = _runs(path, saved)
    medians: dict[str, Any] = {}
    for batch in BATCHES:
        images = np.random.default_rng(batch).normal(size=(batch, *shape)).astype(np.float32)
        counts = {name: _count(run, images) for name, run in runs.items()}
        times: dict[str, list[float]] = {name: [] for name in runs}
        for _ in range(int(rounds)):
            for name, run in runs.items():
                times[name].append(_seconds(run, images, counts[name]))
        medians[str(batch)] = {name: float(np.median(values)) for name, values in times.items()}
    return medians


def _runs(path: str, saved: tuple[str, ...]) -> tuple[dict[str, Callable[[np.ndarray], Any]], tuple[int, ...]]:
    import onnxruntime

    from seaway import tensorflow_import

    tf = tensorflow_import.import_tensorflow()
    tf.config.threading.set_intra_op_parallelism_threads(1)
    tf.config.threading.set_inter_op_parallelism_threads(1)
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = options.inter_op_num_threads = 1
    session = onnxruntime.InferenceSession(path, options, providers=["CPUExecutionProvider"])
    model_input = session.get_inputs()[0]
    runs: dict[str, Callable[[np.ndarray], Any]] = {}
    for folder in saved:
        loaded = tf.saved_model.load(folder)
        call = loaded.signatures["serving_default"]
        (name,) = call.structured_input_signature[1]
        runs[next(c for c in CONVERTERS if folder.endswith(c))] = (
            lambda x, call=call, name=name, loaded_model=loaded: call(**{name: tf.constant(x)})  # type: ignore[misc]
        )
    runs["onnxruntime"] = lambda x: session.run(None, {model_input.name: x})
    return runs, tuple(model_input.shape[1:])


def _count(run: Callable[[np.ndarray], Any], images: np.ndarray) -> int:
    """The number of inferences in a round; the first, slower ones do not count."""
    run(images)
    run(images)
    return max(1, round(MIN_ROUND_S / _seconds(run, images, 1)))


def _seconds(run: Callable[[np.ndarray], Any], images: np.ndarray, count: int) -> float:
    began = time.process_time()
    for _ in range(count):
        run(images)
    return (time.process_time() - began) / count


def _peak() -> float:
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1e3


def synthetic(folder: Path, gigabytes: float) -> None:
    """Converts and checks a chain of [4096, 4096] products with a known result: each rotates the vector by one."""
    import onnx
    from onnx import helper

    folder.mkdir(parents=True, exist_ok=True)
    side = 4096
    count = round(gigabytes * 1e9 / (4 * side * side))
    path = folder / "synthetic.onnx"
    nodes = [helper.make_node("MatMul", [f"x{i}", f"w{i}"], [f"x{i + 1}"]) for i in range(count)]
    infos = [helper.make_tensor_value_info(n, onnx.TensorProto.FLOAT, ["n", side]) for n in ("x0", f"x{count}")]
    graph = helper.make_graph(nodes, "synthetic", infos[:1], infos[1:])
    with (folder / "synthetic.data").open("wb") as file:
        for i in range(count):
            tensor = graph.initializer.add(name=f"w{i}", data_type=onnx.TensorProto.FLOAT, dims=[side, side])
            tensor.data_location = onnx.TensorProto.EXTERNAL
            tensor.external_data.add(key="location", value="synthetic.data")
            tensor.external_data.add(key="offset", value=str(i * 4 * side * side))
            matrix = np.roll(np.eye(side, dtype=np.float32), 1, axis=1)
            matrix[i, i] = 1e-3  # all matrices differ
            file.write(matrix.tobytes())
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", OPSET)], ir_version=8)
    path.write_bytes(model.SerializeToString())
    figures = part("convert", "seaway", path, folder / "synthetic-seaway")
    began = time.process_time()
    runs, _ = _runs(str(path), (str(folder / "synthetic-seaway"),))
    x = np.random.default_rng(1).normal(size=(1, side)).astype(np.float32)
    expected = runs["onnxruntime"](x)[0]
    (output,) = runs["seaway"](x).values()
    difference = float(np.abs(output.numpy() - expected).max())
    seconds = time.process_time() - began
    size = count * 4 * side * side / 1e9
    print(f"{size:.2f} GB: {figures}, largest difference {difference:.2g}, loading and running {seconds:.1f} CPU s")


if __name__ == "__main__":
    main()
