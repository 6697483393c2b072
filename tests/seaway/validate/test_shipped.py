"""Models that are no characters, through export, convert and validate."""

import dataclasses
import json
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
import torch
import torchvision
from onnx import helper, numpy_helper

from seaway.artifacts import artifact_metadata, golden
from seaway.artifacts.artifact_metadata import ArtifactMetadata, Tensor
from seaway.convert.convert import CONVERTERS, convert_artifact
from seaway.errors import ModelError, Refused
from seaway.export import comparison, model_file, symbolics
from seaway.export.export import export_model
from seaway.publish.publish import publish
from seaway.validate import runners
from seaway.validate.hops import Hop
from seaway.validate.validate import validate

FIXTURES = Path(__file__).resolve().parents[2] / "fixtures"

# Product processes never hold both torch and TensorFlow, so the gate itself is run in one of its own.
GATE = """
import sys
from seaway.validate.__main__ import main
main()
assert "tensorflow" in sys.modules and "torch" not in sys.modules
"""


def parity(folder: Path) -> ArtifactMetadata:
    return validate(folder / "onnx", folder / "saved_model", None, folder / "parity")


@pytest.fixture(scope="module")
def resnet(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """resnet18 at random, with running statistics as after training: fresh ones would hide errors in normalisation."""
    folder = tmp_path_factory.mktemp("resnet")
    torch.manual_seed(3)
    weights = torchvision.models.resnet18().state_dict()
    for name, value in weights.items():
        if name.endswith("running_mean"):
            value.normal_(std=0.2)
        if name.endswith("running_var"):
            value.uniform_(0.5, 2)
    torch.save(weights, folder / "weights.pt")
    (folder / "labels.txt").write_text("".join(f"class {i}\n" for i in range(1000)))
    export_model(
        "python:torchvision.models:resnet18",
        folder / "onnx",
        weights=folder / "weights.pt",
        inputs=["3x32x32"],
        labels=folder / "labels.txt",
    )
    convert_artifact(folder / "onnx", folder / "saved_model")
    return folder


@pytest.mark.parametrize("converter", CONVERTERS)
def test_two_inputs_of_two_types(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, converter: str) -> None:
    monkeypatch.syspath_prepend(FIXTURES)
    inputs = ["numeric:6", "category:3:int64"]
    export_model("python:shipped_nets:churn", tmp_path / "onnx", weights=None, inputs=inputs, converter=converter)
    convert_artifact(tmp_path / "onnx", tmp_path / "saved_model", converter)
    options = ["--onnx", "onnx", "--saved-model", "saved_model", "--parity", "parity", "--report", "report.html"]
    done = subprocess.run(
        [sys.executable, "-c", GATE, *options], cwd=tmp_path, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    assert done.stderr == ""
    assert "churn matches PyTorch in ONNX Runtime and TensorFlow" in done.stdout
    metadata = artifact_metadata.check(tmp_path / "parity", "parity")
    assert metadata.inputs == (Tensor("numeric", "float32", (None, 6)), Tensor("category", "int64", (None, 3)))
    assert "✓ matches PyTorch at every hop" in (tmp_path / "report.html").read_text(encoding="utf-8")


def test_reports_name_onnx_runtime_where_the_model_came_as_an_onnx_file(tmp_path: Path) -> None:
    sides = ([helper.make_tensor_value_info(n, onnx.TensorProto.FLOAT, ["n", 3])] for n in ("x", "y"))
    graph_proto = helper.make_graph([helper.make_node("Tanh", ["x"], ["y"])], "net", *sides)
    onnx.save(
        helper.make_model(graph_proto, opset_imports=[helper.make_opsetid("", 17)], ir_version=8), tmp_path / "t.onnx"
    )
    export_model(str(tmp_path / "t.onnx"), tmp_path / "onnx", weights=None, inputs=[])
    convert_artifact(tmp_path / "onnx", tmp_path / "saved_model")
    options = ["--onnx", "onnx", "--saved-model", "saved_model", "--parity", "parity", "--report", "report.html"]
    done = subprocess.run(
        [sys.executable, "-c", GATE, *options], cwd=tmp_path, capture_output=True, text=True, check=False
    )
    assert "t matches ONNX Runtime in ONNX Runtime and TensorFlow" in done.stdout, done.stderr
    page = (tmp_path / "report.html").read_text(encoding="utf-8")
    assert "matches ONNX Runtime at every hop" in page
    assert "|ONNX Runtime&#39;s|" in page
    assert "distance from ONNX Runtime, y" in page
    assert "PyTorch" not in page + done.stdout
    assert Hop("SavedModel", "ONNX Runtime", flipped=1).faults("test set") == [
        "SavedModel, test set: 1 outputs choose a different class from ONNX Runtime's"
    ]


@pytest.mark.parametrize("converter", CONVERTERS)
def test_minutes_before_midnight(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, converter: str) -> None:
    """-30 // 60 is -1, and -1 % 24 is 23: in ONNX Runtime and in TensorFlow."""
    monkeypatch.syspath_prepend(FIXTURES)
    inputs = ["minute:scalar:int64"]
    options: Any = {"weights": None, "inputs": inputs, "activation": "none", "converter": converter}
    export_model("python:shipped_nets:WrapHours", tmp_path / "onnx", **options)
    convert_artifact(tmp_path / "onnx", tmp_path / "saved_model", converter)
    assert parity(tmp_path).kind == "parity"
    weights = {i.name: numpy_helper.to_array(i) for i in onnx.load(tmp_path / "onnx/model.onnx").graph.initializer}
    hour_23 = weights["hours.weight"][23] @ weights["out.weight"].T + weights["out.bias"]
    signatures = runners.tensorflow(tmp_path / "saved_model")
    for run in (runners.onnx_runtime(tmp_path / "onnx/model.onnx"), signatures(["serving_default", "logits"])):
        logits = run({"minute": np.array([-30, -1, 1439])})["logits"]
        np.testing.assert_allclose(logits, np.tile(hour_23, (3, 1)), atol=1e-5)


def test_minutes_rounded_towards_zero_are_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The graph as the exporter alone writes it, past the export's own comparison."""
    monkeypatch.syspath_prepend(FIXTURES)
    monkeypatch.setattr(symbolics, "_FUNCTIONS", {})
    monkeypatch.setattr(comparison, "compare", lambda *arguments: None)
    inputs = ["minute:scalar:int64"]
    options: Any = {"weights": None, "inputs": inputs, "exporter": "torchscript"}
    export_model("python:shipped_nets:WrapHours", tmp_path / "onnx", **options)
    convert_artifact(tmp_path / "onnx", tmp_path / "saved_model")
    report = tmp_path / "report.html"
    with pytest.raises(Refused, match=r"(?s)golden examples, ONNX Runtime: .*golden examples, SavedModel: "):
        validate(tmp_path / "onnx", tmp_path / "saved_model", None, tmp_path / "parity", report)
    assert "-9223372036854775808 to 9223372036854775807" in report.read_text(encoding="utf-8")


def test_repeated_indices_are_summed_and_onnx_tf_refuses_them(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(FIXTURES)
    metadata = export_model(
        "python:shipped_nets:Collects", tmp_path / "onnx", weights=None, inputs=["x:6", "place:6:int64"]
    )
    assert metadata.settings["opset"] == 20
    with pytest.raises(ModelError, match=r"ends at opset 15.*ScatterElements-18.*--converter seaway"):
        convert_artifact(tmp_path / "onnx", tmp_path / "saved_model", "onnx-tf")
    convert_artifact(tmp_path / "onnx", tmp_path / "saved_model")
    assert parity(tmp_path).kind == "parity"


def test_weights_beside_the_file_as_of_over_two_gibibytes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(FIXTURES)
    monkeypatch.setattr(model_file, "MAX_BYTES", 100)
    metadata = export_model("python:shipped_nets:tiny_vit", tmp_path / "onnx", weights=None, inputs=["3x16x16"])
    assert (tmp_path / "onnx" / "model.onnx.data").stat().st_size > 4096
    assert "encoder.layers.encoder_layer_0.self_attention.in_proj_weight" in metadata.weights
    convert_artifact(tmp_path / "onnx", tmp_path / "saved_model")
    assert parity(tmp_path).kind == "parity"


def test_other_outputs_for_nan_are_told_but_do_not_refuse(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """TensorFlow's MaxPool skips NaN, which PyTorch's and ONNX Runtime's return."""
    monkeypatch.syspath_prepend(FIXTURES)
    onnx_folder, saved_model = tmp_path / "onnx", tmp_path / "saved_model"
    metadata = export_model("python:derived_nets:max_pool", onnx_folder, weights=None, inputs=["1x8x8"])
    assert metadata.settings["unusual"] == ["infinities", "NaN"]
    assert "without infinities, NaN: the outputs are not finite" in metadata.settings["floats"]
    convert_artifact(onnx_folder, saved_model)
    report = tmp_path / "report.html"
    validate(onnx_folder, saved_model, None, tmp_path / "parity", report)
    checks = json.loads((tmp_path / "parity/parity.json").read_text())["checks"]
    (told,) = (check for check in checks if "NaN" in check["name"])
    assert told["passed"]
    assert "NaN: SavedModel gives other output_0" in told["note"]
    assert "NaN: SavedModel gives other output_0" in report.read_text(encoding="utf-8")
    (tmp_path / "models").mkdir()
    number = publish(onnx_folder, saved_model, tmp_path / "parity", tmp_path / "models")
    assert not (tmp_path / "models" / metadata.name / str(number) / "assets.extra" / golden.UNUSUAL).exists()


def test_resnet18(resnet: Path) -> None:
    metadata = parity(resnet)
    assert metadata.inputs[0].shape == (None, 3, 32, 32)
    assert len(metadata.labels) == 1000
    assert len(metadata.parents["onnx"].weights) == 102
    assert not (resnet / "saved_model/assets").exists()


@pytest.fixture
def misread(resnet: Path, tmp_path: Path) -> Any:
    """Makes a SavedModel that reshapes or transposes its input before resnet18 sees it, with the right model's card."""

    def build(nodes: list[Any], shapes: dict[str, list[int]]) -> None:
        shutil.copytree(resnet / "onnx", tmp_path / "onnx")
        shutil.copytree(resnet / "onnx", tmp_path / "edited")
        model = onnx.load(tmp_path / "edited/model.onnx")
        name = model.graph.input[0].name
        for node in model.graph.node:
            node.input[:] = ["misread" if i == name else i for i in node.input]
        body = list(model.graph.node)
        del model.graph.node[:]
        model.graph.node.extend([*nodes, *body])
        model.graph.initializer.extend(numpy_helper.from_array(np.array(s), n) for n, s in shapes.items())
        onnx.save(model, tmp_path / "edited/model.onnx")
        artifact_metadata.write(tmp_path / "edited", artifact_metadata.read(tmp_path / "edited"))
        made = convert_artifact(tmp_path / "edited", tmp_path / "saved_model")
        parent = artifact_metadata.read(tmp_path / "onnx")
        artifact_metadata.write(tmp_path / "saved_model", dataclasses.replace(made, parents={"onnx": parent}))

    return build


def test_nchw_fed_as_nhwc(resnet: Path, tmp_path: Path, misread: Any) -> None:
    """The bytes of [N, 3, H, W] read as [N, H, W, 3]: every shape fits, every weight is there, and all is wrong."""
    name = artifact_metadata.read(resnet / "onnx").inputs[0].name
    nodes = [
        helper.make_node("Reshape", [name, "as_nhwc"], ["nhwc"], "reshaped"),
        helper.make_node("Transpose", ["nhwc"], ["misread"], "transposed", perm=[0, 3, 1, 2]),
    ]
    misread(nodes, {"as_nhwc": [-1, 32, 32, 3]})
    with pytest.raises(Refused) as caught:
        parity(tmp_path)
    *faults, operator = str(caught.value).splitlines()[1:]
    assert faults
    assert operator.startswith("the first operator that differs is ")
    assert all(line.strip().startswith("golden examples, SavedModel: SavedModel, golden examples") for line in faults)
    assert not (tmp_path / "parity").exists()


def test_the_same_rebuilding_without_the_fault_passes(resnet: Path, tmp_path: Path, misread: Any) -> None:
    misread(
        [helper.make_node("Identity", [artifact_metadata.read(resnet / "onnx").inputs[0].name], ["misread"], "same")],
        {},
    )
    assert parity(tmp_path).kind == "parity"
