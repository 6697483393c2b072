"""The graph compared with PyTorch: which differences the export detects."""

from pathlib import Path

import numpy as np
import onnx
import pytest
import torch
from onnx import numpy_helper
from torch import nn

from seaway.artifacts.artifact_metadata import Tensor
from seaway.errors import ModelError
from seaway.export import comparison, graph, model_file, tolerance, wrap
from seaway.export.inputs import bind, parse, random_examples
from seaway.export.wrap import Wrapped

OUTPUTS = (Tensor("scores", "float32", (None, 5)), Tensor("logits", "float32", (None, 5)))


@pytest.fixture
def wrapped() -> Wrapped:
    torch.manual_seed(2)
    net = nn.Sequential(nn.Conv2d(2, 6, 3), nn.BatchNorm2d(6), nn.ReLU(), nn.Flatten(), nn.Linear(24, 5)).eval()
    return Wrapped(net, bind(net, [parse("2x4x4")]), "softmax").eval()


def weight(model: onnx.ModelProto, name: str) -> onnx.TensorProto:
    (tensor,) = (tensor for tensor in model.graph.initializer if tensor.name == name)
    return tensor


def test_the_graph_is_pytorchs(wrapped: Wrapped, tmp_path: Path) -> None:
    examples = random_examples(wrapped.inputs)
    calls = [(examples, wrap.run(wrapped, examples))]
    tolerances = tolerance.derive(wrapped, calls)
    model = graph.export(wrapped, examples, OUTPUTS, tmp_path)
    comparison.compare(tmp_path, wrapped, calls, tolerances)
    checksums, unused = graph.weights(model, wrapped, examples)
    assert len(checksums) == 8
    assert unused == []
    assert {"Conv", "BatchNormalization"} <= {node.op_type for node in model.graph.node}


def test_a_changed_weight_is_found_by_value_and_by_outputs(wrapped: Wrapped, tmp_path: Path) -> None:
    examples = random_examples(wrapped.inputs)
    calls = [(examples, wrap.run(wrapped, examples))]
    tolerances = tolerance.derive(wrapped, calls)
    model = graph.export(wrapped, examples, OUTPUTS, tmp_path)
    changed = weight(model, "0.weight")
    changed.CopyFrom(numpy_helper.from_array(numpy_helper.to_array(changed) * np.float32(1.01), "0.weight"))
    with pytest.raises(ModelError, match=r"different weights for 0\.weight than the model"):
        graph.weights(model, wrapped, examples)
    model_file.write(model, tmp_path)
    with pytest.raises(ModelError, match="other scores than PyTorch for batch 1"):
        comparison.compare(tmp_path, wrapped, calls, tolerances)


def test_a_fixed_batch_is_found_by_running(wrapped: Wrapped, tmp_path: Path) -> None:
    examples = random_examples(wrapped.inputs)
    calls = [(examples, wrap.run(wrapped, examples))]
    tolerances = tolerance.derive(wrapped, calls)
    model = graph.export(wrapped, examples, OUTPUTS, tmp_path)
    model.graph.input[0].type.tensor_type.shape.dim[0].dim_value = 2
    model_file.write(model, tmp_path)
    with pytest.raises(ModelError, match=r"does not run for batch 1.*x\.flatten"):
        comparison.compare(tmp_path, wrapped, calls, tolerances)


def test_the_tracing_exporter_refuses_over_two_gibibytes_before_it_begins(wrapped: Wrapped, tmp_path: Path) -> None:
    with torch.device("meta"):
        wrapped.net.append(nn.Linear(30_000, 30_000))
    with pytest.raises(ModelError, match=r"tracing exporter writes up to 2 GiB, but the weights take 3\.4 GiB"):
        graph.export(wrapped, random_examples(wrapped.inputs), OUTPUTS, tmp_path, graph.TRACING)


def test_a_weight_missing_from_the_graph_differs_from_an_unused_one(wrapped: Wrapped, tmp_path: Path) -> None:
    examples = random_examples(wrapped.inputs)
    model = graph.export(wrapped, examples, OUTPUTS, tmp_path)
    wrapped.net.register_buffer("auxiliary", torch.ones(3))
    assert graph.weights(model, wrapped, examples)[1] == ["auxiliary"]
    model.graph.initializer.remove(weight(model, "1.running_var"))
    with pytest.raises(ModelError, match=r"1\.running_var.* not in the exported graph"):
        graph.weights(model, wrapped, examples)
