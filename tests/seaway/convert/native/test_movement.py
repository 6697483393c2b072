"""Operators that move, select and reduce, with random attributes and an unknown batch."""

from collections.abc import Sequence
from typing import Any

import numpy as np
import onnx
import onnxruntime
from hypothesis import given, settings
from hypothesis import strategies as st
from onnx import helper, numpy_helper

from seaway.convert.native import net as native

try_some = settings(derandomize=True, max_examples=40, deadline=None)
Shape = tuple[int, ...]
shapes = st.lists(st.integers(1, 4), min_size=1, max_size=4).map(tuple)


def numbers(shape: Shape, kind: Any = np.float32) -> np.ndarray:
    """Distinct ones, in random order."""
    count = int(np.prod(shape))
    return (np.random.default_rng(count).permutation(count) - count // 3).astype(kind).reshape(shape)


def check(
    tf: Any, nodes: Sequence[Any], fed: dict[str, np.ndarray], fixed: dict[str, Any] | None = None, outputs: int = 1
) -> None:
    """Compares the outputs y0, y1, ... with ONNX Runtime. `fed` has an unknown first axis, `fixed` are constants."""
    inputs = [
        helper.make_tensor_value_info(name, helper.np_dtype_to_tensor_dtype(a.dtype), ["batch", *a.shape[1:]][: a.ndim])
        for name, a in fed.items()
    ]
    named = [f"y{i}" for i in range(outputs)]
    constants = [numpy_helper.from_array(np.asarray(value), name) for name, value in (fixed or {}).items()]
    graph = helper.make_graph(nodes, "g", inputs, [onnx.ValueInfoProto(name=name) for name in named], constants)
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 21)], ir_version=10)
    options = onnxruntime.SessionOptions()
    options.log_severity_level, options.intra_op_num_threads = 4, 1
    session = onnxruntime.InferenceSession(model.SerializeToString(), options, providers=["CPUExecutionProvider"])
    expected = session.run(named, fed)
    specs = {name: tf.TensorSpec([None, *a.shape[1:]][: a.ndim], a.dtype) for name, a in fed.items()}
    converted = native.convert(model)
    function = tf.function(lambda inputs: converted(inputs), autograph=False).get_concrete_function(specs)
    results = function({name: tf.constant(a) for name, a in fed.items()})
    for name, array in zip(named, expected, strict=True):
        actual = results[name].numpy()
        assert actual.dtype == array.dtype and actual.shape == array.shape, (actual.shape, array.shape)
        assert results[name].shape.rank == array.ndim
        assert np.allclose(actual, array, rtol=1e-5, atol=1e-5, equal_nan=True), (actual, array)


def node(op: str, *inputs: str, outputs: int = 1, **attributes: Any) -> Any:
    return helper.make_node(op, inputs, [f"y{i}" for i in range(outputs)], **attributes)


ENDS = st.one_of(st.integers(-6, 6), st.sampled_from([2**63 - 1, -(2**63) + 1, 2**31, -(2**31) - 5]))


@try_some
@given(data=st.data())
def test_slices(tf: Any, data: Any) -> None:
    shape = data.draw(shapes)
    axes = data.draw(st.lists(st.integers(0, len(shape) - 1), unique=True, min_size=1, max_size=len(shape)))
    signed = [a - len(shape) if data.draw(st.booleans()) else a for a in axes]
    steps = [data.draw(st.sampled_from([1, 2, 3, -1, -2])) for _ in axes]
    ends = {name: np.array([data.draw(ENDS) for _ in axes], np.int64) for name in ("starts", "ends")}
    ends |= {"axes": np.array(signed, np.int64), "steps": np.array(steps, np.int64)}
    at_run_time = data.draw(st.sets(st.sampled_from(sorted(ends))))
    fed = {"x": numbers(shape)} | {name: ends[name] for name in sorted(at_run_time)}
    # A list of known length, though not of known numbers.
    named = [f"{name}_" if name in at_run_time else name for name in ("starts", "ends", "axes", "steps")]
    long = np.array([len(axes)], np.int64)
    sized = [helper.make_node("Reshape", [name, "long"], [f"{name}_"]) for name in sorted(at_run_time)]
    fixed = {name: a for name, a in ends.items() if name not in at_run_time} | {"long": long}
    check(tf, [*sized, node("Slice", "x", *named)], fed, fixed)


