"""Symbolic functions that replace those of PyTorch's tracing exporter that silently export something else.

The exporter divides integers towards zero although `//` rounds down, loses a float's quotient beyond int64, and keeps
only the last of repeated indices, which scatter_add, index_add and index_put(accumulate=True) sum; formulas.py and the
functions below name the others, and docs/operators.md has what each exporter does with every operator. Summing needs
opset 16: below it these functions raise UnsupportedOperatorError, and graph.py tries the next opset. Sorting with
stable=True it refuses, though it could.

Symbolic functions take and return values of the graph `g` under construction; each has the parameters of the ATen
operator for which it is registered.
"""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch.onnx._internal.torchscript_exporter import (
    registration,
    symbolic_helper,
    symbolic_opset9,
    symbolic_opset11,
    symbolic_opset12,
    symbolic_opset13,
    symbolic_opset16,
)
from torch.onnx._internal.torchscript_exporter._type_utils import JitScalarType

from seaway.export import formulas

MIN_OPSET = 13  # the lowest of graph.ONNX_TF_OPSETS
MASKS = (JitScalarType.BOOL, JitScalarType.UINT8)  # as indices
SCATTER_ADD_OPSET = 16  # ScatterElements and ScatterND have `reduction` since: add and mul,
SCATTER_MIN_MAX_OPSET = 18  # and since: min and max


@contextmanager
def registered() -> Iterator[None]:
    """Exports inside this context use these functions; outside, the exporter is unchanged."""
    for (name, opset), function in _FUNCTIONS.items():
        registration.registry.register(name, opset, function, custom=True)
    try:
        yield
    finally:
        for name, opset in _FUNCTIONS:
            registration.registry.unregister(name, opset)


def floor_divide(g: Any, dividend: Any, divisor: Any) -> Any:
    """`//`: rounds down, for integers and floats."""
    if all(_never_negative(value) for value in g.original_node.inputs()):
        return g.op("Div", dividend, divisor)  # keeps arithmetic on shapes short for shape propagation
    return _in_result_type(g, (dividend, divisor), formulas.floor_floats, formulas.floor_integers)


def remainder(g: Any, dividend: Any, divisor: Any) -> Any:
    """`%`: has the divisor's sign."""
    return _in_result_type(g, (dividend, divisor), formulas.remainder_floats, formulas.remainder_integers)


def fmod(g: Any, dividend: Any, divisor: Any) -> Any:
    """The remainder with the dividend's sign."""
    return _in_result_type(g, (dividend, divisor), formulas.c_remainder, formulas.c_remainder)


def div(g: Any, dividend: Any, divisor: Any, *mode: Any) -> Any:
    """True division, or rounded down or towards zero according to `rounding_mode`."""
    rounding = symbolic_helper._parse_arg(mode[0], "s") if mode else None
    if rounding == "floor":
        return floor_divide(g, dividend, divisor)
    if rounding == "trunc":
        return _in_result_type(g, (dividend, divisor), formulas.trunc_floats, formulas.trunc_integers)
    return symbolic_opset9.true_divide(g, dividend, divisor)


def sign(g: Any, x: Any) -> Any:
    kind = JitScalarType.from_value(x)
    return formulas.sign(g, x, kind) if _is_float(kind) else g.op("Sign", x)


def signbit(g: Any, x: Any) -> Any:
    kind = JitScalarType.from_value(x)
    return formulas.signbit(g, x, kind) if _is_float(kind) else g.op("Less", x, formulas.constant(g, 0, kind))


def atan2(g: Any, y: Any, x: Any) -> Any:
    return _in_result_type(g, (y, x), formulas.atan2, formulas.atan2)


def clamp(g: Any, x: Any, low: Any, high: Any) -> Any:
    """Computes in the result's type: integers become floats if a limit is one."""
    x = _cast(g, x, _result_type(g))
    if symbolic_helper._is_none(low):
        return clamp_max(g, x, high)
    return clamp_min(g, x, low) if symbolic_helper._is_none(high) else symbolic_opset11.clamp(g, x, low, high)


