"""Integer arithmetic and repeated indices: each operator in ONNX Runtime compared with PyTorch."""

import io
import itertools
import warnings
from collections.abc import Callable

import numpy as np
import onnx
import onnxruntime
import pytest
import torch
from torch import nn

from seaway.export import symbolics

OPSETS = (13, 20)
LEAST, GREATEST = np.iinfo(np.int64).min, np.iinfo(np.int64).max
Function = Callable[..., torch.Tensor]


class Calls(nn.Module):
    def __init__(self, function: Function) -> None:
        super().__init__()
        self.function = function

    def forward(self, *inputs: torch.Tensor) -> torch.Tensor:
        return self.function(*inputs)


def exported(function: Function, inputs: tuple[np.ndarray, ...], opset: int) -> onnx.ModelProto:
    buffer = io.BytesIO()
    names = [f"input{place}" for place in range(len(inputs))]
    with warnings.catch_warnings(), symbolics.registered():
        warnings.simplefilter("ignore")  # the legacy exporter announces its own end
        torch.onnx.export(
            Calls(function).eval(),
            tuple(map(torch.from_numpy, inputs)),
            buffer,  # type: ignore[arg-type]
            dynamo=False,
            opset_version=opset,
            input_names=names,
            dynamic_axes={name: {0: "batch"} for name in names},
            do_constant_folding=False,
        )
    model = onnx.load_from_string(buffer.getvalue())
    onnx.checker.check_model(model, full_check=True)
    return model


@pytest.mark.parametrize("descending", [False, True])
@pytest.mark.parametrize("opset", OPSETS)
def test_equal_elements_stay_in_their_order(opset: int, descending: bool) -> None:
    ties = np.array([[2, 1, 2, 0, 1, 0, 2], [3, 3, 3, 3, -1, -1, 4]], np.float32)
    for function in (
        lambda x: torch.sort(x, dim=1, stable=True, descending=descending).indices,
        lambda x: torch.sort(x, dim=-1, stable=True, descending=descending).values,
        lambda x: torch.argsort(x, dim=1, stable=True, descending=descending),
        lambda x: torch.sort(x, 1, descending).values,
    ):
        check(function, (ties,), opset)


def check(function: Function, inputs: tuple[np.ndarray, ...], opset: int) -> None:
    """The same type, shape and numbers, exactly."""
    expected = function(*map(torch.from_numpy, inputs)).numpy()
    model = exported(function, inputs, opset)
    session = onnxruntime.InferenceSession(model.SerializeToString(), providers=["CPUExecutionProvider"])
    (outputs,) = session.run(None, {f"input{place}": array for place, array in enumerate(inputs)})
    assert outputs.dtype == expected.dtype
    np.testing.assert_array_equal(outputs, expected)


def pairs(dtype: str) -> tuple[np.ndarray, np.ndarray]:
    """Dividends of both signs and zero, by divisors of both signs."""
    values = list(itertools.product([-100, -61, -60, -7, -4, -1, 0, 1, 7, 60, 127], [-60, -7, -3, -1, 1, 4, 7, 60]))
    dividends, divisors = np.array(values).T
    if dtype == "uint8":
        dividends, divisors = np.abs(dividends), np.abs(divisors)
    return dividends.astype(dtype), divisors.astype(dtype)


def floor_in_place(x: torch.Tensor) -> torch.Tensor:
    x = x.clone()
    x //= 7
    return x


DIVISIONS: dict[str, Function] = {
    "//": lambda a, b: a // b,
    "floor_divide": torch.floor_divide,
    "%": lambda a, b: a % b,
    "remainder": torch.remainder,
    "fmod": torch.fmod,
    "div, floor": lambda a, b: torch.div(a, b, rounding_mode="floor"),
    "div, trunc": lambda a, b: torch.div(a, b, rounding_mode="trunc"),
    "div": torch.div,
    "by float32": lambda a, b: a // b.float(),
    "by int32": lambda a, b: a // b.int(),
    "% of int32": lambda a, b: a % b.int(),
}
DIVISIONS_BY_NUMBERS: dict[str, Function] = {
    "// 7": lambda a: a // 7,
    "// -7": lambda a: a // -7,
    "// -1": lambda a: a // -1,
    "// 2.5": lambda a: a // 2.5,
    "% 7": lambda a: a % 7,
    "% -7": lambda a: a % -7,
    "% 2.5": lambda a: a % 2.5,
    "fmod": lambda a: torch.fmod(a, 7),
    "ceil": lambda a: 0 - (0 - a) // 4,
    "100 //": lambda a: 100 // torch.where(a == 0, 1, a),
    "in place": floor_in_place,
    "trunc, 2.5": lambda a: torch.div(a, 2.5, rounding_mode="trunc"),
    ">>": lambda a: a >> 2,
    "cumsum": lambda a: a.cumsum(0),
}


