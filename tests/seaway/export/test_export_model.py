"""Any user's net: the exported artifact, and refusals."""

import inspect
import re
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime
import pytest
import torch
import torchvision
from onnx import numpy_helper

from seaway.artifacts import artifact_metadata, golden
from seaway.artifacts.artifact_metadata import ArtifactMetadata, Tensor, Tolerance
from seaway.errors import InvalidInput, ModelError, explain
from seaway.export.export import export_model

sys.path.append(str(Path(__file__).resolve().parents[2] / "fixtures"))
import shipped_nets

Ship = Callable[..., tuple[ArtifactMetadata, Path]]
CHURN = ("numeric:6", "category:3:int64")


def onnx_outputs(folder: Path, inputs: dict[str, np.ndarray], *names: str) -> dict[str, np.ndarray]:
    names = names or ("scores", "logits")
    session = onnxruntime.InferenceSession(folder / "model.onnx", providers=["CPUExecutionProvider"])
    return dict(zip(names, session.run(list(names), inputs), strict=True))


def initializers(folder: Path) -> dict[str, np.ndarray]:
    graph = onnx.load(folder / "model.onnx").graph
    return {tensor.name: numpy_helper.to_array(tensor) for tensor in graph.initializer}


def resnet18() -> torch.nn.Module:
    torch.manual_seed(11)
    net = torchvision.models.resnet18(weights=None)
    for module in net.modules():
        if isinstance(module, torch.nn.BatchNorm2d):
            module.running_mean.normal_(0, 0.1)
            module.running_var.uniform_(0.5, 1.5)
    return net.eval()


def test_resnet18_keeps_its_layout_and_every_weight(tmp_path: Path) -> None:
    net = resnet18()
    torch.save(net.state_dict(), tmp_path / "w.pt")
    onnx_dir = tmp_path / "onnx"
    metadata = export_model(
        "python:torchvision.models:resnet18", onnx_dir, weights=tmp_path / "w.pt", inputs=["3x64x64"], name="res"
    )
    assert artifact_metadata.check(onnx_dir, "onnx") == metadata
    assert metadata.inputs == (Tensor("x", "float32", (None, 3, 64, 64)),)
    assert metadata.outputs == (Tensor("output_0", "float32", (None, 1000)),)
    assert (metadata.name, metadata.labels, metadata.parents) == ("res", (), {})
    assert not (onnx_dir / "labels.txt").exists()

    floats = {k: v.numpy() for k, v in net.state_dict().items() if v.is_floating_point()}
    stored = initializers(onnx_dir)
    assert set(metadata.weights) == set(floats)
    for name, value in floats.items():
        assert np.array_equal(stored[name], value), name
        assert metadata.weights[name] == artifact_metadata.checksum(value)

    image = np.random.default_rng(0).standard_normal((5, 3, 64, 64)).astype(np.float32)
    with torch.no_grad():
        expected = net(torch.from_numpy(image)).numpy()
    outputs = onnx_outputs(onnx_dir, {"x": image}, "output_0")
    assert golden.compare(outputs["output_0"], expected, metadata.tolerances["output_0"]).wrong == 0


def test_two_inputs_of_two_dtypes(ship: Ship) -> None:
    metadata, folder = ship("churn", *CHURN, name="churn")
    assert metadata.inputs == (Tensor("numeric", "float32", (None, 6)), Tensor("category", "int64", (None, 3)))
    assert metadata.outputs[1] == Tensor("logits", "float32", (None, 4))
    examples = golden.read(folder / golden.GOLDEN)
    assert {name: array.shape for name, array in examples.inputs.items()} == {"numeric": (64, 6), "category": (64, 3)}
    assert np.allclose(examples.outputs["scores"].sum(axis=1), 1)
    outputs = onnx_outputs(folder, examples.inputs)
    for name, array in outputs.items():
        result = golden.compare(array, examples.outputs[name], metadata.tolerances[name])
        assert (result.wrong, result.flipped) == (0, 0)


def test_inputs_may_come_in_another_order_or_under_other_names(ship: Ship) -> None:
    metadata, _ = ship("churn", "category:3:int64", "numeric:6")
    assert [tensor.name for tensor in metadata.inputs] == ["category", "numeric"]
    metadata, _ = ship("churn", "money:6", "kind:3:int64")
    assert [tensor.name for tensor in metadata.inputs] == ["money", "kind"]


