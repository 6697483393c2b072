"""Elements picked by where they are, and put where they are to be: Slice, Gather and Scatter."""

from typing import Any

import numpy as np
import tensorflow as tf

from seaway.convert.native import shapes
from seaway.convert.native.dtypes import tensor
from seaway.convert.native.table import KEEP, op


@op("Slice", since=10, kind=KEEP)
def slice_(call: Any, x: Any, starts: Any, ends: Any, axes: Any = None, steps: Any = None) -> Any:
    x = tensor(x)
    rank = x.shape.rank
    if axes is not None and not isinstance(axes, np.ndarray | list):
        sizes = tf.gather(tf.shape(x, tf.int64), [call.axis(axis, rank) for axis in range(rank)])
        starts, ends = shapes.spread(starts, axes, tf.zeros([rank])), shapes.spread(ends, axes, sizes)
        steps = None if steps is None else shapes.spread(steps, axes, tf.ones([rank]))
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


def _positive(indices: Any, size: Any) -> Any:
    """Indices counted from the end are counted from the start; `size` int or scalar."""
    if isinstance(indices, np.ndarray) and isinstance(size, int):
        return np.where(indices < 0, indices + size, indices)
    indices = tensor(indices)
    return tf.where(indices < 0, indices + tf.cast(size, indices.dtype), indices)


@op("Gather")
def gather(call: Any, x: Any, indices: Any) -> Any:
    rank = len(x.shape)
    axis = call.get("axis", 0) % rank
    if isinstance(indices, np.ndarray) and indices.ndim == 0 and not isinstance(x, np.ndarray):
        return (
            tf.gather(x, int(_positive(indices, shapes.numbers(x)[axis])), axis=axis)
            if isinstance(shapes.numbers(x)[axis], int)
            else x[(slice(None),) * axis + (int(indices),)]
        )
    return tf.gather(x, _positive(indices, shapes.numbers(x)[axis]), axis=axis)


@op("GatherElements")
def gather_elements(call: Any, x: Any, indices: Any) -> Any:
    axis = call.get("axis", 0) % len(x.shape)
    return tf.gather_nd(x, _grid(x, indices, axis))


def _grid(x: Any, indices: Any, axis: int) -> Any:
    """int64 [..., rank]: for each of `indices` the place in `x` that it means along the axis."""
    indices = tf.cast(_positive(indices, shapes.numbers(x)[axis]), tf.int64)
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
