"""Operators with windows and between pixels, with random attributes, compared with ONNX Runtime."""

import operator
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import onnxruntime
from hypothesis import assume, given, reject, settings
from hypothesis import strategies as st
from onnx import TensorProto, helper, numpy_helper

from seaway.convert.native import net

few = settings(max_examples=40, deadline=None, derandomize=True)
fewer = settings(few, max_examples=20)  # for graphs that take longer to build
Draw = Any


def check(
    tf: Any, node: Any, inputs: Mapping[str, np.ndarray], constants: Mapping[str, np.ndarray], opset: int,
    batch: Sequence[str] = ("x",), outputs: int = 1, known_sizes: Sequence[bool] = (True, False),
) -> None:  # fmt: skip
    """Compares a single node with ONNX Runtime: with an unknown batch, then with only the second size known."""
    declared = [
        helper.make_tensor_value_info(n, helper.np_dtype_to_tensor_dtype(a.dtype), a.shape) for n, a in inputs.items()
    ]
    values = [numpy_helper.from_array(array, name) for name, array in constants.items()]
    node_outputs = [helper.make_tensor_value_info(name, TensorProto.UNDEFINED, None) for name in node.output[:outputs]]
    for value in node_outputs:
        value.ClearField("type")
    graph = helper.make_graph([node], "g", declared, node_outputs, values)
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", opset)], ir_version=10)
    options = onnxruntime.SessionOptions()
    options.log_severity_level, options.intra_op_num_threads = 4, 1
    try:
        session = onnxruntime.InferenceSession(model.SerializeToString(), options, ["CPUExecutionProvider"])
        expected = session.run(None, dict(inputs))
    except Exception as error:
        assert "INVALID_GRAPH" not in str(error) or "Unrecognized attribute" not in str(error), error
        reject()
    converted = net.convert(model)
    for known in known_sizes:
        specs = {
            name: tf.TensorSpec(
                [None if name in batch and _unknown(i, known) else n for i, n in enumerate(a.shape)], a.dtype
            )
            for name, a in inputs.items()
        }
        results = tf.function(converted, autograph=False).get_concrete_function(specs)(
            {name: tf.constant(array) for name, array in inputs.items()}
        )
        for name, array in zip(node.output, expected, strict=False):
            actual = results[name].numpy()
            assert actual.shape == array.shape, (actual.shape, array.shape, known, str(node))
            assert actual.dtype == array.dtype
            largest = float(np.abs(array).max(initial=1))
            np.testing.assert_allclose(actual, array, rtol=1e-4, atol=1e-5 * largest, err_msg=f"{node}")


def _unknown(axis: int, known: bool) -> bool:
    return axis == 0 if known else axis != 1


def rand(*shape: int) -> np.ndarray:
    return np.random.default_rng(sum(shape)).normal(size=shape).astype(np.float32)