@try_some
@given(data=st.data())
def test_gathers(tf: Any, data: Any) -> None:
    shape = data.draw(shapes)
    axis = data.draw(st.integers(-len(shape), len(shape) - 1))
    size = shape[axis]
    picked = st.integers(-size, size - 1)
    expected = data.draw(st.lists(st.integers(1, 3), max_size=2).map(tuple))
    indices = np.array(
        data.draw(st.lists(picked, min_size=int(np.prod(expected)), max_size=int(np.prod(expected)))), np.int64
    )
    indices = indices.reshape(expected)
    if indices.ndim and data.draw(st.booleans()):
        check(tf, [node("Gather", "x", "i", axis=axis)], {"x": numbers(shape), "i": indices})
    else:
        check(tf, [node("Gather", "x", "i", axis=axis)], {"x": numbers(shape)}, {"i": indices})


@try_some
@given(data=st.data())
def test_gather_and_scatter_elements(tf: Any, data: Any) -> None:
    shape = data.draw(shapes)
    axis = data.draw(st.integers(-len(shape), len(shape) - 1))
    sizes = [data.draw(st.integers(1, size)) for size in shape]
    count = int(np.prod(sizes))
    picked = st.integers(-shape[axis], shape[axis] - 1)
    indices = np.array(data.draw(st.lists(picked, min_size=count, max_size=count)), np.int64).reshape(sizes)
    check(tf, [node("GatherElements", "x", "i", axis=axis)], {"x": numbers(shape), "i": indices})
    check(tf, [node("GatherElements", "x", "i", axis=axis)], {"x": numbers(shape)}, {"i": indices})
    reduction = data.draw(st.sampled_from(["add", "mul", "max", "min"]))
    scattered = [node("ScatterElements", "x", "i", "u", axis=axis, reduction=reduction)]
    check(tf, scattered, {"x": numbers(shape), "i": indices, "u": numbers(tuple(sizes))})


@try_some
@given(data=st.data())
def test_gather_and_scatter_nd(tf: Any, data: Any) -> None:
    shape = data.draw(shapes)
    batch_dims = data.draw(st.integers(0, len(shape) - 1))
    depth = data.draw(st.integers(1, len(shape) - batch_dims))
    sizes = (*shape[:batch_dims], data.draw(st.integers(1, 3)))
    rows = int(np.prod(sizes))
    own = shape[batch_dims : batch_dims + depth]
    indices = np.array([[data.draw(st.integers(-s, s - 1)) for s in own] for _ in range(rows)], np.int64)
    indices = indices.reshape(*sizes, depth)
    fed = {"x": numbers(shape), "i": indices}
    check(tf, [node("GatherND", "x", "i", batch_dims=batch_dims)], fed)
    if not batch_dims:
        reduction = data.draw(st.sampled_from(["add", "mul", "max", "min"]))
        updates = numbers((sizes[-1], *shape[depth:]))
        check(tf, [node("ScatterND", "x", "i", "u", reduction=reduction)], {**fed, "u": updates})


@try_some
@given(data=st.data())
def test_pads(tf: Any, data: Any) -> None:
    shape = data.draw(st.lists(st.integers(2, 4), min_size=1, max_size=4).map(tuple))
    mode = data.draw(st.sampled_from(["constant", "reflect", "edge", "wrap"]))
    axes = data.draw(st.lists(st.integers(-len(shape), len(shape) - 1), unique_by=lambda a: a % len(shape), min_size=1))
    low = -1 if mode == "constant" else 0
    most = {"reflect": lambda size: size - 1, "wrap": lambda size: size}.get(mode, lambda size: 3)
    pads = [[data.draw(st.integers(low, most(shape[a]))) for a in axes] for _ in range(2)]
    fixed = {"pads": np.array([*pads[0], *pads[1]], np.int64), "value": np.float32(7), "axes": np.array(axes, np.int64)}
    if mode == "constant" and data.draw(st.booleans()):
        fed = {"x": numbers(shape), "p": fixed["pads"]}
        check(tf, [helper.make_node("Reshape", ["p", "long"], ["q"]), node("Pad", "x", "q", "value", "axes")], fed, {
            **fixed, "long": np.array([2 * len(axes)], np.int64)
        })  # fmt: skip
    check(tf, [node("Pad", "x", "pads", "value", "axes", mode=mode)], {"x": numbers(shape)}, fixed)


