"""Scores of classical models: post-transforms and the choice of a label, as ONNX Runtime computes them.

ONNX leaves much open for binary classifiers with one column of scores; files are written for ONNX Runtime.
"""

from typing import Any

import numpy as np
import tensorflow as tf

from seaway.convert.native.dtypes import scalar, tensor

_PROBIT_1 = float(np.float32(1) / np.float32(0.147))  # rounded as in ONNX Runtime: later differences magnify it
_PROBIT_2 = float(np.float32(2) / (np.float32(3.14159) * np.float32(0.147)))


def as_rows(x: Any) -> Any:
    """A tensor of numbers as rows, [N, features]; a vector is one row."""
    x = tensor(x)
    if x.shape.rank not in (1, 2):
        raise ValueError(f"an input of {x.shape.rank} axes; ONNX Runtime supports rows or one vector")
    return x[None] if x.shape.rank == 1 else x


def floats(call: Any, name: str) -> np.ndarray:
    """A list of numbers in an attribute as float32; empty if the attribute is absent."""
    return np.asarray(call.get(name, []), np.float32)


def labels(call: Any, ints: str) -> Any:
    """The class labels, strings or (attribute `ints`) int64, as an array."""
    words = call.get("classlabels_strings")
    if words:
        return np.array([word.encode("utf-8", "surrogateescape") for word in words], object)
    numbers = call.get(ints)
    if not numbers:
        raise ValueError("it has no class labels")
    return np.array(numbers, np.int64)


def transformed(scores: Any, name: str) -> Any:
    """[N, two or more columns] after a post-transform."""
    functions = {
        "NONE": lambda x: x, "LOGISTIC": tf.sigmoid, "SOFTMAX": tf.nn.softmax, "SOFTMAX_ZERO": _softmax_zero,
        "PROBIT": probit,
    }  # fmt: skip
    if name not in functions:
        raise ValueError(f"the post-transform {name} is unknown")
    return functions[name](scores)


def two_columns(score: Any, name: str, complement: bool) -> Any:
    """[N, 2] of a binary classifier's one score, [N]: LOGISTIC of -score and score; for other post-transforms 1 - score
    and score (`complement`), or -score and score."""
    if name == "PROBIT":
        raise ValueError("the post-transform PROBIT of a single score; ONNX Runtime leaves the other column undefined")
    if name == "LOGISTIC":
        return tf.sigmoid(tf.stack([-score, score], 1))
    return tf.stack([scalar(1, score) - score if complement else -score, score], 1)


def _softmax_zero(x: Any) -> Any:
    """Softmax of the elements that are not 0; the others count as 0."""
    largest = tf.reduce_max(x, 1, True)
    exponentials = tf.where(tf.abs(x) > scalar(1e-7, x), tf.exp(x - largest), x * tf.exp(-largest))
    return exponentials / tf.reduce_sum(exponentials, 1, True)


def probit(x: Any) -> Any:
    """The approximation of the normal distribution's quantile that ONNX Runtime uses."""
    y = scalar(2, x) * x - scalar(1, x)
    log = tf.math.log((scalar(1, x) - y) * (scalar(1, x) + y))
    v = scalar(_PROBIT_2, x) + scalar(0.5, x) * log
    root = tf.sqrt(tf.sqrt(v * v - scalar(_PROBIT_1, x) * log) - v)
    return scalar(1.41421356, x) * tf.where(y < scalar(0, x), -root, root)


def best(scores: Any) -> Any:
    """The first column with the largest score; the first if its score is NaN."""
    first_nan = tf.math.is_nan(scores[:, 0])
    return tf.where(first_nan, np.int64(0), tf.argmax(scores, 1))


def pick(names: np.ndarray, index: Any) -> Any:
    """The labels at an index, [N]."""
    return tf.gather(tf.constant(names.tolist(), tf.string) if names.dtype == object else tf.constant(names), index)


def choose(condition: Any, names: np.ndarray) -> Any:
    """names[1] where the condition holds, else names[0]."""
    return pick(names, tf.cast(condition, tf.int32))
