"""Operators that move, pick, repeat or make elements, and change no value."""

from typing import Any

import numpy as np
import tensorflow as tf

from components.convert.native import dtypes, shapes
from components.convert.native.dtypes import scalar, tensor
from components.convert.native.table import KEEP, VALUES, op
from components.convert.native.values import Value, parts_of


@op("Constant")
def constant(call: Any) -> Any:
    (name, value), *_ = ((n, v) for n, v in call.node.attributes.items() if n.startswith(("value", "sparse_value")))
    if name in ("value", "sparse_value"):
        return value
    if name.startswith("value_string"):
        return np.array([v.encode() for v in value] if isinstance(value, list) else value.encode(), object)
    return np.array(value, np.float32 if name.startswith("value_float") else np.int64)


@op("ConstantOfShape", sizes=(0,))
def constant_of_shape(call: Any, sizes: Any) -> Any:
    value = call.get("value", np.zeros(1, np.float32)).reshape(())
    return tf.fill(shapes.as_tensor(sizes) if isinstance(sizes, tuple) else sizes, value)


@op("Shape")
def shape(call: Any, x: Any) -> Any:
    sizes = tf.shape(x, tf.int64)
    return sizes[call.get("start", 0) : call.get("end", None)]


@op("Size")
def size(call: Any, x: Any) -> Any:
    return tf.size(x, tf.int64)


@op("Transpose", kind=VALUES)
def transpose(call: Any, x: Value) -> Any:
    """Nothing is moved: the order of axes is noted."""
    rank = x.rank
    if rank is None:
        return tf.transpose(x.held, call.get("perm"))
    wanted = call.get("perm") or list(reversed(range(rank)))
    if x.constant:
        return np.ascontiguousarray(x.held.transpose(wanted))
    order = x.order or tuple(range(rank))
    return Value(x.held, tuple(wanted.index(axis) for axis in order))


@op("Reshape", since=5, sizes=(1,))
def reshape(call: Any, x: Any, sizes: Any) -> Any:
    if not isinstance(sizes, tuple):
        if not call.get("allowzero", 0):
            own = tf.shape(x, tf.int64)
            count = tf.size(sizes)
            own = tf.pad(own, [[0, tf.maximum(0, count - tf.size(own))]])[:count]
            sizes = tf.where(tf.equal(sizes, 0), own, sizes)
        return tf.reshape(x, sizes)
    if not call.get("allowzero", 0):
        kept = shapes.numbers(x) if 0 in [s for s in sizes if isinstance(s, int)] else []
        sizes = tuple(kept[i] if isinstance(s, int) and s == 0 else s for i, s in enumerate(sizes))
    return tf.reshape(x, shapes.as_target(sizes))


@op("Reshape", since=1)
def reshape_old(call: Any, x: Any) -> Any:
    return reshape(call, x, tuple(call.get("shape")))


@op("Flatten", kind=VALUES)
def flatten(call: Any, x: Value) -> Any:
    held, axis = x.plain(), call.get("axis", 1)
    if x.rank is None:
        before, after = tf.reduce_prod(tf.shape(held)[:axis]), tf.reduce_prod(tf.shape(held)[axis:])
        return tf.reshape(held, [before, after])
    sizes = shapes.numbers(held)
    axis = axis + len(sizes) if axis < 0 else axis
    return tf.reshape(held, shapes.as_target([_product(sizes[:axis]), _product(sizes[axis:])]))


def _product(parts: Any) -> Any:
    known = int(np.prod([p for p in parts if isinstance(p, int)], dtype=np.int64))
    dynamic = [p for p in parts if not isinstance(p, int)]
    for part in dynamic:
        known = part * known if dynamic[0] is part else known * part
    return known


def _axes(call: Any, given: Any) -> list[int] | None:
    axes = call.get("axes") if given is None else given
    return None if axes is None else [int(a) for a in np.asarray(axes).reshape(-1)]


@op("Squeeze")
def squeeze(call: Any, x: Any, axes: Any = None) -> Any:
    return tf.squeeze(x, _axes(call, axes))


@op("Unsqueeze")
def unsqueeze(call: Any, x: Any, axes: Any = None) -> Any:
    wanted = _axes(call, axes) or []
    x = tensor(x)
    rank = x.shape.rank + len(wanted)
    for axis in sorted(axis + rank if axis < 0 else axis for axis in wanted):
        x = tf.expand_dims(x, axis)
    return x


@op("Concat", kind=KEEP)
def concat(call: Any, *given: Any) -> Any:
    listed = [tensor(g) for g in given]
    return tf.concat(listed, call.axis(call.get("axis", 1), listed[0].shape.rank))


