"""Preparation of features in ai.onnx.ml against ONNX Runtime: NaN, ties, unknown categories, every type."""

import itertools
from typing import Any

import numpy as np
import pytest
from one_node import by_onnxruntime, check, converted, model
from onnx import helper, numpy_helper

ML = "ai.onnx.ml"
NAN = float("nan")


def node(op: str, inputs: list[str] | None = None, **attributes: Any) -> Any:
    return helper.make_node(op, inputs or ["x"], ["y"], domain=ML, **attributes)


def numbers(dtype: Any, *shape: int) -> np.ndarray:
    return np.asarray(np.random.default_rng(1).integers(-4, 5, shape or (9, 3)), dtype)


@pytest.mark.parametrize("dtype", [np.float32, np.float64, np.int64, np.int32])
@pytest.mark.parametrize("width", [1, 3])
def test_scaler(tf: Any, dtype: Any, width: int) -> None:
    check(node("Scaler", offset=[0.3, 1, -2][:width], scale=[0.7, 2, 0.1][:width]), {"x": numbers(dtype)})


@pytest.mark.parametrize("dtype", [np.float32, np.float64, np.int64, np.int32])
@pytest.mark.parametrize("norm", ["MAX", "L1", "L2"])
def test_normalizer(tf: Any, dtype: Any, norm: str) -> None:
    x = numbers(dtype)
    x[0] = 0
    check(node("Normalizer", norm=norm), {"x": x})


@pytest.mark.parametrize("norm", ["MAX", "L1", "L2"])
def test_normalizer_with_nan(tf: Any, norm: str) -> None:
    x = np.array([[NAN, 1, -2], [3, NAN, 1], [1, 2, NAN], [NAN, NAN, NAN]], np.float32)
    check(node("Normalizer", norm=norm), {"x": x[:3] if norm == "MAX" else x})


def test_binarizer_at_its_threshold(tf: Any) -> None:
    x = np.array([[0.5, 0.25], [0.75, -np.inf]], np.float32)  # ONNX Runtime refuses NaN
    check(node("Binarizer", threshold=0.5), {"x": x})


@pytest.mark.parametrize("replaced", [NAN, 1.0])
@pytest.mark.parametrize("width", [1, 3])
def test_imputer(tf: Any, replaced: float, width: int) -> None:
    x = np.array([[NAN, 1, 2], [3, NAN, 1], [1, 2, NAN]], np.float32)
    filling = [7.5, 8.5, 9.5][:width]
    check(node("Imputer", imputed_value_floats=filling, replaced_value_float=replaced), {"x": x})


def test_imputer_of_integers(tf: Any) -> None:
    x = numbers(np.int64)
    check(node("Imputer", imputed_value_int64s=[7, 8, 9], replaced_value_int64=int(x[0, 0])), {"x": x})


@pytest.mark.parametrize("dtype", [np.float32, np.float64, np.int64])
def test_feature_vectorizer_cuts_and_pads(tf: Any, dtype: Any) -> None:
    inputs = {"a": numbers(dtype), "b": numbers(dtype, 9, 2), "c": numbers(dtype, 9, 1)}
    check(node("FeatureVectorizer", ["a", "b", "c"], inputdimensions=[2, 4, 1]), inputs)


@pytest.mark.parametrize("dtype", [np.float32, np.float64, np.int64, np.int32, str])
def test_array_feature_extractor(tf: Any, dtype: Any) -> None:
    check(
        node("ArrayFeatureExtractor", ["x", "i"]), {"x": numbers(dtype)}, weights={"i": np.array([[2, 0, 2]], np.int64)}
    )


KEYS: dict[str, list[Any]] = {
    "strings": ["a", "é", "", "a"], "int64s": [3, -1, 2**40, 3], "floats": [0.5, NAN, -0.0, 0.5]
}  # fmt: skip
INPUTS = {
    "strings": np.array([["a", "b"], ["é", ""], ["A", "e"]]),
    "int64s": np.array([[3, 4], [-1, 2**40], [0, 2**40 + 1]], np.int64),
    "floats": np.array([[0.5, NAN], [0.0, 0.25], [-0.0, np.inf]], np.float32),
}
VALUES: dict[str, list[Any]] = {"strings": ["w", "x", "ÿ", "z"], "int64s": [1, -2, 3, 4], "floats": [0.1, NAN, 2, 3]}


