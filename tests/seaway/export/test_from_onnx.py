"""An ONNX file from elsewhere as an artifact: its interface, its examples, and what is refused."""

from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
import torchvision  # noqa: F401  before TensorFlow: the other way round, importing it ends the process
from onnx import TensorProto, helper, numpy_helper

from seaway.artifacts import golden
from seaway.artifacts.artifact_metadata import Tensor
from seaway.convert.convert import convert_artifact
from seaway.errors import InvalidInput, ModelError, Refused, Unsupported
from seaway.export.export import export_model
from seaway.validate.validate import validate

FLOAT = TensorProto.FLOAT
WEIGHT = np.random.default_rng(0).standard_normal((3, 4)).astype(np.float32)


def save(
    path: Path, nodes: list[Any], inputs: dict[str, Any], outputs: dict[str, Any], kind: int = FLOAT, **weights: Any
) -> Path:
    sides = ([helper.make_tensor_value_info(n, kind, s) for n, s in side.items()] for side in (inputs, outputs))
    initializers = [numpy_helper.from_array(array, name) for name, array in weights.items()]
    graph = helper.make_graph(nodes, "net", *sides, initializers)
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8), path)
    return path


@pytest.fixture
def steps(tmp_path: Path) -> Path:
    """x [n, L, 3] → y [n, L, 4] and z, its sum over L; an unused weight."""
    nodes = [
        helper.make_node("MatMul", ["x.1", "w"], ["y"]),
        helper.make_node("ReduceSum", ["y", "axes"], ["z"], keepdims=0),
    ]
    shapes: dict[str, Any] = {"y": ["n", "L", 4], "z": ["n", "anything"]}
    weights = {"w": WEIGHT, "axes": np.int64([1]), "unused": np.float32([1, 2])}
    return save(tmp_path / "my steps.onnx", nodes, {"x.1": ["n", "L", 3]}, shapes, **weights)


def export(file: Path, folder: Path, **options: Any) -> Any:
    return export_model(str(file), folder, weights=None, inputs=[], **options)


def test_its_interface_weights_and_examples(steps: Path, tmp_path: Path) -> None:
    metadata = export(steps, tmp_path / "onnx", sizes=["L=1..20"])
    assert metadata.name == "my-steps"
    assert metadata.inputs == (Tensor("x_1", "float32", (None, None, 3)),)
    assert metadata.outputs == (Tensor("y", "float32", (None, None, 4)), Tensor("z", "float32", (None, 4)))
    assert list(metadata.weights) == ["w"]
    assert metadata.settings["reference"] == "ONNX Runtime"
    assert metadata.settings["model"] == "my steps.onnx"
    examples = golden.read(tmp_path / "onnx" / golden.GOLDEN)
    lengths = {call.inputs["x_1"].shape[1] for call in examples.whole()}
    assert {1, 7, 12, 20} <= lengths
    for call in examples.whole():
        np.testing.assert_allclose(call.outputs["y"], call.inputs["x_1"] @ WEIGHT, atol=1e-5)


def test_it_passes_the_gate_which_sees_a_changed_weight(steps: Path, tmp_path: Path) -> None:
    export(steps, tmp_path / "onnx", sizes=["L=1..20"])
    convert_artifact(tmp_path / "onnx", tmp_path / "saved_model")
    report = tmp_path / "report.html"
    validate(tmp_path / "onnx", tmp_path / "saved_model", None, tmp_path / "parity", report)
    assert "matches ONNX Runtime at every hop" in report.read_text(encoding="utf-8")

    model = onnx.load(tmp_path / "onnx" / "model.onnx")
    model.graph.initializer[0].CopyFrom(numpy_helper.from_array(WEIGHT * np.float32(1.01), "w"))
    onnx.save(model, tmp_path / "changed.onnx")
    export(tmp_path / "changed.onnx", tmp_path / "other", sizes=["L=1..20"])
    convert_artifact(tmp_path / "other", tmp_path / "other_model")
    with pytest.raises(Refused, match="was not converted from the current"):
        validate(tmp_path / "onnx", tmp_path / "other_model", None, tmp_path / "parity")


def test_outputs_are_selected_and_renamed(steps: Path, tmp_path: Path) -> None:
    metadata = export(steps, tmp_path / "onnx", sizes=["L=2..5"], outputs=["total=z"])
    assert [tensor.name for tensor in metadata.outputs] == ["total"]
    with pytest.raises(InvalidInput, match=r"--output a: .* has the outputs y, z"):
        export(steps, tmp_path / "onnx", sizes=["L=2..5"], outputs=["a"])


