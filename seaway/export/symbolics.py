"""Symbolic functions that replace those of PyTorch's tracing exporter that silently export something else.

The exporter divides integers towards zero although `//` rounds down, loses a float's quotient beyond int64, and keeps
only the last of repeated indices, which scatter_add, index_add and index_put(accumulate=True) sum. Summing needs opset
16: below it these functions raise UnsupportedOperatorError, and graph.py tries the next opset. Sorting with stable=True
it refuses, though it could.

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
    symbolic_opset16,
)
from torch.onnx._internal.torchscript_exporter._type_utils import JitScalarType

MIN_OPSET = 13  # the lowest of graph.OPSETS
SCATTER_ADD_OPSET = 16  # ScatterElements and ScatterND have `reduction` since: add and mul,
SCATTER_MIN_MAX_OPSET = 18  # and since: min and max
# ONNX has no arithmetic for these before opset 14.
SMALL = (JitScalarType.INT8, JitScalarType.UINT8, JitScalarType.INT16)


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
    return _in_result_type(g, (dividend, divisor), _floor_floats, _floor_integers)


def remainder(g: Any, dividend: Any, divisor: Any) -> Any:
    """`%`: has the divisor's sign."""
    return _in_result_type(g, (dividend, divisor), _remainder_floats, lambda g, a, b: g.op("Mod", a, b, fmod_i=0))


def fmod(g: Any, dividend: Any, divisor: Any) -> Any:
    """The remainder with the dividend's sign."""
    return _in_result_type(g, (dividend, divisor), _c_remainder, _c_remainder)


def div(g: Any, dividend: Any, divisor: Any, *mode: Any) -> Any:
    """True division, or rounded down or towards zero according to `rounding_mode`."""
    rounding = symbolic_helper._parse_arg(mode[0], "s") if mode else None
    if rounding == "floor":
        return floor_divide(g, dividend, divisor)
    if rounding == "trunc":
        return _in_result_type(g, (dividend, divisor), _trunc_floats, _trunc_integers)
    return symbolic_opset9.true_divide(g, dividend, divisor)


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
    if symbolic_helper._parse_arg(reduce, "s") in ("amin", "amax"):
        _needs(g, "scatter_reduce with amin or amax", SCATTER_MIN_MAX_OPSET)
    return symbolic_opset16.scatter_reduce(g, target, dim, index, source, reduce, include_self)


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


def _c_remainder(g: Any, dividend: Any, divisor: Any) -> Any:
    return g.op("Mod", dividend, divisor, fmod_i=1)


def _trunc_integers(g: Any, dividend: Any, divisor: Any) -> Any:
    """Never divides by -1: the minimum integer / -1 is itself in PyTorch, but aborts ONNX Runtime's process."""
    constant = symbolic_helper._maybe_get_const(divisor, "t")
    if isinstance(constant, torch.Tensor) and not bool((constant == -1).any()):
        return g.op("Div", dividend, divisor)
    kind = JitScalarType.from_value(dividend)
    minus_one = g.op("Equal", divisor, _constant(g, -1, kind))
    quotient = g.op("Div", dividend, g.op("Where", minus_one, _constant(g, 1, kind), divisor))
    return g.op("Where", minus_one, g.op("Neg", dividend), quotient)


def _floor_integers(g: Any, dividend: Any, divisor: Any) -> Any:
    """Divides towards zero, then subtracts 1 if that rounded up: no step overflows."""
    quotient = _trunc_integers(g, dividend, divisor)
    modulo = g.op("Sub", dividend, g.op("Mul", quotient, divisor))
    kind = JitScalarType.from_value(dividend)
    down = (
        g.op("Less", modulo, _constant(g, 0, kind)) if _positive(divisor) else _signs_differ(g, modulo, divisor, kind)
    )
    return g.op("Sub", quotient, _cast(g, down, kind))


def _floor_floats(g: Any, dividend: Any, divisor: Any) -> Any:
    """Follows c10::div_floor_floating, except for the sign of zero."""
    kind = JitScalarType.from_value(dividend)
    modulo = g.op("Mod", dividend, divisor, fmod_i=1)
    quotient = g.op("Div", g.op("Sub", dividend, modulo), divisor)
    quotient = g.op("Sub", quotient, _cast(g, _signs_differ(g, modulo, divisor, kind), kind))
    floor = g.op("Floor", quotient)
    round_up = g.op("Greater", g.op("Sub", quotient, floor), _constant(g, 0.5, kind))
    by_zero = g.op("Equal", divisor, _constant(g, 0, kind))
    return g.op("Where", by_zero, g.op("Div", dividend, divisor), g.op("Add", floor, _cast(g, round_up, kind)))


def _remainder_floats(g: Any, dividend: Any, divisor: Any) -> Any:
    modulo = g.op("Mod", dividend, divisor, fmod_i=1)
    differ = _signs_differ(g, modulo, divisor, JitScalarType.from_value(dividend))
    return g.op("Where", differ, g.op("Add", modulo, divisor), modulo)


def _trunc_floats(g: Any, dividend: Any, divisor: Any) -> Any:
    quotient = g.op("Div", dividend, divisor)
    negative = g.op("Less", quotient, _constant(g, 0, JitScalarType.from_value(dividend)))
    return g.op("Where", negative, g.op("Ceil", quotient), g.op("Floor", quotient))


def _signs_differ(g: Any, modulo: Any, divisor: Any, kind: JitScalarType) -> Any:
    """Whether a nonzero remainder and the divisor differ in sign."""
    zero = _constant(g, 0, kind)
    other = g.op("Xor", g.op("Less", modulo, zero), g.op("Less", divisor, zero))
    return g.op("And", other, g.op("Not", g.op("Equal", modulo, zero)))


def _in_result_type(g: Any, values: tuple[Any, ...], floats: Callable[..., Any], integers: Callable[..., Any]) -> Any:
    """Computes in the result type of the trace, to which PyTorch promotes the operands."""
    kind = _result_type(g)
    if kind.dtype().is_floating_point:
        return floats(g, *(_cast(g, value, kind) for value in values))
    wide = JitScalarType.INT if kind in SMALL else kind
    wrapped = (_cast(g, value, kind) for value in values)
    return _cast(g, integers(g, *(_cast(g, value, wide) for value in wrapped)), kind)


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


def _constant(g: Any, value: float, kind: JitScalarType) -> Any:
    return g.op("Constant", value_t=torch.tensor(value, dtype=kind.dtype()))


def _positive(value: Any) -> bool:
    constant = symbolic_helper._maybe_get_const(value, "t")
    return isinstance(constant, torch.Tensor) and bool((constant > 0).all())


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
    ("aten::cumsum", MIN_OPSET): cumsum,
    ("aten::sort", MIN_OPSET): sort,
    ("aten::argsort", MIN_OPSET): argsort,
    ("aten::scatter_add", MIN_OPSET): scatter_add,
    ("aten::scatter", MIN_OPSET): scatter,
    ("aten::scatter_reduce", SCATTER_ADD_OPSET): scatter_reduce,
    ("aten::index_add", MIN_OPSET): index_add,
    ("aten::index_put", MIN_OPSET): index_put,
}
