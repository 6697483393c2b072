"""A whole model through our own converter: interface, numbers, weights, bytes, and refusals."""

from pathlib import Path
from typing import Any

import numpy as np
import one_node
import onnx
import pytest
from onnx import helper

from seaway.artifacts import artifact_metadata
from seaway.convert.convert import convert, convert_artifact
from seaway.errors import ModelError


@pytest.fixture
def saved(tmp_path: Path, image_artifact: Path) -> Path:
    convert_artifact(image_artifact, tmp_path / "saved_model", "seaway")
    return tmp_path / "saved_model"


def graph_of(saved: Path) -> Any:
    from tensorflow.core.protobuf.saved_model_pb2 import SavedModel  # type: ignore[import-untyped]

    return SavedModel.FromString((saved / "saved_model.pb").read_bytes()).meta_graphs[0].graph_def


def variables(tf: Any, saved: Path) -> list[np.ndarray]:
    reader = tf.train.load_checkpoint(str(saved / "variables" / "variables"))
    return [reader.get_tensor(name) for name in reader.get_variable_to_dtype_map() if "VARIABLE_VALUE" in name]


@pytest.mark.parametrize("batch", [1, 7])
def test_outputs_agree_with_onnx_runtime(tf: Any, image_artifact: Path, saved: Path, batch: int) -> None:
    import onnxruntime

    image = np.random.default_rng(1).random((batch, 12, 10, 1), dtype=np.float32)
    session = onnxruntime.InferenceSession(str(image_artifact / "model.onnx"), providers=["CPUExecutionProvider"])
    expected = dict(zip(("scores", "logits"), session.run(["scores", "logits"], {"image": image}), strict=True))
    signatures = tf.saved_model.load(str(saved)).signatures
    for signature, name in (("serving_default", "scores"), ("logits", "logits")):
        outputs = {k: v.numpy() for k, v in signatures[signature](image=tf.constant(image)).items()}
        assert list(outputs) == [name]
        assert np.allclose(outputs[name], expected[name], rtol=0, atol=1e-5)
    assert "from_png" in signatures


def test_weights_occur_once_and_unchanged_and_no_python_function_does(tf: Any, image_model: Any, saved: Path) -> None:
    graph = graph_of(saved)
    nodes = [*graph.node, *(node for function in graph.library.function for node in function.node_def)]
    constants = [tf.make_ndarray(node.attr["value"].tensor) for node in nodes if node.op == "Const"]
    constants += variables(tf, saved)
    checksums = [artifact_metadata.checksum(constant) for constant in constants if constant.dtype == np.float32]
    for weight in (w for w in image_model.graph.initializer if w.dims):  # a scalar may occur elsewhere too
        assert checksums.count(artifact_metadata.checksum(onnx.numpy_helper.to_array(weight))) == 1, weight.name
    assert not [node.op for node in nodes if "PyFunc" in node.op]


def test_channels_stay_last_if_the_model_takes_them_last(saved: Path) -> None:
    """The image is channels last and the model transposes it: neither that Transpose nor the convolution's remains."""
    functions = graph_of(saved).library.function
    moved = [node for function in functions for node in function.node_def if node.op == "Transpose"]
    assert len(moved) == 1, "only the one before Flatten"


def test_a_depthwise_convolution_never_has_explicit_pads(tf: Any, make: Any, tmp_path: Path) -> None:
    """TensorFlow 2.21 with oneDNN fuses it with the next operator, drops the pads, and aborts the process."""
    window = {"kernel_shape": [3, 3], "strides": [2, 2], "pads": [1, 1, 1, 1], "group": 4}
    nodes = [helper.make_node("Conv", ["x", "w", "b"], ["c"], **window), helper.make_node("Relu", ["c"], ["y"])]
    generator = np.random.default_rng(0)
    weights = {name: generator.normal(size=size).astype(np.float32) for name, size in (("w", (4, 1, 3, 3)), ("b", 4))}
    model = make(nodes, {"x": ["n", 4, 8, 8]}, {"y": ["n", 4, 4, 4]}, weights=weights)
    onnx.save(model, tmp_path / "model.onnx")
    convert(tmp_path / "model.onnx", tmp_path / "saved", "seaway")
    functions = graph_of(tmp_path / "saved").library.function
    nodes = [node for function in functions for node in function.node_def]
    [padding] = [node.attr["padding"].s for node in nodes if node.op == "DepthwiseConv2dNative"]
    assert padding == b"VALID"
    assert [node.op for node in nodes].count("Pad") == 1