def clamp_min(g: Any, x: Any, low: Any) -> Any:
    kind = _result_type(g)
    if not _is_float(kind):
        return symbolic_opset11.clamp_min(g, x, low)
    return formulas.at_least(g, _cast(g, x, kind), _cast(g, low, kind), kind)


def clamp_max(g: Any, x: Any, high: Any) -> Any:
    kind = _result_type(g)
    if not _is_float(kind):
        return symbolic_opset11.clamp_max(g, x, high)
    return formulas.at_most(g, _cast(g, x, kind), _cast(g, high, kind), kind)


def power(g: Any, x: Any, exponent: Any) -> Any:
    known = symbolic_helper._maybe_get_const(exponent, "t")
    kind = _result_type(g)
    if isinstance(known, torch.Tensor) and abs(float(known.flatten()[0])) == 0.5 and known.numel() == 1:
        return formulas.power(g, _cast(g, x, kind), float(known), kind)
    return symbolic_opset12.pow(g, x, exponent)


def logit(g: Any, x: Any, eps: Any) -> Any:
    if symbolic_helper._is_none(eps):
        return symbolic_opset9.logit(g, x, eps)
    kind = _result_type(g)
    return formulas.logit(g, _cast(g, x, kind), symbolic_helper._parse_arg(eps, "f"), kind)


def heaviside(g: Any, x: Any, values: Any) -> Any:
    return _in_result_type(g, (x, values), formulas.heaviside, formulas.heaviside)


def xlogy(g: Any, x: Any, y: Any) -> Any:
    return _in_result_type(g, (x, y), formulas.xlogy, formulas.xlogy)


def logaddexp(g: Any, x: Any, y: Any) -> Any:
    return _in_result_type(g, (x, y), formulas.logaddexp, formulas.logaddexp)


def logaddexp2(g: Any, x: Any, y: Any) -> Any:
    return _in_result_type(g, (x, y), formulas.logaddexp2, formulas.logaddexp2)


def logsigmoid(g: Any, x: Any) -> Any:
    return formulas.logsigmoid(g, x, _result_type(g))


def softplus(g: Any, x: Any, beta: Any, threshold: Any) -> Any:
    """Linear above the threshold, which the exporter ignores."""
    kind = _result_type(g)
    scale, limit = (formulas.constant(g, symbolic_helper._parse_arg(value, "f"), kind) for value in (beta, threshold))
    scaled = g.op("Mul", x, scale)
    return g.op("Where", g.op("Greater", scaled, limit), x, g.op("Div", g.op("Softplus", scaled), scale))


def hardshrink(g: Any, x: Any, limit: Any) -> Any:
    """NaN of NaN, of which the exporter makes 0; so softshrink."""
    return g.op("Where", g.op("IsNaN", x), x, symbolic_opset9.hardshrink(g, x, limit))


def softshrink(g: Any, x: Any, limit: Any) -> Any:
    return g.op("Where", g.op("IsNaN", x), x, symbolic_opset9.softshrink(g, x, limit))


def any_true(g: Any, values: Any, *dims: Any) -> Any:
    """Of the values' truth: the exporter sums them, so that 1 and -1 are none."""
    return symbolic_opset9._any(g, _cast(g, values, JitScalarType.BOOL), *dims)


def all_true(g: Any, values: Any, *dims: Any) -> Any:
    return symbolic_opset9._all(g, _cast(g, values, JitScalarType.BOOL), *dims)


def bucketize(g: Any, x: Any, boundaries: Any, out_int32: Any = False, right: Any = False) -> Any:
    """NaN comes after every boundary."""
    found = symbolic_opset9.bucketize(g, x, boundaries, out_int32, right)
    if not _is_float(JitScalarType.from_value(x)):
        return found
    return g.op("Where", g.op("IsNaN", x), _cast(g, g.op("Size", boundaries), _result_type(g)), found)


def cumsum(g: Any, values: Any, dim: Any, dtype: Any = None) -> Any:
    """Computes in the result's type: PyTorch sums small integers as int64."""
    axis = g.op("Constant", value_t=torch.tensor(symbolic_helper._parse_arg(dim, "i"), dtype=torch.int))
    return g.op("CumSum", _cast(g, values, _result_type(g)), axis)


