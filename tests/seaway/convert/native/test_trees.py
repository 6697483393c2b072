"""Tree ensembles against ONNX Runtime: random trees with thresholds that inputs meet exactly, and NaN."""

from typing import Any

import numpy as np
import pytest
from one_node import check
from onnx import helper, numpy_helper

MODES = ("BRANCH_LEQ", "BRANCH_LT", "BRANCH_GTE", "BRANCH_GT", "BRANCH_EQ", "BRANCH_NEQ")
TRANSFORMS = ("NONE", "LOGISTIC", "SOFTMAX", "SOFTMAX_ZERO", "PROBIT")
FEATURES = 3


def trees(rng: Any, count: int, modes: tuple[str, ...], missing: bool = False, depth: int = 4) -> dict[str, Any]:
    """Attributes of nodes: random trees, with thresholds among halves, and a list of leaves (tree, node)."""
    listed: dict[str, list[Any]] = {
        name: []
        for name in ("treeids", "nodeids", "featureids", "values", "modes", "truenodeids", "falsenodeids", "tracks")
    }
    leaves = []

    def grow(tree: int, level: int) -> int:
        node = sum(1 for t in listed["treeids"] if t == tree)
        is_leaf = level == depth or (level > 0 and rng.random() < 0.3)
        for name, value in (
            ("treeids", tree), ("nodeids", node), ("featureids", 0 if is_leaf else int(rng.integers(FEATURES))),
            ("values", 0.0 if is_leaf else float(rng.integers(-4, 5)) / 2),
            ("modes", "LEAF" if is_leaf else str(rng.choice(modes))), ("truenodeids", 0), ("falsenodeids", 0),
            ("tracks", int(rng.random() < 0.5)),
        ):  # fmt: skip
            listed[name].append(value)
        place = len(listed["treeids"]) - 1
        if is_leaf:
            leaves.append((tree, node))
        else:
            listed["truenodeids"][place] = grow(tree, level + 1)
            listed["falsenodeids"][place] = grow(tree, level + 1)
        return node

    for tree in range(count):
        grow(tree, 0)
    tracks = listed.pop("tracks")
    attributes = {f"nodes_{name}": value for name, value in listed.items()}
    if missing:
        attributes["nodes_missing_value_tracks_true"] = tracks
    return {**attributes, "leaves": leaves}


def weighted(rng: Any, attributes: dict[str, Any], prefix: str, columns: list[int], positive: bool = False) -> Any:
    """Adds a weight for each leaf and column; PROBIT needs weights between 0 and 1."""
    rows = [(tree, node, column) for tree, node in attributes.pop("leaves") for column in columns]
    values = rng.uniform(0.01, 0.09, len(rows)) if positive else rng.normal(size=len(rows))
    ids = {f"{prefix}_{name}": [row[i] for row in rows] for i, name in enumerate(("treeids", "nodeids", "ids"))}
    return {**attributes, **ids, f"{prefix}_weights": values.astype(np.float32).tolist()}


def rows(rng: Any, dtype: Any = np.float32, missing: bool = False) -> np.ndarray:
    """Values at the thresholds, between them, and NaN."""
    x = rng.integers(-5, 6, (60, FEATURES)) / (2 if dtype in (np.float32, np.float64) else 1)
    if missing:
        x[rng.random(x.shape) < 0.2] = np.nan
    return np.asarray(x, dtype)


def regress(rng: Any, x: np.ndarray, targets: int, attributes: dict[str, Any]) -> None:
    node = helper.make_node("TreeEnsembleRegressor", ["x"], ["y"], domain="ai.onnx.ml", n_targets=targets, **attributes)
    # PROBIT subtracts numbers that are almost equal, so the last bits of a logarithm show.
    check(node, {"x": x}, tolerance=1e-4 if attributes.get("post_transform") == "PROBIT" else 1e-6)


@pytest.mark.parametrize("mode", [*MODES, "mixed"])
@pytest.mark.parametrize("missing", [False, True])
def test_modes_and_missing_values(tf: Any, mode: str, missing: bool) -> None:
    rng = np.random.default_rng(MODES.index(mode) if mode in MODES else 9)
    attributes = trees(rng, 5, MODES if mode == "mixed" else (mode,), missing)
    regress(rng, rows(rng, missing=True), 1, weighted(rng, attributes, "target", [0]))


