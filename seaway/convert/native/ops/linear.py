"""Linear models and support vector machines of ai.onnx.ml, as ONNX Runtime computes them."""

from typing import Any

import numpy as np
import tensorflow as tf

from seaway.convert.native import weights
from seaway.convert.native.dtypes import scalar, tensor
from seaway.convert.native.ops import scores
from seaway.convert.native.registry import ML, op

ROUNDS = 100  # at most, of the coupling of pairwise probabilities


def _constant(array: np.ndarray) -> Any:
    return tensor(weights.constant(np.ascontiguousarray(array)))


@op("LinearRegressor", domain=ML)
def linear_regressor(call: Any, x: Any) -> Any:
    x, targets = tf.cast(scores.as_rows(x), tf.float32), call.get("targets", 1)
    result = tf.matmul(x, _constant(scores.floats(call, "coefficients").reshape(targets, -1).T))
    intercepts, name = scores.floats(call, "intercepts"), call.get("post_transform", "NONE")
    result = result + intercepts if len(intercepts) == targets else result
    if targets > 1:
        return scores.transformed(result, name)
    return scores.probit(result) if name == "PROBIT" else result


@op("LinearClassifier", domain=ML)
def linear_classifier(call: Any, x: Any) -> Any:
    x, names = tf.cast(scores.as_rows(x), tf.float32), scores.labels(call, "classlabels_ints")
    intercepts, name = scores.floats(call, "intercepts"), call.get("post_transform", "NONE")
    if not len(intercepts):
        raise ValueError("it has no intercepts")
    coefficients = scores.floats(call, "coefficients").reshape(len(intercepts), -1)
    result = tf.matmul(x, _constant(coefficients.T)) + intercepts
    if len(intercepts) > 1:
        return [scores.pick(names, scores.best(result)), scores.transformed(result, name)]
    score = result[:, 0]
    if len(names) != 2:
        raise ValueError(f"one column of scores for {len(names)} classes")
    return [scores.choose(score > scalar(0, score), names), scores.two_columns(score, name, complement=True)]


def _kernel(call: Any, x: Any, vectors: np.ndarray, kind: str) -> Any:
    """[N, vectors] float32: the kernel of each row and each support vector."""
    gamma, offset, degree = (call.get("kernel_params") or [0.0, 0.0, 0.0])[:3]
    if kind == "RBF":
        # In float64, which loses nothing here, because [N, vectors, features] would need much memory.
        wide, transposed = tf.cast(x, tf.float64), vectors.astype(np.float64).T
        products = tf.matmul(wide, _constant(transposed))
        lengths = tf.reduce_sum(wide * wide, 1, True) + (transposed * transposed).sum(0)
        distance = tf.cast(tf.maximum(lengths - 2.0 * products, np.float64(0)), tf.float32)
        return tf.exp(-np.float32(gamma) * distance)
    products = tf.matmul(x, _constant(vectors.T))
    if kind == "LINEAR":
        return products
    products = products * np.float32(gamma) + np.float32(offset)
    if kind == "POLY":
        return tf.pow(products, np.float32(degree))
    if kind == "SIGMOID":
        return tf.tanh(products)
    raise ValueError(f"the kernel {kind}")


@op("SVMRegressor", domain=ML)
def svm_regressor(call: Any, x: Any) -> Any:
    x, count = tf.cast(scores.as_rows(x), tf.float32), call.get("n_supports", 0)
    coefficients, rho = scores.floats(call, "coefficients"), scores.floats(call, "rho")
    if count:
        vectors = scores.floats(call, "support_vectors").reshape(count, -1)
        x = _kernel(call, x, vectors, call.get("kernel_type", "LINEAR"))
    result = tf.matmul(x, _constant(coefficients[:, None])) + rho[0]
    return tf.where(result > 0, np.float32(1), np.float32(-1)) if call.get("one_class", 0) else result


@op("SVMClassifier", domain=ML)
def svm_classifier(call: Any, x: Any) -> Any:
    x, names = tf.cast(scores.as_rows(x), tf.float32), scores.labels(call, "classlabels_ints")
    if call.get("vectors_per_class"):
        return _by_vectors(call, x, names)
    return _by_planes(call, x, names)


def _by_planes(call: Any, x: Any, names: np.ndarray) -> Any:
    """One linear score per class."""
    coefficients = scores.floats(call, "coefficients")
    result = tf.matmul(x, _constant(coefficients.reshape(len(names), -1).T)) + scores.floats(call, "rho")[0]
    index = scores.best(result)
    if len(names) == 2 and not call.get("prob_a"):
        largest = tf.reduce_max(result, 1)
        second = largest >= 0.5 if (coefficients >= 0).all() else largest > 0
        index = tf.where(second, np.int64(1), index)
    name = call.get("post_transform", "NONE")
    return [scores.pick(names, index), scores.transformed(result, name) if len(names) > 1 else result]