def sort(g: Any, values: Any, *arguments: Any) -> Any:
    """Both overloads, of which only one has `stable`; ONNX's TopK leaves equal elements in their order."""
    dim, descending = (symbolic_helper._parse_arg(argument, "i") for argument in arguments[-2:])
    return symbolic_helper._sort_helper(g, values, dim, descending=descending)


def argsort(g: Any, values: Any, *arguments: Any) -> Any:
    return sort(g, values, *arguments)[1]


def diagonal(g: Any, x: Any, offset: Any, row: Any, column: Any) -> Any:
    rank = symbolic_helper._get_tensor_rank(x)
    sizes = [symbolic_helper._get_tensor_dim_size(x, axis) for axis in range(rank or 0)]
    at, *axes = (symbolic_helper._parse_arg(value, "i") for value in (offset, row, column))
    if not sizes or None in [sizes[axis] for axis in axes]:
        return symbolic_opset13.diagonal(g, x, offset, row, column)
    return formulas.diagonal(g, x, sizes, at, *axes)


def cosine_similarity(g: Any, x: Any, y: Any, dim: Any, eps: Any) -> Any:
    """Divides by each norm, which is at least eps; the exporter by their product."""
    kind, axis = _result_type(g), symbolic_helper._parse_arg(dim, "i")
    limit = formulas.constant(g, symbolic_helper._parse_arg(eps, "f"), kind)
    unit = [_divide_by_norm(g, _cast(g, value, kind), axis, limit) for value in (x, y)]
    return symbolic_helper._reducesum_helper(g, g.op("Mul", *unit), axes_i=[axis], keepdims_i=0)


def pairwise_distance(g: Any, x: Any, y: Any, p: Any, eps: Any, keepdim: Any) -> Any:
    """The norm of x - y + eps; the exporter's omits eps and the absolute value."""
    kind = _result_type(g)
    limit = formulas.constant(g, symbolic_helper._parse_arg(eps, "f"), kind)
    difference = g.op("Add", g.op("Sub", _cast(g, x, kind), _cast(g, y, kind)), limit)
    keep = symbolic_helper._parse_arg(keepdim, "i")
    return symbolic_opset9.linalg_vector_norm(g, difference, symbolic_helper._parse_arg(p, "f"), [-1], keep, None)


def cdist(g: Any, x: Any, y: Any, p: Any, mode: Any = None) -> Any:
    """As pairwise_distance, without eps."""
    rows = symbolic_helper._unsqueeze_helper(g, x, [-2])
    columns = symbolic_helper._unsqueeze_helper(g, y, [-3])
    order = symbolic_helper._parse_arg(p, "f")
    return symbolic_opset9.linalg_vector_norm(g, g.op("Sub", rows, columns), order, [-1], 0, None)


def index(g: Any, values: Any, indices: Any) -> Any:
    """The exporter adds several indices up to one, which is wrong for those that count from the end."""
    parts = symbolic_helper._unpack_list(indices) if symbolic_helper._is_packed_list(indices) else [indices]
    given = [part for part in parts if not symbolic_helper._is_none(part)]
    if len(given) > 1 and not any(JitScalarType.from_value(part) in MASKS for part in given):
        counted = [
            part if symbolic_helper._is_none(part) else _from_start(g, values, i, part) for i, part in enumerate(parts)
        ]
        indices = g.op("prim::ListConstruct", *counted)
    return symbolic_opset11.index(g, values, indices)


def scatter_add(g: Any, target: Any, dim: Any, index: Any, source: Any) -> Any:
    _needs(g, "scatter_add", SCATTER_ADD_OPSET)
    return symbolic_opset16.scatter_add(g, target, dim, index, source)


