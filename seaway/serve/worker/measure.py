"""A throwaway process that holds one version in one engine, checks its outputs and measures it: one JSON line.

    python -m seaway.serve.worker.measure '{"path": …, "backend": "onnx", "threads": 1, …}'      (see `measure`)

It loads and calls the version as a worker does. `seaway.serve.tune` starts one for each measurement.
"""

import json
import statistics
import sys
import time
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np

from seaway.artifacts import artifact_metadata, golden, interface, model_repository
from seaway.artifacts.artifact_metadata import ArtifactMetadata
from seaway.artifacts.golden import Golden
from seaway.errors import SeawayError
from seaway.platform import memory
from seaway.protocols import client_codecs, tensors
from seaway.serve.backends.backend import module
from seaway.serve.worker import batching
from seaway.serve.worker import version as versions
from seaway.serve.worker.version import GOLDEN_SIGNATURE, LoadedVersion
from seaway.serve.worker.worker_main import RETAINED_BYTES

MIN_CALLS, WARMUP_CALLS = 5, 3
MAX_IMAGES = 32  # golden examples that are sent as PNG files

Arrays = dict[str, np.ndarray]


def measure(
    path: str,
    name: str,
    number: int,
    digest: str,
    fingerprint: str,
    backend: str,
    threads: int,
    cores: int,
    batches: Sequence[int],
    seconds: float,
) -> dict[str, Any]:
    """Loads the version, whose files had this digest at this fingerprint, and measures the signature that the golden
    examples are of for `seconds` with each batch size, split over `cores` as a worker with these `threads` does.

    Returns `ms`: batch size → median milliseconds of a call; `parity`: signature → examples, wrong, max_abs; and
    `preprocessed`: from_png's scores for images that it has to preprocess, None without them. Raises ModelError if the
    engine cannot load the version or gives other outputs than those recorded.
    """
    memory.retain_freed(RETAINED_BYTES, RETAINED_BYTES // 2)
    folder = Path(path)
    loaded = versions.load(name, number, folder, digest, fingerprint, module(backend).load, threads, ())
    metadata = artifact_metadata.read(folder, model_repository.METADATA_FILE)
    examples = golden.read(folder / model_repository.EXTRA / golden.GOLDEN)
    return {
        "parity": _parity(loaded, metadata, examples),
        "preprocessed": _preprocessed(loaded, metadata, examples),
        "ms": _times(
            loaded, metadata.settings.get(GOLDEN_SIGNATURE, interface.DEFAULT), examples, cores, batches, seconds
        ),
    }


def _times(
    loaded: LoadedVersion, signature: str, examples: Golden, cores: int, batches: Sequence[int], seconds: float
) -> dict[str, float]:
    predict: batching.Predict = loaded.backend.predict
    if signature in loaded.batchable and cores > 1:
        predict = batching.split_across_cores(predict, cores, ThreadPoolExecutor(cores - 1))
    times = {}
    for rows in batches:
        inputs = _rows(examples, rows)
        for _ in range(WARMUP_CALLS):
            predict(signature, inputs, None)
        calls: list[float] = []
        began = time.perf_counter()
        while len(calls) < MIN_CALLS or time.perf_counter() - began < seconds:
            start = time.perf_counter()
            predict(signature, inputs, None)
            calls.append(time.perf_counter() - start)
        times[str(rows)] = statistics.median(calls) * 1000
    return times


def _rows(examples: Golden, rows: int) -> Arrays:
    """`rows` golden examples, repeated if there are fewer; without a batch, the first call."""
    if not examples.inputs:
        return examples.calls[0].inputs
    return {name: np.take(array, np.arange(rows) % len(array), axis=0) for name, array in examples.inputs.items()}


# ---- parity


def _parity(loaded: LoadedVersion, metadata: ArtifactMetadata, examples: Golden) -> dict[str, dict[str, Any]]:
    """Signature → the comparison of its outputs with the recorded ones."""
    by_signature: dict[str, list[golden.Comparison]] = {}
    for name, call, outputs in versions.on_golden(loaded.served, loaded.backend, metadata, examples):
        by_signature.setdefault(name, []).extend(
            golden.compare(outputs[output], call.outputs[output], metadata.tolerances[output])
            for output in outputs.keys() & call.outputs.keys()
        )
    if interface.FROM_PNG in loaded.served.signatures:
        by_signature[interface.FROM_PNG] = _compare_pngs(loaded, metadata, examples)
    return {name: _summary(compared) for name, compared in by_signature.items() if compared}


def _summary(compared: Sequence[golden.Comparison]) -> dict[str, Any]:
    max_abs = max(one.max_abs for one in compared)
    return {
        "examples": max(one.rows for one in compared),
        "wrong": sum(one.wrong for one in compared),
        "max_abs": max_abs if np.isfinite(max_abs) else None,
    }


def _compare_pngs(loaded: LoadedVersion, metadata: ArtifactMetadata, examples: Golden) -> list[golden.Comparison]:
    """The golden images that from_png leaves as they are, against the recorded outputs; those that an 8-bit image only
    approximates, against what the default signature, proven before, returns for the rounded image."""
    images = _images(metadata, examples)
    if images is None:
        return []
    image, scores = metadata.inputs[0].name, metadata.outputs[0].name
    rounded = _rounded(images)
    used = interface.from_png_keeps(rounded)
    exact = np.abs(rounded - images).max(axis=(1, 2, 3)) < 1e-6
    expected = loaded.backend.predict(interface.DEFAULT, {image: rounded})[scores].copy()
    expected[exact] = examples.outputs[scores][: len(images)][exact]
    if not used.any():
        return []
    outputs = loaded.backend.predict(interface.FROM_PNG, {client_codecs.PNG.key: _pngs(images[used])})
    compared = golden.compare(outputs[scores], expected[used], metadata.tolerances[scores])
    best = [metadata.labels[index].encode() for index in outputs[scores].argmax(axis=1)]
    if tensors.string_values(outputs["label"]) != best:
        raise SeawayError(f"signature {interface.FROM_PNG!r}: `label` is not that of the best score")
    return [compared]


def _preprocessed(loaded: LoadedVersion, metadata: ArtifactMetadata, examples: Golden) -> list[list[float]] | None:
    """from_png's scores for golden images on a light ground (grey) or of twice the size (colours)."""
    images = _images(metadata, examples)
    if images is None or interface.FROM_PNG not in loaded.served.signatures:
        return None
    other = 1 - images if images.shape[-1] == 1 else images.repeat(2, axis=1).repeat(2, axis=2)
    outputs = loaded.backend.predict(interface.FROM_PNG, {client_codecs.PNG.key: _pngs(other)})
    scores: list[list[float]] = outputs[metadata.outputs[0].name].tolist()
    return scores


def _images(metadata: ArtifactMetadata, examples: Golden) -> np.ndarray | None:
    """Golden examples of a model with from_png, [N, height, width, 1 or 3]; None for other models."""
    if not examples.inputs or not interface.takes_images(metadata.inputs, metadata.outputs, metadata.labels):
        return None
    return examples.inputs[metadata.inputs[0].name][:MAX_IMAGES]


def _rounded(images: np.ndarray) -> np.ndarray:
    rounded: np.ndarray = np.rint(np.clip(images, 0, 1) * 255).astype(np.float32) / np.float32(255)
    return rounded


def _pngs(images: np.ndarray) -> np.ndarray:
    return tensors.strings([client_codecs.png(image) for image in images], [len(images)])


def main() -> None:
    try:
        result = measure(**json.loads(sys.argv[1]))
    except SeawayError as error:
        result = {"error": str(error)}
    print(json.dumps(result), flush=True)


if __name__ == "__main__":
    main()