def test_equal_weights_are_one_variable_and_external_data_is_read(tf: Any, make: Any, tmp_path: Path) -> None:
    import onnxruntime

    weight = np.random.default_rng(2).normal(size=(40, 40)).astype(np.float32)
    nodes = [
        helper.make_node("MatMul", ["x", "first"], ["a"]),
        helper.make_node("MatMul", ["a", "second"], ["b"]),
        helper.make_node("MatMul", ["b", "third"], ["y"]),
    ]
    tied = {"first": weight, "second": weight.copy(), "third": weight + 1}
    model = make(nodes, {"x": ["n", 40]}, {"y": ["n", 40]}, weights=tied)
    path = tmp_path / "model.onnx"
    onnx.save(model, path, save_as_external_data=True, location="model.data", size_threshold=0)
    assert path.stat().st_size < weight.nbytes < (tmp_path / "model.data").stat().st_size
    convert(path, tmp_path / "saved", "seaway")
    x = np.random.default_rng(3).normal(size=(5, 40)).astype(np.float32)
    (expected,) = onnxruntime.InferenceSession(str(path), providers=["CPUExecutionProvider"]).run(None, {"x": x})
    outputs = tf.saved_model.load(str(tmp_path / "saved")).signatures["serving_default"](x=tf.constant(x))["y"].numpy()
    assert np.allclose(outputs, expected, rtol=1e-4)
    assert sorted(v.tobytes() for v in variables(tf, tmp_path / "saved")) == sorted(
        tied[name].tobytes() for name in ("first", "third")
    )


def test_every_unsupported_node_is_named_at_once(make: Any) -> None:
    from seaway.convert.native import net

    nodes = [
        helper.make_node("Relu", ["x"], ["a"]),
        helper.make_node("SequenceConstruct", ["a"], ["s"], "first"),
        helper.make_node("SequenceAt", ["s", "i"], ["b"], "second"),
        helper.make_node("SplitToSequence", ["b"], ["t"], axis=1),
        helper.make_node("ConcatFromSequence", ["t"], ["y"], "fourth", axis=1, new_axis=0),
    ]
    model = make(nodes, {"x": ["n", 2]}, {"y": ["n", 2]}, weights={"i": np.int64(0)})
    with pytest.raises(ModelError) as caught:
        net.convert(model)
    named = "SequenceConstruct-11 (first); SequenceAt-11 (second); SplitToSequence-11 (t) with axis=1; "
    named += "ConcatFromSequence-11 (fourth) with axis=1, new_axis=0."
    assert str(caught.value).startswith(f"4 of the model's nodes cannot be converted: {named}")


def test_large_attributes_are_not_shown() -> None:
    from seaway.convert.native import graph

    proto = helper.make_node("Op", ["x"], ["y"], "n", domain="own", kernel=[3, 3], table=[*range(99)], mode="cubic")
    assert str(graph.node(proto, {"own": 2})) == "own.Op-2 (n) with kernel=[3, 3], mode=cubic"


def test_an_error_while_building_names_the_node(tf: Any, make: Any) -> None:
    from seaway.convert.native import net

    node = helper.make_node("MatMul", ["x", "w"], ["y"], "product")
    model = make([node], {"x": ["n", 2]}, {"y": ["n", 2]}, weights={"w": np.ones((3, 2), np.float32)})
    converted = net.convert(model)
    with pytest.raises(ModelError, match=r"MatMul-13 \(product\) over float32 \(None, 2\), float32 \(3, 2\)"):
        tf.function(converted, autograph=False).get_concrete_function({"x": tf.TensorSpec([None, 2])})


def test_all_independent_failures_are_named_at_once(tf: Any, make: Any) -> None:
    from seaway.convert.native import net

    nodes = [
        helper.make_node("MatMul", ["x", "w"], ["a"], "one"),
        helper.make_node("Relu", ["a"], ["b"], "after"),
        helper.make_node("MatMul", ["x", "w"], ["c"], "two"),
        helper.make_node("Add", ["b", "c"], ["y"], "last"),
    ]
    model = make(nodes, {"x": ["n", 2]}, {"y": ["n", 2]}, weights={"w": np.ones((3, 2), np.float32)})
    with pytest.raises(ModelError, match=r"^MatMul-13 \(one\) .*; MatMul-13 \(two\) ") as caught:
        tf.function(net.convert(model), autograph=False).get_concrete_function({"x": tf.TensorSpec([None, 2])})
    assert "after" not in str(caught.value)
    assert "last" not in str(caught.value)


