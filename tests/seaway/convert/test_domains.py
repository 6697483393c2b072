"""Files with operators of other domains than ONNX's default one: converted whole, or refused by name."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime
import pytest
from onnx import TensorProto, helper

from seaway.convert.convert import convert
from seaway.errors import ModelError

IMPORTS = {"": 17, "ai.onnx.ml": 3, "com.microsoft": 1, "com.microsoft.nchwc": 1, "own": 1}


def written(path: Path, nodes: list[Any], outputs: list[Any], opset: int = 17) -> Path:
    graph = helper.make_graph(nodes, "g", [helper.make_tensor_value_info("x", TensorProto.FLOAT, ["n", 3])], outputs)
    imports = [helper.make_opsetid(domain, version) for domain, version in {**IMPORTS, "": opset}.items()]
    path.write_bytes(helper.make_model(graph, opset_imports=imports, ir_version=8).SerializeToString())
    return path


def floats() -> Any:
    return helper.make_tensor_value_info("y", TensorProto.FLOAT, ["n", 3])


def classifier() -> Any:
    return helper.make_node(
        "TreeEnsembleClassifier", ["x"], ["label", "scores"], domain="ai.onnx.ml", nodes_treeids=[0, 0, 0],
        nodes_nodeids=[0, 1, 2], nodes_featureids=[1, 0, 0], nodes_values=[0.5, 0.0, 0.0],
        nodes_modes=["BRANCH_LEQ", "LEAF", "LEAF"], nodes_truenodeids=[1, 0, 0], nodes_falsenodeids=[2, 0, 0],
        class_treeids=[0, 0], class_nodeids=[1, 2], class_ids=[0, 0], class_weights=[0.25, 0.75],
        classlabels_strings=["no", "ja"],
    )  # fmt: skip


@pytest.mark.parametrize("declared", ["n", 1])
def test_a_classifier_as_a_saved_model(tf: Any, tmp_path: Path, declared: Any) -> None:
    """onnxmltools declares one label for any number of rows."""
    label = helper.make_tensor_value_info("label", TensorProto.STRING, [declared])
    scores = helper.make_tensor_value_info("scores", TensorProto.FLOAT, ["n", 2])
    path = written(tmp_path / "m.onnx", [classifier()], [label, scores])
    convert(path, tmp_path / "saved")
    results = tf.saved_model.load(str(tmp_path / "saved")).signatures["serving_default"](
        x=tf.constant([[0, 0.5, 0], [0, 0.75, 0], [0, np.nan, 0]], tf.float32)
    )
    assert results["label"].numpy().tolist() == [b"no", b"ja", b"ja"]
    assert results["scores"].numpy().tolist() == [[0.75, 0.25], [0.25, 0.75], [0.25, 0.75]]
    report = json.loads((tmp_path / "saved" / "conversion.json").read_text())
    assert report["onnx"]["operators"] == {"TreeEnsembleClassifier": 1} and report["constants"] == []


def test_zipmap_is_refused_with_the_option_that_leaves_it_out(tmp_path: Path) -> None:
    zipped = helper.make_node("ZipMap", ["scores"], ["y"], domain="ai.onnx.ml", classlabels_strings=["no", "ja"])
    kind = helper.make_sequence_type_proto(
        helper.make_map_type_proto(TensorProto.STRING, helper.make_tensor_type_proto(TensorProto.FLOAT, []))
    )
    path = written(tmp_path / "m.onnx", [classifier(), zipped], [helper.make_value_info("y", kind)])
    with pytest.raises(ModelError, match=r"it has ZipMap.*\{'zipmap': False\}"):
        convert(path, tmp_path / "saved")


@pytest.mark.parametrize("domain", ["", "ai.onnx.ml", "com.microsoft", "own"])
def test_an_unknown_operator_is_refused_by_name(tmp_path: Path, domain: str) -> None:
    path = written(tmp_path / "m.onnx", [helper.make_node("Foo", ["x"], ["y"], "foo_1", domain=domain)], [floats()])
    name = f"{domain}.Foo-" if domain else "Foo-"
    with pytest.raises(ModelError, match=rf"cannot be converted: {name}\d+ \(foo_1\)"):
        convert(path, tmp_path / "saved")


def test_onnxruntimes_own_operators_in_the_default_domain(tf: Any, tmp_path: Path) -> None:
    """ONNX's checker does not know them."""
    nodes = [
        helper.make_node("Constant", [], ["g"], value_floats=[1.0, 2.0, 3.0]),
        helper.make_node("SimplifiedLayerNormalization", ["x", "g"], ["y"], axis=-1, epsilon=1e-5),
    ]
    path = written(tmp_path / "m.onnx", nodes, [floats()], 13)
    convert(path, tmp_path / "saved")
    x = np.array([[1, 2, 3]], np.float32)
    result = tf.saved_model.load(str(tmp_path / "saved")).signatures["serving_default"](x=tf.constant(x))["y"].numpy()
    np.testing.assert_allclose(result, x / np.sqrt(14 / 3) * [1, 2, 3], 1e-5)


def optimized(model: Any, path: Path, level: Any) -> Path:
    options = onnxruntime.SessionOptions()
    options.graph_optimization_level, options.log_severity_level = level, 4
    options.optimized_model_filepath = str(path)
    onnxruntime.InferenceSession(model.SerializeToString(), options, ["CPUExecutionProvider"])
    return path


def test_a_file_that_onnxruntime_optimized(tf: Any, tmp_path: Path, image_model: Any) -> None:
    path = optimized(image_model, tmp_path / "m.onnx", onnxruntime.GraphOptimizationLevel.ORT_ENABLE_EXTENDED)
    assert "FusedConv" in {node.op_type for node in onnx.load(path).graph.node}
    convert(path, tmp_path / "saved")
    x = np.random.default_rng(1).normal(size=(4, 12, 10, 1)).astype(np.float32)
    expected = onnxruntime.InferenceSession(path, providers=["CPUExecutionProvider"]).run(None, {"image": x})
    results = tf.saved_model.load(str(tmp_path / "saved")).signatures["serving_default"](image=tf.constant(x))
    for name, value in zip(("scores", "logits"), expected, strict=True):
        np.testing.assert_allclose(results[name].numpy(), value, 1e-4, 1e-5)


def test_the_layout_of_the_highest_level_is_refused(tmp_path: Path) -> None:
    conv = helper.make_node("Conv", ["x", "w"], ["y"], domain="com.microsoft.nchwc")
    path = written(tmp_path / "m.onnx", [helper.make_node("Constant", [], ["w"], value_float=1.0), conv], [floats()])
    with pytest.raises(ModelError, match=r"com.microsoft.nchwc.Conv.*ORT_ENABLE_EXTENDED"):
        convert(path, tmp_path / "saved")