def test_the_same_net_gives_the_same_bytes(ship: Ship) -> None:
    (first, folder) = ship("churn", *CHURN)
    bytes_before = {path.name: path.read_bytes() for path in folder.iterdir()}
    (second, _) = ship("churn", *CHURN)
    assert first.sha256 == second.sha256
    assert bytes_before == {path.name: path.read_bytes() for path in folder.iterdir()}


def test_the_graph_has_a_dynamic_batch_and_a_known_opset(ship: Ship) -> None:
    metadata, folder = ship("churn", *CHURN)
    model = onnx.load(folder / "model.onnx")
    assert [o.version for o in model.opset_import] == [20] == [metadata.settings["opset"]]
    for value in (*model.graph.input, *model.graph.output):
        assert value.type.tensor_type.shape.dim[0].dim_param == "batch"
    assert [dim.dim_value for dim in model.graph.output[0].type.tensor_type.shape.dim] == [0, 4]
    assert "Dropout" not in {node.op_type for node in model.graph.node}


def test_attention_and_branches_on_fixed_sizes_pass(ship: Ship) -> None:
    metadata, folder = ship("tiny_vit", "3x16x16")
    examples = golden.read(folder / golden.GOLDEN)
    outputs = onnx_outputs(folder, examples.inputs)
    assert golden.compare(outputs["logits"], examples.outputs["logits"], metadata.tolerances["logits"]).wrong == 0
    assert "encoder.layers.encoder_layer_0.self_attention.in_proj_weight" in metadata.weights


def test_equal_weights_keep_both_names_and_unused_ones_are_listed(ship: Ship) -> None:
    metadata, folder = ship("SharedAndUnused")
    assert {"linear.weight", "second.weight", "linear.bias", "second.bias"} == set(metadata.weights)
    assert metadata.settings["unused_weights"] == ["auxiliary.weight", "auxiliary.bias"]
    assert "Identity" not in {node.op_type for node in onnx.load(folder / "model.onnx").graph.node}


def test_shared_weights_are_one_weight(ship: Ship) -> None:
    metadata, _ = ship("TiedWeights", "5:int64")
    assert set(metadata.weights) == {"embedding.weight", "first.weight", "first.bias", "out.bias"}
    assert metadata.settings["unused_weights"] == []


def test_a_weight_named_like_an_input_is_kept_apart(ship: Ship) -> None:
    metadata, folder = ship("NamedLikeAnInput")
    assert {"linear.weight", "linear.bias", "net.x"} == set(metadata.weights)
    assert set(initializers(folder)) >= set(metadata.weights)


@pytest.mark.parametrize("activation", ["softmax", "sigmoid", "none"])
def test_activation(ship: Ship, activation: str) -> None:
    metadata, folder = ship("Small", activation=activation)
    outputs = golden.read(folder / golden.GOLDEN).outputs
    logits = torch.from_numpy(outputs["logits"])
    expected = {"softmax": logits.softmax(1), "sigmoid": logits.sigmoid(), "none": logits}[activation]
    assert np.array_equal(outputs["scores"], expected.numpy())
    assert metadata.settings["activation"] == activation
    assert onnx_outputs(folder, {"x": np.ones((2, 4), np.float32)})["scores"].shape == (2, 3)


def test_one_output_takes_sigmoid_but_not_softmax(ship: Ship) -> None:
    metadata, _ = ship("OneOutput", activation="sigmoid")
    assert metadata.outputs[0].shape == (None, 1)
    with pytest.raises(ModelError, match="--activation sigmoid"):
        ship("OneOutput")


def test_labels(ship: Ship, tmp_path: Path) -> None:
    (tmp_path / "labels.txt").write_text("stays\nleaves\nnot sure\n", encoding="utf-8")
    metadata, folder = ship("Small", labels=tmp_path / "labels.txt")
    assert metadata.labels == ("stays", "leaves", "not sure")
    assert (folder / "labels.txt").read_text() == "stays\nleaves\nnot sure\n"