def test_an_initial_state_of_unknown_size(tf: Any) -> None:
    """As tf2onnx writes a Keras LSTM: zeros of a shape that is computed."""
    rng = np.random.default_rng(1)
    weights = {
        "w": rng.normal(size=(1, 16, 3)).astype(np.float32), "r": rng.normal(size=(1, 16, 4)).astype(np.float32),
        "size": np.array([4], np.int64), "one": np.array([1], np.int64), "axis": np.array([1], np.int64),
    }  # fmt: skip
    nodes = [
        helper.make_node("Transpose", ["x"], ["steps"], perm=[1, 0, 2]),
        helper.make_node("Shape", ["x"], ["shape"]),
        helper.make_node("Gather", ["shape", "start"], ["batch"]),
        helper.make_node("Concat", ["one", "batch", "size"], ["sizes"], axis=0),
        helper.make_node("Cast", ["sizes"], ["small"], to=onnx.TensorProto.INT32),
        helper.make_node("Cast", ["small"], ["wide"], to=onnx.TensorProto.INT64),
        helper.make_node("ConstantOfShape", ["wide"], ["h"]),
        helper.make_node("LSTM", ["steps", "w", "r", "", "", "h", "h"], ["y"], hidden_size=4),
    ]
    weights["start"] = np.array([0], np.int64)
    one_node.check(nodes, {"x": rng.normal(size=(2, 5, 3)).astype(np.float32)}, weights, tolerance=1e-5)


def test_sizes_stay_known_through_a_reshaped_list_of_them(tf: Any, make: Any, tmp_path: Path) -> None:
    """As torch.export writes the zeros of a recurrent layer's state, whose last size then slices a weight."""
    constants = {"all": [-1], "four": [4], "width": [64], "zero": [0]}
    nodes = [
        helper.make_node("Shape", ["x"], ["first"], start=0, end=1),
        helper.make_node("Squeeze", ["first"], ["batch"]),
        helper.make_node("Reshape", ["batch", "all"], ["batches"]),
        helper.make_node("Concat", ["four", "batches", "width"], ["sizes"], axis=0),
        helper.make_node("Expand", ["fill", "sizes"], ["zeros"]),
        helper.make_node("Shape", ["zeros"], ["end"], start=2, end=3),
        helper.make_node("Slice", ["w", "zero", "end", "zero"], ["part"]),
        helper.make_node("MatMul", ["x", "part"], ["y"]),
    ]
    weights = {name: np.array(sizes, np.int64) for name, sizes in constants.items()}
    weights |= {"fill": np.array(0, np.float32), "w": np.random.default_rng(0).normal(size=(80, 5)).astype(np.float32)}
    model = make(nodes, {"x": ["n", 64]}, {"y": ["n", 5]}, weights=weights, opset=20)
    onnx.save(model, tmp_path / "model.onnx")
    convert(tmp_path / "model.onnx", tmp_path / "saved", "seaway")
    functions = graph_of(tmp_path / "saved").library.function
    assert not {node.op for function in functions for node in function.node_def} & {"Less", "SelectV2", "StridedSlice"}
    x = np.ones((3, 64), np.float32)
    y = tf.saved_model.load(str(tmp_path / "saved")).signatures["serving_default"](x=tf.constant(x))["y"].numpy()
    np.testing.assert_allclose(y, x @ weights["w"][:64], rtol=1e-5)


@pytest.mark.parametrize("dtype", ["float32", "float16"])
def test_divisions_are_rounded_as_onnx_rounds_them(tf: Any, dtype: str) -> None:
    """TensorFlow's reciprocal of 8 is 0.12499999, and it multiplies by the reciprocal of a constant: floor and
    comparisons then give another number."""
    constants = {"one": 1, "c": 0.3, "eight": 8, "minus": -4, "e": 0.125, "several": [0.3, 8, 7, 1]}
    weights = {name: np.array(value, dtype) for name, value in constants.items()}
    nodes = [
        helper.make_node("Reciprocal", ["x"], ["r"]),
        helper.make_node("Div", ["one", "x"], ["d"]),
        helper.make_node("Div", ["x", "c"], ["q"]),
        helper.make_node("Floor", ["q"], ["f"]),
        helper.make_node("Div", ["x", "several"], ["s"]),
        helper.make_node("Div", ["x", "eight"], ["exact"]),
        helper.make_node("Div", ["x", "minus"], ["negative"]),
        helper.make_node("Div", ["x", "x"], ["self"]),
        helper.make_node("Less", ["r", "e"], ["below"]),
    ]
    outputs = ["r", "d", "q", "s", "exact", "negative", "self"]
    if dtype == "float32":  # ONNX Runtime does not round a half that goes on
        outputs += ["f", "below"]
    x = np.arange(1, 2001).astype(dtype).reshape(500, 4)
    one_node.check(nodes, {"x": x}, weights, outputs=outputs, tolerance=0)


def test_divisions_of_old_opsets_are_rounded_so_too(tf: Any) -> None:
    """ONNX Runtime begins at opset 7."""
    x, c = np.arange(1, 2001, dtype=np.float32), np.float32(0.3)
    node = helper.make_node("Div", ["x", "c"], ["q"], broadcast=1)
    (q,) = one_node.converted(one_node.model([node], {"x": x}, ["q"], {"c": c}, {"": 6}), {"x": x})
    np.testing.assert_array_equal(q, x / c)