@st.composite
def windows(draw: Draw, most: int = 3) -> dict[str, Any]:
    """kernel, strides, dilations, auto_pad and pads over one to three axes, and sizes into which they fit."""
    rank = draw(st.integers(1, most))
    each = lambda low, high: draw(st.lists(st.integers(low, high), min_size=rank, max_size=rank))  # noqa: E731
    kernel, dilations = each(1, 3), each(1, 2)
    reach = [(k - 1) * d + 1 for k, d in zip(kernel, dilations, strict=True)]
    auto = draw(st.sampled_from(["NOTSET", "NOTSET", "SAME_UPPER", "SAME_LOWER", "VALID"]))
    pads = [draw(st.integers(0, r // 2)) for r in (*reach, *reach)] if auto == "NOTSET" else None
    drawn = {
        "kernel": kernel,
        "sizes": [r + draw(st.integers(0, 5)) for r in reach],
        "attributes": {"kernel_shape": kernel, "strides": each(1, 3), "dilations": dilations},
    }
    if auto != "NOTSET":
        drawn["attributes"]["auto_pad"] = auto
    if pads is not None and draw(st.booleans()):
        drawn["attributes"]["pads"] = pads
    return drawn


def usual(window: Any, pooling: bool = True) -> None:
    """Skips cases in which ONNX Runtime deviates from ONNX: auto_pad if windows do not touch or pooling is dilated."""
    attributes = window["attributes"]
    if attributes.get("auto_pad", "").startswith("SAME"):
        assume(all(map(operator.le, attributes["strides"], window["kernel"])))
        assume(not pooling or max(attributes["dilations"]) == 1)


@few
@given(data=st.data(), window=windows(), groups=st.integers(1, 3), bias=st.booleans(), constant=st.booleans())
def test_convolution(tf: Any, data: Draw, window: Any, groups: int, bias: bool, constant: bool) -> None:
    usual(window, pooling=False)
    channels, outputs = data.draw(st.integers(1, 2)), data.draw(st.integers(1, 2))
    weights = {"w": rand(groups * outputs, channels, *window["kernel"])}
    weights |= {"b": rand(groups * outputs)} if bias else {}
    inputs = {"x": rand(2, groups * channels, *window["sizes"])}
    node = helper.make_node("Conv", ["x", *weights], ["y"], group=groups, **window["attributes"])
    # Where a stride is larger than its axis TensorFlow 2.21 with oneDNN is wrong in three dimensions: the converter
    # keeps it from that where it knows the sizes.
    wide = len(window["sizes"]) == 3 and any(map(operator.gt, window["attributes"]["strides"], window["sizes"]))
    sizes = (True,) if wide else (True, False)
    check(tf, node, inputs if constant else inputs | weights, weights if constant else {}, 13, known_sizes=sizes)


@few
@given(data=st.data(), window=windows(), groups=st.integers(1, 3), bias=st.booleans(), constant=st.booleans())
def test_transposed_convolution(tf: Any, data: Draw, window: Any, groups: int, bias: bool, constant: bool) -> None:
    usual(window, pooling=False)
    channels, outputs = data.draw(st.integers(1, 2)), data.draw(st.integers(1, 2))
    weights = {"w": rand(groups * channels, outputs, *window["kernel"])}
    weights |= {"b": rand(groups * outputs)} if bias else {}
    attributes, sizes = window["attributes"], window["sizes"]
    if data.draw(st.booleans()):
        most = [max(s, d) - 1 for s, d in zip(attributes["strides"], attributes["dilations"], strict=True)]
        attributes["output_padding"] = [data.draw(st.integers(0, m)) for m in most]
    if "pads" not in attributes and data.draw(st.booleans()):
        reach = [(n - 1) * s + 1 for n, s in zip(sizes, attributes["strides"], strict=True)]
        attributes["output_shape"] = [r + data.draw(st.integers(0, 6)) for r in reach]
    inputs = {"x": rand(2, groups * channels, *sizes)}
    node = helper.make_node("ConvTranspose", ["x", *weights], ["y"], group=groups, **attributes)
    check(tf, node, inputs if constant else inputs | weights, weights if constant else {}, 13)


@few
@given(window=windows(), ceil=st.booleans(), order=st.integers(0, 1), places=st.booleans())
def test_max_pooling(tf: Any, window: Any, ceil: bool, order: int, places: bool) -> None:
    usual(window)
    node = helper.make_node(
        "MaxPool",
        ["x"],
        ["y", "places"] if places else ["y"],
        ceil_mode=int(ceil),
        storage_order=order,
        **window["attributes"],
    )
    check(tf, node, {"x": rand(2, 3, *window["sizes"])}, {}, 22, outputs=1 + places)


@few
@given(window=windows(), ceil=st.booleans(), included=st.booleans())
def test_average_pooling(tf: Any, window: Any, ceil: bool, included: bool) -> None:
    usual(window)
    node = helper.make_node(
        "AveragePool", ["x"], ["y"], ceil_mode=int(ceil), count_include_pad=int(included), **window["attributes"]
    )
    check(tf, node, {"x": rand(2, 3, *window["sizes"])}, {}, 22)


@few
@given(window=windows(), ceil=st.booleans(), p=st.integers(1, 3))
def test_lp_pooling(tf: Any, window: Any, ceil: bool, p: int) -> None:
    usual(window)
    node = helper.make_node("LpPool", ["x"], ["y"], ceil_mode=int(ceil), p=p, **window["attributes"])
    check(tf, node, {"x": rand(2, 3, *window["sizes"])}, {}, 18)


SCALES = [0.3, 0.5, 0.6, 1.0, 1.5, 1.7, 2.0, 3.0, 4.0]
TRANSFORMATIONS = ["half_pixel", "pytorch_half_pixel", "align_corners", "asymmetric", "half_pixel_symmetric"]


@few
@given(data=st.data(), mode=st.sampled_from(["nearest", "linear", "cubic"]), by_size=st.booleans())
def test_resize(tf: Any, data: Draw, mode: str, by_size: bool) -> None:
    rank = 2 if mode == "cubic" else data.draw(st.integers(1, 3))
    sizes = [data.draw(st.integers(1, 7)) for _ in range(rank)]
    x_shape = (2, 3, *sizes)
    attributes: dict[str, Any] = {"mode": mode}
    attributes["coordinate_transformation_mode"] = data.draw(st.sampled_from([*TRANSFORMATIONS, "tf_crop_and_resize"]))
    if mode == "nearest":
        attributes["nearest_mode"] = data.draw(
            st.sampled_from(["round_prefer_floor", "round_prefer_ceil", "floor", "ceil"])
        )
    else:
        attributes["antialias"] = data.draw(st.integers(0, 1))
    if mode == "cubic":
        attributes["exclude_outside"] = data.draw(st.integers(0, 1))
        attributes["cubic_coeff_a"] = data.draw(st.sampled_from([-0.5, -0.75]))
    constants = {}
    if attributes["coordinate_transformation_mode"] == "tf_crop_and_resize":
        attributes["extrapolation_value"] = 7.0
        low, high = ([data.draw(st.sampled_from([a, b])) for _ in range(rank)] for a, b in ((0.0, -0.2), (1.0, 1.3)))
        constants["roi"] = np.array([0, 0, *low, 1, 1, *high], np.float32)
    if by_size:
        constants["sizes"] = np.array([2, 3, *[data.draw(st.integers(1, 12)) for _ in range(rank)]], np.int64)
    else:
        constants["scales"] = np.array([1, 1, *[data.draw(st.sampled_from(SCALES)) for _ in range(rank)]], np.float32)
        assume(all(int(n * s) for n, s in zip(sizes, constants["scales"][2:], strict=True)))
    if "roi" in constants:  # ONNX Runtime copies along an axis that keeps its size, whatever the roi is
        assume(all((constants["sizes"] != x_shape)[2:]) if by_size else all(constants["scales"][2:] != 1))
    names = ["x", "roi" if "roi" in constants else "", "" if by_size else "scales", *(["sizes"] if by_size else [])]
    dtype = data.draw(st.sampled_from([np.float32, np.uint8])) if mode == "nearest" else np.float32
    x = np.abs(rand(*x_shape) * 50).astype(dtype)
    check(tf, helper.make_node("Resize", names, ["y"], **attributes), {"x": x}, constants, 19)


@few
@given(data=st.data(), mode=st.sampled_from(["nearest", "linear"]), opset=st.sampled_from([9, 10]))
def test_resize_of_older_opsets(tf: Any, data: Draw, mode: str, opset: int) -> None:
    sizes = [data.draw(st.integers(1, 7)) for _ in range(2)]
    scales = np.array([1, 1, *[data.draw(st.sampled_from(SCALES)) for _ in range(2)]], np.float32)
    assume(all(int(n * s) for n, s in zip(sizes, scales[2:], strict=True)))
    node = helper.make_node("Upsample" if opset == 9 else "Resize", ["x", "scales"], ["y"], mode=mode)
    check(tf, node, {"x": rand(2, 3, *sizes)}, {"scales": scales}, opset)


@few
@given(
    data=st.data(), policy=st.sampled_from(["not_larger", "not_smaller"]), mode=st.sampled_from(["nearest", "linear"])
)
def test_resize_that_keeps_the_aspect_ratio(tf: Any, data: Draw, policy: str, mode: str) -> None:
    wanted = np.array([data.draw(st.integers(1, 12)) for _ in range(2)], np.int64)
    node = helper.make_node(
        "Resize", ["x", "", "", "sizes"], ["y"], mode=mode, keep_aspect_ratio_policy=policy, axes=[2, 3]
    )
    check(tf, node, {"x": rand(2, 3, *[data.draw(st.integers(2, 7)) for _ in range(2)])}, {"sizes": wanted}, 19)


@fewer
@given(
    data=st.data(), rank=st.integers(2, 3), mode=st.sampled_from(["linear", "nearest", "cubic"]),
    padding=st.sampled_from(["zeros", "border", "reflection"]), align=st.integers(0, 1),
)  # fmt: skip
def test_grid_sample(tf: Any, data: Draw, rank: int, mode: str, padding: str, align: int) -> None:
    assume(rank == 2 or mode != "cubic")
    sizes, wanted = ([data.draw(st.integers(1, 5)) for _ in range(rank)] for _ in range(2))
    node = helper.make_node("GridSample", ["x", "grid"], ["y"], mode=mode, padding_mode=padding, align_corners=align)
    grid = rand(2, *wanted, rank) * np.float32(0.9)
    check(tf, node, {"x": rand(2, 3, *sizes), "grid": grid}, {}, 20, batch=("x", "grid"))


@fewer
@given(
    data=st.data(), mode=st.sampled_from(["avg", "max"]), ratio=st.integers(0, 2),
    half=st.sampled_from(["half_pixel", "output_half_pixel"]),
)  # fmt: skip
def test_roi_align(tf: Any, data: Draw, mode: str, ratio: int, half: str) -> None:
    high, wide, rows, columns = (data.draw(st.integers(1, 6)) for _ in range(4))
    starts = data.draw(st.lists(st.tuples(st.floats(-4, 12), st.floats(-4, 12)), min_size=3, max_size=3))
    spans = data.draw(st.lists(st.tuples(st.floats(0, 12), st.floats(0, 12)), min_size=3, max_size=3))
    rois = np.array([[a, b, a + c, b + d] for (a, b), (c, d) in zip(starts, spans, strict=True)], np.float32)
    inputs = {"x": rand(2, 3, high + 3, wide + 3), "rois": rois, "batches": np.array([1, 0, 1], np.int64)}
    node = helper.make_node(
        "RoiAlign", [*inputs], ["y"], mode=mode, sampling_ratio=ratio, coordinate_transformation_mode=half,
        output_height=rows, output_width=columns, spatial_scale=0.5,
    )  # fmt: skip
    check(tf, node, inputs, {}, 16, batch=("x", "rois", "batches"))


@fewer
@given(data=st.data())
def test_max_roi_pool(tf: Any, data: Draw) -> None:
    cells = [data.draw(st.integers(1, 4)) for _ in range(2)]
    numbers = st.tuples(st.integers(0, 1), *[st.integers(0, 12) for _ in range(4)])
    rois = np.array(data.draw(st.lists(numbers, min_size=3, max_size=3)), np.float32)
    rois[:, 3:] += rois[:, 1:3]
    inputs = {"x": rand(2, 3, 7, 9), "rois": rois}
    node = helper.make_node("MaxRoiPool", [*inputs], ["y"], pooled_shape=cells, spatial_scale=0.5)
    check(tf, node, inputs, {}, 13, batch=("x", "rois"))


@fewer
@given(
    data=st.data(), centre=st.integers(0, 1), most=st.integers(0, 6), overlap=st.floats(0, 0.9), lowest=st.floats(-1, 1)
)
def test_non_max_suppression(tf: Any, data: Draw, centre: int, most: int, overlap: float, lowest: float) -> None:
    rng = np.random.default_rng(data.draw(st.integers(0, 99)))
    constants = {
        "most": np.array([most]),
        "overlap": np.array([overlap], np.float32),
        "low": np.array([lowest], np.float32),
    }
    inputs = {"boxes": rng.random((2, 8, 4), np.float32), "scores": rng.random((2, 3, 8), np.float32)}
    node = helper.make_node("NonMaxSuppression", [*inputs, *constants], ["y"], center_point_box=centre)
    check(tf, node, inputs, constants, 11, batch=("boxes", "scores"))