def test_own_examples_and_labels(steps: Path, tmp_path: Path) -> None:
    np.savez(tmp_path / "mine.npz", x_1=np.ones((5, 3, 3), np.float32))
    (tmp_path / "labels.txt").write_text("a\nb\nc\nd\n")
    options = {"sizes": ["L=1..9"], "outputs": ["z"], "golden": tmp_path / "mine.npz"}
    metadata = export(steps, tmp_path / "onnx", labels=tmp_path / "labels.txt", **options)
    assert metadata.labels == ("a", "b", "c", "d")
    assert golden.read(tmp_path / "onnx" / golden.GOLDEN).inputs["x_1"].shape == (5, 3, 3)
    (tmp_path / "labels.txt").write_text("a\nb\n")
    with pytest.raises(ModelError, match="names 2 classes, but the model has 4"):
        export(steps, tmp_path / "onnx", labels=tmp_path / "labels.txt", **options)


def test_a_file_of_fixed_sizes_is_one_call(tmp_path: Path) -> None:
    file = save(
        tmp_path / "m.onnx", [helper.make_node("MatMul", ["x", "w"], ["y"])], {"x": [1, 3]}, {"y": [1, 4]}, w=WEIGHT
    )
    metadata = export(file, tmp_path / "onnx")
    assert metadata.inputs == (Tensor("x", "float32", (1, 3)),)
    examples = golden.read(tmp_path / "onnx" / golden.GOLDEN)
    assert (examples.inputs, len(examples.calls)) == ({}, 1)


def test_rows_that_influence_each_other_are_refused(tmp_path: Path) -> None:
    node = helper.make_node("Softmax", ["x"], ["y"], axis=0)
    with pytest.raises(ModelError, match="rows of a batch influence each other"):
        export(save(tmp_path / "m.onnx", [node], {"x": ["n", 3]}, {"y": ["n", 3]}), tmp_path / "onnx")


@pytest.mark.parametrize(
    ("options", "error", "says"),
    [
        ({}, InvalidInput, "its axis 'L' is open: add the range, e.g. --size L=1..512"),
        ({"sizes": ["L=1..5", "M=1..5"]}, InvalidInput, "--size M=…: .* has the open axes L"),
        ({"sizes": ["L=1..5"], "activation": "softmax"}, InvalidInput, "--activation: only for python:MODULE:FUNCTION"),
        ({"sizes": ["L=1..5"], "batch": False}, InvalidInput, "--no-batch: only for python:MODULE:FUNCTION"),
    ],
)
def test_options_that_do_not_fit(steps: Path, tmp_path: Path, options: Any, error: Any, says: str) -> None:
    with pytest.raises(error, match=says):
        export(steps, tmp_path / "onnx", **options)
    assert not (tmp_path / "onnx").exists()


def test_files_that_are_none(tmp_path: Path) -> None:
    with pytest.raises(ModelError, match="no such file"):
        export(tmp_path / "none.onnx", tmp_path / "onnx")
    (tmp_path / "text.onnx").write_text("hello")
    with pytest.raises(ModelError, match="not an ONNX file"):
        export(tmp_path / "text.onnx", tmp_path / "onnx")
    strings = save(
        tmp_path / "m.onnx",
        [helper.make_node("Identity", ["x"], ["y"])],
        {"x": ["n"]},
        {"y": ["n"]},
        TensorProto.STRING,
    )
    with pytest.raises(Unsupported, match="'x' is of type str"):
        export(strings, tmp_path / "onnx")


def test_an_output_of_strings_can_be_left_out(tmp_path: Path) -> None:
    nodes = [
        helper.make_node("MatMul", ["x", "w"], ["y"]),
        helper.make_node("Cast", ["y"], ["t"], to=TensorProto.STRING),
    ]
    file = save(tmp_path / "m.onnx", nodes, {"x": ["n", 3]}, {"y": ["n", 4], "t": ["n", 4]}, w=WEIGHT)
    model = onnx.load(file)
    model.graph.output[1].type.tensor_type.elem_type = TensorProto.STRING
    onnx.save(model, file)
    with pytest.raises(Unsupported, match="'t' is of type str"):
        export(file, tmp_path / "onnx")
    assert [tensor.name for tensor in export(file, tmp_path / "onnx", outputs=["y"]).outputs] == ["y"]