@pytest.mark.parametrize(
    ("aggregate", "transform", "targets", "base"),
    [
        *(("SUM", transform, targets, True) for transform in TRANSFORMS for targets in (1, 3)),
        *((aggregate, "NONE", targets, base) for aggregate in ("SUM", "AVERAGE", "MIN", "MAX") for targets in (1, 3)
          for base in (False, True)),
        ("AVERAGE", "PROBIT", 1, True), ("MAX", "SOFTMAX", 3, True),
    ],
)  # fmt: skip
def test_aggregates_and_post_transforms(tf: Any, aggregate: str, transform: str, targets: int, base: bool) -> None:
    rng = np.random.default_rng(3)
    attributes = weighted(rng, trees(rng, 6, MODES[:1]), "target", list(range(targets)), transform == "PROBIT")
    if base:
        attributes["base_values"] = [0.05 * (i + 1) for i in range(targets)]
    regress(rng, rows(rng), targets, {**attributes, "aggregate_function": aggregate, "post_transform": transform})


@pytest.mark.parametrize("aggregate", ["SUM", "MIN", "MAX"])
def test_leaves_without_a_weight_for_a_target(tf: Any, aggregate: str) -> None:
    rng = np.random.default_rng(4)
    attributes = trees(rng, 3, MODES[:1])
    leaves = attributes["leaves"]
    attributes["leaves"] = leaves[::2]
    attributes = weighted(rng, attributes, "target", [0, 2])
    attributes["aggregate_function"] = aggregate
    regress(rng, rows(rng), 3, attributes)


def test_a_tree_that_is_a_leaf(tf: Any) -> None:
    rng = np.random.default_rng(5)
    regress(rng, rows(rng), 1, weighted(rng, trees(rng, 2, MODES[:1], depth=0), "target", [0]))


def test_many_trees_are_summed_in_order(tf: Any) -> None:
    """In float32 the order matters; sums of the same weights in another order differ in the last bits."""
    rng = np.random.default_rng(6)
    attributes = weighted(rng, trees(rng, 60, MODES[:1]), "target", [0])
    node = helper.make_node("TreeEnsembleRegressor", ["x"], ["y"], domain="ai.onnx.ml", n_targets=1, **attributes)
    check(node, {"x": rows(rng)[:40]}, tolerance=0)


@pytest.mark.parametrize("dtype", [np.float64, np.int64, np.int32])
def test_types(tf: Any, dtype: Any) -> None:
    rng = np.random.default_rng(7)
    x = rows(rng, dtype)
    if dtype == np.float64:
        x += rng.choice([0, 1e-9], x.shape)  # float32 would not see the difference
    attributes = weighted(rng, trees(rng, 4, MODES[:2]), "class", [0, 1, 2])
    node = helper.make_node(
        "TreeEnsembleClassifier", ["x"], ["label", "scores"], domain="ai.onnx.ml", classlabels_int64s=[3, 5, 9],
        **attributes,
    )  # fmt: skip
    check(node, {"x": x})


def test_doubles_in_attributes(tf: Any) -> None:
    rng = np.random.default_rng(8)
    attributes = weighted(rng, trees(rng, 4, MODES[:2]), "target", [0])
    for name in ("nodes_values", "target_weights"):
        values = np.array(attributes.pop(name)) + 1e-9
        attributes[f"{name}_as_tensor"] = numpy_helper.from_array(values)
    attributes["base_values_as_tensor"] = numpy_helper.from_array(np.array([0.3]))
    regress(rng, rows(rng, np.float64) + 1e-9 * (rng.random((60, FEATURES)) > 0.5), 1, attributes)


