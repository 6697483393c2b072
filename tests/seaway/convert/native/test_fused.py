"""com.microsoft's float operators against ONNX Runtime, which writes them when it optimizes."""

from typing import Any

import numpy as np
import pytest
from one_node import check
from onnx import helper

MS = "com.microsoft"


def node(op: str, inputs: str, outputs: str = "y", domain: str = MS, **attributes: Any) -> Any:
    """`inputs` and `outputs` are names with spaces between; - is an omitted one."""
    names = [["" if name == "-" else name for name in text.split()] for text in (inputs, outputs)]
    return helper.make_node(op, *names, domain=domain, **attributes)


def normal(seed: int, *shape: int) -> np.ndarray:
    return np.random.default_rng(seed).normal(size=shape).astype(np.float32)


@pytest.mark.parametrize(
    ("activation", "parameters"),
    [("Relu", []), ("Sigmoid", []), ("Tanh", []), ("LeakyRelu", [0.3]), ("Clip", [-0.2, 0.6]),
     ("HardSigmoid", [0.3, 0.4])],
)  # fmt: skip
@pytest.mark.parametrize("added", [False, True])
def test_fused_conv(tf: Any, activation: str, parameters: list[float], added: bool) -> None:
    inputs = {"x": normal(1, 2, 3, 7, 6)} | ({"z": normal(2, 2, 4, 7, 6)} if added else {})
    attributes: dict[str, Any] = {"activation_params": parameters} if parameters else {}
    attributes |= {"activation": activation, "pads": [1, 1, 1, 1], "kernel_shape": [3, 3]}
    conv = node("FusedConv", "x w b z" if added else "x w b", **attributes)
    check(conv, inputs, {"w": normal(3, 4, 3, 3, 3), "b": normal(4, 4)}, tolerance=1e-5)


@pytest.mark.parametrize(
    "attributes", [{}, {"transA": 1}, {"transB": 1, "alpha": 0.3}, {"transA": 1, "transB": 1}, {"transBatchA": 1},
                   {"transBatchB": 1, "transA": 1}]
)  # fmt: skip
def test_fused_matmul(tf: Any, attributes: dict[str, Any]) -> None:
    """Square, so that each transposition fits; the batch is the axis after the first where it is transposed."""
    check(
        node("FusedMatMul", "x w", **attributes), {"x": normal(1, 4, 4, 4)}, {"w": normal(2, 4, 4, 4)}, tolerance=1e-5
    )


@pytest.mark.parametrize(
    ("activation", "parameters"), [("Relu", {}), ("Tanh", {}), ("LeakyRelu", {"activation_alpha": 0.2})]
)
def test_fused_gemm(tf: Any, activation: str, parameters: dict[str, Any]) -> None:
    gemm = node("FusedGemm", "x w b", activation=activation, alpha=0.5, beta=2.0, transB=1, **parameters)
    check(gemm, {"x": normal(1, 5, 3)}, {"w": normal(2, 4, 3), "b": normal(3, 4)}, tolerance=1e-5)


@pytest.mark.parametrize(
    ("op", "inputs", "attributes"),
    [("Gelu", "x", {}), ("BiasGelu", "x b", {}), ("FastGelu", "x b", {}), ("FastGelu", "x", {}),
     ("QuickGelu", "x", {"alpha": 1.2})],
)  # fmt: skip
def test_gelu(tf: Any, op: str, inputs: str, attributes: dict[str, Any]) -> None:
    weights = {"b": normal(2, 8)} if " b" in inputs else {}
    check(node(op, inputs, **attributes), {"x": normal(1, 3, 5, 8)}, weights, tolerance=1e-5)


@pytest.mark.parametrize("op", ["SkipLayerNormalization", "SkipSimplifiedLayerNormalization"])
@pytest.mark.parametrize("bias", [False, True])
@pytest.mark.parametrize("total", [False, True])
def test_skip_layer_normalization(tf: Any, op: str, bias: bool, total: bool) -> None:
    simple = op.startswith("SkipSimplified")
    names = ["x", "s", "g", *([] if simple else ["c"]), *(["b"] if bias else [])]
    weights = {name: normal(i, 8) for i, name in enumerate(names) if name in "gcb"}
    skip = node(op, " ".join(names), "y - - t" if total else "y", epsilon=1e-5)
    check(skip, {"x": normal(7, 2, 5, 8), "s": normal(8, 2, 5, 8)}, weights, tolerance=1e-5)