def scatter(g: Any, target: Any, dim: Any, index: Any, source: Any, *reduce: Any) -> Any:
    """Handles both overloads: the exporter's own function takes no `reduce`."""
    result = symbolic_opset11.scatter(g, target, dim, index, source)
    if reduce:
        _needs(g, "scatter(reduce=...)", SCATTER_ADD_OPSET)
        reduction = {"add": "add", "multiply": "mul"}[symbolic_helper._parse_arg(reduce[0], "s")]
        result.node().s_("reduction", reduction)
    return result


def scatter_reduce(
    g: Any, target: Any, dim: Any, index: Any, source: Any, reduce: Any, include_self: Any = True
) -> Any:
    name, axis = symbolic_helper._parse_arg(reduce, "s"), symbolic_helper._parse_arg(dim, "i")
    if name in ("amin", "amax"):
        _needs(g, "scatter_reduce with amin or amax", SCATTER_MIN_MAX_OPSET)
    itself = include_self is True or bool(symbolic_helper._parse_arg(include_self, "i"))
    return formulas.scatter_reduce(g, target, axis, index, source, name, itself, JitScalarType.from_value(target))


def index_add(g: Any, target: Any, dim: Any, index: Any, source: Any, alpha: Any = None) -> Any:
    _needs(g, "index_add", SCATTER_ADD_OPSET)
    rank = symbolic_helper._get_tensor_rank(source)
    axis = symbolic_helper._parse_arg(dim, "i")
    if rank is None:
        return symbolic_helper._unimplemented("index_add", "a source of unknown rank")
    if alpha is not None and symbolic_helper._maybe_get_const(alpha, "f") != 1:
        source = g.op("Mul", source, _cast(g, alpha, JitScalarType.from_value(source)))
    shape = g.op("Constant", value_t=torch.tensor([-1 if i == axis % rank else 1 for i in range(rank)]))
    expanded = g.op("Expand", g.op("Reshape", index, shape), g.op("Shape", source))
    return g.op("ScatterElements", target, expanded, source, axis_i=axis, reduction_s="add")


def index_put(g: Any, target: Any, indices: Any, values: Any, accumulate: Any = False) -> Any:
    if not symbolic_helper._parse_arg(accumulate, "b"):
        return symbolic_opset11.index_put(g, target, indices, values, False)
    _needs(g, "index_put(accumulate=True)", SCATTER_ADD_OPSET)
    zeros = g.op("Sub", target, target)
    result = symbolic_opset11.index_put(g, zeros, indices, values, False)
    if result.node().kind() == "onnx::ScatterND":  # not masked_fill or masked_scatter, which repeat no index
        result.node().s_("reduction", "add")
    return g.op("Add", target, result)


def _in_result_type(g: Any, values: tuple[Any, ...], floats: Callable[..., Any], integers: Callable[..., Any]) -> Any:
    """Computes in the result type of the trace, to which PyTorch promotes the operands."""
    kind = _result_type(g)
    if _is_float(kind):
        return floats(g, *(_cast(g, value, kind) for value in values), kind)
    wide = JitScalarType.INT if kind in formulas.SMALL else kind
    wrapped = (_cast(g, value, kind) for value in values)
    return _cast(g, integers(g, *(_cast(g, value, wide) for value in wrapped), wide), kind)


def _divide_by_norm(g: Any, x: Any, axis: int, limit: Any) -> Any:
    norm = symbolic_opset9.linalg_vector_norm(g, x, 2.0, [axis], 1, None)
    return g.op("Div", x, g.op("Max", norm, limit))


def _from_start(g: Any, values: Any, axis: int, index: Any) -> Any:
    """Indices of the axis, of which those below 0 count from the end, as int64 from 0."""
    known = symbolic_helper._maybe_get_const(index, "t")
    if isinstance(known, torch.Tensor) and bool((known >= 0).all()):
        return index
    kind = JitScalarType.INT64
    index, zero = _cast(g, index, kind), formulas.constant(g, 0, kind)
    size = g.op("Gather", g.op("Shape", values), formulas.constant(g, axis, kind), axis_i=0)
    return g.op("Where", g.op("Less", index, zero), g.op("Add", index, size), index)


def _is_float(kind: JitScalarType) -> bool:
    return bool(kind.dtype().is_floating_point)


