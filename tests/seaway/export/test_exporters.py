"""PyTorch's two exporters: each takes nets that the other cannot export, or exports wrongly."""

import re
import sys
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime as ort
import pytest
import torch
from torch import nn

from seaway.artifacts import golden
from seaway.artifacts.artifact_metadata import Tensor
from seaway.errors import InvalidInput, ModelError
from seaway.export import comparison, graph, tolerance, wrap
from seaway.export.export import export_model
from seaway.export.inputs import bind, parse, random_examples
from seaway.export.wrap import Wrapped

sys.path.append(str(Path(__file__).resolve().parents[2] / "fixtures"))
import derived_nets

FIXTURES = Path(derived_nets.__file__).parent


def export(name: str, folder: Path, exporter: str = "auto", **options: Any) -> Any:
    inputs = [(derived_nets.NETS | derived_nets.ONLY_DYNAMO | derived_nets.ONLY_TRACING)[name][1]]
    options |= {"inputs": inputs, "exporter": exporter}
    return export_model(f"python:derived_nets:{name}", folder, weights=None, **options)


@pytest.mark.parametrize("name", [*derived_nets.ONLY_DYNAMO, *derived_nets.ONLY_TRACING])
def test_auto_takes_the_exporter_whose_graph_holds(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], name: str
) -> None:
    metadata = export(name, tmp_path / "onnx")
    assert metadata.settings["opset"] == 20
    if name in derived_nets.ONLY_DYNAMO:
        assert metadata.settings["exporter"] == "torch.onnx, torch.export"
    else:
        assert metadata.settings["exporter"] == "torch.onnx, TorchScript"
        assert re.fullmatch(
            r"export: not by torch\.onnx, torch\.export: .*; by torch\.onnx, TorchScript\n", capsys.readouterr().out
        )
        assert list(metadata.settings["refused_exporters"]) == ["dynamo"]
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
    right = graph._export_program

    def wrong(*arguments: Any) -> Any:
        model = right(*arguments)
        product = next(node for node in model.graph.node if node.op_type == "Gemm")
        next(attribute for attribute in product.attribute if attribute.name == "beta").f = -1
        return model

    monkeypatch.setattr(graph, "_export_program", wrong)
    metadata = export("pruned", tmp_path / "onnx")
    assert metadata.settings["exporter"] == "torch.onnx, TorchScript"
    assert "ONNX Runtime gives other" in metadata.settings["refused_exporters"]["dynamo"]


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


def test_for_onnx_tf_the_opset_is_one_that_it_supports(tmp_path: Path) -> None:
    metadata = export("grouped", tmp_path / "onnx", converter="onnx-tf")
    assert (metadata.settings["exporter"], metadata.settings["opset"]) == ("torch.onnx, TorchScript", 13)
    metadata = export("one_head", tmp_path / "newer", converter="onnx-tf")
    assert metadata.settings["opset"] == 15
    with pytest.raises(InvalidInput, match="onnx-tf supports opsets up to 15; use --exporter torchscript"):
        export("grouped", tmp_path / "refused", "dynamo", converter="onnx-tf")
    with pytest.raises(ModelError, match=r"scatter_add.*or use --converter seaway, for which Seaway exports opset 20"):
        inputs = ["x:6", "place:6:int64"]
        export_model(
            "python:shipped_nets:Collects", tmp_path / "sums", weights=None, inputs=inputs, converter="onnx-tf"
        )


def test_an_unknown_exporter(tmp_path: Path) -> None:
    with pytest.raises(InvalidInput, match="--exporter jit: choose auto, torchscript, dynamo"):
        export("pruned", tmp_path / "onnx", "jit")