@pytest.mark.parametrize("opset", OPSETS)
@pytest.mark.parametrize("dtype", ["int64", "int32", "int8", "uint8"])
@pytest.mark.parametrize("name", DIVISIONS)
def test_integers_divided_by_integers(name: str, dtype: str, opset: int) -> None:
    check(DIVISIONS[name], pairs(dtype), opset)


@pytest.mark.parametrize("opset", OPSETS)
@pytest.mark.parametrize("dtype", ["int64", "int32", "int8", "uint8"])
@pytest.mark.parametrize("name", DIVISIONS_BY_NUMBERS)
def test_integers_divided_by_a_number(name: str, dtype: str, opset: int) -> None:
    check(DIVISIONS_BY_NUMBERS[name], pairs(dtype)[:1], opset)


@pytest.mark.parametrize("name", ["//", "floor_divide", "%", "fmod", "div, floor"])
def test_the_limits_of_int64_neither_overflow_nor_crash_the_process(name: str) -> None:
    dividends = np.array([LEAST, LEAST, LEAST, LEAST + 1, GREATEST, GREATEST, 2**53 + 1, -(2**53) - 1])
    check(DIVISIONS[name], (dividends, np.array([-1, 60, -60, 60, -1, 60, 7, 7])), 13)


def test_int32_sums_beyond_its_own_limit() -> None:
    check(lambda x: x.cumsum(0), (np.full(3, 2**31 - 1, np.int32),), 13)


@pytest.mark.parametrize("name", ["//", "floor_divide", "%", "fmod", "div, floor", "div, trunc"])
def test_floats(name: str) -> None:
    dividends = [-np.inf, np.inf, np.nan, -2.5, -0.5, 0.0, 0.3, 2.5, -3.7, 7.0, 1e10, -1e10, 2.0**40, 1e30]
    values = list(itertools.product(dividends, [-2.0, 3.0, 0.1, -0.1, np.inf, -np.inf, 0.0, 7.0]))
    check(DIVISIONS[name], tuple(np.array(values, np.float32).T.copy()), 13)


