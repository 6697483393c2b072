"""com.microsoft's quantized operators against ONNX Runtime: integers are equal, or a few one apart."""

from typing import Any

import numpy as np
import pytest
from one_node import by_onnxruntime, check, converted, model
from onnx import helper

MS = "com.microsoft"


def node(op: str, inputs: str, **attributes: Any) -> Any:
    names = ["" if name == "-" else name for name in inputs.split()]
    return helper.make_node(op, names, ["y"], domain=MS, **attributes)


def whole(seed: int, *shape: int, dtype: Any = np.uint8) -> np.ndarray:
    limits = np.iinfo(dtype)
    return np.random.default_rng(seed).integers(limits.min, limits.max + 1, shape).astype(dtype)


def f(value: Any) -> np.ndarray:
    return np.asarray(value, np.float32)


def u8(value: Any) -> np.ndarray:
    return np.asarray(value, np.uint8)


def close(one: Any, inputs: dict[str, np.ndarray], weights: dict[str, np.ndarray], share: float = 0.01) -> None:
    """At most a share of the integers differ, by one: where scaling gives halves, the last bit of a float decides."""
    proto = model([one], inputs, ["y"], weights)
    (mine,), (theirs,) = converted(proto, inputs), by_onnxruntime(proto, inputs)
    assert mine.shape == theirs.shape and mine.dtype == theirs.dtype
    difference = np.abs(mine.astype(int) - theirs.astype(int))
    assert difference.max() <= 1 and (difference > 0).mean() <= share, (difference > 0).mean()


SCALES = {"as": f(0.03), "az": u8(120), "bs": f(0.02), "bz": u8(130), "cs": f(0.045), "cz": u8(110)}


@pytest.mark.parametrize("op", ["QLinearAdd", "QLinearMul"])
@pytest.mark.parametrize("constant", [False, True])
def test_arithmetic(tf: Any, op: str, constant: bool) -> None:
    a, b = whole(1, 2, 3, 4, 5), whole(2, 3, 1, 5) if constant else whole(2, 2, 3, 4, 5)
    scales = SCALES | {"cs": f(0.05 if op == "QLinearAdd" else 0.06)}
    inputs, weights = ({"a": a}, {"b": b, **scales}) if constant else ({"a": a, "b": b}, scales)
    close(node(op, "a as az b bs bz cs cz"), inputs, weights)


@pytest.mark.parametrize("op", ["QLinearSigmoid", "QLinearLeakyRelu"])
@pytest.mark.parametrize("dtype", [np.uint8, np.int8])
def test_activations_of_all_integers(tf: Any, op: str, dtype: Any) -> None:
    x = np.arange(256).astype(np.uint8).view(dtype).reshape(2, 128)
    zeros = {"xz": np.asarray(7, dtype), "yz": np.asarray(-3 if dtype == np.int8 else 3, dtype)}
    attributes = {"alpha": 0.2} if op == "QLinearLeakyRelu" else {}
    close(node(op, "x xs xz ys yz", **attributes), {"x": x}, {"xs": f(0.03), "ys": f(0.01), **zeros})


@pytest.mark.parametrize(("opset", "axis"), [(13, -1), (13, 1), (12, 1)])
def test_softmax(tf: Any, opset: int, axis: int) -> None:
    weights = {"xs": f(0.05), "xz": u8(128), "ys": f(1 / 256), "yz": u8(0)}
    softmax = node("QLinearSoftmax", "x xs xz ys yz", axis=axis, opset=opset)
    close(softmax, {"x": whole(1, 2, 5, 6)}, weights, share=0.05)