def test_a_reflection_over_six_axes(tf: Any) -> None:
    """tf.pad supports at most five."""
    pads = np.array([0, 2, 0, 0, 1, 0, 0, 1, 0, 2, 1, 0], np.int64)
    check(tf, [node("Pad", "x", "pads", mode="reflect")], {"x": numbers((2, 3, 1, 4, 2, 2))}, {"pads": pads})


REDUCTIONS = ("Sum", "Mean", "Prod", "Max", "Min", "L1", "L2", "SumSquare", "LogSum", "LogSumExp")


@try_some
@given(data=st.data(), name=st.sampled_from(REDUCTIONS), keepdims=st.integers(0, 1), noop=st.integers(0, 1))
def test_reductions(tf: Any, data: Any, name: str, keepdims: int, noop: int) -> None:
    shape = data.draw(shapes)
    perm = data.draw(st.permutations(range(len(shape))))
    axes = data.draw(
        st.none() | st.lists(st.integers(-len(shape), len(shape) - 1), unique_by=lambda a: a % len(shape), min_size=1)
    )
    x = np.abs(numbers(shape)) / 8 + 0.5 if name == "LogSum" else numbers(shape) / 8
    if noop and axes is None and name not in ("Sum", "Mean", "Prod", "Max", "Min"):
        noop = 0  # ONNX Runtime leaves even ReduceL1 as it is
    nodes = [
        helper.make_node("Transpose", ["x"], ["t"], perm=perm),
        node(f"Reduce{name}", "t", *([] if axes is None else ["axes"]), keepdims=keepdims, noop_with_empty_axes=noop),
    ]
    check(tf, nodes, {"x": x.astype(np.float32)}, None if axes is None else {"axes": np.array(axes, np.int64)})


@try_some
@given(data=st.data(), name=st.sampled_from(["ArgMax", "ArgMin"]), keepdims=st.integers(0, 1), last=st.integers(0, 1))
def test_arg_max_and_arg_min(tf: Any, data: Any, name: str, keepdims: int, last: int) -> None:
    shape = data.draw(shapes)
    axis = data.draw(st.integers(-len(shape), len(shape) - 1))
    x = np.abs(numbers(shape)) // 2
    check(tf, [node(name, "x", axis=axis, keepdims=keepdims, select_last_index=last)], {"x": x})


@try_some
@given(data=st.data())
def test_split_then_concat(tf: Any, data: Any) -> None:
    shape = data.draw(shapes)
    perm = data.draw(st.permutations(range(len(shape))))
    axis = data.draw(st.integers(-len(shape), len(shape) - 1))
    turned = [shape[i] for i in perm]
    cuts = sorted(data.draw(st.lists(st.integers(0, turned[axis]), max_size=2)))
    sizes = np.diff([0, *cuts, turned[axis]])
    parts = [f"y{i}" for i in range(len(sizes))]
    nodes = [
        helper.make_node("Transpose", ["x"], ["t"], perm=perm),
        helper.make_node("Split", ["t", "sizes"], parts, axis=axis),
        helper.make_node("Concat", [*reversed(parts), "t"], [f"y{len(parts)}"], axis=axis),
    ]
    check(tf, nodes, {"x": numbers(shape)}, {"sizes": sizes.astype(np.int64)}, outputs=len(parts) + 1)


