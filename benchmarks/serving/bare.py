"""The model alone in a process, without a server: time per run and memory. Prints JSON.

python -m benchmarks.serving.bare savedmodel VERSION --rows 32 --threads 2
"""

import argparse
import json
import os
import time
from pathlib import Path

import numpy as np

from benchmarks.processes import pss_bytes
from benchmarks.serving.cases import INPUT, OUTPUT
from benchmarks.tables import median_or_nan
from seaway.artifacts import artifact_metadata, model_repository
from seaway.serve.backends.backend import module
from seaway.tensorflow_import import import_tensorflow

SIGNATURE = "serving_default"


def main() -> None:
    parser = argparse.ArgumentParser("python -m benchmarks.serving.bare")
    parser.add_argument("backend", choices=["savedmodel", "onnx", "tensorflow"])
    parser.add_argument("version", type=Path)
    parser.add_argument("--rows", type=int, default=1)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--runs", type=int, default=300)
    arguments = parser.parse_args()
    image = np.random.default_rng(0).random((arguments.rows, 28, 28, 1)).astype(np.float32)
    if arguments.backend == "tensorflow":
        tf = import_tensorflow()
        tf.config.threading.set_intra_op_parallelism_threads(arguments.threads)
        model = tf.saved_model.load(str(arguments.version)).signatures[SIGNATURE]

        def run() -> object:
            return model(**{INPUT: tf.constant(image)})[OUTPUT].numpy()
    else:
        backend = module(arguments.backend)
        metadata = artifact_metadata.read(arguments.version, model_repository.METADATA_FILE)
        loaded = backend.load(arguments.version, metadata, arguments.threads, frozenset())

        def run() -> object:
            return loaded.predict(SIGNATURE, {INPUT: image}, None)

    run()
    times = []
    for _ in range(arguments.runs):
        began = time.perf_counter()
        run()
        times.append(time.perf_counter() - began)
    print(json.dumps({"p50_us": median_or_nan(times) * 1e6, "min_us": min(times) * 1e6, "pss": pss_bytes(os.getpid())}))


if __name__ == "__main__":
    main()
