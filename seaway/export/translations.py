"""Translations that replace those of PyTorch's torch.export exporter that silently export something else.

As symbolics.py for the tracing exporter, by the same formulas. A translation has the parameters of the ATen operator;
the exporter has promoted tensors to their common type, but passes numbers as they are.
"""

from collections.abc import Callable
from typing import Any

import torch
from torch.onnx._internal.torchscript_exporter._type_utils import JitScalarType

from seaway.export import formulas

Formula = Callable[..., Any]
# ONNX's number of a type → the type; JitScalarType.from_onnx_type takes 8-bit integers for quantized ones.
KINDS = {int(str(kind.onnx_type().value)): kind for kind in JitScalarType if kind.name in (
    "FLOAT", "DOUBLE", "HALF", "BFLOAT16", "INT64", "INT", "INT16", "INT8", "UINT8", "BOOL",
)}  # fmt: skip


class Graph:
    """Adds nodes as the tracing exporter's `g` does, whose attributes' names end in their types."""

    def op(self, name: str, *values: Any, **attributes: Any) -> Any:
        from onnxscript import ir, opset20

        plain = {key.rpartition("_")[0]: value for key, value in attributes.items()}
        if isinstance(plain.get("value"), torch.Tensor):
            plain["value"] = ir.tensor(plain["value"].numpy())
        return getattr(opset20, name)(*values, **{k: int(v) if k == "to" else v for k, v in plain.items()})


def table() -> dict[Any, Callable[..., Any]]:
    """For the parameter `custom_translation_table` of torch.onnx.export."""
    aten = torch.ops.aten
    return {
        aten.floor_divide.default: _arithmetic(formulas.floor_floats, formulas.floor_integers),
        aten.div.Tensor_mode: _div,
        aten.div.Scalar_mode: _div,
        aten.remainder.Tensor: _arithmetic(formulas.remainder_floats, formulas.remainder_integers),
        aten.remainder.Scalar: _arithmetic(formulas.remainder_floats, formulas.remainder_integers),
        aten.remainder.Scalar_Tensor: _arithmetic(formulas.remainder_floats, formulas.remainder_integers),
        aten.sign.default: _sign,
        aten.sgn.default: _sign,
        aten.signbit.default: _signbit,
        aten.atan2.default: _arithmetic(formulas.atan2),
        aten.clamp.default: _clamp,
        aten.clamp.Tensor: _clamp,
        aten.clamp_min.default: lambda x, low: _clamp(x, low),
        aten.clamp_min.Tensor: lambda x, low: _clamp(x, low),
        aten.clamp_max.default: lambda x, high: _clamp(x, None, high),
        aten.clamp_max.Tensor: lambda x, high: _clamp(x, None, high),
        aten.pow.Tensor_Scalar: _power,
        aten.logit.default: _logit,
        aten.heaviside.default: _arithmetic(formulas.heaviside),
        aten.xlogy.Tensor: _arithmetic(formulas.xlogy),
        aten.xlogy.Scalar_Self: _arithmetic(formulas.xlogy),
        aten.xlogy.Scalar_Other: _arithmetic(formulas.xlogy),
        aten.logaddexp.default: _arithmetic(formulas.logaddexp),
        aten.logaddexp2.default: _arithmetic(formulas.logaddexp2),
        aten.log_sigmoid.default: lambda x: formulas.logsigmoid(Graph(), x, _kind(x)),
        aten.nan_to_num.default: _nan_to_num,
        aten.mean.dim: _mean,
        aten.conv1d.default: _convolve,
        aten.conv2d.default: _convolve,
        aten.conv3d.default: _convolve,
        aten.diagonal.default: _diagonal,
        aten.scatter_reduce.two: _scatter_reduce,
        aten.logcumsumexp.default: _refuse("logcumsumexp", "x.exp().cumsum(dim).log(), if its numbers are small"),
        # ONNX Runtime's process crashes on what the exporter writes.
        **dict.fromkeys(
            (
                aten.embedding_bag.default,
                aten.embedding_bag.padding_idx,
                aten._embedding_bag.default,
                aten._embedding_bag_forward_only.default,
            ),
            _refuse("nn.EmbeddingBag", "nn.Embedding and sum or mean"),
        ),
        **_of_transformers(),
    }