@pytest.mark.parametrize(
    ("content", "says"),
    [
        (b"a\nb\n", "names 2 classes, but the model has 3"),
        (b"a\nb\na\n", "'a' appears twice"),
        (b"a\n\nb\n", "line 2 is empty"),
        (b"", "line 1 is empty"),
        (b"a\nb\n\xff\xfe\n", "not UTF-8"),
    ],
)
def test_labels_that_do_not_fit(ship: Ship, tmp_path: Path, content: bytes, says: str) -> None:
    (tmp_path / "labels.txt").write_bytes(content)
    with pytest.raises(InvalidInput, match=f"--labels .*{says}"):
        ship("Small", labels=tmp_path / "labels.txt")
    assert not (tmp_path / "onnx").exists()


def test_labels_missing(ship: Ship, tmp_path: Path) -> None:
    with pytest.raises(InvalidInput, match="no such file"):
        ship("Small", labels=tmp_path / "none.txt")


def test_real_examples(ship: Ship, tmp_path: Path) -> None:
    category = np.tile([6, 1, 29], (10, 1))
    np.savez(tmp_path / "mine.npz", numeric=np.linspace(-3, 3, 60).reshape(10, 6), category=category)
    metadata, folder = ship("churn", *CHURN, golden=tmp_path / "mine.npz")
    examples = golden.read(folder / golden.GOLDEN)
    assert np.array_equal(examples.inputs["category"], category)
    assert examples.outputs["scores"].shape == (10, 4)
    assert metadata.settings["golden"] == "given"


def test_one_real_example_is_enough(ship: Ship, tmp_path: Path) -> None:
    np.savez(tmp_path / "mine.npz", x=np.ones((1, 4)))
    _, folder = ship("Small", golden=tmp_path / "mine.npz")
    assert golden.read(folder / golden.GOLDEN).outputs["logits"].shape == (1, 3)


def test_tolerances_come_from_float64_and_stay_below_the_effect_of_a_changed_weight(ship: Ship) -> None:
    metadata, folder = ship("churn", *CHURN)
    examples = golden.read(folder / golden.GOLDEN)
    largest = min(1, np.abs(examples.outputs["logits"]).max())
    assert 1e-5 * largest <= metadata.tolerances["logits"].abs <= 1e-4
    assert 1e-5 <= metadata.tolerances["scores"].abs <= 1e-4
    model = onnx.load(folder / "model.onnx")
    (weight,) = (tensor for tensor in model.graph.initializer if tensor.name == "hidden.weight")
    weight.CopyFrom(numpy_helper.from_array(numpy_helper.to_array(weight) * np.float32(1.01), weight.name))
    onnx.save(model, folder / "model.onnx")
    outputs = onnx_outputs(folder, examples.inputs)
    assert golden.compare(outputs["logits"], examples.outputs["logits"], metadata.tolerances["logits"]).wrong > 32


def test_tolerance_where_float64_is_impossible(ship: Ship) -> None:
    metadata, _ = ship("HalfWay")
    assert metadata.tolerances == {"scores": Tolerance(5e-5, 1e-5), "logits": Tolerance(1e-4, 1e-5)}


def test_a_buffer_outside_the_state_dict_is_in_float64_too(ship: Ship) -> None:
    """Else float64 is impossible, and numbers this large would be allowed the error of small ones."""
    metadata, _ = ship("HasATable")
    assert metadata.tolerances["logits"].abs > 1e-3


def test_tolerance_of_tiny_logits_is_tinier(ship: Ship) -> None:
    metadata, folder = ship("Faint", activation="none")
    largest = np.abs(golden.read(folder / golden.GOLDEN).outputs["logits"]).max()
    assert metadata.tolerances["logits"].abs < largest / 1000
    assert metadata.tolerances["scores"] == metadata.tolerances["logits"]


@pytest.mark.parametrize(
    ("net", "says"),
    [
        ("ReturnsTuple", "returns output_0, output_1: for --labels .* name the logits, .* --output logits=output_0"),
        ("ThreeDimensions", r"need logits \[N, classes\], but forward\(\) returns output_0 as float32 \[1, 1, 3\]"),
        ("NotFinite", "not finite.*--golden"),
        ("AlwaysDropsOut", r"different outputs for the same inputs.*F.dropout needs training=self.training"),
        ("FixedBatch", r"forward\(\) fails on x float32 \[1, 4\].*shipped_nets.py:\d+"),
        ("MergesTheBatch", "returns 1 rows for a batch of 3"),
        ("NoSuchOperator", "special_bessel_j0"),
    ],
)
def test_nets_that_cannot_be_exported(
    ship: Ship, tmp_path: Path, capfd: pytest.CaptureFixture[str], net: str, says: str
) -> None:
    with pytest.raises(ModelError, match=says):
        ship(net)
    assert list(tmp_path.iterdir()) == []
    assert capfd.readouterr() == ("", "")


