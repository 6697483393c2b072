"""The torch.export exporter, for nets that the tracing one cannot export or exports wrongly."""

import re
import sys
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
import torch

from seaway.artifacts import golden
from seaway.errors import InvalidInput, ModelError
from seaway.export import graph
from seaway.export.export import export_model

sys.path.append(str(Path(__file__).resolve().parents[2] / "fixtures"))
import derived_nets

FIXTURES = Path(derived_nets.__file__).parent


def export(name: str, folder: Path, exporter: str = "auto", **options: Any) -> Any:
    inputs = [(derived_nets.NETS | derived_nets.ONLY_DYNAMO)[name][1]]
    options |= {"inputs": inputs, "exporter": exporter}
    return export_model(f"python:derived_nets:{name}", folder, weights=None, **options)


@pytest.mark.parametrize("name", derived_nets.ONLY_DYNAMO)
def test_auto_takes_the_exporter_whose_graph_holds(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], name: str
) -> None:
    metadata = export(name, tmp_path / "onnx")
    assert metadata.settings["exporter"] == "torch.onnx, torch.export"
    assert metadata.settings["opset"] == 20
    assert re.fullmatch(
        r"export: not by torch\.onnx, TorchScript: .*; by torch\.onnx, torch\.export\n", capsys.readouterr().out
    )
    assert list(metadata.settings["refused_exporters"]) == ["torchscript"]
    net = getattr(derived_nets, name)().eval()
    weights = {key for key, value in net.state_dict().items() if value.is_floating_point() and value.numel() > 1}
    assert metadata.weights.keys() | set(metadata.settings["unused_weights"]) == weights
    examples = golden.read(tmp_path / "onnx" / golden.GOLDEN)
    with torch.no_grad():
        expected = net(torch.from_numpy(examples.inputs[metadata.inputs[0].name])).numpy()
    np.testing.assert_allclose(examples.outputs["output_0"], expected, atol=1e-6)


@pytest.mark.parametrize("name", derived_nets.ONLY_DYNAMO)
def test_the_tracing_exporter_alone_refuses_them(tmp_path: Path, name: str) -> None:
    with pytest.raises(ModelError):
        export(name, tmp_path / "onnx", "torchscript")
    assert not (tmp_path / "onnx").exists()


@pytest.mark.parametrize("name", ["grouped", "lstm", "low_rank", "positions"])
def test_dynamo_keeps_weights_and_no_path_of_this_machine(tmp_path: Path, name: str) -> None:
    first, second = export(name, tmp_path / "first", "dynamo"), export(name, tmp_path / "second", "dynamo")
    assert first.weights == export(name, tmp_path / "traced", "torchscript").weights
    assert first == second, "the same bytes"
    content = (tmp_path / "first" / "model.onnx").read_bytes()
    assert str(FIXTURES).encode() not in content
    assert b"site-packages" not in content
    batches = [value.type.tensor_type.shape.dim[0].dim_param for value in onnx.load_from_string(content).graph.output]
    assert batches == ["batch"]


def test_a_wrong_graph_of_one_exporter_is_passed_over(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """As where an exporter writes something else than PyTorch computes: here it subtracts a bias."""
    trace = graph._trace

    def wrong(*arguments: Any) -> Any:
        model = trace(*arguments)
        product = next(node for node in model.graph.node if node.op_type == "Gemm")
        next(attribute for attribute in product.attribute if attribute.name == "beta").f = -1
        return model

    monkeypatch.setattr(graph, "_trace", wrong)
    metadata = export("pruned", tmp_path / "onnx")
    assert metadata.settings["exporter"] == "torch.onnx, torch.export"
    assert "ONNX Runtime gives other" in metadata.settings["refused_exporters"]["torchscript"]


def test_both_reasons_are_given(tmp_path: Path) -> None:
    with pytest.raises(ModelError, match=r"special_bessel_j0.*\(and the torch\.export exporter: .*\)"):
        export_model("python:shipped_nets:NoSuchOperator", tmp_path / "onnx", weights=None, inputs=["4"])


@pytest.mark.parametrize("name", ["compiled", "parallel"])
def test_a_wrapped_net_is_exported_as_the_net_in_it(tmp_path: Path, name: str) -> None:
    wrapped = export_model(f"python:derived_nets:{name}", tmp_path / "wrapped", weights=None, inputs=["x:6"])
    plain = export_model("python:derived_nets:plain", tmp_path / "plain", weights=None, inputs=["x:6"])
    assert wrapped.weights == plain.weights
    assert (tmp_path / "wrapped" / "model.onnx").read_bytes() == (tmp_path / "plain" / "model.onnx").read_bytes()


@pytest.mark.filterwarnings("ignore:.*deprecated")
@pytest.mark.parametrize(
    ("name", "says"),
    [
        ("traced", "a TorchScript module: name a function that returns the network before torch.jit"),
        ("program", "an exported program: name a function that returns the network before torch.export"),
        ("unlifted", "an exported program: name a function that returns the network before torch.export"),
        ("quantized", "a network with a quantized Linear: name a function that returns the float network"),
        ("CentresTheBatch", r"rows of a batch influence each other.*x\.mean\(0\)"),
        ("ComputesInHalf", r"the network computes in float16, which each runtime rounds otherwise; call \.float\(\)"),
    ],
)
def test_what_cannot_be_exported_is_refused_with_its_reason(tmp_path: Path, name: str, says: str) -> None:
    size = 64 if name == "ComputesInHalf" else 6
    with pytest.raises(ModelError, match=says) as caught:
        export_model(f"python:derived_nets:{name}", tmp_path / "onnx", weights=None, inputs=[f"x:{size}"])
    assert len(str(caught.value).splitlines()) == 1


def test_an_unknown_exporter(tmp_path: Path) -> None:
    with pytest.raises(InvalidInput, match="--exporter jit: choose auto, torchscript, dynamo"):
        export("pruned", tmp_path / "onnx", "jit")


def test_a_second_opinion_is_reported(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    metadata = export("grouped", tmp_path / "agrees", second_opinion=True)
    assert metadata.settings["exporter"] == "torch.onnx, TorchScript"
    assert metadata.settings["second_opinion"] == {"dynamo": "gives the same outputs"}
    assert "second opinion: torch.onnx, torch.export: gives the same outputs" in capsys.readouterr().out
    metadata = export("same_dilated", tmp_path / "refused", exporter="dynamo", second_opinion=True)
    assert metadata.settings["exporter"] == "torch.onnx, torch.export"
    assert metadata.settings["second_opinion"]["torchscript"] not in ("", graph.AGREES)