@pytest.mark.parametrize("columns", [[0], [1], [0, 1]])
@pytest.mark.parametrize("base", [[], [0.3], [0.2, -0.4]])
@pytest.mark.parametrize(
    ("names", "positive", "transform"),
    [
        ([7, 4], False, "NONE"), ([7, 4], True, "LOGISTIC"), (["no", "yes"], True, "NONE"),
        (["no", "yes"], False, "LOGISTIC"), ([7, 4], True, "SOFTMAX"), ([0, 1], False, "SOFTMAX_ZERO"),
    ],
)  # fmt: skip
def test_two_classes(
    tf: Any, names: list[Any], columns: list[int], base: list[float], positive: bool, transform: str
) -> None:
    rng = np.random.default_rng(10)
    attributes = weighted(rng, trees(rng, 12, MODES[:1]), "class", columns, positive)
    classify(rng, names, {**attributes, "base_values": base, "post_transform": transform})


@pytest.mark.parametrize("names", [[7, 4, 1], ["a", "b", "é"]])
@pytest.mark.parametrize("transform", TRANSFORMS)
@pytest.mark.parametrize("base", [[], [0.02, 0.05, 0.01]])
def test_three_classes(tf: Any, names: list[Any], transform: str, base: list[float]) -> None:
    rng = np.random.default_rng(11)
    attributes = weighted(rng, trees(rng, 7, MODES[:1]), "class", [0, 1, 2], transform == "PROBIT")
    classify(rng, names, {**attributes, "base_values": base, "post_transform": transform})


def test_ties_take_the_first_class(tf: Any) -> None:
    rng = np.random.default_rng(12)
    attributes = weighted(rng, trees(rng, 6, MODES[:1], depth=2), "class", [0, 1, 2])
    attributes["class_weights"] = rng.choice([0.0, 0.25, -0.25], len(attributes["class_weights"])).tolist()
    classify(rng, [0, 1, 2], attributes)


def test_one_class(tf: Any) -> None:
    rng = np.random.default_rng(13)
    classify(rng, [5], weighted(rng, trees(rng, 6, MODES[:1]), "class", [0]))


def test_classes_that_leaves_lack(tf: Any) -> None:
    """A class without a weight in any leaf that a row reaches is never its label, even if all others are negative."""
    rng = np.random.default_rng(14)
    attributes = weighted(rng, trees(rng, 3, MODES[:1]), "class", [0, 2])
    attributes["class_weights"] = (-np.abs(attributes["class_weights"])).tolist()
    classify(rng, [0, 1, 2], attributes)


def classify(rng: Any, names: list[Any], attributes: dict[str, Any]) -> None:
    attributes = {name: value for name, value in attributes.items() if value != []}
    kind = "classlabels_strings" if isinstance(names[0], str) else "classlabels_int64s"
    node = helper.make_node(
        "TreeEnsembleClassifier", ["x"], ["label", "scores"], domain="ai.onnx.ml", **{kind: names}, **attributes
    )
    check(node, {"x": rows(rng)}, tolerance=1e-4 if attributes.get("post_transform") == "PROBIT" else 1e-6)


@pytest.mark.parametrize("aggregate", range(4))
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_tree_ensemble_5(tf: Any, aggregate: int, dtype: Any) -> None:
    """Two trees; one tests membership in a set."""
    node = helper.make_node(
        "TreeEnsemble", ["x"], ["y"], domain="ai.onnx.ml", n_targets=2, aggregate_function=aggregate,
        tree_roots=[0, 2], nodes_featureids=[0, 1, 2],
        nodes_modes=numpy_helper.from_array(np.array([0, 6, 3], np.uint8)),
        nodes_splits=numpy_helper.from_array(np.array([0.5, 0, -1], dtype)), nodes_truenodeids=[1, 0, 2],
        nodes_trueleafs=[0, 1, 1], nodes_falsenodeids=[1, 2, 3], nodes_falseleafs=[1, 1, 1],
        nodes_missing_value_tracks_true=[0, 1, 0],
        membership_values=numpy_helper.from_array(np.array([2, 3, 1.0, np.nan], dtype)),
        leaf_targetids=[0, 1, 0, 1], leaf_weights=numpy_helper.from_array(np.array([1.5, 2.5, -1, 4], dtype)),
    )  # fmt: skip
    rng = np.random.default_rng(15)
    x = rng.integers(-3, 5, (60, 3)).astype(dtype)
    x[rng.random(x.shape) < 0.1] = np.nan
    check(node, {"x": x}, opsets={"ai.onnx.ml": 5})
