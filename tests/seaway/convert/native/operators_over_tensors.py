"""Operators of random graphs over any tensor: for each a function that draws attributes and other inputs."""

import math
from typing import Any

import numpy as np
from graphs import ANY, Graph, Value, operator
from hypothesis import strategies as st
from onnx import numpy_helper

APART = 1e-2  # closer than this, which of two is larger is not asked

# Shapes


@operator("fib", ANY)
def transpose(g: Graph, x: Value) -> None:
    g.add("Transpose", [x], perm=list(g.draw(st.permutations(range(x.rank)))))


@operator("fib", ANY)
def reshape(g: Graph, x: Value) -> None:
    """Reshape: some axes kept, others merged or split; the batch as -1, as 0 or as a computed size."""
    wanted: list[Any] = [(place, size) for place, size in enumerate(x.shape)]
    at = g.whole(0, x.rank - 1)
    if g.one_of(True, False) and x.rank > 1:
        at = g.whole(0, x.rank - 2)
        wanted[at : at + 2] = [((at, at + 1), x.shape[at] * x.shape[at + 1])]
    elif not x.is_batch(at):
        factor = g.one_of(*[d for d in range(1, x.shape[at] + 1) if x.shape[at] % d == 0])
        wanted[at : at + 1] = [(None, factor), (None, x.shape[at] // factor)]
    way = g.one_of("free", "worked out")
    if way == "free":
        open_ = [i for i, (place, _) in enumerate(wanted) if is_open(x, place)]
        free = open_[0] if open_ else g.whole(0, len(wanted) - 1)
        g.add("Reshape", [x, g.numbers(*[-1 if i == free else size for i, (_, size) in enumerate(wanted)])])
        return
    sizes = g.sizes(x)
    parts = [part for place, size in wanted for part in computed_size(g, sizes, place, size)]
    if len(parts) == len(wanted):
        for target in g.add("Concat", parts, axis=0):
            g.add("Reshape", [x, target])


def is_open(x: Value, place: Any) -> bool:
    places = place if isinstance(place, tuple) else () if place is None else (place,)
    return any(x.is_batch(axis) for axis in places)


def computed_size(g: Graph, sizes: Value, place: Any, size: int) -> list[Value]:
    """One size of a target as exporters write it: a constant, or Gather, Mul and Unsqueeze."""
    if place is None:
        return [g.numbers(size)]
    picked = [
        g.add("Gather", [sizes, g.constant(np.int64(p))]) for p in (place if isinstance(place, tuple) else [place])
    ]
    listed = [one for got in picked for one in got]
    if len(listed) == 2:
        listed = g.add("Mul", listed)
    return g.add("Unsqueeze", [*listed, g.numbers(0)])


@operator("fib", ANY)
def flatten(g: Graph, x: Value) -> None:
    g.add("Flatten", [x], axis=g.whole(-x.rank, x.rank))


@operator("fib", range(5))
def unsqueeze(g: Graph, x: Value) -> None:
    count = g.whole(1, 2)
    axes = g.draw(st.lists(st.integers(0, x.rank + count - 1), min_size=count, max_size=count, unique=True))
    g.add("Unsqueeze", [x, g.numbers(*[a - x.rank - count if g.one_of(False, True) else a for a in axes])])


@operator("fib", ANY)
def squeeze(g: Graph, x: Value) -> None:
    axes = [a for a in range(x.rank) if x.shape[a] == 1 and not x.is_batch(a)]
    if axes:
        chosen = g.draw(st.lists(st.sampled_from(axes), min_size=1, unique=True))
        g.add("Squeeze", [x, g.numbers(*[a - x.rank if g.one_of(False, True) else a for a in chosen])])


@operator("f", ANY)
def expand(g: Graph, x: Value) -> None:
    """Expand to its own shape with leading axes, or with axes of size 1 expanded."""
    more = [g.whole(1, 2) for _ in range(g.whole(0, 1))]
    own = [g.whole(1, 3) if size == 1 and not x.is_batch(axis) else 1 for axis, size in enumerate(x.shape)]
    if g.one_of(False, True):
        g.add("Expand", [x, g.numbers(*more, *own)])
    else:
        for target in g.add("Concat", [g.numbers(*more, 1), g.sizes(x)], axis=0):
            g.add("Expand", [x, target])


@operator("f", ANY)
def made_of_a_shape(g: Graph, x: Value) -> None:
    """ConstantOfShape or Range of a computed shape, broadcast with a value."""
    sizes = g.sizes(x)
    if g.one_of(True, False):
        for one in g.add("ConstantOfShape", [sizes], value=numpy_helper.from_array(np.array([0.5], np.float32))):
            g.add("Add", [x, one])
    else:
        at = g.whole(0, x.rank - 1)
        for size in g.add("Gather", [sizes, g.constant(np.int64(at))]):
            for counted in g.add("Range", [g.constant(np.int64(0)), size, g.constant(np.int64(1))]):
                for wide in g.add("Cast", [counted], to=1):
                    axes = g.numbers(*range(1, x.rank - at))
                    for column in g.add("Unsqueeze", [wide, axes]) if x.rank - at > 1 else [wide]:
                        g.add("Mul", [x, column])


# Pieces


@operator("fib", ANY)
def concat(g: Graph, x: Value) -> None:
    axis = g.axis(x.rank)
    alike = [v for v in g.values if v.rank == x.rank and v.kind == x.kind and v.arrays[0].dtype == x.arrays[0].dtype]
    others = [v for v in alike if without(v, axis) == without(x, axis)]
    given = [x, g.one_of(*others)]
    if x.kind == "f" and g.one_of(False, True) and not any(x.is_batch(a) for a in range(x.rank) if a != axis % x.rank):
        given.append(g.weights(*[1 if a == axis % x.rank else size for a, size in enumerate(x.shape)]))
    g.add("Concat", given, axis=axis)


def without(v: Value, axis: int) -> list[Any]:
    shapes = [list(a.shape) for a in v.arrays]
    for shape in shapes:
        shape[axis] = 0
    return shapes


@operator("fi", ANY)
def split(g: Graph, x: Value) -> None:
    axis = g.axis(x.rank)
    if x.shape[axis] > 1 and not x.is_batch(axis):
        cut = g.whole(1, x.shape[axis] - 1)
        g.add("Split", [x, g.numbers(cut, x.shape[axis] - cut)], 2, axis=axis)


@operator("fib", ANY)
def slice_(g: Graph, x: Value) -> None:
    axis, step = g.axis(x.rank), g.one_of(1, 2, -1)
    ends = (g.one_of(0, 1, -1, -2), g.one_of(2**63 - 1, 2, -1, 3)) if step > 0 else (g.one_of(-1, 2, 9), -(2**63) + 1)
    g.add("Slice", [x, *[g.numbers(n) for n in (*ends, axis, step)]])


@operator("fi", ANY)
def pad(g: Graph, x: Value) -> None:
    mode = g.one_of("constant", "reflect", "edge")
    pads = [g.one_of(0, 1, *([-1] if mode == "constant" else [2])) for _ in range(2 * x.rank)]
    if mode == "reflect":
        pads = [min(p, max(a.shape[i % x.rank] for a in x.arrays[:1]) - 1) for i, p in enumerate(pads)]
    value = g.constant(x.arrays[0].dtype.type(2))
    g.add("Pad", [x, g.numbers(*pads), *([value] if mode == "constant" else [])], mode=mode)


@operator("fib", ANY)
def gather(g: Graph, x: Value) -> None:
    axis = g.axis(x.rank)
    most = x.arrays[0].shape[axis]
    indices = g.draw(st.lists(st.integers(-most, most - 1), min_size=1, max_size=3))
    shape = g.one_of((len(indices),), (1, len(indices)), ())
    g.add("Gather", [x, g.constant(np.resize(np.array(indices, np.int64), shape))], axis=axis)


@operator("f", range(1, 5))
def tile(g: Graph, x: Value) -> None:
    g.add("Tile", [x, g.numbers(*[g.whole(1, 2) for _ in range(x.rank)])])


# Along axes


@operator(ranks=ANY)
def softmax(g: Graph, x: Value) -> None:
    g.add(g.one_of("Softmax", "LogSoftmax"), [x], axis=g.axis(x.rank))


@operator("fi", ANY)
def reduction(g: Graph, x: Value) -> None:
    op = g.one_of("ReduceMean", "ReduceMax", "ReduceSum") if x.kind == "f" else "ReduceMax"
    chosen = st.lists(st.integers(-x.rank, x.rank - 1), min_size=1, max_size=2, unique_by=lambda a: a % x.rank)
    axes, kept = g.draw(chosen), g.whole(0, 1)
    if g.opset >= 18 or op == "ReduceSum":
        g.add(op, [x, g.numbers(*axes)], keepdims=kept)
    else:
        g.add(op, [x], axes=axes, keepdims=kept)


@operator("f", ANY)
def places_of_extremes(g: Graph, x: Value) -> None:
    axis = g.axis(x.rank)
    if all(apart(a, axis) for a in x.arrays):
        g.add(g.one_of("ArgMax", "ArgMin"), [x], axis=axis, keepdims=g.whole(0, 1))


def apart(array: np.ndarray, axis: int) -> bool:
    return bool((np.diff(np.sort(array, axis), axis=axis) > APART).all())


@operator("f", ANY)
def largest(g: Graph, x: Value) -> None:
    axis = g.axis(x.rank)
    if all(apart(a, axis) for a in x.arrays):
        k = g.numbers(g.whole(1, x.arrays[0].shape[axis]))
        g.add("TopK", [x, k], 2, axis=axis, largest=g.whole(0, 1))


@operator("f", ANY)
def running_sum(g: Graph, x: Value) -> None:
    axis = g.constant(np.int64(g.axis(x.rank)))
    g.add("CumSum", [x, axis], exclusive=g.whole(0, 1), reverse=g.whole(0, 1))


# Products


@operator(ranks=ANY)
def matmul(g: Graph, x: Value) -> None:
    fitting = [v for v in g.values if v.kind == "f" and v.rank > 1 and v.shape[-2] == x.shape[-1]]
    if g.one_of(True, True, False) or not fitting:
        if x.is_batch(-1):
            return
        sizes = g.one_of((x.shape[-1], g.whole(1, 4)), (x.shape[-1],), (*[1] * (x.rank - 2), x.shape[-1], 2))
        g.add("MatMul", [x, g.weights(*sizes)])
    else:
        g.add("MatMul", [x, g.one_of(*fitting)])


@operator(ranks=range(2, 7))
def product_with_itself(g: Graph, x: Value) -> None:
    """MatMul as in attention."""
    perm = [*range(x.rank - 2), x.rank - 1, x.rank - 2]
    for turned in g.add("Transpose", [x], perm=perm):
        for scores in g.add("MatMul", [x, turned]):
            g.add("Softmax", [scores], axis=-1)


@operator(ranks=range(2, 3))
def gemm(g: Graph, x: Value) -> None:
    turned = [g.whole(0, 1), g.whole(0, 1)]
    if not x.is_batch(0 if turned[0] else 1):
        own, more = x.shape[0 if turned[0] else 1], g.whole(1, 4)
        c = g.weights(*g.one_of((more,), (1,), (1, more), ()))
        b = g.weights(more, own) if turned[1] else g.weights(own, more)
        g.add("Gemm", [x, b, c][: g.whole(2, 3)], transA=turned[0], transB=turned[1], alpha=g.one_of(1.0, 0.5))


# Element by element


def partner(g: Graph, x: Value) -> Value:
    """An operand that broadcasts with it: another value, or a constant of lower rank or with axes of size 1."""
    fitting = [v for v in g.values if v.arrays[0].dtype == x.arrays[0].dtype and together(v, x)]
    if x.kind != "f" or g.one_of(True, False):
        return g.one_of(*(fitting or [x]))
    sizes = [1 if x.is_batch(a) or g.one_of(False, True) else size for a, size in enumerate(x.shape)]
    sizes = sizes[g.whole(0, x.rank) :]
    return g.weights(*([1] if not sizes and g.one_of(False, True) else sizes))


def together(a: Value, b: Value) -> bool:
    try:
        sizes = [math.prod(np.broadcast_shapes(x.shape, y.shape)) for x, y in zip(a.arrays, b.arrays, strict=True)]
    except ValueError:
        return False
    return max(sizes) <= 2000


@operator("fi")
def binary(g: Graph, x: Value) -> None:
    pair = g.draw(st.permutations([x, partner(g, x)]))
    g.add(g.one_of("Add", "Sub", "Mul", "Max", "Min"), pair)


@operator("f")
def unary(g: Graph, x: Value) -> None:
    g.add(
        g.one_of("Relu", "Sigmoid", "Tanh", "LeakyRelu", "HardSwish", "Softplus", "Erf", "Neg", "Abs", "Identity"), [x]
    )


@operator("f")
def clip(g: Graph, x: Value) -> None:
    g.add("Clip", [x, *[g.constant(np.float32(n)) for n in g.one_of((0, 6), (-0.5, 0.5))]])


@operator("f", range(2, 6))
def slopes(g: Graph, x: Value) -> None:
    sizes = [x.shape[1], *[1] * (x.rank - 2)]
    if not x.is_batch(1):
        g.add("PRelu", [x, g.weights(*sizes)])


@operator("f")
def where(g: Graph, x: Value) -> None:
    other = partner(g, x)
    if all((np.abs(a - b) > APART).all() for a, b in zip(x.arrays, other.arrays, strict=True)):
        for condition in g.add(g.one_of("Greater", "LessOrEqual"), [x, other]):
            g.add("Where", [condition, *g.draw(st.permutations([x, partner(g, x)]))])


@operator("ib")
def cast_to_float(g: Graph, x: Value) -> None:
    g.add("Cast", [x], to=1)


@operator("b")
def truths(g: Graph, x: Value) -> None:
    g.add("Not", [x])