@pytest.mark.parametrize("padded", [False, True])
def test_average_pools(tf: Any, padded: bool) -> None:
    weights = {"xs": f(0.0317), "xz": u8(120), "ys": f(0.0231), "yz": u8(125)}
    x = {"x": whole(1, 2, 3, 8, 8)}
    attributes: dict[str, Any] = {"kernel_shape": [3, 3], "strides": [2, 2]}
    attributes |= {"pads": [1, 1, 1, 1]} if padded else {}
    close(node("QLinearAveragePool", "x xs xz ys yz", **attributes), x, weights)
    close(node("QLinearGlobalAveragePool", "x xs xz ys yz"), x, weights)


@pytest.mark.parametrize("last", [0, 1])
def test_operators_with_channels_last(tf: Any, last: int) -> None:
    """As ONNX Runtime's optimizer writes them."""
    x = {"x": whole(1, 2, 3, 8, 8) if not last else whole(1, 2, 8, 8, 3)}
    weights = {"xs": f(0.0317), "xz": u8(120), "ys": f(0.0231), "yz": u8(125)}
    close(node("QLinearAveragePool", "x xs xz ys yz", kernel_shape=[3, 3], channels_last=last), x, weights)
    close(node("QLinearGlobalAveragePool", "x xs xz ys yz", channels_last=last), x, weights)
    weights |= {"w": whole(2, 4, 3, 3, 3, dtype=np.int8), "ws": f(0.01), "wz": np.int8(0), "ys": f(0.211)}
    conv = node("QLinearConv", "x xs xz w ws wz ys yz", pads=[1, 1, 1, 1], kernel_shape=[3, 3], channels_last=last)
    close(conv, x, weights)
    if last:
        check(node("NhwcMaxPool", "x", kernel_shape=[2, 2], strides=[2, 2]), x)


def test_where(tf: Any) -> None:
    weights = {"xs": f(0.03), "xz": u8(120), "ys": f(0.02), "yz": u8(125), "zs": f(0.025), "zz": u8(118)}
    inputs = {"c": whole(3, 2, 9) > 99, "x": whole(1, 2, 9), "y2": whole(2, 2, 9)}
    close(node("QLinearWhere", "c x xs xz y2 ys yz zs zz"), inputs, weights, 0.1)


def test_concat(tf: Any) -> None:
    weights = {"ys": f(0.03), "yz": u8(120), "s": f(0.02), "z": u8(125)}
    concat = node("QLinearConcat", "ys yz a ys yz b s z", axis=1)
    close(concat, {"a": whole(1, 2, 3, 4), "b": whole(2, 2, 5, 4)}, weights)


@pytest.mark.parametrize("scaled", [False, True])
@pytest.mark.parametrize("columns", [False, True])
def test_gemm(tf: Any, scaled: bool, columns: bool) -> None:
    weights: dict[str, np.ndarray] = {
        "as": f(0.03), "az": u8(120), "b": whole(2, 6, 5, dtype=np.int8), "c": np.arange(5, dtype=np.int32) * 100,
        "bs": f([0.01, 0.02, 0.03, 0.01, 0.02] if columns else 0.02),
        "bz": np.zeros(5 if columns else (), np.int8), "ys": f(0.4), "yz": u8(90),
    }  # fmt: skip
    names = "x as az b bs bz c" + (" ys yz" if scaled else "")
    gemm = node("QGemm", names, alpha=1.0)
    weights = {name: value for name, value in weights.items() if name in names.split()}
    if scaled:
        close(gemm, {"x": whole(1, 4, 6)}, weights)
    else:
        check(gemm, {"x": whole(1, 4, 6)}, weights, tolerance=1e-5)


@pytest.mark.parametrize("columns", [False, True])
@pytest.mark.parametrize("bias", [False, True])
def test_products_to_floats(tf: Any, columns: bool, bias: bool) -> None:
    rng = np.random.default_rng(3)
    weights: dict[str, np.ndarray] = {
        "b": whole(2, 6, 4), "bs": f([0.01, 0.02, 0.03, 0.01] if columns else 0.02),
        "bz": u8([3, 130, 200, 128]) if columns else u8(120),
    }  # fmt: skip
    if bias:
        weights["c"] = rng.normal(size=4).astype(np.float32)
    x = {"x": rng.normal(size=(5, 3, 6)).astype(np.float32)}
    check(node("DynamicQuantizeMatMul", f"x b bs bz {'c' if bias else ''}"), x, weights, tolerance=1e-5)
    weights |= {"as": f(0.03), "az": u8(120)}
    product = node("MatMulIntegerToFloat", f"x b as bs az bz {'c' if bias else ''}")
    check(product, {"x": whole(1, 5, 6)}, weights, tolerance=1e-5)


