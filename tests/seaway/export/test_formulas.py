"""Operators that PyTorch's exporters export otherwise, by both exporters and in ONNX Runtime, compared with PyTorch."""

import functools
import io
import itertools
import math
from collections.abc import Callable

import numpy as np
import onnx
import onnxruntime
import pytest
import torch
from torch import nn

from seaway.export import graph, symbolics, translations

Function = Callable[..., torch.Tensor]
SPECIAL = [-math.inf, -2.5, -1.0, -0.35, -0.0, 0.0, 0.15, 1.0, 1.5, 300.0, math.inf, math.nan]
FLOATS = tuple(np.array(list(itertools.product(SPECIAL, SPECIAL)), np.float32).T.copy())
PAIRS = [*itertools.product([-100, -7, -1, 0, 1, 7, 2**53 + 1], [-60, -7, -1, 3, 7]), (-(2**63), -1)]
INTEGERS = tuple(np.array(PAIRS).T.copy())


def reduced(x: torch.Tensor, y: torch.Tensor, reduce: str, include_self: bool) -> torch.Tensor:
    """Rows of three, of which the last stays and the others are named by an index that is smaller than the source.
    Finite: ONNX Runtime ignores NaN (docs/operators.md)."""
    rows = torch.stack((y, x, y), 1).nan_to_num(posinf=7, neginf=-7)
    index = torch.tensor([[0, 1, 0]]).expand(x.shape[0], 3)
    return rows.scatter_reduce(1, index, torch.stack((x, x, y, x), 1).nan_to_num(5), reduce, include_self=include_self)


ON_FLOATS: dict[str, Function] = {
    "sign": lambda x, y: x.sign(),
    "sgn": lambda x, y: torch.sgn(x),
    "signbit": lambda x, y: torch.signbit(x),
    "atan2": lambda x, y: torch.atan2(x, y),
    "clamp(min)": lambda x, y: x.clamp(min=0),
    "clamp(max)": lambda x, y: x.clamp(max=0.5),
    "clamp(min=tensor)": lambda x, y: x.clamp(min=y),
    "clamp": lambda x, y: x.clamp(-1, 1),
    "clamp, double": lambda x, y: nn.functional.normalize(torch.stack((x, y), 1).double()),
    "clamp(tensors)": lambda x, y: x.clamp(y, y + 1),
    "** 0.5": lambda x, y: x**0.5,
    "** -0.5": lambda x, y: x**-0.5,
    "** 3": lambda x, y: x**3,
    "logit(eps)": lambda x, y: torch.logit(x, 0.1),
    "logit": lambda x, y: torch.logit(x),
    "heaviside": lambda x, y: torch.heaviside(x, y),
    "xlogy": lambda x, y: torch.xlogy(x, y),
    "logaddexp": lambda x, y: torch.logaddexp(x, y),
    "logaddexp2": lambda x, y: torch.logaddexp2(x, y),
    "nan_to_num": lambda x, y: torch.nan_to_num(x),
    "nan_to_num, double": lambda x, y: torch.nan_to_num(x.double(), posinf=5),
    "any": lambda x, y: torch.stack((x, -x), 1).any(1),
    "all": lambda x, y: torch.stack((x, -x), 1).all(1),
    "bucketize": lambda x, y: torch.bucketize(x, torch.tensor([-1.0, 0.0, 2.0])),
    "bucketize(right)": lambda x, y: torch.bucketize(x, torch.tensor([-1.0, 0.0, 2.0]), right=True),
    "x // y": lambda x, y: x // y,
    "x // 2.5": lambda x, y: x // 2.5,
    "x % y": lambda x, y: x % y,
    "x % 3": lambda x, y: x % 3,
    "2 % y": lambda x, y: 2 % y,
    "div, floor": lambda x, y: torch.div(x, y, rounding_mode="floor"),
    "div, trunc": lambda x, y: torch.div(x, y, rounding_mode="trunc"),
    "diagonal": lambda x, y: (x[:, None, None] + torch.arange(12.0).reshape(3, 4)).diagonal(0, 1, 2),
    "diagonal(1)": lambda x, y: (x[:, None, None] + torch.arange(12.0).reshape(3, 4)).diagonal(1, 2, 1),
    "diagonal(-1)": lambda x, y: (x[:, None, None] + torch.arange(12.0).reshape(3, 4)).diagonal(-1, -2, -1),
    "scatter_reduce": lambda x, y: y.reshape(-1, 1).scatter_reduce(1, y.reshape(-1, 1).long() * 0, x[:, None], "sum"),
    **{
        f"scatter_reduce, {reduce}, include_self={include_self}": functools.partial(
            reduced, reduce=reduce, include_self=include_self
        )
        for reduce, include_self in itertools.product(("sum", "mean", "prod", "amin", "amax"), (True, False))
    },
    "logsigmoid": lambda x, y: nn.functional.logsigmoid(x * 100),
    "softplus": lambda x, y: nn.functional.softplus(x, 2, 5),
    "softplus, default": lambda x, y: nn.functional.softplus(x),
    "hardshrink": lambda x, y: nn.functional.hardshrink(x),
    "softshrink": lambda x, y: nn.functional.softshrink(x),
    "F.normalize": lambda x, y: nn.functional.normalize(torch.stack((x, y), 1)),
}
ON_INTEGERS: dict[str, Function] = {
    "sign": lambda x, y: x.sign(),
    "clamp(min=0.5)": lambda x, y: x.clamp(min=0.5),
    "clamp(0.5, 1.5)": lambda x, y: x.clamp(0.5, 1.5),
    "clamp(min=0)": lambda x, y: x.clamp(min=0),
    "clamp(max=0)": lambda x, y: x.clamp(max=0),
    "** 0.5": lambda x, y: (x.clamp(0, 99)) ** 0.5,
    "any": lambda x, y: torch.stack((x, -x), 1).any(1),
    "all": lambda x, y: torch.stack((x, -x), 1).all(1),
    "mean(dtype)": lambda x, y: torch.stack((x, y), 1).mean(1, dtype=torch.float64),
    "x // y": lambda x, y: x // y,
    "x // -3": lambda x, y: x // -3,
    "x % y": lambda x, y: x % y,
    "x % -3": lambda x, y: x % -3,
    "x % 2.5": lambda x, y: x % 2.5,
    "div, floor": lambda x, y: torch.div(x, y, rounding_mode="floor"),
    "div, trunc": lambda x, y: torch.div(x, y.abs(), rounding_mode="trunc"),
    "div, no mode": lambda x, y: torch.div(x, y, rounding_mode=None),
    "scatter_reduce, mean": functools.partial(reduced, reduce="mean", include_self=False),
    "scatter_reduce, amin": functools.partial(reduced, reduce="amin", include_self=False),
    "uint8 // uint8": lambda x, y: x.abs().clamp(max=99).to(torch.uint8) // y.abs().to(torch.uint8),
}