def test_a_second_opinion_is_reported(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    metadata = export("grouped", tmp_path / "agrees", second_opinion=True)
    assert metadata.settings["exporter"] == "torch.onnx, torch.export"
    assert metadata.settings["second_opinion"] == {"torchscript": "gives the same outputs"}
    assert "second opinion: torch.onnx, TorchScript: gives the same outputs" in capsys.readouterr().out
    metadata = export("same_dilated", tmp_path / "refused", second_opinion=True)
    assert metadata.settings["exporter"] == "torch.onnx, torch.export"
    assert metadata.settings["second_opinion"]["torchscript"] not in ("", graph.AGREES)


@pytest.mark.parametrize(
    ("layer", "shape"),
    [
        (nn.Conv1d(4, 6, 3, stride=2, padding=1, dilation=2, groups=2, bias=False), (4, 9)),
        (nn.Conv2d(4, 6, (3, 1), stride=(2, 1), padding=(1, 0), bias=False), (4, 9, 7)),
        (nn.Conv3d(2, 2, 2, groups=2, bias=False), (2, 4, 5, 3)),
        (nn.Conv2d(4, 6, 3), (4, 9, 7)),
    ],
    ids=str,
)
@pytest.mark.parametrize("batch", [True, False])
def test_a_convolution_gets_no_bias_that_it_does_not_have(
    tmp_path: Path, layer: nn.Module, shape: tuple[int, ...], batch: bool
) -> None:
    """PyTorch's translation adds one of zeros, which keeps TensorFlow from fusing the normalization that follows."""
    specs = [parse("x:" + "x".join(map(str, shape)))]
    wrapped = Wrapped(layer, bind(layer, specs, [], batch)).eval()
    examples = random_examples(wrapped.inputs)
    calls = [(examples, wrap.run(wrapped, examples))]
    (name,) = calls[0][1]
    output = calls[0][1][name]
    outputs = (Tensor(name, "float32", (None, *output.shape[1:]) if batch else output.shape),)
    model = graph.export(wrapped, examples, outputs, tmp_path, graph.DYNAMO)
    comparison.compare(tmp_path, wrapped, calls, tolerance.derive(wrapped, calls))
    (convolution,) = (node for node in model.graph.node if node.op_type == "Conv")
    assert list(convolution.input[1:]) == list(layer.state_dict())
    assert "Expand" not in {node.op_type for node in model.graph.node}


class StepByStep(nn.Module):
    """A running mean over [N, L, 3], in a Python loop: [N, 3]."""

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        state = torch.zeros_like(x[:, 0])
        for step in range(x.shape[1]):
            state = 0.5 * state + x[:, step]
        return state


def step_by_step() -> nn.Module:
    return StepByStep()


def test_a_python_loop_over_an_open_size_is_refused_and_ships_at_one_size(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.syspath_prepend(str(Path(__file__).parent))
    options: dict[str, Any] = {"weights": None, "inputs": ["x:Lx3"]}
    with pytest.raises(ModelError, match=r"if it loops over L in Python, ship one size, as --size L=16\.\.16"):
        export_model("python:test_exporters:step_by_step", tmp_path / "open", sizes=["L=2..9"], **options)
    metadata = export_model("python:test_exporters:step_by_step", tmp_path / "one", sizes=["L=16..16"], **options)
    assert metadata.outputs[0].shape == (None, 3)


class InChunks(nn.Module):
    """Pads [N, L, 3] to chunks of 4 steps, as linear attention does, and adds up their sums: [N, L, 3]."""

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        length = x.shape[1]
        padded = nn.functional.pad(x, (0, 0, 0, (4 - length % 4) % 4))
        chunks = padded.reshape(len(x), -1, 4, 3)
        sums = chunks + chunks.cumsum(1) + chunks.sum(2, keepdim=True)
        return sums.reshape(len(x), -1, 3)[:, :length]


def in_chunks() -> nn.Module:
    return InChunks()


def test_an_open_size_under_conditions_of_torch_export_stays_open(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.syspath_prepend(str(Path(__file__).parent))
    options: dict[str, Any] = {"weights": None, "inputs": ["x:Lx3"], "sizes": ["L=2..17"], "exporter": graph.DYNAMO}
    metadata = export_model("python:test_exporters:in_chunks", tmp_path / "onnx", **options)
    assert metadata.outputs[0].shape == (None, None, 3)
    session = ort.InferenceSession(tmp_path / "onnx" / "model.onnx")
    for length in (3, 11):
        x = np.random.default_rng(0).normal(size=(2, length, 3)).astype(np.float32)
        (y,) = session.run(None, {"x": x})
        np.testing.assert_allclose(y, InChunks()(torch.from_numpy(x)).numpy(), atol=1e-6)


def grouped_mm_fallback(input: torch.Tensor, weight: torch.Tensor, offs: torch.Tensor) -> torch.Tensor:
    """What Transformers 5.14's operator of this name does: rows up to each offset times one expert's weights."""
    bounds = [0, *offs.tolist(), len(input)]
    experts = [*weight, torch.zeros_like(weight[0])]
    return torch.cat([input[a:b] @ w for a, b, w in zip(bounds, bounds[1:], experts, strict=False)])


class Experts(nn.Module):
    """Routes each of [N, L, 8] to one of 4 experts, as Transformers' `grouped_mm_experts_forward`: [N, L, 6]."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.weight, self.router = nn.Parameter(torch.randn(4, 8, 6)), nn.Linear(8, 4)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        tokens = x.reshape(-1, 8)
        experts, order = torch.sort(self.router(tokens).argmax(-1))
        counts = torch.histc(experts.float(), bins=4, min=0, max=3)
        offs = torch.cumsum(counts, 0, dtype=torch.int32)
        y = torch.ops.transformers.grouped_mm_fallback(tokens[order], self.weight, offs)
        inverse = torch.empty_like(order)
        inverse[order] = torch.arange(len(order))
        return y[inverse].reshape(len(x), -1, 6)


def experts() -> nn.Module:
    return Experts()


def test_a_mixture_of_experts_of_transformers(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(str(Path(__file__).parent))
    schema = "(Tensor input, Tensor weight, Tensor offs) -> Tensor"
    name = "transformers::grouped_mm_fallback"
    torch.library.custom_op(name, grouped_mm_fallback, mutates_args=(), schema=schema)
    torch.library.register_fake(name, lambda input, weight, offs: input.new_empty(len(input), weight.shape[2]))
    options: dict[str, Any] = {"weights": None, "inputs": ["x:Lx8"], "sizes": ["L=1..9"]}
    metadata = export_model("python:test_exporters:experts", tmp_path / "onnx", **options)
    assert metadata.settings["exporter"] == "torch.onnx, torch.export"
    session = ort.InferenceSession(tmp_path / "onnx" / "model.onnx")
    net = Experts().eval()
    for scale in (0.0, 1.0):  # all tokens to one expert, so that the others have none; or to several
        x = np.random.default_rng(1).normal(size=(3, 7, 8), scale=scale).astype(np.float32)
        with torch.no_grad():
            routed = net.router(torch.from_numpy(x)).argmax(-1).unique()
            np.testing.assert_allclose(session.run(None, {"x": x})[0], net(torch.from_numpy(x)).numpy(), atol=1e-5)
        assert (len(routed) == 1) == (scale == 0)
