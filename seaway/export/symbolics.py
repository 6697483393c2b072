"""Operators that PyTorch's tracing exporter writes as something else and says nothing about, here as PyTorch has them.

It divides integers towards zero where `//` rounds down, loses a float's quotient beyond int64, and lets the last of
repeated indices win where scatter_add, index_add and index_put(accumulate=True) sum them all. Adding up needs opset
16: below it these raise UnsupportedOperatorError, and graph.py goes on to the next opset.

The exporter's own functions take and give values of the graph that it is building, `g`; each of these has the
parameters of the ATen operator under which it is registered.
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

SINCE = 13  # the lowest opset of graph.OPSETS
ADDS_UP = 16  # ScatterElements and ScatterND have had `reduction` from here on: add and mul,
TAKES_EXTREMES = 18  # and min and max from here on
SMALL = (JitScalarType.INT8, JitScalarType.UINT8, JitScalarType.INT16)  # ONNX has no arithmetic on them before 14


@contextmanager
def registered() -> Iterator[None]:
    """Exports inside use these functions; outside, the exporter is as it was."""
    for (name, opset), function in _FUNCTIONS.items():
        registration.registry.register(name, opset, function, custom=True)
    try:
        yield
    finally:
        for name, opset in _FUNCTIONS:
            registration.registry.unregister(name, opset)


def floor_divide(g: Any, dividend: Any, divisor: Any) -> Any:
    """`//`: rounded down, for integers as for floats."""
    if all(_never_negative(value) for value in g.original_node.inputs()):
        return g.op("Div", dividend, divisor)  # so that arithmetic on shapes stays short to follow
    return _in_result_type(g, (dividend, divisor), _floor_floats, _floor_integers)


def remainder(g: Any, dividend: Any, divisor: Any) -> Any:
    """`%`: with the divisor's sign."""
    return _in_result_type(g, (dividend, divisor), _remainder_floats, lambda g, a, b: g.op("Mod", a, b, fmod_i=0))


def fmod(g: Any, dividend: Any, divisor: Any) -> Any:
    """The remainder with the dividend's sign."""
    return _in_result_type(g, (dividend, divisor), _c_remainder, _c_remainder)


def div(g: Any, dividend: Any, divisor: Any, *mode: Any) -> Any:
    """True division, or by `rounding_mode` down or towards zero."""
    rounding = symbolic_helper._parse_arg(mode[0], "s") if mode else None
    if rounding == "floor":
        return floor_divide(g, dividend, divisor)
    if rounding == "trunc":
        return _in_result_type(g, (dividend, divisor), _trunc_floats, _trunc_integers)
    return symbolic_opset9.true_divide(g, dividend, divisor)


def cumsum(g: Any, values: Any, dim: Any, dtype: Any = None) -> Any:
    """In the result's type: PyTorch sums small integers as int64."""
    axis = g.op("Constant", value_t=torch.tensor(symbolic_helper._parse_arg(dim, "i"), dtype=torch.int))
    return g.op("CumSum", _cast(g, values, _result_type(g)), axis)


def scatter_add(g: Any, target: Any, dim: Any, index: Any, source: Any) -> Any:
    _needs(g, "scatter_add", ADDS_UP)
    return symbolic_opset16.scatter_add(g, target, dim, index, source)


def scatter(g: Any, target: Any, dim: Any, index: Any, source: Any, *reduce: Any) -> Any:
    """Both overloads: the exporter's own takes no `reduce`."""
    result = symbolic_opset11.scatter(g, target, dim, index, source)
    if reduce:
        _needs(g, "scatter(reduce=...)", ADDS_UP)
        how = {"add": "add", "multiply": "mul"}[symbolic_helper._parse_arg(reduce[0], "s")]
        result.node().s_("reduction", how)
    return result


def scatter_reduce(
    g: Any, target: Any, dim: Any, index: Any, source: Any, reduce: Any, include_self: Any = True
) -> Any:
    if symbolic_helper._parse_arg(reduce, "s") in ("amin", "amax"):
        _needs(g, "scatter_reduce of extremes", TAKES_EXTREMES)
    return symbolic_opset16.scatter_reduce(g, target, dim, index, source, reduce, include_self)


def index_add(g: Any, target: Any, dim: Any, index: Any, source: Any, alpha: Any = None) -> Any:
    _needs(g, "index_add", ADDS_UP)
    rank = symbolic_helper._get_tensor_rank(source)
    axis = symbolic_helper._parse_arg(dim, "i")
    if rank is None:
        return symbolic_helper._unimplemented("index_add", "a source of unknown rank")
    if alpha is not None and symbolic_helper._maybe_get_const(alpha, "f") != 1:
        source = g.op("Mul", source, _cast(g, alpha, JitScalarType.from_value(source)))
    column = g.op("Constant", value_t=torch.tensor([-1 if at == axis % rank else 1 for at in range(rank)]))
    everywhere = g.op("Expand", g.op("Reshape", index, column), g.op("Shape", source))
    return g.op("ScatterElements", target, everywhere, source, axis_i=axis, reduction_s="add")


def index_put(g: Any, target: Any, indices: Any, values: Any, accumulate: Any = False) -> Any:
    if not symbolic_helper._parse_arg(accumulate, "b"):
        return symbolic_opset11.index_put(g, target, indices, values, False)
    _needs(g, "index_put(accumulate=True)", ADDS_UP)
    zeros = g.op("Sub", target, target)
    result = symbolic_opset11.index_put(g, zeros, indices, values, False)
    if result.node().kind() == "onnx::ScatterND":  # and not masked_fill or masked_scatter, where nothing repeats
        result.node().s_("reduction", "add")
    return g.op("Add", target, result)


