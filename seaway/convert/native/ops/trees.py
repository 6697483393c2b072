"""Tree ensembles: all rows walk all trees at once, one comparison a step, and stay at leaves.

ONNX Runtime is the reference: it compares and adds in the type of the thresholds, one tree after another.
"""

from typing import Any

import numpy as np
import tensorflow as tf

from seaway.convert.native import weights
from seaway.convert.native.dtypes import scalar, tensor
from seaway.convert.native.ops import forest, scores
from seaway.convert.native.ops.forest import Forest
from seaway.convert.native.registry import ML, op

COMPARISONS = (tf.less_equal, tf.less, tf.greater_equal, tf.greater, tf.equal, tf.not_equal)  # of forest.MODES
TRANSFORMS = ("NONE", "SOFTMAX", "LOGISTIC", "SOFTMAX_ZERO", "PROBIT")  # TreeEnsemble-5 has their numbers
AGGREGATES = ("AVERAGE", "SUM", "MIN", "MAX")


def leaves(trees: Forest, x: Any) -> Any:
    """[trees, N]: the leaf that each row of `x` [N, features] reaches in each tree."""
    rows = tf.shape(x)[0]
    start = tf.broadcast_to(trees.roots.astype(np.int32)[:, None], [len(trees.roots), rows])
    if not trees.depth:
        return start
    values = tf.transpose(x)  # a feature's values are neighbours
    flat = tf.reshape(values, [-1])
    feature, threshold = _constant(trees.feature.astype(np.int32)), _constant(trees.threshold)
    branches = _constant(trees.branches.astype(np.int32).reshape(-1))
    used = np.unique(trees.mode[trees.branches[:, 0] != np.arange(len(trees.branches))])
    mode = _constant(trees.mode.astype(np.int32)) if len(used) > 1 else None
    missing = _constant(trees.missing) if trees.missing.any() and x.dtype.is_floating else None
    row = tf.range(rows)[None]

    def step(i: Any, at: Any) -> Any:
        value, limit = tf.gather(flat, tf.gather(feature, at) * rows + row), tf.gather(threshold, at)
        holds = COMPARISONS[used[0]](value, limit)
        for number in used[1:]:
            holds = tf.where(tf.gather(mode, at) == number, COMPARISONS[number](value, limit), holds)
        if missing is not None:
            holds = tf.logical_or(holds, tf.logical_and(tf.gather(missing, at), tf.math.is_nan(value)))
        following = tf.gather(branches, at * 2 + tf.cast(holds, tf.int32))
        return i + 1, tf.ensure_shape(following, at.shape)

    return tf.while_loop(lambda i, _: i < trees.depth, step, [tf.constant(0), start])[1]


def _constant(array: np.ndarray) -> Any:
    """As a variable of the SavedModel if it is large."""
    return tensor(weights.constant(array))


def aggregated(trees: Forest, at: Any, function: str) -> list[tuple[Any, Any]]:
    """For each target the [N] sums, averages, minima or maxima of its weights, and whether each row has any: True,
    False or a tensor. `at`: [trees, N] from `leaves`."""
    pairs = _reached(trees)
    return [_of_target(trees, at, target, function, pairs) for target in range(len(trees.weight))]


def _of_target(
    trees: Forest, at: Any, target: int, function: str, pairs: tuple[np.ndarray, np.ndarray]
) -> tuple[Any, Any]:
    has, weight = trees.has[target], trees.weight[target]
    tree, leaf = pairs
    with_weight = np.bincount(tree, has[leaf])
    chosen = np.flatnonzero(with_weight)
    if not len(chosen):
        return tf.zeros(tf.shape(at)[1:], weight.dtype), False
    part = at if len(chosen) == len(trees.roots) else tf.gather(at, chosen.astype(np.int32))
    always = bool((with_weight == np.bincount(tree)).any())  # a tree all of whose leaves have a weight
    any_has = True if always else tf.reduce_any(tf.gather(_constant(has), part), 0)
    if function in ("MIN", "MAX"):
        least = weight.dtype.type(np.inf if function == "MIN" else -np.inf)
        values = tf.gather(_constant(np.where(has, weight, least)), part)
        result = (tf.reduce_min if function == "MIN" else tf.reduce_max)(values, 0)
        return result if always else tf.where(any_has, result, scalar(0, result)), any_has
    # Unlike reduce_sum, cumsum adds one after another.
    result = tf.cumsum(tf.gather(_constant(weight), part), 0)[-1]
    return (result / scalar(len(trees.roots), result) if function == "AVERAGE" else result), any_has


def _reached(trees: Forest) -> tuple[np.ndarray, np.ndarray]:
    """All pairs of a tree's number and a leaf that it can lead to."""
    at, tree = trees.roots, np.arange(len(trees.roots))
    found: list[tuple[np.ndarray, np.ndarray]] = []
    while len(at):
        is_leaf = trees.branches[at, 0] == at
        found.append((tree[is_leaf], at[is_leaf]))
        keys = np.unique((tree[~is_leaf, None] * len(trees.branches) + trees.branches[at[~is_leaf]]).reshape(-1))
        tree, at = keys // len(trees.branches), keys % len(trees.branches)
    keys = np.unique(np.concatenate([t * len(trees.branches) + n for t, n in found]))
    return keys // len(trees.branches), keys % len(trees.branches)