def _by_vectors(call: Any, x: Any, names: np.ndarray) -> Any:
    """Each pair of classes has a score, and votes; the scores, or probabilities of the classes coupled from them."""
    counts, rho, name = call.get("vectors_per_class"), scores.floats(call, "rho"), call.get("post_transform", "NONE")
    classes, total = len(names), sum(counts)
    if len(counts) != classes or classes < 2:
        raise ValueError(f"{classes} classes, but vectors for {len(counts)}")
    vectors = scores.floats(call, "support_vectors").reshape(total, -1)
    kernels = tf.cast(_kernel(call, x, vectors, call.get("kernel_type", "LINEAR")), tf.float64)
    pairs = [(i, j) for i in range(classes) for j in range(i + 1, classes)]
    coefficients = scores.floats(call, "coefficients")[: (classes - 1) * total].reshape(classes - 1, total)
    wide = tf.matmul(kernels, _constant(_pairwise(coefficients, counts, pairs))) + rho[: len(pairs)].astype(np.float64)
    wins = tf.cast(wide > 0, tf.int32)
    votes = [
        tf.add_n([wins[:, k] if i == c else 1 - wins[:, k] for k, (i, j) in enumerate(pairs) if c in (i, j)])
        for c in range(classes)
    ]
    label = scores.pick(names, tf.argmax(tf.stack(votes, 1), 1))
    result = tf.cast(wide, tf.float32)
    if call.get("prob_a"):
        return [label, scores.transformed(_coupled(call, result, pairs, classes), name)]
    if classes > 2:
        return [label, scores.transformed(result, name)]
    return [label, scores.two_columns(result[:, 0], name, complement=name != "NONE")]


def _pairwise(coefficients: np.ndarray, counts: list[int], pairs: list[tuple[int, int]]) -> np.ndarray:
    """float64 [vectors, pairs]: a class has one row of coefficients for each other class."""
    ends = np.cumsum(counts)
    matrix = np.zeros((int(ends[-1]), len(pairs)))
    for k, (i, j) in enumerate(pairs):
        own, other = slice(ends[i] - counts[i], ends[i]), slice(ends[j] - counts[j], ends[j])
        matrix[own, k] = coefficients[j - 1, own]
        matrix[other, k] = coefficients[i, other]
    return matrix


def _coupled(call: Any, result: Any, pairs: list[tuple[int, int]], classes: int) -> Any:
    """[N, classes]: probabilities from those of each pair of classes, by the iteration of libsvm (Wu, Lin and Weng
    2004, second method), each row until it has converged."""
    a, b = scores.floats(call, "prob_a")[: len(pairs)], scores.floats(call, "prob_b")[: len(pairs)]
    pairwise = tf.clip_by_value(1.0 - tf.sigmoid(result * a + b), 1e-7, 1 - 1e-7)
    r: dict[tuple[int, int], Any] = {}
    for k, (i, j) in enumerate(pairs):
        r[i, j], r[j, i] = pairwise[:, k], 1.0 - pairwise[:, k]
    zero = tf.zeros_like(result[:, 0])
    q = [
        [-r[j, i] * r[i, j] if i != j else sum((r[k, i] ** 2 for k in range(classes) if k != i), zero)
         for j in range(classes)]
        for i in range(classes)
    ]  # fmt: skip
    matrix = tf.stack([tf.stack(row, 1) for row in q], 1)  # symmetric
    start = tf.zeros_like(matrix[:, 0]) + np.float32(1 / classes)

    def improve(i: Any, p: Any, going: Any) -> Any:
        products = tf.linalg.matvec(matrix, p)
        total = tf.reduce_sum(p * products, 1)
        going = tf.logical_and(
            going, tf.reduce_max(tf.abs(products - total[:, None]), 1) >= np.float32(0.005 / classes)
        )
        new = p
        for c in range(classes):
            own = matrix[:, c, c]
            step = (total - products[:, c]) / own
            scale = 1.0 + step
            total = (total + step * (step * own + 2.0 * products[:, c])) / scale / scale
            products = (products + step[:, None] * matrix[:, c]) / scale[:, None]
            new = (new + step[:, None] * tf.one_hot(c, classes)) / scale[:, None]
        return i + 1, tf.where(going[:, None], new, p), going

    def more(i: Any, _: Any, going: Any) -> Any:
        return tf.logical_and(i < ROUNDS, tf.reduce_any(going))

    return tf.while_loop(more, improve, [tf.constant(0), start, tf.ones_like(zero, tf.bool)])[1]