def _c_remainder(g: Any, dividend: Any, divisor: Any) -> Any:
    return g.op("Mod", dividend, divisor, fmod_i=1)


def _trunc_integers(g: Any, dividend: Any, divisor: Any) -> Any:
    """The least integer by -1 is itself in PyTorch, but ends ONNX Runtime's process: so -1 never divides."""
    known = symbolic_helper._maybe_get_const(divisor, "t")
    if isinstance(known, torch.Tensor) and not bool((known == -1).any()):
        return g.op("Div", dividend, divisor)
    kind = JitScalarType.from_value(dividend)
    minus_one = g.op("Equal", divisor, _constant(g, -1, kind))
    quotient = g.op("Div", dividend, g.op("Where", minus_one, _constant(g, 1, kind), divisor))
    return g.op("Where", minus_one, g.op("Neg", dividend), quotient)


def _floor_integers(g: Any, dividend: Any, divisor: Any) -> Any:
    """Towards zero, and one less where that was up: no step of it overflows."""
    quotient = _trunc_integers(g, dividend, divisor)
    rest = g.op("Sub", dividend, g.op("Mul", quotient, divisor))
    kind = JitScalarType.from_value(dividend)
    down = g.op("Less", rest, _constant(g, 0, kind)) if _positive(divisor) else _signs_differ(g, rest, divisor, kind)
    return g.op("Sub", quotient, _cast(g, down, kind))


def _floor_floats(g: Any, dividend: Any, divisor: Any) -> Any:
    """As c10::div_floor_floating does it, but for the sign of a zero."""
    kind = JitScalarType.from_value(dividend)
    rest = g.op("Mod", dividend, divisor, fmod_i=1)
    whole = g.op("Div", g.op("Sub", dividend, rest), divisor)
    whole = g.op("Sub", whole, _cast(g, _signs_differ(g, rest, divisor, kind), kind))
    floor = g.op("Floor", whole)
    up = g.op("Greater", g.op("Sub", whole, floor), _constant(g, 0.5, kind))
    by_zero = g.op("Equal", divisor, _constant(g, 0, kind))
    return g.op("Where", by_zero, g.op("Div", dividend, divisor), g.op("Add", floor, _cast(g, up, kind)))


def _remainder_floats(g: Any, dividend: Any, divisor: Any) -> Any:
    rest = g.op("Mod", dividend, divisor, fmod_i=1)
    differ = _signs_differ(g, rest, divisor, JitScalarType.from_value(dividend))
    return g.op("Where", differ, g.op("Add", rest, divisor), rest)


def _trunc_floats(g: Any, dividend: Any, divisor: Any) -> Any:
    quotient = g.op("Div", dividend, divisor)
    negative = g.op("Less", quotient, _constant(g, 0, JitScalarType.from_value(dividend)))
    return g.op("Where", negative, g.op("Ceil", quotient), g.op("Floor", quotient))


def _signs_differ(g: Any, rest: Any, divisor: Any, kind: JitScalarType) -> Any:
    """Whether a rest that is not 0 has another sign than the divisor."""
    zero = _constant(g, 0, kind)
    other = g.op("Xor", g.op("Less", rest, zero), g.op("Less", divisor, zero))
    return g.op("And", other, g.op("Not", g.op("Equal", rest, zero)))


def _in_result_type(g: Any, values: tuple[Any, ...], floats: Callable[..., Any], integers: Callable[..., Any]) -> Any:
    """Computes in the type that the trace saw as the result's, which is how PyTorch promotes its operands."""
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
    known = symbolic_helper._maybe_get_const(value, "t")
    if isinstance(known, torch.Tensor):
        return g.op("Constant", value_t=known.to(kind.dtype()))
    result = g.op("Cast", value, to_i=kind.onnx_type())
    result.setType(value.type().with_dtype(kind.dtype()) if hasattr(value.type(), "with_dtype") else value.type())
    return result


def _constant(g: Any, value: float, kind: JitScalarType) -> Any:
    return g.op("Constant", value_t=torch.tensor(value, dtype=kind.dtype()))


def _positive(value: Any) -> bool:
    known = symbolic_helper._maybe_get_const(value, "t")
    return isinstance(known, torch.Tensor) and bool((known > 0).all())


def _never_negative(value: Any) -> bool:
    """Whether a value of the trace is a size, or made of sizes and constants: `(x.shape[1] + 3) // 4`."""
    node = value.node()
    if node.kind() == "prim::Constant" and node.hasAttribute("value") and node.kindOf("value") in ("i", "t"):
        return bool((torch.as_tensor(symbolic_helper._node_get(node, "value")) >= 0).all())
    if node.kind() in ("prim::NumToTensor", "aten::add", "aten::mul", "aten::floor_divide"):
        return all(_never_negative(part) for part in node.inputs())
    return bool(node.kind() == "aten::size")


def _needs(g: Any, name: str, opset: int) -> None:
    if g.opset < opset:
        raise torch.onnx.errors.UnsupportedOperatorError(f"aten::{name}", g.opset, opset)


# Each from the opset on at which the exporter's own begins, or SINCE.
_FUNCTIONS: dict[tuple[str, int], Callable[..., Any]] = {
    ("aten::floor_divide", SINCE): floor_divide,
    ("aten::floordiv", SINCE): floor_divide,
    ("aten::remainder", SINCE): remainder,
    ("aten::fmod", SINCE): fmod,
    ("aten::div", SINCE): div,
    ("aten::cumsum", SINCE): cumsum,
    ("aten::scatter_add", SINCE): scatter_add,
    ("aten::scatter", SINCE): scatter,
    ("aten::scatter_reduce", ADDS_UP): scatter_reduce,
    ("aten::index_add", SINCE): index_add,
    ("aten::index_put", SINCE): index_put,
}