@op("Split", kind=KEEP)
def split(call: Any, x: Any, sizes: Any = None) -> Any:
    x = tensor(x)
    axis = call.axis(call.get("axis", 0), x.shape.rank)
    sizes = call.get("split") if sizes is None else sizes
    if sizes is not None:
        return list(
            tf.split(
                x, sizes if not isinstance(sizes, np.ndarray) else sizes.tolist(), axis, num=len(call.node.outputs)
            )
        )
    count, whole = call.get("num_outputs", len(call.node.outputs)), x.shape[axis]
    if whole is None or whole % count == 0:
        return list(tf.split(x, count, axis))
    chunk = -(-whole // count)
    return list(tf.split(x, [min(chunk, whole - start) for start in range(0, chunk * count, chunk)], axis))


@op("Slice", since=10, kind=KEEP)
def slice_(call: Any, x: Any, starts: Any, ends: Any, axes: Any = None, steps: Any = None) -> Any:
    x = tensor(x)
    rank = x.shape.rank
    count = int(starts.shape[0])
    places = [int(a) for a in axes] if axes is not None else list(range(count))
    steps = np.ones(count, np.int64) if steps is None else steps
    index: list[Any] = [slice(None)] * rank
    for place, axis in enumerate(places):
        one = (starts[place], ends[place], steps[place])
        index[call.axis(axis, rank)] = _slice(one, x, call.axis(axis, rank))
    return x[tuple(index)]


def _slice(one: tuple[Any, Any, Any], x: Any, axis: int) -> slice:
    """With ONNX's meaning of ends: cut at the tensor's, and for a negative step the one before the first included."""
    start, end, step = one
    if all(isinstance(number, np.integer) for number in one):
        start, end, step = map(int, one)
        most = 2**31 - 1
        size = x.shape[axis]
        if step < 0:
            if size is not None:
                first = min(max(start + size if start < 0 else start, -1), size - 1)
                last = min(max(end + size if end < 0 else end, -1), size - 1)
                return slice(first, None if last < 0 else last, step) if first >= 0 else slice(0, 0)
            return slice(min(start, most), None if end < -most else end, step)
        return slice(max(min(start, most), -most), max(min(end, most), -most) if end < most else None, step)
    size = tf.shape(x, tf.int64)[axis]
    start, end, step = (tf.cast(number, tf.int64) for number in (start, end, step))
    low, high = tf.where(step < 0, np.int64(-1), np.int64(0)), tf.where(step < 0, size - 1, size)
    start = tf.clip_by_value(tf.where(start < 0, start + size, start), np.int64(0), high)
    end = tf.clip_by_value(tf.where(end < 0, end + size, end), low, size)
    # TensorFlow reads -1 as the last one: "before the first" is written as far enough below.
    return slice(start, tf.where(end < 0, -size - 1, end), step)


@op("Slice", since=1, kind=KEEP)
def slice_old(call: Any, x: Any) -> Any:
    starts, ends, axes = (call.get(name) for name in ("starts", "ends", "axes"))
    return slice_(call, x, np.array(starts), np.array(ends), axes)


def positive(indices: Any, size: Any) -> Any:
    """Indices counted from the end are counted from the start; `size` int or scalar."""
    if isinstance(indices, np.ndarray) and isinstance(size, int):
        return np.where(indices < 0, indices + size, indices)
    indices = tensor(indices)
    return tf.where(indices < 0, indices + tf.cast(size, indices.dtype), indices)


def size_of(x: Any, axis: int) -> Any:
    """An axis' size: an int, or an int64 scalar."""
    return shapes.numbers(x)[axis]


@op("Gather")
def gather(call: Any, x: Any, indices: Any) -> Any:
    rank = len(x.shape)
    axis = call.get("axis", 0) % rank
    if isinstance(indices, np.ndarray) and indices.ndim == 0 and not isinstance(x, np.ndarray):
        return (
            tf.gather(x, int(positive(indices, size_of(x, axis))), axis=axis)
            if isinstance(size_of(x, axis), int)
            else x[(slice(None),) * axis + (int(indices),)]
        )
    return tf.gather(x, positive(indices, size_of(x, axis)), axis=axis)


@op("GatherElements")
def gather_elements(call: Any, x: Any, indices: Any) -> Any:
    axis = call.get("axis", 0) % len(x.shape)
    return tf.gather_nd(x, _grid(x, indices, axis))


def _grid(x: Any, indices: Any, axis: int) -> Any:
    """int64 [..., rank]: for each of `indices` the place in `x` that it means along the axis."""
    indices = tf.cast(positive(indices, size_of(x, axis)), tf.int64)
    sizes = tf.shape(indices, tf.int64)
    rank = indices.shape.rank
    places = tf.meshgrid(*[tf.range(sizes[i]) for i in range(rank)], indexing="ij")
    places[axis] = indices
    return tf.stack(places, -1)


@op("GatherND")
def gather_nd(call: Any, x: Any, indices: Any) -> Any:
    return tf.gather_nd(x, _positive_nd(x, indices, call.get("batch_dims", 0)), batch_dims=call.get("batch_dims", 0))


def _positive_nd(x: Any, indices: Any, batch_dims: int = 0) -> Any:
    depth = indices.shape[-1]
    sizes = tf.shape(x, tf.int64)[batch_dims : batch_dims + depth]
    indices = tf.cast(indices, tf.int64)
    return tf.where(indices < 0, indices + sizes, indices)


@op("ScatterElements", "Scatter")
def scatter_elements(call: Any, x: Any, indices: Any, updates: Any) -> Any:
    axis = call.get("axis", 0) % len(x.shape)
    return _scatter(x, _grid(x, indices, axis), updates, call.get("reduction", "none"))


@op("ScatterND")
def scatter_nd(call: Any, x: Any, indices: Any, updates: Any) -> Any:
    return _scatter(x, _positive_nd(x, indices), updates, call.get("reduction", "none"))


def _scatter(x: Any, places: Any, updates: Any, reduction: str) -> Any:
    x, updates = tensor(x), tensor(updates)
    if x.dtype == tf.bool:
        return tf.cast(_scatter(tf.cast(x, tf.int32), places, tf.cast(updates, tf.int32), reduction), tf.bool)
    if reduction == "mul":  # one after another: TensorFlow has no kernel that multiplies
        flat, rows = tf.reshape(updates, [-1]), tf.reshape(places, [-1, places.shape[-1]])
        if updates.shape.rank != places.shape.rank - 1:
            raise ValueError("ScatterND with reduction mul over whole slices")

        def body(i: Any, held: Any) -> Any:
            row = rows[i : i + 1]
            return i + 1, tf.tensor_scatter_nd_update(held, row, tf.gather_nd(held, row) * flat[i : i + 1])

        return tf.while_loop(lambda i, held: i < tf.size(flat), body, [tf.constant(0), x])[1]
    function = {
        "none": tf.tensor_scatter_nd_update, "add": tf.tensor_scatter_nd_add,
        "max": tf.tensor_scatter_nd_max, "min": tf.tensor_scatter_nd_min,
    }[reduction]  # fmt: skip
    return function(x, places, updates)


@op("Expand", sizes=(1,))
def expand(call: Any, x: Any, sizes: Any) -> Any:
    x = tensor(x)
    if not isinstance(sizes, tuple):
        return tf.broadcast_to(x, tf.broadcast_dynamic_shape(tf.shape(x, tf.int64), tf.cast(sizes, tf.int64)))
    own = shapes.numbers(x)
    width = max(len(own), len(sizes))
    own, wanted = [1] * (width - len(own)) + own, [1] * (width - len(sizes)) + list(sizes)
    if (
        all(isinstance(w, int) and (w == 1 or w == o) for o, w in zip(own, wanted, strict=True))
        and width == x.shape.rank
    ):
        return tf.identity(x)
    if any(not isinstance(o, int) or not isinstance(w, int) for o, w in zip(own, wanted, strict=True) if o is not w):
        target = [
            w if isinstance(o, int) and o == 1 else o if isinstance(w, int) and w == 1 else None
            for o, w in zip(own, wanted, strict=True)
        ]
        if None in target:
            return tf.broadcast_to(x, tf.broadcast_dynamic_shape(shapes.as_tensor(own), shapes.as_tensor(wanted)))
        return tf.broadcast_to(x, shapes.as_tensor(target))
    return tf.broadcast_to(x, np.broadcast_shapes(tuple(own), tuple(wanted)))


@op("Tile", since=6)
def tile(call: Any, x: Any, repeats: Any) -> Any:
    return tf.tile(x, repeats)


@op("Tile", since=1)
def tile_old(call: Any, x: Any, tiles: Any, axis: Any) -> Any:
    return tf.tile(x, tf.tensor_scatter_nd_update(tf.ones(x.shape.rank, tf.int64), [[axis]], [tiles]))


@op("Pad", since=11, kind=KEEP)
def pad(call: Any, x: Any, pads: Any, value: Any = None, axes: Any = None) -> Any:
    x = tensor(x)
    rank = x.shape.rank
    places = [call.axis(int(a), rank) for a in (axes if axes is not None else range(rank))]
    pads = tf.cast(pads, tf.int64) if not isinstance(pads, np.ndarray) else pads
    count = len(places)
    columns: list[Any] = [[0, 0] for _ in range(rank)]
    for i, place in enumerate(places):
        columns[place] = [pads[i], pads[count + i]]
    widths = (
        np.array(columns, np.int64)
        if isinstance(pads, np.ndarray)
        else tf.stack([tf.stack([tf.cast(n, tf.int64) for n in c]) for c in columns])
    )
    cut = isinstance(widths, np.ndarray) and (widths < 0).any()
    if cut:
        x = x[tuple(slice(max(0, -int(a)), None if b >= 0 else int(b)) for a, b in widths)]
        widths = np.maximum(widths, 0)
    mode = call.get("mode", "constant")
    if mode == "constant":
        return tf.pad(x, widths, constant_values=0 if value is None else tf.cast(tf.reshape(value, []), x.dtype))
    if mode == "reflect":
        return tf.pad(x, widths, "REFLECT")
    for axis in range(rank):
        x = _repeated(x, axis, widths[axis], mode)
    return x


def _repeated(x: Any, axis: int, widths: Any, mode: str) -> Any:
    """edge and wrap: the axis' places, repeated beyond its ends."""
    size = tf.shape(x, tf.int64)[axis]
    places = tf.range(-widths[0], size + widths[1])
    places = tf.clip_by_value(places, np.int64(0), size - 1) if mode == "edge" else tf.math.floormod(places, size)
    return tf.gather(x, places, axis=axis)


@op("Pad", since=1, kind=KEEP)
def pad_old(call: Any, x: Any) -> Any:
    pads = np.array(call.get("pads") or call.get("paddings"), np.int64)
    return pad(call, x, pads, scalar(call.get("value", 0.0), x))


@op("Range")
def range_(call: Any, start: Any, limit: Any, delta: Any) -> Any:
    return tf.range(tf.reshape(start, []), tf.reshape(limit, []), tf.reshape(delta, []))


@op("EyeLike")
def eye_like(call: Any, x: Any) -> Any:
    wanted = dtypes.of(call.get("dtype")) if call.get("dtype") else tf.as_dtype(x.dtype)
    rows, columns = tf.shape(x)[0], tf.shape(x)[1]
    ones = tf.equal(tf.range(rows)[:, None] + call.get("k", 0), tf.range(columns)[None])
    return tf.cast(ones, wanted)


@op("Trilu")
def trilu(call: Any, x: Any, k: Any = None) -> Any:
    x = tensor(x)
    k = 0 if k is None else tf.cast(tf.reshape(k, []), tf.int32)
    rows, columns = tf.range(tf.shape(x)[-2])[:, None], tf.range(tf.shape(x)[-1])[None]
    kept = columns - rows >= k if call.get("upper", 1) else columns - rows <= k
    return tf.where(kept, x, tf.zeros_like(x))


@op("OneHot", since=9)
def one_hot(call: Any, indices: Any, depth: Any, values: Any) -> Any:
    depth = tf.cast(tf.reshape(depth, []), tf.int64)
    indices = tf.cast(tf.convert_to_tensor(indices), tf.int64)
    hot = tf.one_hot(
        tf.where(indices < 0, indices + depth, indices),
        tf.cast(depth, tf.int32),
        True,
        False,
        call.get("axis", -1),
        tf.bool,
    )
    return tf.where(hot, values[1], values[0])


@op("NonZero")
def non_zero(call: Any, x: Any) -> Any:
    x = tensor(x)
    if x.shape.rank == 0:
        return tf.zeros([1 if False else 0, tf.cast(tf.not_equal(x, tf.zeros_like(x)), tf.int32)], tf.int64)
    return tf.transpose(tf.where(tf.not_equal(x, tf.zeros_like(x))))


@op("Compress")
def compress(call: Any, x: Any, condition: Any) -> Any:
    x, axis = tensor(x), call.get("axis")
    x = tf.reshape(x, [-1]) if axis is None else x
    axis = 0 if axis is None else axis
    places = tf.where(condition)[:, 0]
    return tf.gather(x, places, axis=axis)


@op("ReverseSequence")
def reverse_sequence(call: Any, x: Any, lengths: Any) -> Any:
    return tf.reverse_sequence(x, lengths, call.get("time_axis", 0), call.get("batch_axis", 1))


_ = parts_of