def _result_type(g: Any) -> JitScalarType:
    return JitScalarType.from_value(g.original_node.output())


def _cast(g: Any, value: Any, kind: JitScalarType) -> Any:
    if JitScalarType.from_value(value, JitScalarType.UNDEFINED) == kind:
        return value
    constant = symbolic_helper._maybe_get_const(value, "t")
    if isinstance(constant, torch.Tensor):
        return g.op("Constant", value_t=constant.to(kind.dtype()))
    result = g.op("Cast", value, to_i=kind.onnx_type())
    result.setType(value.type().with_dtype(kind.dtype()) if hasattr(value.type(), "with_dtype") else value.type())
    return result


def _never_negative(value: Any) -> bool:
    """Whether a traced value is a size, or computed from sizes and constants: `(x.shape[1] + 3) // 4`."""
    node = value.node()
    if node.kind() == "prim::Constant" and node.hasAttribute("value") and node.kindOf("value") in ("i", "t"):
        return bool((torch.as_tensor(symbolic_helper._node_get(node, "value")) >= 0).all())
    if node.kind() in ("prim::NumToTensor", "aten::add", "aten::mul", "aten::floor_divide"):
        return all(_never_negative(part) for part in node.inputs())
    return bool(node.kind() == "aten::size")


def _needs(g: Any, name: str, opset: int) -> None:
    if g.opset < opset:
        raise torch.onnx.errors.UnsupportedOperatorError(f"aten::{name}", g.opset, opset)


# Registered from the opset of the exporter's own function on, or from MIN_OPSET.
_FUNCTIONS: dict[tuple[str, int], Callable[..., Any]] = {
    ("aten::floor_divide", MIN_OPSET): floor_divide,
    ("aten::floordiv", MIN_OPSET): floor_divide,
    ("aten::remainder", MIN_OPSET): remainder,
    ("aten::fmod", MIN_OPSET): fmod,
    ("aten::div", MIN_OPSET): div,
    ("aten::sign", MIN_OPSET): sign,
    ("aten::sgn", MIN_OPSET): sign,
    ("aten::signbit", MIN_OPSET): signbit,
    ("aten::atan2", MIN_OPSET): atan2,
    ("aten::clamp", MIN_OPSET): clamp,
    ("aten::clamp_min", MIN_OPSET): clamp_min,
    ("aten::clamp_max", MIN_OPSET): clamp_max,
    ("aten::pow", MIN_OPSET): power,
    ("aten::logit", MIN_OPSET): logit,
    ("aten::heaviside", MIN_OPSET): heaviside,
    ("aten::xlogy", MIN_OPSET): xlogy,
    ("aten::logaddexp", MIN_OPSET): logaddexp,
    ("aten::logaddexp2", MIN_OPSET): logaddexp2,
    ("aten::log_sigmoid", MIN_OPSET): logsigmoid,
    ("aten::softplus", MIN_OPSET): softplus,
    ("aten::hardshrink", MIN_OPSET): hardshrink,
    ("aten::softshrink", MIN_OPSET): softshrink,
    ("aten::any", MIN_OPSET): any_true,
    ("aten::all", MIN_OPSET): all_true,
    ("aten::bucketize", MIN_OPSET): bucketize,
    ("aten::cumsum", MIN_OPSET): cumsum,
    ("aten::sort", MIN_OPSET): sort,
    ("aten::argsort", MIN_OPSET): argsort,
    ("aten::scatter_add", MIN_OPSET): scatter_add,
    ("aten::scatter", MIN_OPSET): scatter,
    ("aten::scatter_reduce", SCATTER_ADD_OPSET): scatter_reduce,
    ("aten::index_add", MIN_OPSET): index_add,
    ("aten::cosine_similarity", MIN_OPSET): cosine_similarity,
    ("aten::pairwise_distance", MIN_OPSET): pairwise_distance,
    ("aten::cdist", MIN_OPSET): cdist,
    ("aten::diagonal", MIN_OPSET): diagonal,
    ("aten::index", MIN_OPSET): index,
    ("aten::index_put", MIN_OPSET): index_put,
}
