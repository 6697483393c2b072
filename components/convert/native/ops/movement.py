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


def _spread(values: Any, axes: Any, rest: Any) -> Any:
    """An int64 list: `values` at the places that `axes` name, known at run time alone, `rest` at the others."""
    rest = tf.cast(rest, tf.int64)
    places = tf.cast(tf.reshape(axes, [-1]), tf.int64)
    places = tf.where(places < 0, places + tf.size(rest, tf.int64), places)
    return tf.tensor_scatter_nd_update(rest, places[:, None], tf.cast(values, tf.int64))


@op("Squeeze")
def squeeze(call: Any, x: Any, axes: Any = None) -> Any:
    if axes is None or isinstance(axes, np.ndarray):
        return tf.squeeze(x, _axes(call, axes))
    sizes = tf.shape(x, tf.int64)
    kept = _spread(tf.zeros_like(tf.reshape(axes, [-1])), axes, tf.ones_like(sizes))
    got = tf.reshape(x, tf.boolean_mask(sizes, kept > 0))
    count = tf.TensorShape(axes.shape).num_elements()
    if count is not None and x.shape.rank is not None:
        got.set_shape([None] * (x.shape.rank - count))
    return got


@op("Unsqueeze")
def unsqueeze(call: Any, x: Any, axes: Any = None) -> Any:
    x = tensor(x)
    if axes is not None and not isinstance(axes, np.ndarray):
        count = tf.TensorShape(axes.shape).num_elements()
        if count is None or x.shape.rank is None:
            raise ValueError("how many axes are added is not known")
        width = x.shape.rank + count
        own = _spread(tf.zeros_like(tf.reshape(axes, [-1])), axes, tf.ones([width], tf.int64)) > 0
        places = tf.maximum(tf.cumsum(tf.cast(own, tf.int32)) - 1, 0)
        sizes = tf.concat([tf.shape(x, tf.int64), [1]], 0)  # never empty, so that there is one to pick
        return tf.reshape(x, tf.where(own, tf.gather(sizes, places), tf.ones([width], tf.int64)))
    wanted = _axes(call, axes) or []
    if x.shape.rank is None:
        if len(wanted) > 1 and min(wanted) < 0:
            raise ValueError("axes are counted from the end of a tensor of unknown rank")
        for axis in sorted(wanted):
            x = tf.expand_dims(x, axis)
        return x
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
    if whole is None and call.since >= 18:
        most = tf.shape(x)[axis]
        ends = tf.minimum(tf.range(count + 1) * -(-most // count), most)
        return list(tf.split(x, ends[1:] - ends[:-1], axis, num=count))
    if whole is None or whole % count == 0:
        return list(tf.split(x, count, axis))
    chunk = -(-whole // count)
    return list(tf.split(x, [min(chunk, whole - start) for start in range(0, chunk * count, chunk)], axis))


@op("Slice", since=10, kind=KEEP)
def slice_(call: Any, x: Any, starts: Any, ends: Any, axes: Any = None, steps: Any = None) -> Any:
    x = tensor(x)
    rank = x.shape.rank
    if axes is not None and not isinstance(axes, np.ndarray | list):
        sizes = tf.gather(tf.shape(x, tf.int64), [call.axis(axis, rank) for axis in range(rank)])
        starts, ends = _spread(starts, axes, tf.zeros([rank])), _spread(ends, axes, sizes)
        steps = None if steps is None else _spread(steps, axes, tf.ones([rank]))
        axes = None
    count = starts.shape[0]
    if count is None:
        raise ValueError("how many axes are cut is not known")
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
                first = min(max(start + size if start < 0 else start, 0), size - 1)
                last = min(max(end + size if end < 0 else end, -1), size - 1)
                return slice(first, None if last < 0 else last, step) if first >= 0 else slice(0, 0)
            if start >= -1:
                return slice(min(start, most), None if end < -most else max(end, -most), step)
        else:
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
        rows = tf.reshape(places, [-1, places.shape[-1]])
        flat = tf.reshape(updates, tf.concat([tf.shape(rows)[:1], tf.shape(x)[places.shape[-1] :]], 0))

        def body(i: Any, held: Any) -> Any:
            row = rows[i : i + 1]
            return i + 1, tf.tensor_scatter_nd_update(held, row, tf.gather_nd(held, row) * flat[i : i + 1])

        return tf.while_loop(lambda i, held: i < tf.shape(rows)[0], body, [tf.constant(0), x])[1]
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
    target = [_wider(*pair) for pair in zip(own, wanted, strict=True)]
    if width == x.shape.rank and all(t is o for t, o in zip(target, own, strict=True)):
        return tf.identity(x)
    return tf.broadcast_to(x, shapes.as_tensor(target))


def _wider(own: Any, wanted: Any) -> Any:
    """A size after broadcasting: of two that are not 1 each is the other's."""
    if isinstance(own, int) and isinstance(wanted, int):
        if own not in (1, wanted) and wanted != 1:
            raise ValueError(f"an axis of size {own} cannot become one of {wanted}")
        return wanted if own == 1 else own
    if isinstance(own, int):
        return wanted if own == 1 else own
    if isinstance(wanted, int):
        return own if wanted == 1 else wanted
    return tf.where(tf.equal(own, 1), tf.cast(wanted, tf.int64), own)


@op("Tile", since=6)
def tile(call: Any, x: Any, repeats: Any) -> Any:
    return tf.tile(x, repeats)


@op("Tile", since=1)
def tile_old(call: Any, x: Any, tiles: Any, axis: Any) -> Any:
    return tf.tile(x, tf.tensor_scatter_nd_update(tf.ones(x.shape.rank, tf.int64), [[axis]], [tiles]))


@op("Pad", since=11, kind=KEEP, sizes=(1,))
def pad(call: Any, x: Any, pads: Any, value: Any = None, axes: Any = None) -> Any:
    """A pad below zero cuts. What is known of sizes stays known where some of the pads are not."""
    x = tensor(x)
    rank = x.shape.rank
    if axes is not None and not isinstance(axes, np.ndarray):
        pads, half = tf.reshape(pads, [-1]), tf.size(axes)
        pads = tf.concat([_spread(p, axes, tf.zeros([rank])) for p in (pads[:half], pads[half:])], 0)
        axes = None
    places = [call.axis(int(a), rank) for a in (axes if axes is not None else range(rank))]
    widths: list[list[Any]] = [[0, 0] for _ in range(rank)]
    for i, place in enumerate(places):
        widths[place] = [pads[i], pads[len(places) + i]]
    known = [all(isinstance(n, int) for n in pair) for pair in widths]
    sizes = [n + sum(pair) if n is not None and k else None for n, pair, k in zip(x.shape, widths, known, strict=True)]
    x = x[tuple(_inner(*pair) for pair in widths)] if any(_cuts(n) for pair in widths for n in pair) else x
    got = _padded(x, [[_above(n) for n in pair] for pair in widths], call.get("mode", "constant"), value)
    return tf.ensure_shape(got, sizes) if not all(known) else got


def _cuts(n: Any) -> bool:
    return not isinstance(n, int) or n < 0


def _above(n: Any) -> Any:
    return max(n, 0) if isinstance(n, int) else tf.maximum(tf.cast(n, tf.int64), 0)


def _inner(before: Any, after: Any) -> slice:
    start = max(-before, 0) if isinstance(before, int) else tf.maximum(-tf.cast(before, tf.int64), 0)
    if isinstance(after, int):
        return slice(start, after if after < 0 else None)
    after = tf.cast(after, tf.int64)
    return slice(start, tf.where(after < 0, after, np.int64(2**31 - 1)))


def _padded(x: Any, widths: list[list[Any]], mode: str, value: Any) -> Any:
    if mode not in ("constant", "reflect"):
        for axis, pair in enumerate(widths):
            still = all(isinstance(n, int) and n == 0 for n in pair)
            x = x if still else _repeated(x, axis, pair, mode)
        return x
    whole = all(isinstance(n, int) for pair in widths for n in pair)
    listed = widths if whole else tf.stack([tf.stack([tf.cast(n, tf.int64) for n in pair]) for pair in widths])
    if mode == "reflect":
        return tf.pad(x, listed, "REFLECT")
    return tf.pad(x, listed, constant_values=0 if value is None else tf.cast(tf.reshape(value, []), x.dtype))


def _repeated(x: Any, axis: int, widths: Any, mode: str) -> Any:
    """edge and wrap: the axis' places, repeated beyond its ends."""
    size = tf.cast(size_of(x, axis), tf.int64)
    places = tf.range(-widths[0], size + widths[1])
    places = tf.clip_by_value(places, np.int64(0), size - 1) if mode == "edge" else tf.math.floormod(places, size)
    return tf.gather(x, places, axis=axis)


@op("Pad", since=1, kind=KEEP)
def pad_old(call: Any, x: Any) -> Any:
    return pad(call, x, call.get("pads") or call.get("paddings"), scalar(call.get("value", 0.0), x))


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
        _hot_axis(call.get("axis", -1), indices.shape.rank),
        tf.bool,
    )
    return tf.where(hot, values[1], values[0])


def _hot_axis(axis: int, rank: int) -> int:
    return axis + rank + 1 if axis < 0 else axis


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
