"""Builds the SavedModel's signatures (artifacts/interface.py) around a converted net, and writes it to disk.

`serving_default` of a bare ONNX file returns all outputs.
"""

import errno
from collections.abc import Callable
from pathlib import Path
from typing import Any

import tensorflow as tf

from seaway.artifacts import interface
from seaway.artifacts.artifact_metadata import Tensor
from seaway.convert import png_decoder
from seaway.errors import ModelError


def save(
    net: Callable[[dict[str, Any]], dict[str, Any]],
    inputs: dict[str, Tensor],
    outputs: tuple[Tensor, ...],
    labels: tuple[str, ...],
    default: tuple[str, ...],
    folder: Path,
) -> tuple[str, ...]:
    """Writes the SavedModel into an existing folder and returns its signatures' names.

    `inputs`: the net's name of an input → its tensor in the SavedModel; `default`: the outputs of `serving_default`.
    """

    def all_outputs(**named: Any) -> dict[str, Any]:
        outputs_by_name = net({own: named[tensor.name] for own, tensor in inputs.items()})
        return {t.name: _shaped(outputs_by_name[t.name], t) for t in outputs}

    call = _concrete(all_outputs, tuple(inputs.values()))  # traced once: every signature shares its weights

    def signature(names: tuple[str, ...]) -> Any:
        def select(**named: Any) -> dict[str, Any]:
            results = call(**named)
            return {name: results[name] for name in names}

        return _concrete(select, tuple(inputs.values()))

    signatures = {interface.DEFAULT: signature(default)} | {
        t.name: signature((t.name,)) for t in outputs if t.name not in default
    }
    if interface.takes_images(tuple(inputs.values()), outputs, labels):
        signatures[interface.FROM_PNG] = _from_png(call, next(iter(inputs.values())), outputs[0], labels)
    elif interface.has_labels(outputs, labels):
        signatures[interface.LABEL] = _concrete(
            lambda **named: _labelled(call(**named)[outputs[0].name], outputs[0], labels), tuple(inputs.values())
        )
    module = tf.Module(name="seaway")
    module.net, module.call, module.signature_functions = net, call, signatures
    _write(module, signatures, folder)
    return tuple(signatures)


def _concrete(function: Callable[..., dict[str, Any]], inputs: tuple[Tensor, ...]) -> Any:
    specs = {t.name: tf.TensorSpec(t.shape, _tf_dtype(t), name=t.name) for t in inputs}
    return tf.function(function, autograph=False).get_concrete_function(**specs)


def _from_png(call: Any, image: Tensor, scores: Tensor, labels: tuple[str, ...]) -> Any:
    _, height, width, channels = image.shape

    def from_png(png: Any) -> dict[str, Any]:
        # One image after another: only one image of a large batch is decoded at a time.
        images = tf.map_fn(
            lambda encoded: png_decoder.read(encoded, height, width, channels),  # type: ignore[arg-type]
            png,
            fn_output_signature=tf.TensorSpec([height, width, channels], tf.float32),
            parallel_iterations=1,
        )
        return _labelled(call(**{image.name: images})[scores.name], scores, labels)

    return _concrete(from_png, (Tensor(interface.PNG, "str", (None,)),))


def _labelled(values: Any, scores: Tensor, labels: tuple[str, ...]) -> dict[str, Any]:
    best, indices = tf.math.top_k(values, k=min(interface.TOP_CLASSES, len(labels)))
    names = tf.gather(tf.constant(labels, name="labels"), indices)
    result = {"label": names[:, 0], "score": best[:, 0], "top_labels": names, "top_scores": best}
    return result | {scores.name: values}


def _shaped(value: Any, tensor: Tensor) -> Any:
    try:
        return tf.ensure_shape(value, tensor.shape)
    except ValueError:
        raise ModelError(
            f"output {tensor.name!r} has shape {value.shape.as_list()} after conversion, not {list(tensor.shape)}; "
            "is its batch dimension fixed? Export it with a dynamic one"
        ) from None


def _tf_dtype(tensor: Tensor) -> Any:
    return tf.string if tensor.dtype == "str" else tf.as_dtype(tensor.dtype)


def _write(module: Any, signatures: dict[str, Any], folder: Path) -> None:
    try:
        tf.saved_model.save(module, str(folder), signatures=signatures)
    except tf.errors.OpError as error:
        if "No space left" in str(error):
            raise OSError(errno.ENOSPC, "No space left on device", str(folder)) from None
        raise
    # It is random, and nothing of ours reads it; without it the same model gives the same bytes.
    (folder / "fingerprint.pb").unlink(missing_ok=True)
    if not any((folder / "assets").glob("*")):
        (folder / "assets").rmdir()
