"""The SavedModel's signatures around a converted net, and writing it to disk.

serving_default   the model's inputs by name → its first output (all outputs where the model has no card)
<output>          the same inputs → one further output, e.g. `logits`
from_png          picture models with labels: png string [N] → label string [N], score float32 [N], scores [N, C],
                  and the best few classes in order: top_labels string [N, 3], top_scores float32 [N, 3]
"""

import errno
from collections.abc import Callable
from pathlib import Path
from typing import Any

import tensorflow as tf

from seaway.artifacts.card import Tensor
from seaway.convert import pictures
from seaway.errors import ModelError

FROM_PNG = "from_png"
DEFAULT = "serving_default"
BEST = 3  # classes in top_labels


def save(
    net: Callable[[dict[str, Any]], dict[str, Any]],
    inputs: dict[str, Tensor],
    outputs: tuple[Tensor, ...],
    labels: tuple[str, ...],
    default: tuple[str, ...],
    folder: Path,
) -> tuple[str, ...]:
    """Writes the SavedModel into an existing folder and returns its signatures' names.

    `inputs`: the net's own name for each input → how the SavedModel calls it; `default`: what `serving_default` gives.
    """

    def everything(**named: Any) -> dict[str, Any]:
        got = net({own: named[tensor.name] for own, tensor in inputs.items()})
        return {t.name: _shaped(got[t.name], t) for t in outputs}

    call = _concrete(everything, tuple(inputs.values()))  # traced once: every signature shares its weights

    def some(names: tuple[str, ...]) -> Any:
        def answer(**named: Any) -> dict[str, Any]:
            answers = call(**named)
            return {name: answers[name] for name in names}

        return _concrete(answer, tuple(inputs.values()))

    signatures = {DEFAULT: some(default)} | {t.name: some((t.name,)) for t in outputs if t.name not in default}
    if takes_pictures(tuple(inputs.values()), outputs, labels):
        signatures[FROM_PNG] = _from_png(call, next(iter(inputs.values())), outputs[0], labels)
    module = tf.Module(name="seaway")
    module.net, module.call, module.signature_functions = net, call, signatures
    _write(module, signatures, folder)
    return tuple(signatures)


def takes_pictures(inputs: tuple[Tensor, ...], outputs: tuple[Tensor, ...], labels: tuple[str, ...]) -> bool:
    """One float32 input [N, height, width, 1 or 3] in, one score a label out."""
    shape = inputs[0].shape
    sizes = len(shape) == 4 and all(side is not None for side in shape[1:]) and shape[3] in (1, 3)
    answers = bool(labels) and outputs[0].shape[1:] == (len(labels),)
    return len(inputs) == 1 and inputs[0].dtype == "float32" and shape[0] is None and sizes and answers


def _concrete(function: Callable[..., dict[str, Any]], inputs: tuple[Tensor, ...]) -> Any:
    specs = {t.name: tf.TensorSpec(t.shape, _tf_dtype(t), name=t.name) for t in inputs}
    return tf.function(function, autograph=False).get_concrete_function(**specs)


def _from_png(call: Any, image: Tensor, scores: Tensor, labels: tuple[str, ...]) -> Any:
    _, height, width, channels = image.shape

    def from_png(png: Any) -> dict[str, Any]:
        # One picture after another: of a large batch only one is unfolded at a time.
        read = tf.map_fn(
            lambda one: pictures.read(one, height, width, channels),  # type: ignore[arg-type]
            png,
            fn_output_signature=tf.TensorSpec([height, width, channels], tf.float32),
            parallel_iterations=1,
        )
        answers = call(**{image.name: read})[scores.name]
        best, indices = tf.math.top_k(answers, k=min(BEST, len(labels)))
        names = tf.gather(tf.constant(labels, name="labels"), indices)
        answer = {"label": names[:, 0], "score": best[:, 0], "top_labels": names, "top_scores": best}
        return answer | {scores.name: answers}

    return _concrete(from_png, (Tensor("png", "str", (None,)),))


def _shaped(got: Any, tensor: Tensor) -> Any:
    try:
        return tf.ensure_shape(got, tensor.shape)
    except ValueError:
        raise ModelError(
            f"output {tensor.name!r} has shape {got.shape.as_list()} after conversion, but {list(tensor.shape)} is "
            "what the model promises; is its batch dimension fixed? Export it with a dynamic one"
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
    # It is drawn by chance, and nothing of ours reads it: without it the same model gives the same bytes.
    (folder / "fingerprint.pb").unlink(missing_ok=True)
    if not any((folder / "assets").glob("*")):
        (folder / "assets").rmdir()