@pytest.mark.parametrize("masked", [False, True])
def test_attention(tf: Any, masked: bool) -> None:
    weights: dict[str, np.ndarray] = {
        "w": whole(2, 8, 24, dtype=np.int8), "b": np.random.default_rng(1).normal(size=24).astype(np.float32),
        "xs": f(0.01), "ws": f(0.01), "xz": u8(120), "wz": np.int8(0),
    }  # fmt: skip
    inputs = {"x": whole(1, 2, 5, 8)} | ({"m": np.array([3, 5], np.int32)} if masked else {})
    attention = node("QAttention", f"x w b xs ws {'m' if masked else '-'} xz wz", num_heads=2)
    check(attention, inputs, weights, tolerance=2e-5)


@pytest.mark.parametrize("direction", ["forward", "reverse", "bidirectional"])
@pytest.mark.parametrize("lengths", [False, True])
def test_lstm(tf: Any, direction: str, lengths: bool) -> None:
    count, size = 2 if direction == "bidirectional" else 1, 4
    weights: dict[str, np.ndarray] = {
        "w": whole(1, count, 3, 4 * size, dtype=np.int8), "r": whole(2, count, size, 4 * size, dtype=np.int8),
        "b": np.random.default_rng(3).normal(size=(count, 8 * size)).astype(np.float32),
        "ws": f([0.01] * count), "wz": np.zeros(count, np.int8), "rs": f([0.008] * count),
        "rz": np.zeros(count, np.int8),
    }  # fmt: skip
    inputs = {"x": np.random.default_rng(4).normal(size=(6, 2, 3)).astype(np.float32)}
    if lengths:
        weights["l"] = np.array([6, 3], np.int32)
    lstm = helper.make_node(
        "DynamicQuantizeLSTM", ["x", "w", "r", "b", "l" if lengths else "", "", "", "", "ws", "wz", "rs", "rz"],
        ["y", "h", "c"], domain=MS, hidden_size=size, direction=direction,
    )  # fmt: skip
    # ONNX Runtime leaves sequences that have ended out of the range to quantize; here they stay in.
    check(lstm, inputs, weights, tolerance=2e-3 if lengths else 1e-5)


@pytest.mark.parametrize("dtype", [np.uint8, np.int8])
def test_quantize_and_dequantize(tf: Any, dtype: Any) -> None:
    weights = {"s": f(0.03), "z": np.asarray(5, dtype)}
    x = np.random.default_rng(1).normal(size=(4, 9)).astype(np.float32) * 4
    close(node("QuantizeLinear", "x s z"), {"x": x}, weights)
    check(node("DequantizeLinear", "x s z"), {"x": whole(1, 4, 9, dtype=dtype)}, weights)


def test_dynamic_scales_are_equal_bit_for_bit(tf: Any) -> None:
    """A scale that differs in its last bit rounds some integers differently."""
    x = np.random.default_rng(1).normal(size=(30, 4, 50)).astype(np.float32)
    rows = helper.make_node("Split", ["x"], [f"p{i}" for i in range(30)], axis=0)
    nodes = [
        helper.make_node("DynamicQuantizeLinear", [f"p{i}"], [f"q{i}", f"s{i}", f"z{i}"], domain="") for i in range(30)
    ]
    names = [name for one in nodes for name in one.output]
    check([rows, *nodes], {"x": x}, outputs=names, opsets={"": 13}, tolerance=0)