@try_some
@given(data=st.data())
def test_split_into_equal_parts(tf: Any, data: Any) -> None:
    shape = data.draw(shapes)
    axis = data.draw(st.integers(-len(shape), len(shape) - 1))
    count = data.draw(st.integers(1, shape[axis]))
    if (count - 1) * -(-shape[axis] // count) >= shape[axis]:
        count = 1  # ONNX Runtime does not take a last part of nothing
    nodes = [node("Split", "x", outputs=count, axis=axis, num_outputs=count)]
    check(tf, nodes, {"x": numbers(shape)}, outputs=count)


@try_some
@given(data=st.data())
def test_consecutive_transposes(tf: Any, data: Any) -> None:
    shape = data.draw(st.lists(st.integers(1, 4), min_size=3, max_size=5).map(tuple))
    axes = list(range(len(shape)))
    perms = [data.draw(st.permutations(axes)) for _ in range(3)]
    axis = data.draw(st.integers(-len(shape), len(shape) - 1))
    nodes = [
        helper.make_node("Transpose", ["x"], ["a"], perm=perms[0]),
        helper.make_node("Relu", ["a"], ["b"]),
        helper.make_node("Transpose", ["b"], ["c"], perm=perms[1]),
        helper.make_node("Softmax", ["c"], ["d"], axis=axis),
        helper.make_node("Concat", ["c", "d"], ["y0"], axis=axis),
        helper.make_node("Add", ["d", "bias"], ["y1"]),
        helper.make_node("Transpose", ["y1"], ["y2"], perm=perms[2]),
        helper.make_node("Flatten", ["y2"], ["y3"], axis=axis),
    ]
    bias = np.arange([[shape[i] for i in perms[0]][j] for j in perms[1]][-1], dtype=np.float32)
    check(tf, nodes, {"x": numbers(shape)}, {"bias": bias}, outputs=4)


EQUATIONS = {
    "ij,jk->ik": [(2, 3), (3, 4)], "bij,bjk->bik": [(2, 3, 4), (2, 4, 5)], "bij,kj->bik": [(2, 3, 4), (5, 4)],
    "bhid,bhjd->bhij": [(2, 2, 3, 4), (2, 2, 5, 4)], "...ij,...jk->...ik": [(2, 3, 4), (2, 4, 5)],
    "bi,bi->b": [(2, 3), (2, 3)], "i,j->ij": [(2,), (3,)], "bij->bji": [(2, 3, 4)], "bij->b": [(2, 3, 4)],
    "ii->i": [(3, 3)], "bc,bcd->bd": [(2, 3), (2, 3, 4)], "ij,jk": [(2, 3), (3, 4)], "bi , i -> b": [(2, 3), (3,)],
    "i,ij,jk->k": [(2,), (2, 3), (3, 4)], "...d->...": [(2, 3, 4)], "b...,b...->...": [(2, 3, 4), (2, 3, 4)],
}  # fmt: skip


@try_some
@given(equation=st.sampled_from(sorted(EQUATIONS)), kind=st.sampled_from([np.float32, np.float64, np.int32]))
def test_einsum(tf: Any, equation: str, kind: Any) -> None:
    fed = {f"x{i}": numbers(shape, kind) for i, shape in enumerate(EQUATIONS[equation])}
    check(tf, [node("Einsum", *fed, equation=equation)], fed)


@try_some
@given(data=st.data())
def test_expand(tf: Any, data: Any) -> None:
    shape = data.draw(shapes)
    expected = [data.draw(st.sampled_from([1, size]) if size > 1 else st.integers(1, 3)) for size in shape]
    more = data.draw(st.lists(st.integers(1, 2), max_size=2))
    expected = more + expected if more else expected[data.draw(st.integers(0, len(shape) - 1)) :]
    target = np.array(expected, np.int64)
    check(tf, [node("Expand", "x", "to")], {"x": numbers(shape)}, {"to": target})
    sized = helper.make_node("Reshape", ["to", "long"], ["sizes"])
    fixed = {"long": np.array([len(expected)], np.int64)}
    check(tf, [sized, node("Expand", "x", "sizes")], {"x": numbers(shape), "to": target}, fixed)


@try_some
@given(data=st.data())
def test_reshape(tf: Any, data: Any) -> None:
    shape = data.draw(shapes)
    count = int(np.prod(shape))
    expected: list[int] = []
    while data.draw(st.booleans()) and len(expected) < 4:
        left = count // int(np.prod([shape[i] if s == 0 else s for i, s in enumerate(expected)]))
        choices = [d for d in range(1, left + 1) if left % d == 0]
        keeps = len(expected) < len(shape) and left % shape[len(expected)] == 0
        expected.append(data.draw(st.sampled_from([*choices, 0] if keeps else choices)))
    left = count // int(np.prod([shape[i] if s == 0 else s for i, s in enumerate(expected)]))
    expected.insert(len(expected), data.draw(st.sampled_from([-1, left])))
    check(tf, [node("Reshape", "x", "to")], {"x": numbers(shape)}, {"to": np.array(expected, np.int64)})


@try_some
@given(data=st.data())
def test_arithmetic_on_shapes(tf: Any, data: Any) -> None:
    """As exporters write it: some sizes of one tensor are multiplied, concatenated and passed to Reshape or Expand."""
    shape = data.draw(st.lists(st.integers(1, 4), min_size=2, max_size=4).map(tuple))
    cut = data.draw(st.integers(1, len(shape) - 1))
    nodes = [
        helper.make_node("Shape", ["x"], ["s"]),
        helper.make_node("Slice", ["s", "zero", "cut"], ["head"]),
        helper.make_node("Slice", ["s", "cut", "end"], ["tail"]),
        helper.make_node("ReduceProd", ["tail"], ["product"], keepdims=1),
        helper.make_node("Concat", ["head", "product"], ["to"], axis=0),
        helper.make_node("Reshape", ["x", "to"], ["y0"]),
        helper.make_node("Concat", ["two", "s"], ["wide"], axis=0),
        helper.make_node("Expand", ["x", "wide"], ["y1"]),
        helper.make_node("ConstantOfShape", ["to"], ["y2"]),
        helper.make_node("Gather", ["s", "cut"], ["g"]),
        helper.make_node("Mul", ["g", "two"], ["y3"]),
    ]
    fixed = {"zero": [0], "cut": [cut], "end": [2**63 - 1], "two": [2]}
    check(tf, nodes, {"x": numbers(shape)}, {n: np.array(v, np.int64) for n, v in fixed.items()}, outputs=4)


@try_some
@given(data=st.data(), largest=st.integers(0, 1), kind=st.sampled_from([np.float32, np.int64, np.int32]))
def test_top_k(tf: Any, data: Any, largest: int, kind: Any) -> None:
    shape = data.draw(shapes)
    axis = data.draw(st.integers(-len(shape), len(shape) - 1))
    k = np.array([data.draw(st.integers(1, shape[axis]))], np.int64)
    x = numbers(shape, kind) // 2  # some are equal: the first comes first
    nodes = [node("TopK", "x", "k", outputs=2, axis=axis, largest=largest)]
    check(tf, nodes, {"x": x}, {"k": k}, outputs=2)
    check(tf, nodes, {"x": x, "k": k}, outputs=2)


@try_some
@given(data=st.data(), exclusive=st.integers(0, 1), reverse=st.integers(0, 1))
def test_cumulative_sums(tf: Any, data: Any, exclusive: int, reverse: int) -> None:
    shape = data.draw(shapes)
    axis = np.array(data.draw(st.integers(-len(shape), len(shape) - 1)), np.int64)
    nodes = [node("CumSum", "x", "axis", exclusive=exclusive, reverse=reverse)]
    check(tf, nodes, {"x": numbers(shape)}, {"axis": axis})
    check(tf, nodes, {"x": numbers(shape), "axis": axis})


@try_some
@given(data=st.data(), upper=st.integers(0, 1), k=st.integers(-5, 5))
def test_trilu(tf: Any, data: Any, upper: int, k: int) -> None:
    shape = data.draw(st.lists(st.integers(1, 4), min_size=2, max_size=4).map(tuple))
    check(tf, [node("Trilu", "x", "k", upper=upper)], {"x": numbers(shape)}, {"k": np.array(k, np.int64)})


@try_some
@given(data=st.data())
def test_one_hot(tf: Any, data: Any) -> None:
    shape = data.draw(st.lists(st.integers(1, 3), min_size=1, max_size=3).map(tuple))
    axis = data.draw(st.integers(-len(shape) - 1, len(shape)))
    indices = numbers(shape, np.int64) % 9 - 4  # beyond the depth: off everywhere
    fixed = {"depth": np.array([3], np.int64), "values": np.array([2, 5], np.float32)}
    check(tf, [node("OneHot", "x", "depth", "values", axis=axis)], {"x": indices}, fixed)


@try_some
@given(data=st.data())
def test_squeeze_and_unsqueeze(tf: Any, data: Any) -> None:
    shape = data.draw(shapes)
    added = data.draw(st.lists(st.integers(0, len(shape) + 1), unique=True, min_size=1, max_size=2))
    added = [a for a in added if a < len(shape) + len(added)]
    axes = np.array([a - len(shape) - len(added) if data.draw(st.booleans()) else a for a in added], np.int64)
    nodes = [
        helper.make_node("Unsqueeze", ["x", "axes"], ["y0"]),
        helper.make_node("Relu", ["y0"], ["r"]),
        helper.make_node("Squeeze", ["r", "axes"], ["y1"]),
    ]
    if len(added):
        check(tf, nodes, {"x": numbers(shape)}, {"axes": axes}, outputs=2)
