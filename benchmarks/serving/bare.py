"""The model alone in a process: what its computing takes and what it holds, with no server around it. Prints JSON.

python -m benchmarks.serving.bare savedmodel VERSION --rows 32 --threads 2
"""

import argparse
import importlib
import json
import os
import time
from pathlib import Path

import numpy as np

from benchmarks.processes import pss_bytes
from benchmarks.serving.cases import INPUT, OUTPUT
from benchmarks.tables import middle
from seaway.artifacts import card as cards
from seaway.artifacts import store
from seaway.quiet import import_tensorflow

SIGNATURE = "serving_default"


def main() -> None:
    parser = argparse.ArgumentParser("python -m benchmarks.serving.bare")
    parser.add_argument("backend", choices=["savedmodel", "onnx", "tensorflow"])
    parser.add_argument("version", type=Path)
    parser.add_argument("--rows", type=int, default=1)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--runs", type=int, default=300)
    given = parser.parse_args()
    image = np.random.default_rng(0).random((given.rows, 28, 28, 1)).astype(np.float32)
    if given.backend == "tensorflow":
        tf = import_tensorflow()
        tf.config.threading.set_intra_op_parallelism_threads(given.threads)
        model = tf.saved_model.load(str(given.version)).signatures[SIGNATURE]

        def run() -> object:
            return model(**{INPUT: tf.constant(image)})[OUTPUT].numpy()
    else:
        backend = importlib.import_module(f"seaway.serve.{given.backend}")
        card = cards.read(given.version, store.CARD)
        loaded = backend.load(given.version, card, given.threads, frozenset())

        def run() -> object:
            return loaded.predict(SIGNATURE, {INPUT: image}, None)

    run()
    times = []
    for _ in range(given.runs):
        began = time.perf_counter()
        run()
        times.append(time.perf_counter() - began)
    print(json.dumps({"p50_us": middle(times) * 1e6, "least_us": min(times) * 1e6, "pss": pss_bytes(os.getpid())}))


if __name__ == "__main__":
    main()
