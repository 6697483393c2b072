"""ONNX Runtime and TensorFlow, each as `run({input: array}) -> {output: array}`."""

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from seaway.errors import ModelError
from seaway.onnxruntime_import import import_onnxruntime

Runner = Callable[[dict[str, np.ndarray]], dict[str, np.ndarray]]


def onnx_runtime(model: Path | bytes) -> Runner:
    """ONNX Runtime on the CPU, for a file or a serialized model; returns every output.

    Loading and running raise ModelError.
    """
    onnxruntime = import_onnxruntime()
    source = str(model) if isinstance(model, Path) else model
    session = _guarded("ONNX Runtime cannot load the model", onnxruntime.InferenceSession, source, _quiet(onnxruntime))
    names = [output.name for output in session.get_outputs()]

    def run(inputs: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
        values = _guarded("ONNX Runtime failed", session.run, names, inputs)
        return dict(zip(names, values, strict=True))

    return run


def tensorflow(folder: Path) -> Callable[[Sequence[str]], Runner]:
    """The SavedModel as servers load it: `tensorflow(folder)(signatures)` runs those signatures."""
    import tensorflow as tf

    loaded = _guarded("TensorFlow cannot load the SavedModel", tf.saved_model.load, str(folder))

    def runner(signatures: Sequence[str]) -> Runner:
        functions = [loaded.signatures[name] for name in signatures]

        def run(inputs: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
            outputs: dict[str, np.ndarray] = {}
            for function in functions:
                values = _guarded(
                    "TensorFlow failed", lambda f: f(**{n: tf.constant(a) for n, a in inputs.items()}), function
                )
                outputs |= {name: value.numpy() for name, value in values.items()}
            return outputs

        return run

    return runner


def png(image: np.ndarray) -> bytes:
    """uint8 [height, width, channels] → PNG."""
    import tensorflow as tf

    return bytes(tf.io.encode_png(image).numpy())


def _quiet(onnxruntime: Any) -> Any:
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 3
    return options


def _guarded(message: str, call: Callable[..., Any], *arguments: Any) -> Any:
    try:
        return call(*arguments)
    except Exception as error:  # both runtimes raise their own classes for unusable models or inputs
        first = (str(error).strip().splitlines() or [""])[0]
        raise ModelError(f"{message}: {type(error).__name__}: {first}") from error
