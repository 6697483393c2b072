"""ONNX nodes that compute what PyTorch does, for operators that its exporters export otherwise.

Each function adds nodes to a graph `g` and returns the last one's output. `g.op("Mod", a, b, fmod_i=1)` is the tracing
exporter's; `translations.Graph` offers the same for the torch.export exporter. `kind` is the operands' common type.
"""

import math
from typing import Any

import torch
from torch.onnx._internal.torchscript_exporter import symbolic_helper
from torch.onnx._internal.torchscript_exporter._type_utils import JitScalarType

# ONNX has no arithmetic for these before opset 14, and ONNX Runtime no Max and Min.
SMALL = (JitScalarType.INT8, JitScalarType.UINT8, JitScalarType.INT16)


def constant(g: Any, value: float, kind: JitScalarType) -> Any:
    return g.op("Constant", value_t=torch.tensor(value, dtype=kind.dtype()))


def c_remainder(g: Any, dividend: Any, divisor: Any, kind: JitScalarType) -> Any:
    """The remainder with the dividend's sign."""
    return g.op("Mod", dividend, divisor, fmod_i=1)


def trunc_integers(g: Any, dividend: Any, divisor: Any, kind: JitScalarType) -> Any:
    """Never divides by -1: the minimum integer / -1 is itself in PyTorch, but aborts ONNX Runtime's process."""
    known = _known(divisor)
    if known is not None and not bool((known == -1).any()):
        return g.op("Div", dividend, divisor)
    minus_one = g.op("Equal", divisor, constant(g, -1, kind))
    quotient = g.op("Div", dividend, g.op("Where", minus_one, constant(g, 1, kind), divisor))
    return g.op("Where", minus_one, g.op("Neg", dividend), quotient)


def floor_integers(g: Any, dividend: Any, divisor: Any, kind: JitScalarType) -> Any:
    """Divides towards zero, then subtracts 1 if that rounded up: no step overflows."""
    quotient = trunc_integers(g, dividend, divisor, kind)
    modulo = g.op("Sub", dividend, g.op("Mul", quotient, divisor))
    known = _known(divisor)
    if known is not None and bool((known > 0).all()):
        down = g.op("Less", modulo, constant(g, 0, kind))
    else:
        down = _signs_differ(g, modulo, divisor, kind)
    return g.op("Sub", quotient, _number(g, down, kind))


def floor_floats(g: Any, dividend: Any, divisor: Any, kind: JitScalarType) -> Any:
    """Follows c10::div_floor_floating, except for the sign of zero."""
    modulo = c_remainder(g, dividend, divisor, kind)
    quotient = g.op("Div", g.op("Sub", dividend, modulo), divisor)
    quotient = g.op("Sub", quotient, _number(g, _signs_differ(g, modulo, divisor, kind), kind))
    floor = g.op("Floor", quotient)
    round_up = g.op("Greater", g.op("Sub", quotient, floor), constant(g, 0.5, kind))
    by_zero = g.op("Equal", divisor, constant(g, 0, kind))
    return g.op("Where", by_zero, g.op("Div", dividend, divisor), g.op("Add", floor, _number(g, round_up, kind)))


def remainder_integers(g: Any, dividend: Any, divisor: Any, kind: JitScalarType) -> Any:
    """The remainder with the divisor's sign."""
    return g.op("Mod", dividend, divisor, fmod_i=0)


def remainder_floats(g: Any, dividend: Any, divisor: Any, kind: JitScalarType) -> Any:
    """The remainder with the divisor's sign."""
    modulo = c_remainder(g, dividend, divisor, kind)
    return g.op("Where", _signs_differ(g, modulo, divisor, kind), g.op("Add", modulo, divisor), modulo)


def trunc_floats(g: Any, dividend: Any, divisor: Any, kind: JitScalarType) -> Any:
    """The quotient, rounded towards zero."""
    quotient = g.op("Div", dividend, divisor)
    negative = g.op("Less", quotient, constant(g, 0, kind))
    return g.op("Where", negative, g.op("Ceil", quotient), g.op("Floor", quotient))


def sign(g: Any, x: Any, kind: JitScalarType) -> Any:
    """0 of NaN, which ONNX's Sign returns."""
    return g.op("Where", g.op("IsNaN", x), constant(g, 0, kind), g.op("Sign", x))