class Calls(nn.Module):
    """All functions in one graph, because an export of the torch.export exporter takes seconds."""

    def __init__(self, functions: dict[str, Function]) -> None:
        super().__init__()
        self.functions = tuple(functions.values())

    def forward(self, x: torch.Tensor, y: torch.Tensor) -> tuple[torch.Tensor, ...]:
        return tuple(function(x, y) for function in self.functions)


def traced(module: nn.Module, inputs: tuple[torch.Tensor, ...]) -> onnx.ModelProto:
    buffer = io.BytesIO()
    with symbolics.registered():
        torch.onnx.export(
            module,
            inputs,
            buffer,  # type: ignore[arg-type]
            dynamo=False,
            opset_version=18,
            input_names=["x", "y"],
            dynamic_axes={"x": {0: "batch"}, "y": {0: "batch"}},
            do_constant_folding=False,
        )
    return onnx.load_from_string(buffer.getvalue())


def translated(module: nn.Module, inputs: tuple[torch.Tensor, ...]) -> onnx.ModelProto:
    batch = torch.export.Dim("batch")
    program = torch.onnx.export(
        module,
        inputs,
        dynamo=True,
        opset_version=graph.OPSET,
        input_names=["x", "y"],
        dynamic_shapes=({0: batch}, {0: batch}),
        custom_translation_table=translations.table(),
        optimize=False,
        verbose=False,
    )
    assert program is not None
    return program.model_proto


EXPORTS = {graph.TRACING: traced, graph.DYNAMO: translated}


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("functions", [ON_FLOATS, ON_INTEGERS], ids=["floats", "integers"])
@pytest.mark.parametrize("exporter", EXPORTS)
def test_as_pytorch_computes_it(exporter: str, functions: dict[str, Function]) -> None:
    arrays = FLOATS if functions is ON_FLOATS else INTEGERS
    tensors = tuple(map(torch.from_numpy, arrays))
    module = Calls(functions).eval()
    model = EXPORTS[exporter](module, tuple(tensor[:3] for tensor in tensors))
    onnx.checker.check_model(model, full_check=True)
    session = onnxruntime.InferenceSession(model.SerializeToString(), providers=["CPUExecutionProvider"])
    outputs = session.run(None, {"x": arrays[0], "y": arrays[1]})
    wrong = {}
    for name, output, right in zip(functions, outputs, module(*tensors), strict=True):
        expected = right.numpy()
        assert output.dtype == expected.dtype, name
        if not np.allclose(output, expected, rtol=1e-5, atol=1e-6, equal_nan=True):
            place = np.argwhere(~np.isclose(output, expected, rtol=1e-5, atol=1e-6, equal_nan=True))[0][0]
            wrong[name] = f"of {arrays[0][place]}, {arrays[1][place]}: {expected[place]}, not {output[place]}"
    assert wrong == {}


@pytest.mark.filterwarnings("ignore")
def test_what_no_exporter_exports_rightly_is_refused_by_name() -> None:
    with pytest.raises(Exception) as raised:
        translated(Calls({"": lambda x, y: x.logcumsumexp(0)}), (torch.ones(3), torch.ones(3)))
    assert "logcumsumexp: no exporter exports it rightly" in graph._cause(raised.value)