@pytest.mark.parametrize("op", ["LayerNormalization", "SimplifiedLayerNormalization"])
def test_normalizations_in_the_default_domain(tf: Any, op: str) -> None:
    """ONNX Runtime's own, before ONNX had them."""
    weights = {"g": normal(1, 8)} | ({"b": normal(2, 8)} if op == "LayerNormalization" else {})
    norm = node(op, " ".join(["x", *weights]), domain="", axis=-1, epsilon=1e-5)
    check(norm, {"x": normal(3, 2, 5, 8)}, weights, {"": 13}, tolerance=1e-5)


def test_bias_softmax(tf: Any) -> None:
    """ONNX Runtime has no kernel for it on a CPU."""
    from seaway.convert.native.ops import fused

    class Call:
        def get(self, name: str, default: Any = None) -> Any:
            return {"axis": 2}.get(name, default)

    x, bias = normal(1, 2, 3, 4, 5), normal(2, 2, 1, 1, 5)
    total = np.exp(x + bias).reshape(2, 3, 20)
    expected = (total / total.sum(-1, keepdims=True)).reshape(x.shape)
    np.testing.assert_allclose(fused.bias_softmax(Call(), x, bias).numpy(), expected, 1e-5)


@pytest.mark.parametrize("metric", ["euclidean", "sqeuclidean"])
def test_distances(tf: Any, metric: str) -> None:
    check(node("CDist", "x w", metric=metric), {"x": normal(1, 5, 3)}, {"w": normal(2, 4, 3)}, tolerance=1e-5)


HEADS, WIDTH = 2, 8