def _typed(call: Any, x: Any) -> tuple[Any, Any]:
    """Rows, and the type to compare and add in: doubles stay doubles, integers are compared as float32."""
    x = scores.as_rows(x)
    if x.dtype == tf.float64:
        return x, np.float64
    if x.dtype not in (tf.float32, tf.int32, tf.int64):
        raise ValueError(f"an input of type {x.dtype.name}")
    return tf.cast(x, tf.float32), np.float32


@op("TreeEnsembleRegressor", domain=ML)
def regressor(call: Any, x: Any) -> Any:
    x, dtype = _typed(call, x)
    trees = forest.read(call, "target", call.get("n_targets"), dtype)
    function, name = call.get("aggregate_function", "SUM"), call.get("post_transform", "NONE")
    result = _regression(trees, x, function, name, forest.numbers(call, "base_values", dtype))
    return tf.cast(result, tf.float32)


@op("TreeEnsemble", since=5, domain=ML)
def ensemble(call: Any, x: Any) -> Any:
    x, dtype = _typed(call, x)
    trees = forest.read_5(call, dtype)
    function, name = AGGREGATES[call.get("aggregate_function", 1)], TRANSFORMS[call.get("post_transform", 0)]
    return _regression(trees, x, function, name, np.zeros(0, dtype))


def _regression(trees: Forest, x: Any, function: str, name: str, base: np.ndarray) -> Any:
    """[N, targets]. One target has no post-transform in ONNX Runtime, except PROBIT."""
    columns = [column for column, _ in aggregated(trees, leaves(trees, x), function)]
    if len(base) == len(columns):
        columns = [column + value for column, value in zip(columns, base, strict=True)]
    result = tf.stack(columns, 1)
    if len(columns) > 1:
        return scores.transformed(result, name)
    return scores.probit(result) if name == "PROBIT" else result


@op("TreeEnsembleClassifier", domain=ML)
def classifier(call: Any, x: Any) -> Any:
    x, dtype = _typed(call, x)
    names = scores.labels(call, "classlabels_int64s")
    trees = forest.read(call, "class", len(names), dtype)
    base, name = forest.numbers(call, "base_values", dtype), call.get("post_transform", "NONE")
    columns = aggregated(trees, leaves(trees, x), "SUM")
    if len(names) > 2:
        label, result = _multiclass(columns, base, name, names)
    elif len(names) == 2:
        label, result = _binary(call, trees, columns, base, name, names)
    else:
        label, result = _single(columns[0][0], base, name, names)
    return [label, tf.cast(result, tf.float32)]


def _multiclass(columns: list[Any], base: np.ndarray, name: str, names: np.ndarray) -> tuple[Any, Any]:
    """The label is the first of the largest scores, of classes that have one."""
    added = [column + base[i] if len(base) else column for i, (column, _) in enumerate(columns)]
    result = tf.stack(added, 1)
    if len(base):
        candidates = result
    else:
        least = tf.fill(tf.shape(added[0]), scalar(-np.inf, result))
        candidates = tf.stack(
            [tf.where(has, column, least) for column, (_, has) in zip(added, columns, strict=True)], 1
        )
    return scores.pick(names, tf.argmax(candidates, 1)), scores.transformed(result, name)


def _binary(
    call: Any, trees: Forest, columns: list[Any], base: np.ndarray, name: str, names: np.ndarray
) -> tuple[Any, Any]:
    """Two classes, of which the file may have only one column of scores. A column without a weight counts as 0."""
    (first, has_first), (second, has_second) = columns
    single = trees.has.any(1).sum() == 1  # only one class has weights
    positive = bool((forest.numbers(call, "class_weights", trees.weight.dtype) >= 0).all())
    above = scalar(0.5 if single and positive else 0, first)  # positive weights are probabilities
    pair = names if single or names.dtype == object else np.array([0, 1])  # ONNX Runtime ignores other integers
    own, score = first, second
    if len(base) == 1:
        own = first + base[0]
    elif len(base) == 2:
        score = first + base[1]
        own = -score
    both = scores.transformed(tf.stack([_or_zero(own, has_first), score], 1), name)
    if has_second is True:
        return scores.choose(score > above, pair), both
    alone = first + base[0] if len(base) else first
    if len(base) == 2:
        one = scores.transformed(tf.stack([_or_zero(alone, has_first), tf.zeros_like(alone)], 1), name)
    else:
        one = scores.two_columns(alone, name, bool(single and positive))
    if has_second is False:
        return scores.choose(alone > above, pair), one
    label = scores.choose(tf.where(has_second, score, alone) > above, pair)
    return label, tf.where(has_second[:, None], both, one)


def _or_zero(column: Any, has: Any) -> Any:
    return column if has is True else tf.where(has, column, tf.zeros_like(column))


def _single(score: Any, base: np.ndarray, name: str, names: np.ndarray) -> tuple[Any, Any]:
    """One class: the label is 1 where the score is positive, else 0."""
    if names.dtype == object or len(base) > 1:
        raise ValueError("a classifier of one class, with a string as its label or with two base values")
    score = score + base[0] if len(base) else score
    result = scores.probit(score) if name == "PROBIT" else score
    return scores.choose(score > scalar(0, score), np.array([0, 1])), result[:, None]
