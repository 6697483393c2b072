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
    named = onnx_values(model)
    return lambda inputs: named(inputs, None)


def onnx_values(
    model: Path | bytes, weights: Path | None = None
) -> Callable[[dict[str, np.ndarray], Sequence[str] | None], dict[str, np.ndarray]]:
    """The same, of which the caller names the outputs to compute; None: all. `weights`: the folder of a serialized
    model's external data."""
    onnxruntime = import_onnxruntime()
    source, options = str(model) if isinstance(model, Path) else model, _quiet(onnxruntime)
    if weights:
        options.add_session_config_entry("session.model_external_initializers_file_folder_path", str(weights))
    session = _guarded("ONNX Runtime cannot load the model", onnxruntime.InferenceSession, source, options)
    all_names = [output.name for output in session.get_outputs()]

    def run(inputs: dict[str, np.ndarray], names: Sequence[str] | None) -> dict[str, np.ndarray]:
        wanted = all_names if names is None else list(names)
        values = _guarded("ONNX Runtime failed", session.run, wanted, inputs)
        return dict(zip(wanted, values, strict=True))

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


def tensorflow_values(
    folder: Path, function: str
) -> Callable[[dict[str, np.ndarray], Sequence[str]], dict[str, np.ndarray]]:
    """Tensors inside a function of the SavedModel that is no signature, by their names in its graph.

    Loading and running raise ModelError.
    """
    import tensorflow as tf

    loaded = _guarded("TensorFlow cannot load the SavedModel", tf.saved_model.load, str(folder))
    concrete: Any = getattr(loaded, function, None)
    if not hasattr(concrete, "graph"):
        raise ModelError(f"{folder} has no function {function!r}; convert again, with --converter seaway")
    graph, specs = concrete.graph, concrete.structured_input_signature[1]
    names = sorted(specs)  # the order of its arguments
    arguments, captured = graph.inputs[: len(names)], graph.inputs[len(names) :]

    def run(inputs: dict[str, np.ndarray], tensors: Sequence[str]) -> dict[str, np.ndarray]:
        def inner(**given: Any) -> Any:
            here = tf.compat.v1.get_default_graph()
            fed = {tensor.name: given[name] for name, tensor in zip(names, arguments, strict=True)}
            fed |= {t.name: here.capture(outer) for t, outer in zip(captured, concrete.captured_inputs, strict=True)}
            wanted = [name for name in tensors if name not in fed]
            found = tf.graph_util.import_graph_def(graph.as_graph_def(), fed, wanted, name="net")
            return dict(zip(wanted, found, strict=True)) | {n: tf.identity(fed[n]) for n in tensors if n in fed}

        def call() -> Any:
            given = {name: tf.constant(inputs[name], spec.dtype) for name, spec in specs.items()}
            # With sizes as open as the function's own, at which TensorFlow could build it: so a node that fails at this
            # input fails alone.
            return tf.function(inner, autograph=False).get_concrete_function(**specs)(**given)

        assert loaded  # which holds the variables
        return {name: value.numpy() for name, value in _guarded("TensorFlow failed", call).items()}

    return run


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
