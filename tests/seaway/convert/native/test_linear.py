"""Linear models and support vector machines against ONNX Runtime."""

from typing import Any

import numpy as np
import pytest
from one_node import check
from onnx import helper

ML = "ai.onnx.ml"
FEATURES = 4
WORDS = ["a", "é", "", "d"]


def rows(rng: Any, dtype: Any = np.float32, count: int = 50) -> np.ndarray:
    x = rng.normal(size=(count, FEATURES)) * (1 if np.issubdtype(dtype, np.floating) else 3)
    return np.asarray(x, dtype)


def named(names: list[Any]) -> dict[str, Any]:
    return {"classlabels_strings" if isinstance(names[0], str) else "classlabels_ints": names}


def some(rng: Any, *shape: int) -> list[float]:
    return list(rng.normal(size=shape).astype(np.float32).reshape(-1).tolist())


@pytest.mark.parametrize("transform", ["NONE", "LOGISTIC", "SOFTMAX", "SOFTMAX_ZERO", "PROBIT"])
@pytest.mark.parametrize("targets", [1, 3])
@pytest.mark.parametrize("intercepts", [False, True])
def test_linear_regressor(tf: Any, transform: str, targets: int, intercepts: bool) -> None:
    rng = np.random.default_rng(1)
    scale = 0.05 if transform == "PROBIT" else 1  # PROBIT needs numbers between 0 and 1
    x, coefficients = np.abs(rows(rng)), np.abs(some(rng, targets, FEATURES)) * scale
    node = helper.make_node(
        "LinearRegressor", ["x"], ["y"], domain=ML, targets=targets, coefficients=coefficients.tolist(),
        post_transform=transform, **({"intercepts": [0.1] * targets} if intercepts else {}),
    )  # fmt: skip
    check(node, {"x": x}, tolerance=1e-5)


@pytest.mark.parametrize("transform", ["NONE", "LOGISTIC", "SOFTMAX", "SOFTMAX_ZERO"])
@pytest.mark.parametrize(
    ("columns", "names", "dtype"),
    [(1, [4, 9], np.float32), (1, ["no", "yes"], np.float64), (2, [4, 9], np.int64), (4, WORDS, np.int32)],
)
def test_linear_classifier(tf: Any, transform: str, columns: int, names: list[Any], dtype: Any) -> None:
    rng = np.random.default_rng(2)
    node = helper.make_node(
        "LinearClassifier", ["x"], ["label", "scores"], domain=ML, coefficients=some(rng, columns, FEATURES),
        intercepts=some(rng, columns), post_transform=transform, **named(names),
    )  # fmt: skip
    check(node, {"x": rows(rng, dtype)}, tolerance=1e-5)


def test_linear_classifier_ties_and_nan(tf: Any) -> None:
    """Equal scores and NaN take the first class."""
    x = np.array([[0, 0, 0, 0], [1, 1, 0, 0], [np.nan, 0, 0, 0], [0, np.inf, 0, 0]], np.float32)
    node = helper.make_node(
        "LinearClassifier", ["x"], ["label", "scores"], domain=ML, coefficients=[1.0, 1, 1, 1] * 3,
        intercepts=[0.0] * 3, classlabels_ints=[5, 6, 7],
    )  # fmt: skip
    check(node, {"x": x})


@pytest.mark.parametrize("kernel", ["LINEAR", "RBF", "POLY", "SIGMOID"])
@pytest.mark.parametrize("supports", [0, 7])
@pytest.mark.parametrize("one_class", [0, 1])
def test_svm_regressor(tf: Any, kernel: str, supports: int, one_class: int) -> None:
    rng = np.random.default_rng(3)
    node = helper.make_node(
        "SVMRegressor", ["x"], ["y"], domain=ML, n_supports=supports, kernel_type=kernel,
        kernel_params=[0.3, 0.2, 3.0], coefficients=some(rng, supports or FEATURES), rho=[0.4], one_class=one_class,
        **({"support_vectors": some(rng, supports, FEATURES)} if supports else {}),
    )  # fmt: skip
    check(node, {"x": rows(rng)}, tolerance=2e-5)


@pytest.mark.parametrize(
    ("kernel", "names"), [("LINEAR", [4, 9]), ("RBF", ["no", "yes"]), ("POLY", [1, 2, 3]), ("SIGMOID", WORDS)]
)
@pytest.mark.parametrize("probabilities", [False, True])
@pytest.mark.parametrize("transform", ["NONE", "LOGISTIC", "SOFTMAX"])
def test_svm_classifier(tf: Any, kernel: str, names: list[Any], probabilities: bool, transform: str) -> None:
    rng = np.random.default_rng(4)
    counts = [3, 2, 4, 1][: len(names)]
    pairs = len(names) * (len(names) - 1) // 2
    extra: dict[str, Any] = {"prob_a": (-np.abs(some(rng, pairs))).tolist(), "prob_b": some(rng, pairs)}
    node = helper.make_node(
        "SVMClassifier", ["x"], ["label", "scores"], domain=ML, kernel_type=kernel, kernel_params=[0.3, 0.2, 2.0],
        vectors_per_class=counts, support_vectors=some(rng, sum(counts), FEATURES), rho=some(rng, pairs),
        coefficients=some(rng, len(names) - 1, sum(counts)), post_transform=transform, **named(names),
        **(extra if probabilities else {}),
    )  # fmt: skip
    check(node, {"x": rows(rng)}, tolerance=5e-5)


@pytest.mark.parametrize("names", [[4, 9], [1, 2, 3], WORDS])
@pytest.mark.parametrize("positive", [False, True])
def test_svm_classifier_without_vectors(tf: Any, names: list[Any], positive: bool) -> None:
    rng = np.random.default_rng(5)
    coefficients = some(rng, len(names), FEATURES)
    node = helper.make_node(
        "SVMClassifier", ["x"], ["label", "scores"], domain=ML, kernel_type="LINEAR", kernel_params=[0.0, 0.0, 3.0],
        coefficients=np.abs(coefficients).tolist() if positive else coefficients, rho=[0.2], **named(names),
    )  # fmt: skip
    check(node, {"x": rows(rng)}, tolerance=1e-5)
