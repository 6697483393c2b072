"""The signatures of a version, which follow from its model's inputs, outputs and labels.

serving_default   the inputs → all outputs; of a classifier (first outputs: scores, logits) the scores
<output>          classifiers: the inputs → one further output, e.g. `logits`
from_png          image models with labels: png string [N] → the first output and, as below, its labels
label             other models with labels: the inputs → the same

Labels are label string [N] and score [N], and the top classes in order: top_labels string [N, 3], top_scores [N, 3].
"""

import numpy as np

from seaway.artifacts.artifact_metadata import Tensor

DEFAULT, FROM_PNG, LABEL = "serving_default", "from_png", "label"
CLASSIFIER = ("scores", "logits")  # a classifier's first outputs
PNG = "png"  # from_png's input
TOP_CLASSES = 3

Tensors = tuple[Tensor, ...]


def signatures(inputs: Tensors, outputs: Tensors, labels: tuple[str, ...]) -> dict[str, tuple[Tensors, Tensors]]:
    """Signature → its inputs and outputs."""
    default = default_outputs(outputs)
    by_name = {DEFAULT: (inputs, default)} | {t.name: (inputs, (t,)) for t in outputs if t not in default}
    if takes_images(inputs, outputs, labels):
        by_name[FROM_PNG] = ((Tensor(PNG, "str", (None,)),), (outputs[0], *_labelled(outputs[0], labels)))
    elif has_labels(outputs, labels):
        by_name[LABEL] = (inputs, (outputs[0], *_labelled(outputs[0], labels)))
    return by_name


def default_outputs(outputs: Tensors) -> Tensors:
    """The outputs of `serving_default`."""
    return outputs[:1] if [tensor.name for tensor in outputs[:2]] == [*CLASSIFIER] else outputs


def takes_images(inputs: Tensors, outputs: Tensors, labels: tuple[str, ...]) -> bool:
    """Whether the model gets from_png: labels, and one float32 input [N, height, width, 1 or 3]."""
    shape = inputs[0].shape
    sizes = len(shape) == 4 and shape[0] is None and None not in shape[1:] and shape[3] in (1, 3)
    return len(inputs) == 1 and inputs[0].dtype == "float32" and sizes and has_labels(outputs, labels)


def from_png_keeps(images: np.ndarray) -> np.ndarray:
    """bool [N]: which images [N, height, width, 1 or 3] in 0..1 from_png uses as they are. It inverts grey ones with a
    light border."""
    if images.shape[-1] != 1:
        return np.ones(len(images), bool)
    grey = images[..., 0].astype(np.float64) * 255
    border = np.concatenate([grey[:, 0], grey[:, -1], grey[:, :, 0], grey[:, :, -1]], axis=1)
    dark: np.ndarray = border.mean(axis=1) <= 127
    return dark


def has_labels(outputs: Tensors, labels: tuple[str, ...]) -> bool:
    """Whether the first output has one score per label."""
    return bool(labels) and outputs[0].shape[1:] == (len(labels),)


def _labelled(scores: Tensor, labels: tuple[str, ...]) -> Tensors:
    rows, best = scores.shape[:1], min(TOP_CLASSES, len(labels))
    return (
        Tensor("label", "str", rows),
        Tensor("score", scores.dtype, rows),
        Tensor("top_labels", "str", (*rows, best)),
        Tensor("top_scores", scores.dtype, (*rows, best)),
    )