def atan2(g: Any, y: Any, x: Any, kind: JitScalarType) -> Any:
    """The angle of the point (x, y), also on the axes, at infinity, and for zeros of both signs."""
    zero, one = constant(g, 0, kind), constant(g, 1, kind)
    infinite = g.op("And", _infinite(g, y, kind), _infinite(g, x, kind))
    origin = g.op("And", g.op("Equal", y, zero), g.op("Equal", x, zero))
    ratio = g.op("Where", infinite, one, g.op("Div", g.op("Abs", y), g.op("Abs", x)))
    angle = g.op("Atan", g.op("Where", origin, zero, ratio))
    angle = g.op("Where", signbit(g, x, kind), g.op("Sub", constant(g, math.pi, kind), angle), angle)
    return g.op("Where", signbit(g, y, kind), g.op("Neg", angle), angle)


def signbit(g: Any, x: Any, kind: JitScalarType) -> Any:
    """Also of -0, whose reciprocal is negative; False for NaN."""
    zero = constant(g, 0, kind)
    reciprocal = g.op("Less", g.op("Reciprocal", x), zero)
    return g.op("Or", g.op("Less", x, zero), g.op("And", g.op("Equal", x, zero), reciprocal))


def at_least(g: Any, x: Any, limit: Any, kind: JitScalarType) -> Any:
    """ONNX Runtime's Clip without an upper limit makes the largest number of infinity."""
    return g.op("Clip" if kind in SMALL else "Max", x, limit)


def at_most(g: Any, x: Any, limit: Any, kind: JitScalarType) -> Any:
    if kind not in SMALL:
        return g.op("Min", x, limit)
    return g.op("Clip", x, constant(g, torch.iinfo(kind.dtype()).min, kind), limit)


def power(g: Any, x: Any, exponent: float, kind: JitScalarType) -> Any:
    """PyTorch's ** 0.5 and ** -0.5 are sqrt and rsqrt, of which the former is NaN at -inf."""
    if abs(exponent) != 0.5 or not kind.dtype().is_floating_point:
        return g.op("Pow", x, constant(g, exponent, kind))
    root = g.op("Sqrt", x)
    return root if exponent > 0 else g.op("Reciprocal", root)


def logit(g: Any, x: Any, eps: float, kind: JitScalarType) -> Any:
    """NaN of NaN, of which the exporters' makes a limit."""
    one, low, high = (constant(g, value, kind) for value in (1, eps, 1 - eps))
    z = g.op("Min", g.op("Max", x, low), high)
    return g.op("Log", g.op("Div", z, g.op("Sub", one, z)))


def heaviside(g: Any, x: Any, values: Any, kind: JitScalarType) -> Any:
    """0 of NaN."""
    zero = constant(g, 0, kind)
    return g.op("Where", g.op("Equal", x, zero), values, _number(g, g.op("Greater", x, zero), kind))


def xlogy(g: Any, x: Any, y: Any, kind: JitScalarType) -> Any:
    """0 if x is 0, but NaN wherever y is."""
    zero = constant(g, 0, kind)
    product = g.op("Where", g.op("Equal", x, zero), zero, g.op("Mul", x, g.op("Log", y)))
    return g.op("Where", g.op("IsNaN", y), y, product)


def logaddexp(g: Any, x: Any, y: Any, kind: JitScalarType) -> Any:
    """log(exp(x) + exp(y)), which does not overflow."""
    return _larger_and(g, x, y, kind, g.op("Log", g.op("Add", constant(g, 1, kind), g.op("Exp", _apart(g, x, y)))))


def logsigmoid(g: Any, x: Any, kind: JitScalarType) -> Any:
    """x - log(1 + exp(x)) without overflow; log(sigmoid(x)) is -inf below -104."""
    exp = g.op("Exp", g.op("Neg", g.op("Abs", x)))
    return g.op("Sub", g.op("Min", x, constant(g, 0, kind)), g.op("Log", g.op("Add", constant(g, 1, kind), exp)))


def logaddexp2(g: Any, x: Any, y: Any, kind: JitScalarType) -> Any:
    """log2(2**x + 2**y), which does not overflow."""
    two = g.op("Pow", constant(g, 2, kind), _apart(g, x, y))
    log2 = g.op("Div", g.op("Log", g.op("Add", constant(g, 1, kind), two)), constant(g, math.log(2), kind))
    return _larger_and(g, x, y, kind, log2)