@pytest.mark.parametrize("opset", [2, 4])
@pytest.mark.parametrize(("keys", "values"), list(itertools.product(KEYS, VALUES)))
def test_label_encoder(tf: Any, opset: int, keys: str, values: str) -> None:
    """Since 4 NaN equals NaN."""
    default = keys == values  # else the default's default
    defaults: dict[str, Any] = {
        "default_string": "other", "default_int64": -7, "default_float": 0.75,
    }  # fmt: skip
    chosen = {name: value for name, value in defaults.items() if name in f"default_{values}"}
    attributes: dict[str, Any] = {f"keys_{keys}": KEYS[keys], f"values_{values}": VALUES[values]}
    encoder = node("LabelEncoder", **attributes, **(chosen if default else {}))
    check(encoder, {"x": INPUTS[keys]}, opsets={ML: opset})


@pytest.mark.parametrize(("key", "value"), list(itertools.product(("float64", "int64", "object"), repeat=2)))
def test_label_encoder_with_tensors(tf: Any, key: str, value: str) -> None:
    keys, values = np.array([0, 1, 2], key), np.array([5, 6, 7], value)
    if key == "object":
        keys = np.array(["a", "b", "é"], object)
    if value == "object":
        values = np.array(["w", "x", "ü"], object)
    x = np.array(["b", "é", "c"]) if key == "object" else np.array([2, 1, 9], key)
    default = values[:1] if value != "object" else np.array(["none"], object)
    tensors = {"keys_tensor": keys, "values_tensor": values, "default_tensor": default}
    attributes = {name: numpy_helper.from_array(array) for name, array in tensors.items()}
    check(node("LabelEncoder", **attributes), {"x": x}, opsets={ML: 4})


def test_label_encoder_1(tf: Any) -> None:
    classes = {"classes_strings": ["a", "é", "c"], "default_string": "?", "default_int64": -3}
    for x in (INPUTS["strings"], np.array([0, 2, 3, -1], np.int64)):
        check(node("LabelEncoder", **classes), {"x": x}, opsets={ML: 1})


def test_category_mapper(tf: Any) -> None:
    categories = {"cats_strings": ["a", "é", "c", "a"], "cats_int64s": [10, 20, 30, 40], "default_string": "?"}
    for x in (INPUTS["strings"], np.array([10, 30, 31, 40], np.int64)):
        check(node("CategoryMapper", **categories), {"x": x})


@pytest.mark.parametrize("zeros", [0, 1])
def test_one_hot_encoder(tf: Any, zeros: int) -> None:
    known = np.array([["a", ""], ["é", "a"]])
    x = known if not zeros else INPUTS["strings"]
    check(node("OneHotEncoder", cats_strings=["a", "é", ""], zeros=zeros), {"x": x})


@pytest.mark.parametrize("dtype", [np.int64, np.float32, np.float64])
def test_one_hot_encoder_of_numbers(tf: Any, dtype: Any) -> None:
    x = np.array([0, 5, -1, 7], dtype) + (0.5 if np.issubdtype(dtype, np.floating) else 0)
    check(node("OneHotEncoder", cats_int64s=[5, 0, 7, 0]), {"x": x.astype(dtype)})


def test_an_unknown_category_without_zeros_is_an_error(tf: Any) -> None:
    inputs = {"x": np.array(["a", "z"])}
    proto = model([node("OneHotEncoder", cats_strings=["a", "b"], zeros=0)], inputs, ["y"])
    with pytest.raises(Exception, match="Unknown Category"):
        by_onnxruntime(proto, inputs)
    with pytest.raises(tf.errors.InvalidArgumentError, match="unknown category"):
        converted(proto, inputs)


def test_many_categories(tf: Any) -> None:
    names = [f"category {i}" for i in range(3000)]
    x = np.array([*names[::7], "category", "category 3000"])
    check(node("LabelEncoder", keys_strings=names, values_int64s=list(range(3000))), {"x": x}, opsets={ML: 2})