@pytest.mark.parametrize("mask", [None, "lengths", "keys", "queries"])
@pytest.mark.parametrize("causal", [0, 1])
@pytest.mark.parametrize("past", [False, True])
def test_attention(tf: Any, mask: str | None, causal: int, past: bool) -> None:
    batch, length, before = 3, 5, 2 if past else 0
    total = length + before
    inputs: dict[str, np.ndarray] = {"x": normal(1, batch, length, WIDTH)}
    rng = np.random.default_rng(2)
    if mask == "lengths":
        inputs["m"] = np.array([5, 2, 4], np.int32)
    elif mask:
        shape = (batch, total) if mask == "keys" else (batch, length, total)
        inputs["m"] = rng.integers(0, 2, shape).astype(np.int32)
        inputs["m"][..., 0] = 1  # if all of a row is masked, ONNX Runtime's result depends on its kernel
    weights = {"w": normal(3, WIDTH, 3 * WIDTH), "b": normal(4, 3 * WIDTH)}
    if past:
        weights["p"] = normal(5, 2, batch, HEADS, before, WIDTH // HEADS)
    names = f"x w b {'m' if mask else '-'} {'p' if past else ''}"
    attention = node("Attention", names, "y present" if past else "y", num_heads=HEADS, unidirectional=causal)
    check(attention, inputs, weights, tolerance=2e-5)


def test_attention_with_other_sizes_and_scale(tf: Any) -> None:
    weights = {"w": normal(3, WIDTH, 8 + 8 + 12), "b": normal(4, 28), "a": normal(5, 1, HEADS, 5, 5)}
    attention = node("Attention", "x w b - - a", num_heads=HEADS, qkv_hidden_sizes=[8, 8, 12], scale=0.3)
    check(attention, {"x": normal(1, 2, 5, WIDTH)}, weights, tolerance=2e-5)


@pytest.mark.parametrize("bias", [False, True])
@pytest.mark.parametrize("mask", [False, True])
@pytest.mark.parametrize("causal", [0, 1])
def test_multi_head_attention(tf: Any, bias: bool, mask: bool, causal: int) -> None:
    length = 5 if causal else 6
    inputs: dict[str, np.ndarray] = {
        name: normal(i, 2, 5 if name == "q" else length, WIDTH) for i, name in enumerate("qkv")
    }
    names = f"q k v {'b' if bias else '-'} {'m' if mask else ''}"
    if mask:
        inputs["m"] = np.array([[1] * length, [1, 1] + [0] * (length - 2)], np.int32)
    attention = node("MultiHeadAttention", names, num_heads=HEADS, unidirectional=causal)
    check(attention, inputs, {"b": normal(4, 3 * WIDTH)} if bias else {}, tolerance=2e-5)


def test_multi_head_attention_over_past_keys(tf: Any) -> None:
    inputs = {name: normal(i, 2, 3, WIDTH) for i, name in enumerate("qkv")}
    inputs |= {name: normal(i, 2, HEADS, 4, WIDTH // HEADS) for i, name in enumerate(("pk", "pv"), 5)}
    attention = node("MultiHeadAttention", "q k v - - - pk pv", "y nk nv", num_heads=HEADS)
    check(attention, inputs, tolerance=2e-5)


def test_multi_head_attention_with_heads_apart(tf: Any) -> None:
    """As cross-attention writes its cached keys and values."""
    inputs = {"q": normal(1, 2, 3, WIDTH)} | {name: normal(2, 2, HEADS, 4, WIDTH // HEADS) for name in "kv"}
    check(node("MultiHeadAttention", "q k v", num_heads=HEADS), inputs, tolerance=2e-5)


@pytest.mark.parametrize("interleaved", [0, 1])
@pytest.mark.parametrize("form", ["apart", "merged", "partial", "from a position"])
def test_rotary_embedding(tf: Any, interleaved: int, form: str) -> None:
    size, length, batch = 8, 5, 2
    rotated = 4 if form == "partial" else size
    shape = (batch, HEADS, length, size) if form == "apart" else (batch, length, HEADS * size)
    angles = np.random.default_rng(1).uniform(0, 6, (20, rotated // 2)).astype(np.float32)
    positions = np.array([3]) if form == "from a position" else np.array([[0, 1, 2, 3, 4], [4, 9, 11, 2, 7]])
    extra = {"rotary_embedding_dim": rotated, "num_heads": HEADS} if form == "partial" else {}
    rotary = node("RotaryEmbedding", "x p c s", interleaved=interleaved, **extra)
    weights = {"p": positions.astype(np.int64), "c": np.cos(angles), "s": np.sin(angles)}
    check(rotary, {"x": normal(2, *shape)}, weights, tolerance=1e-5)


@pytest.mark.parametrize("segments", [False, True])
@pytest.mark.parametrize("mask", [False, True])
def test_embed_layer_normalization(tf: Any, segments: bool, mask: bool) -> None:
    rng = np.random.default_rng(1)
    inputs = {"i": rng.integers(0, 20, (2, 5)).astype(np.int32)}
    weights = {"w": normal(1, 20, WIDTH), "p": normal(2, 9, WIDTH), "g": normal(4, WIDTH), "b": normal(5, WIDTH)}
    if segments:
        inputs["s"], weights["k"] = rng.integers(0, 2, (2, 5)).astype(np.int32), normal(3, 2, WIDTH)
    if mask:
        inputs["m"] = np.array([[1, 1, 1, 0, 0], [1] * 5], np.int32)
    names = f"i {'s' if segments else '-'} w p {'k' if segments else '-'} g b {'m' if mask else ''}"
    check(node("EmbedLayerNormalization", names, "y n", epsilon=1e-5), inputs, weights, tolerance=1e-5)


def group_query(
    batch: int, length: int, past: int, packed: bool = False, rotary: bool = False, shorter: bool = False, **more: Any
) -> None:
    """Four heads that share two keys. `shorter`: one example's sequence is shorter than the others'."""
    heads, shared, size = 4, 2, 16
    inputs = {"q": normal(1, batch, length, (heads + 2 * shared if packed else heads) * size)}
    if not packed:
        inputs |= {"k": normal(2, batch, length, shared * size), "v": normal(3, batch, length, shared * size)}
    inputs |= {name: normal(4, batch, shared, past, size) for name in ("pk", "pv")} if past else {}
    last = np.full(batch, past + length - 1, np.int32)
    last[0] -= int(shorter)
    angles = np.random.default_rng(5).uniform(0, 6, (40, size // 2)).astype(np.float32)
    weights = {"l": last, "t": np.int32(past + length), "c": np.cos(angles), "s": np.sin(angles)}
    names = f"q {'- -' if packed else 'k v'} {'pk pv' if past else '- -'} l t {'c s' if rotary else ''}"
    attention = node(
        "GroupQueryAttention", names, "y nk nv", num_heads=heads, kv_num_heads=shared, do_rotary=int(rotary), **more
    )
    used = {name: value for name, value in weights.items() if name in names.split()}
    check(attention, inputs, used, tolerance=2e-5)


@pytest.mark.parametrize("rotary", [False, True])
@pytest.mark.parametrize("packed", [False, True])
def test_group_query_attention(tf: Any, rotary: bool, packed: bool) -> None:
    group_query(2, 5, 0, packed, rotary)
    group_query(1, 3, 4, packed, rotary)
    group_query(2, 1, 6, packed, rotary, shorter=True)


@pytest.mark.parametrize(
    "more", [{"local_window_size": 2}, {"softcap": 1.5}, {"scale": 0.2}, {"rotary_interleaved": 1, "rotary": True}]
)
def test_group_query_attention_with_settings(tf: Any, more: dict[str, Any]) -> None:
    group_query(2, 5, 0, **more)
    group_query(2, 1, 6, **more)