def _arithmetic(floats: Formula, integers: Formula | None = None) -> Callable[..., Any]:
    """A translation of two operands, of which one may be a number."""

    def translate(self: Any, other: Any) -> Any:
        g, kind = Graph(), _kind(self, other)
        if integers is None or kind.dtype().is_floating_point:
            return floats(g, _cast(g, self, kind), _cast(g, other, kind), kind)
        wide = JitScalarType.INT if kind in formulas.SMALL else kind
        return _cast(g, integers(g, _cast(g, self, wide), _cast(g, other, wide), wide), kind)

    return translate


def _div(self: Any, other: Any, rounding_mode: Any = None) -> Any:
    if rounding_mode == "floor":
        return _arithmetic(formulas.floor_floats, formulas.floor_integers)(self, other)
    if rounding_mode == "trunc":
        return _arithmetic(formulas.trunc_floats, formulas.trunc_integers)(self, other)
    g, kind = Graph(), _kind(self, other)
    kind = kind if kind.dtype().is_floating_point else JitScalarType.FLOAT
    return g.op("Div", _cast(g, self, kind), _cast(g, other, kind))


def _sign(self: Any) -> Any:
    kind = _kind(self)
    if kind == JitScalarType.BOOL:
        return Graph().op("Identity", self)
    return formulas.sign(Graph(), self, kind) if kind.dtype().is_floating_point else Graph().op("Sign", self)


def _signbit(self: Any) -> Any:
    g, kind = Graph(), _kind(self)
    if kind == JitScalarType.BOOL:
        return g.op("Xor", self, self)
    if kind.dtype().is_floating_point:
        return formulas.signbit(g, self, kind)
    return g.op("Less", self, formulas.constant(g, 0, kind))


def _clamp(self: Any, min: Any = None, max: Any = None) -> Any:
    g, kind = Graph(), _kind(self)
    if isinstance(min, int | float) and isinstance(max, int | float):
        return g.op("Clip", self, _cast(g, min, kind), _cast(g, max, kind))
    result = self if min is None else formulas.at_least(g, self, _cast(g, min, kind), kind)
    return result if max is None else formulas.at_most(g, result, _cast(g, max, kind), kind)


def _power(self: Any, exponent: Any) -> Any:
    g, kind = Graph(), _kind(self, exponent)
    return formulas.power(g, _cast(g, self, kind), exponent, kind)


def _logit(self: Any, eps: Any = None) -> Any:
    g, kind = Graph(), _kind(self)
    if eps is not None:
        return formulas.logit(g, self, eps, kind)
    return g.op("Log", g.op("Div", self, g.op("Sub", formulas.constant(g, 1, kind), self)))


def _nan_to_num(self: Any, nan: Any = None, posinf: Any = None, neginf: Any = None) -> Any:
    """With the limits of its type; the exporter makes infinities of those of float64."""
    g, kind = Graph(), _kind(self)
    if not kind.dtype().is_floating_point:
        return g.op("Identity", self)
    info = torch.finfo(kind.dtype())
    finite = g.op("Where", g.op("IsNaN", self), formulas.constant(g, nan or 0.0, kind), self)
    for infinity, given, limit in ((float("inf"), posinf, info.max), (float("-inf"), neginf, info.min)):
        at = g.op("Equal", finite, formulas.constant(g, infinity, kind))
        finite = g.op("Where", at, formulas.constant(g, limit if given is None else given, kind), finite)
    return finite


def _mean(self: Any, dim: Any, keepdim: Any = False, dtype: Any = None) -> Any:
    """Casts before it divides, not after. `dim`: a list; of none, all."""
    g, rank = Graph(), len(self.shape)
    if dtype is not None and dtype != -1:
        self = g.op("Cast", self, to_i=dtype)
    if rank == 0:
        return g.op("Identity", self)
    dims = [g.op("Constant", value_t=torch.tensor(list(dim)))] if dim else []
    return g.op("ReduceMean", self, *dims, keepdims_i=int(keepdim))