@pytest.mark.parametrize("function", [lambda x: x.shape[0] // 2, lambda x: (x.shape[0] * 2 + 1) // 3])
def test_a_division_of_sizes_stays_one_node(function: Callable[[torch.Tensor], int]) -> None:
    model = exported(lambda x: x.reshape(function(x), -1), (np.zeros((4, 6), np.float32),), 13)
    assert [node.op_type for node in model.graph.node].count("Div") == 1
    assert not {"Sub", "Less", "Where"} & {node.op_type for node in model.graph.node}


def zeros(x: torch.Tensor) -> torch.Tensor:
    return torch.zeros(x.shape[0], 6, dtype=x.dtype)


SCATTERS: dict[str, Function] = {
    "scatter_add": lambda x, i: zeros(x).scatter_add(1, i, x),
    "scatter_add on itself": lambda x, i: x.scatter_add(-1, i, x),
    "scatter_add down": lambda x, i: torch.zeros(6, 6, dtype=x.dtype).scatter_add(0, i, x),
    "scatter_add of fewer": lambda x, i: zeros(x).scatter_add(1, i[:, :3], x),
    "index_add": lambda x, i: zeros(x).index_add(1, i[0], x),
    "index_add down": lambda x, i: torch.ones(6, 6, dtype=x.dtype).index_add(0, i[:, 0], x),
    "index_add from the end": lambda x, i: zeros(x).index_add(-1, i[0], x),
    "index_add, alpha": lambda x, i: zeros(x).index_add_(1, i[0], x, alpha=2),
    "index_put": lambda x, i: torch.ones(6, 6, dtype=x.dtype).index_put((i[:, 0],), x, accumulate=True),
    "index_put, two": lambda x, i: torch.ones(6, 6, dtype=x.dtype).index_put((i, i[:, :1]), x, accumulate=True),
    "index_put, negative": lambda x, i: zeros(x).index_put((i[:, 0] % 4 - 4,), x, accumulate=True),
    "index_put, mask": lambda x, i: x.index_put((i > 2,), x[i > 2], accumulate=True),
    "scatter, add": lambda x, i: zeros(x).scatter(1, i, x, reduce="add"),
    "scatter, multiply": lambda x, i: (zeros(x) + 2).scatter(1, i, x, reduce="multiply"),
    "scatter, a number": lambda x, i: zeros(x).scatter(1, i, 3, reduce="add"),
    "scatter_reduce, sum": lambda x, i: zeros(x).scatter_reduce(1, i, x, "sum"),
    "scatter_reduce, prod": lambda x, i: (zeros(x) + 1).scatter_reduce(1, i, x, "prod"),
    "mean": lambda x, i: x.scatter_reduce(1, i, x, "mean"),
    "mean, without itself": lambda x, i: x.scatter_reduce(0, i % 4, x, "mean", include_self=False),
    "sum, without itself": lambda x, i: x.scatter_reduce(1, i, x, "sum", include_self=False),
    "prod, without itself": lambda x, i: x.scatter_reduce(-1, i, x, "prod", include_self=False),
}
EXTREMES: dict[str, Function] = {
    "amax": lambda x, i: zeros(x).scatter_reduce(1, i, x, "amax"),
    "amin": lambda x, i: zeros(x).scatter_reduce(1, i, x, "amin"),
    "amax, without itself": lambda x, i: (zeros(x) + 99).scatter_reduce(1, i, x, "amax", include_self=False),
    "amin, without itself": lambda x, i: (zeros(x) - 99).scatter_reduce(1, i, x, "amin", include_self=False),
}


@pytest.mark.filterwarnings("ignore:The reduce argument of torch.scatter")
@pytest.mark.parametrize("dtype", ["float32", "int64"])
@pytest.mark.parametrize(
    ("name", "opset"), [*itertools.product(SCATTERS, (16, 20)), *itertools.product(EXTREMES, (20,))]
)
def test_repeated_indices(name: str, opset: int, dtype: str) -> None:
    rng = np.random.default_rng(0)
    values = rng.integers(-9, 9, (4, 6)).astype(dtype)  # whole numbers, whose sums are exact in any order
    check((SCATTERS | EXTREMES)[name], (values, rng.integers(0, 6, (4, 6))), opset)


@pytest.mark.parametrize(
    ("name", "opset"), [*itertools.product(SCATTERS, (13, 15)), *itertools.product(EXTREMES, (13, 15, 16))]
)
def test_an_opset_that_cannot_sum_is_refused(name: str, opset: int) -> None:
    inputs = np.ones((4, 6), np.float32), np.zeros((4, 6), np.int64)
    with pytest.raises(torch.onnx.errors.OnnxExporterError, match=r"added in version 1[68]|is not supported"):
        exported((SCATTERS | EXTREMES)[name], inputs, opset)


def test_outside_the_context_the_exporter_is_unchanged(monkeypatch: pytest.MonkeyPatch) -> None:
    """Without these functions the exporter is wrong, and registering them leaves no trace."""
    monkeypatch.setattr(symbolics, "_FUNCTIONS", {})
    with pytest.raises(AssertionError):
        check(DIVISIONS["//"], pairs("int64"), OPSETS[0])


INDEXINGS: dict[str, Function] = {
    "rows and columns": lambda x, i: x[torch.arange(x.shape[0]), i[:, 0]],
    "two tensors": lambda x, i: x[i[:, :1] % 4, i],
    "constants": lambda x, i: x[:, [0, 2]][:, [1, 0]] + x[[0, -1, 1, -2], [2, -1, 0, -6]][:, None] + i[:, :1],
    "apart": lambda x, i: x[:, None, :][i[:, 0] % 4, :, i[:, 1]],
    "int32": lambda x, i: x[torch.arange(x.shape[0]), i[:, 1].int()],
    "one": lambda x, i: x[:, i[0]],
    "a mask": lambda x, i: x[i < 0],
}


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("name", INDEXINGS)
def test_indices_from_the_end(name: str) -> None:
    values = np.arange(24, dtype=np.float32).reshape(4, 6)
    check(INDEXINGS[name], (values, np.random.default_rng(0).integers(-6, 6, (4, 6))), 13)


DISTANCES: dict[str, Function] = {
    "cosine_similarity": torch.cosine_similarity,
    "cosine_similarity down": lambda x, y: torch.cosine_similarity(x, y, 0, 1e-3),
    **{f"pairwise_distance, p={p}": lambda x, y, p=p: nn.functional.pairwise_distance(x, y, p) for p in (1, 2, 3)},
    "pairwise_distance, p=inf": lambda x, y: nn.functional.pairwise_distance(x, y, float("inf"), keepdim=True),
    **{f"cdist, p={p}": lambda x, y, p=p: torch.cdist(x[None], y[None, :3], p) for p in (1.0, 2.0, 3.0)},
    "cdist, p=inf": lambda x, y: torch.cdist(x, y[:2], float("inf")),
}


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("scale", [1e-6, 1.0, 1e12])
@pytest.mark.parametrize("name", DISTANCES)
def test_distances(name: str, scale: float) -> None:
    arrays = tuple(np.random.default_rng(1).normal(size=(2, 5, 6)).astype(np.float32) * np.float32(scale))
    expected = DISTANCES[name](*map(torch.from_numpy, arrays)).numpy()
    model = exported(DISTANCES[name], arrays, 13)
    session = onnxruntime.InferenceSession(model.SerializeToString(), providers=["CPUExecutionProvider"])
    (outputs,) = session.run(None, {"input0": arrays[0], "input1": arrays[1]})
    np.testing.assert_allclose(outputs, expected, rtol=1e-3)