@pytest.mark.parametrize(
    ("net", "says"),
    [
        ("Branches", "Converting a tensor to a Python boolean"),
        ("ComparesWithEqual", "equal turns a tensor into a Python value"),
        ("PicksFromAList", "__index__ turns a tensor into a Python value"),
    ],
)
def test_data_dependent_control_flow_is_refused_with_its_line(ship: Ship, tmp_path: Path, net: str, says: str) -> None:
    with pytest.raises(ModelError, match=r"torch\.where instead of if") as refused:
        ship(net)
    location = re.search(rf"{re.escape(shipped_nets.__file__)}:(\d+): {says}", str(refused.value))
    assert location
    lines, start = inspect.getsourcelines(getattr(shipped_nets, net).forward)
    assert start < int(location[1]) < start + len(lines)
    assert list(tmp_path.iterdir()) == []


def test_a_number_read_out_of_a_tensor_is_followed(ship: Ship) -> None:
    """By the torch.export exporter: what is wrong with this net is something else."""
    with pytest.raises(ModelError, match="rows of a batch influence each other"):
        ship("TakesANumber")
    with pytest.raises(ModelError, match="Converting a tensor to a Python number"):
        ship("TakesANumber", exporter="torchscript")


@pytest.mark.parametrize(("net", "added"), [("ReadsTheBatch", 0.5), ("FreezesTheBatch", 0.0)])
def test_a_net_may_read_the_size_of_the_batch(ship: Ship, net: str, added: float) -> None:
    _, folder = ship(net)
    weight, bias = (initializers(folder)[name] for name in ("linear.weight", "linear.bias"))
    for batch in (1, 5):
        x = np.ones((batch, 4), np.float32)
        assert np.allclose(onnx_outputs(folder, {"x": x})["logits"], x @ weight.T + bias + added, atol=1e-6)


def test_tracing_records_a_size_taken_as_an_integer(ship: Ship) -> None:
    with pytest.raises(ModelError, match="Converting a tensor to a Python integer"):
        ship("FreezesTheBatch", exporter="torchscript")


@pytest.mark.parametrize(
    ("inputs", "says"),
    [
        (["5"], r"forward\(\) fails on x float32 \[1, 5\].*--input.*shipped_nets.py:\d+"),
        (["4:int64"], r"forward\(\) fails on x int64"),
        (["4", "4"], "given 2 time\\(s\\)"),
    ],
)
def test_inputs_that_do_not_fit(ship: Ship, inputs: list[str], says: str) -> None:
    with pytest.raises(InvalidInput, match=says):
        ship("Small", *inputs)


def test_an_index_outside_the_embedding(ship: Ship, tmp_path: Path) -> None:
    np.savez(tmp_path / "mine.npz", numeric=np.ones((2, 6)), category=np.full((2, 3), 99))
    with pytest.raises(ModelError, match="IndexError: index out of range"):
        ship("churn", *CHURN, golden=tmp_path / "mine.npz")


@pytest.mark.parametrize(("option", "value"), [("name", "no spaces"), ("activation", "relu")])
def test_options_out_of_their_range(ship: Ship, option: str, value: str) -> None:
    with pytest.raises(InvalidInput, match=f"--{option} {value}"):
        ship("Small", **{option: value})


def test_an_existing_artifact_stays_if_the_next_export_fails(ship: Ship) -> None:
    metadata, folder = ship("Small")
    with pytest.raises(ModelError):
        ship("MergesTheBatch")
    assert artifact_metadata.check(folder) == metadata


def test_a_full_disk(small_disk: Path, tmp_path: Path) -> None:
    arguments: dict[str, Any] = {"weights": None, "inputs": ["600"]}
    with pytest.raises(OSError) as full:
        export_model("python:shipped_nets:wide", small_disk / "onnx", **arguments)
    assert f"{small_disk / 'onnx'}: the disk is full" in explain(full.value)
    assert list(small_disk.iterdir()) == []
    export_model("python:shipped_nets:wide", tmp_path / "onnx", **arguments)
    assert (tmp_path / "onnx" / "model.onnx").stat().st_size > 1 << 20