def _convolve(
    input: Any, weight: Any, bias: Any = None, stride: Any = 1, padding: Any = 0, dilation: Any = 1, groups: Any = 1
) -> Any:
    """Without a bias, where the exporter adds one of zeros: nodes, and time in every request."""
    g, axes = Graph(), len(weight.shape) - 2

    def each(value: Any) -> list[int]:
        values = [value] if isinstance(value, int) else list(value)
        return values * axes if len(values) == 1 else values

    alone = len(input.shape) == axes + 1  # without a batch
    x = g.op("Unsqueeze", input, g.op("Constant", value_t=torch.tensor([0]))) if alone else input
    given = [] if bias is None else [bias]
    sizes = {"strides_i": each(stride), "pads_i": 2 * each(padding), "dilations_i": each(dilation)}
    result = g.op("Conv", x, weight, *given, **sizes, group_i=groups)
    return g.op("Squeeze", result, g.op("Constant", value_t=torch.tensor([0]))) if alone else result


def _diagonal(self: Any, offset: Any = 0, dim1: Any = 0, dim2: Any = 1) -> Any:
    sizes = [size if isinstance(size, int) else None for size in self.shape]
    if None in (sizes[dim1], sizes[dim2]):
        raise NotImplementedError("diagonal: over axes of a size that is not fixed; use einsum")
    return formulas.diagonal(Graph(), self, sizes, offset, dim1, dim2)


def _scatter_reduce(self: Any, dim: Any, index: Any, src: Any, reduce: Any, include_self: Any = True) -> Any:
    return formulas.scatter_reduce(Graph(), self, dim, index, src, reduce, include_self, _kind(self))


def _of_transformers() -> dict[Any, Callable[..., Any]]:
    """Of the operator that Transformers 5 registers for its mixtures of experts, if it is imported."""
    try:
        return {torch.ops.transformers.grouped_mm_fallback.default: _grouped_mm}
    except AttributeError:
        return {}


def _grouped_mm(input: Any, weight: Any, offs: Any) -> Any:
    """Rows up to offs[0] times weight[0], then rows up to offs[1] times weight[1], and so on; zeros for the rest."""
    g = Graph()
    count, _, columns = weight.shape

    def numbers(*values: int) -> Any:
        return g.op("Constant", value_t=torch.tensor(values))

    ends = g.op("Cast", offs, to_i=JitScalarType.INT64.onnx_type())
    bounds = [numbers(0), *(g.op("Slice", ends, numbers(i), numbers(i + 1), numbers(0)) for i in range(count))]
    products = []
    for i in range(count):
        rows = g.op("Slice", input, bounds[i], bounds[i + 1], numbers(0))
        expert = g.op("Gather", weight, g.op("Constant", value_t=torch.tensor(i)), axis_i=0)
        products.append(g.op("MatMul", rows, expert))
    rest = g.op("Slice", input, bounds[-1], numbers(2**63 - 1), numbers(0))
    shape = g.op("Concat", g.op("Shape", rest, start_i=0, end_i=1), numbers(columns), axis_i=0)
    zeros = g.op("Expand", formulas.constant(g, 0, _kind(input)), shape)
    return g.op("Concat", *products, zeros, axis_i=0)


def _refuse(name: str, instead: str) -> Callable[..., Any]:
    """A translation that fails by name where ONNX has no sound one."""

    def translate(*arguments: Any, **keywords: Any) -> Any:
        raise NotImplementedError(f"{name}: no exporter exports it rightly; use {instead}")

    return translate


def _kind(*values: Any) -> JitScalarType:
    """The type of the first tensor; of integers and a float number, PyTorch's default."""
    tensor = next(value for value in values if hasattr(value, "dtype"))
    kind = KINDS[int(tensor.dtype)]
    if not kind.dtype().is_floating_point and any(isinstance(value, float) for value in values):
        return JitScalarType.FLOAT
    return kind


def _cast(g: Graph, value: Any, kind: JitScalarType) -> Any:
    if not hasattr(value, "dtype"):
        return formulas.constant(g, value, kind)
    if value.dtype is not None and KINDS[int(value.dtype)] == kind:
        return value
    return g.op("Cast", value, to_i=kind.onnx_type())
