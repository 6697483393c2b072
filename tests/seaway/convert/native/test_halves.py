"""float16 and bfloat16: results are rounded once, from float32."""

import math
from typing import Any

import ml_dtypes
import numpy as np
import pytest
from one_node import converted, model
from onnx import helper

ACTIVATIONS = {  # by their definitions
    "Acosh": np.arccosh,
    "Atanh": np.arctanh,
    "Celu": lambda x: np.maximum(x, 0) + 2 * np.expm1(np.minimum(x, 0) / 2),
    "Elu": lambda x: np.where(x < 0, np.expm1(np.minimum(x, 0)), x),
    "Gelu": lambda x: x / 2 * (1 + np.vectorize(math.erf)(x / math.sqrt(2))),
    "LogSoftmax": lambda x: x - np.log(np.exp(x).sum(-1, keepdims=True)),
    "Mish": lambda x: x * np.tanh(np.log1p(np.exp(x))),
    "Selu": lambda x: 1.05070102 * np.where(x < 0, 1.67326324 * np.expm1(np.minimum(x, 0)), x),
    "Sigmoid": lambda x: 1 / (1 + np.exp(-x)),
    "Softmax": lambda x: np.exp(x) / np.exp(x).sum(-1, keepdims=True),
    "Softplus": lambda x: np.log1p(np.exp(x)),
    "Softsign": lambda x: x / (1 + np.abs(x)),
}
RANGES = {"Acosh": (1.0, 4.0), "Atanh": (-0.9, 0.9), "Gelu": (-2.0, 4.0)}  # others: -4 to 4
HALF_ULP = {np.float16: 2**-11, ml_dtypes.bfloat16: 2**-8}  # relative


def half_ulps(actual: np.ndarray, exact: np.ndarray) -> float:
    """The largest relative error in half units of the last place: at most 1 if the exact result is rounded once."""
    errors = np.abs(actual.astype(np.float64) - exact) / np.maximum(np.abs(exact), 1e-3)
    return float(errors.max() / HALF_ULP[actual.dtype.type])


@pytest.mark.parametrize("dtype", list(HALF_ULP))
@pytest.mark.parametrize("name", list(ACTIVATIONS))
def test_an_activation_rounds_once(tf: Any, name: str, dtype: Any) -> None:
    x = np.random.default_rng(1).uniform(*RANGES.get(name, (-4.0, 4.0)), size=(500, 6)).astype(dtype)
    node = helper.make_node(name, ["x"], ["y"], **({"alpha": 2.0} if name == "Celu" else {}))
    (mine,) = converted(model([node], {"x": x}, ["y"], opsets={"": 22}), {"x": x})
    assert mine.dtype == dtype
    assert half_ulps(mine, ACTIVATIONS[name](x.astype(np.float64))) < 1.05


@pytest.mark.parametrize("dtype", list(HALF_ULP))
def test_a_depthwise_convolution_rounds_once(tf: Any, dtype: Any) -> None:
    rng = np.random.default_rng(2)
    x, weight = rng.uniform(size=(2, 4, 30)).astype(dtype), rng.uniform(size=(4, 1, 5)).astype(dtype)
    node = helper.make_node("Conv", ["x", "w"], ["y"], group=4)
    (mine,) = converted(model([node], {"x": x}, ["y"], {"w": weight}, {"": 22}), {"x": x})
    windows = np.lib.stride_tricks.sliding_window_view(x.astype(np.float64), 5, -1)
    assert half_ulps(mine, (windows * weight.astype(np.float64)[:, 0, None]).sum(-1)) < 1.05