def diagonal(g: Any, x: Any, sizes: list[int | None], offset: int, row: int, column: int) -> Any:
    """The exporters' sums over a mask make NaN of every infinity beside the diagonal. `sizes`: of x, known for both."""
    rank = len(sizes)
    row, column = row % rank, column % rank
    height, width = sizes[row], sizes[column]
    assert height is not None and width is not None
    others = [axis for axis in range(rank) if axis not in (row, column)]
    flat = g.op("Reshape", g.op("Transpose", x, perm_i=[*others, row, column]), _integers(g, [*[0] * len(others), -1]))
    start, length = (max(-offset, 0), max(offset, 0)), min(height - max(-offset, 0), width - max(offset, 0))
    places = [(start[0] + i) * width + start[1] + i for i in range(length)]
    return g.op("Gather", flat, _integers(g, places), axis_i=len(others))


def scatter_reduce(
    g: Any, x: Any, axis: int, index: Any, source: Any, reduce: str, include_self: bool, kind: JitScalarType
) -> Any:
    """Of PyTorch's five ways to reduce; of `source`, as much counts as there are indices. Without `include_self`,
    elements that the index names start from the reduction's neutral element, and others stay."""

    def scattered(target: Any, values: Any, reduction: str = "none") -> Any:
        return g.op("ScatterElements", target, index, values, axis_i=axis, reduction_s=reduction)

    def filled(value: float, like: Any) -> Any:
        return g.op("Expand", constant(g, value, kind), g.op("Shape", like))

    floats = kind.dtype().is_floating_point
    least, most = (-math.inf, math.inf) if floats else (torch.iinfo(kind.dtype()).min, torch.iinfo(kind.dtype()).max)
    reduction, neutral = {
        "sum": ("add", 0), "mean": ("add", 0), "prod": ("mul", 1), "amin": ("min", most), "amax": ("max", least),
    }[reduce]  # fmt: skip
    starts = g.op("ConstantOfShape", g.op("Shape", g.op("Shape", index)), value_t=torch.tensor([0]))
    source = g.op("Slice", source, starts, g.op("Shape", index))
    start = x if include_self else scattered(x, filled(neutral, index))
    result = scattered(start, source, reduction)
    if reduce != "mean":
        return result
    ones = filled(1, x)
    count = ones if include_self else scattered(ones, filled(0, index))
    count = scattered(count, filled(1, index), "add")
    return g.op("Div", result, count) if floats else floor_integers(g, result, count, kind)


def _integers(g: Any, values: list[int]) -> Any:
    return g.op("Constant", value_t=torch.tensor(values, dtype=torch.int64))


def _apart(g: Any, x: Any, y: Any) -> Any:
    return g.op("Neg", g.op("Abs", g.op("Sub", x, y)))


def _larger_and(g: Any, x: Any, y: Any, kind: JitScalarType, rest: Any) -> Any:
    """The larger of both plus `rest`; of two equal infinities, one."""
    same = g.op("And", g.op("Equal", x, y), _infinite(g, x, kind))
    return g.op("Where", same, x, g.op("Add", g.op("Max", x, y), rest))


def _infinite(g: Any, x: Any, kind: JitScalarType) -> Any:
    """As IsInf, which has no float16 before opset 20."""
    return g.op("Equal", g.op("Abs", x), constant(g, math.inf, kind))


def _signs_differ(g: Any, modulo: Any, divisor: Any, kind: JitScalarType) -> Any:
    """Whether a nonzero remainder and the divisor differ in sign."""
    zero = constant(g, 0, kind)
    other = g.op("Xor", g.op("Less", modulo, zero), g.op("Less", divisor, zero))
    return g.op("And", other, g.op("Not", g.op("Equal", modulo, zero)))


def _number(g: Any, condition: Any, kind: JitScalarType) -> Any:
    return g.op("Cast", condition, to_i=kind.onnx_type())


def _known(value: Any) -> torch.Tensor | None:
    """A constant's value, if the tracing exporter knows it."""
    known = symbolic_helper._maybe_get_const(value, "t")
    return known if isinstance(known, torch.Tensor) else None
