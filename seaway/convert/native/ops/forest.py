"""The trees of ai.onnx.ml's ensembles, read from the attributes of a node into arrays."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np

# The modes of inner nodes, by the numbers that TreeEnsemble-5 has for them.
MODES = ("BRANCH_LEQ", "BRANCH_LT", "BRANCH_GTE", "BRANCH_GT", "BRANCH_EQ", "BRANCH_NEQ", "BRANCH_MEMBER")
EQUAL, MEMBER = MODES.index("BRANCH_EQ"), MODES.index("BRANCH_MEMBER")


@dataclass(frozen=True, slots=True)
class Forest:
    """Trees as arrays over all their nodes. At a leaf both branches lead to the leaf itself.

    `mode`: an index in MODES; `missing`: where NaN takes the true branch; `roots`: the node that each tree begins at;
    `depth`: the number of comparisons to the deepest leaf; `has` and `weight`: for each target the nodes that have a
    weight for it, and the weight, 0 at others.
    """

    feature: np.ndarray
    threshold: np.ndarray
    mode: np.ndarray
    missing: np.ndarray
    branches: np.ndarray  # [nodes, 2]: where false and where true
    roots: np.ndarray
    depth: int
    has: np.ndarray  # [targets, nodes]
    weight: np.ndarray  # [targets, nodes]


def read(call: Any, prefix: str, count: int, dtype: Any) -> Forest:
    """The trees of TreeEnsembleRegressor and TreeEnsembleClassifier; `prefix`: target or class."""
    trees, ids = np.array(call.get("nodes_treeids"), np.int64), np.array(call.get("nodes_nodeids"), np.int64)
    modes, at = call.get("nodes_modes"), _finder(trees, ids)
    leaf = np.array([mode == "LEAF" for mode in modes])
    own = np.arange(len(trees))
    branches = np.stack([own, own], 1)
    for column, name in enumerate(("nodes_falsenodeids", "nodes_truenodeids")):
        branches[~leaf, column] = at(trees[~leaf], np.array(call.get(name), np.int64)[~leaf])
    of_tree, of_node, target = (
        np.array(call.get(f"{prefix}_{name}", []), np.int64) for name in ("treeids", "nodeids", "ids")
    )
    has, weight = np.zeros((count, len(trees)), bool), np.zeros((count, len(trees)), dtype)
    places = at(of_tree, of_node)
    has[target, places] = True
    np.add.at(weight, (target, places), numbers(call, f"{prefix}_weights", dtype))  # ONNX Runtime adds up repeated ones
    roots = np.flatnonzero(np.diff(trees, prepend=trees[0] - 1)) if len(trees) else np.zeros(0, np.int64)
    tracks = call.get("nodes_missing_value_tracks_true") or [0] * len(trees)
    return _forest(
        branches,
        roots,
        feature=np.where(leaf, 0, np.array(call.get("nodes_featureids"), np.int64)),
        threshold=numbers(call, "nodes_values", dtype),
        mode=np.array([0 if mode == "LEAF" else MODES.index(mode) for mode in modes]),
        missing=np.array(tracks) == 1,
        has=has,
        weight=weight,
    )


def read_5(call: Any, dtype: Any) -> Forest:
    """The trees of TreeEnsemble, whose leaves have a list of their own; a test of membership in a set becomes a chain
    of tests of equality."""
    splits, modes = np.asarray(call.get("nodes_splits"), dtype), call.get("nodes_modes").tolist()
    features, tracks = call.get("nodes_featureids"), call.get("nodes_missing_value_tracks_true")
    leaf_count, inner = len(call.get("leaf_targetids")), len(modes)
    members = _members(np.asarray(call.get("membership_values", []), dtype), modes)
    chain = [len(members[i]) if modes[i] == MEMBER else 1 for i in range(inner)]
    first = np.concatenate([[0], np.cumsum(chain)]).astype(np.int64)  # a node's first place; the leaves follow
    size = int(first[-1]) + leaf_count
    feature, threshold = np.zeros(size, np.int64), np.zeros(size, dtype)
    mode, missing = np.zeros(size, np.int64), np.zeros(size, bool)
    branches = np.stack([np.arange(size), np.arange(size)], 1)

    def target(kind: str, i: int) -> int:
        to = call.get(f"nodes_{kind}nodeids")[i]
        return int(first[-1]) + to if call.get(f"nodes_{kind}leafs")[i] else int(first[to])

    for i in range(inner):
        values = members[i] if modes[i] == MEMBER else [splits[i]]
        for k, value in enumerate(values):
            at = int(first[i]) + k
            feature[at], threshold[at] = features[i], value
            mode[at] = EQUAL if modes[i] == MEMBER else modes[i]
            missing[at] = bool(tracks and tracks[i] == 1)
            branches[at] = (at + 1 if k + 1 < len(values) else target("false", i)), target("true", i)
    roots = first[call.get("tree_roots")]
    count = call.get("n_targets")
    has, weight = np.zeros((count, size), bool), np.zeros((count, size), dtype)
    place = int(first[-1]) + np.arange(leaf_count)
    has[call.get("leaf_targetids"), place] = True
    weight[call.get("leaf_targetids"), place] = np.asarray(call.get("leaf_weights"), dtype)
    return _forest(
        branches, roots, feature=feature, threshold=threshold, mode=mode, missing=missing, has=has, weight=weight
    )


def _members(values: np.ndarray, modes: list[int]) -> list[list[Any]]:
    """Each node's set; the sets are separated by NaN."""
    ends = [*np.flatnonzero(np.isnan(values)).tolist(), len(values)]
    sets, start = [], 0
    for end in ends:
        sets.append(values[start:end].tolist())
        start = end + 1
    rest = iter(sets)
    return [next(rest) if mode == MEMBER else [] for mode in modes]


def numbers(call: Any, name: str, dtype: Any) -> np.ndarray:
    """A list of floats, or of the same name with _as_tensor."""
    listed = call.get(name)
    return np.asarray(call.get(f"{name}_as_tensor", []) if listed is None else np.float32(listed)).astype(dtype)


def _finder(trees: np.ndarray, ids: np.ndarray) -> Callable[[np.ndarray, np.ndarray], np.ndarray]:
    """A function from trees and ids of nodes to their places."""
    width = int(ids.max(initial=0)) + 1
    keys = trees * width + ids
    order = np.argsort(keys)
    sorted_keys = keys[order]

    def find(tree: np.ndarray, node: np.ndarray) -> np.ndarray:
        wanted = tree * width + node
        places = np.minimum(np.searchsorted(sorted_keys, wanted), len(keys) - 1)
        missing = np.flatnonzero((sorted_keys[places] != wanted) | (node < 0) | (node >= width))
        if len(missing):
            raise ValueError(f"tree {tree[missing[0]]} has no node {node[missing[0]]}")
        found: np.ndarray = order[places]
        return found

    return find


def _forest(branches: np.ndarray, roots: np.ndarray, **arrays: np.ndarray) -> Forest:
    if not len(roots):
        raise ValueError("it has no trees")
    at, depth = roots, 0
    while (branches[at] != at[:, None]).any():
        reached = np.zeros(len(branches), bool)
        reached[branches[at]] = True
        at, depth = np.flatnonzero(reached), depth + 1
        if depth > len(branches):
            raise ValueError("a tree has a cycle")
    return Forest(branches=branches, roots=roots, depth=depth, **arrays)
