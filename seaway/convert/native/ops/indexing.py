"""Slice, Gather, Scatter and TensorScatter."""

from typing import Any

import numpy as np
import tensorflow as tf

from seaway.convert.native import shapes
from seaway.convert.native.dtypes import tensor
from seaway.convert.native.registry import KEEP, op


@op("Slice", since=10, kind=KEEP)
def slice_(call: Any, x: Any, starts: Any, ends: Any, axes: Any = None, steps: Any = None) -> Any:
    x = tensor(x)
    rank = x.shape.rank
    if axes is not None and not isinstance(axes, np.ndarray | list):
        sizes = tf.gather(tf.shape(x, tf.int64), [call.axis(axis, rank) for axis in range(rank)])
        starts, ends = shapes.scatter(starts, axes, tf.zeros([rank])), shapes.scatter(ends, axes, sizes)
        steps = None if steps is None else shapes.scatter(steps, axes, tf.ones([rank]))
        axes = None
    count = starts.shape[0]
    if count is None:
        raise ValueError("the number of sliced axes is unknown")
    positions = [int(a) for a in axes] if axes is not None else list(range(count))
    steps = np.ones(count, np.int64) if steps is None else steps
    index: list[Any] = [slice(None)] * rank
    for i, axis in enumerate(positions):
        bounds = (starts[i], ends[i], steps[i])
        index[call.axis(axis, rank)] = _slice(bounds, x, call.axis(axis, rank))
    return x[tuple(index)]


def _slice(bounds: tuple[Any, Any, Any], x: Any, axis: int) -> slice:
    """ONNX's bounds as Python's: clipped to the axis; with a negative step the end may lie before the first element."""
    start, end, step = bounds
    if all(isinstance(number, np.integer) for number in bounds):
        start, end, step = map(int, bounds)
        max_int32 = 2**31 - 1
        size = x.shape[axis]
        if step < 0:
            if size is not None:
                first = min(max(start + size if start < 0 else start, 0), size - 1)
                last = min(max(end + size if end < 0 else end, -1), size - 1)
                return slice(first, None if last < 0 else last, step) if first >= 0 else slice(0, 0)
            if start >= -1:
                return slice(min(start, max_int32), None if end < -max_int32 else max(end, -max_int32), step)
        else:
            return slice(
                max(min(start, max_int32), -max_int32),
                max(min(end, max_int32), -max_int32) if end < max_int32 else None,
                step,
            )
    size = tf.shape(x, tf.int64)[axis]
    start, end, step = (tf.cast(number, tf.int64) for number in (start, end, step))
    low, high = tf.where(step < 0, np.int64(-1), np.int64(0)), tf.where(step < 0, size - 1, size)
    start = tf.clip_by_value(tf.where(start < 0, start + size, start), np.int64(0), high)
    end = tf.clip_by_value(tf.where(end < 0, end + size, end), low, size)
    # TensorFlow reads -1 as the last element, so "before the first" becomes a number below -size.
    return slice(start, tf.where(end < 0, -size - 1, end), step)


@op("Slice", since=1, kind=KEEP)
def slice_old(call: Any, x: Any) -> Any:
    starts, ends, axes = (call.get(name) for name in ("starts", "ends", "axes"))
    return slice_(call, x, np.array(starts), np.array(ends), axes)


def _positive(indices: Any, size: Any) -> Any:
    """Converts negative indices, which count from the end; `size`: an int or a scalar tensor."""
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
            tf.gather(x, int(_positive(indices, shapes.shape_dims(x)[axis])), axis=axis)
            if isinstance(shapes.shape_dims(x)[axis], int)
            else x[(slice(None),) * axis + (int(indices),)]
        )
    return tf.gather(x, _positive(indices, shapes.shape_dims(x)[axis]), axis=axis)


@op("GatherElements")
def gather_elements(call: Any, x: Any, indices: Any) -> Any:
    axis = call.get("axis", 0) % len(x.shape)
    return tf.gather_nd(x, _grid(x, indices, axis))


def _grid(x: Any, indices: Any, axis: int) -> Any:
    """int64 [..., rank]: for each of `indices`, the full coordinates in `x` of the element that it selects."""
    indices = tf.cast(_positive(indices, shapes.shape_dims(x)[axis]), tf.int64)
    sizes = tf.shape(indices, tf.int64)
    rank = indices.shape.rank
    coordinates = tf.meshgrid(*[tf.range(sizes[i]) for i in range(rank)], indexing="ij")
    coordinates[axis] = indices
    return tf.stack(coordinates, -1)


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


def _scatter(x: Any, positions: Any, updates: Any, reduction: str) -> Any:
    x, updates = tensor(x), tensor(updates)
    if x.dtype == tf.bool:
        return tf.cast(_scatter(tf.cast(x, tf.int32), positions, tf.cast(updates, tf.int32), reduction), tf.bool)
    if reduction == "mul":  # one update after another: TensorFlow has no kernel that multiplies
        rows = tf.reshape(positions, [-1, positions.shape[-1]])
        flat = tf.reshape(updates, tf.concat([tf.shape(rows)[:1], tf.shape(x)[positions.shape[-1] :]], 0))

        def body(i: Any, result: Any) -> Any:
            row = rows[i : i + 1]
            return i + 1, tf.tensor_scatter_nd_update(result, row, tf.gather_nd(result, row) * flat[i : i + 1])

        return tf.while_loop(lambda i, result: i < tf.shape(rows)[0], body, [tf.constant(0), x])[1]
    function = {
        "none": tf.tensor_scatter_nd_update, "add": tf.tensor_scatter_nd_add,
        "max": tf.tensor_scatter_nd_max, "min": tf.tensor_scatter_nd_min,
    }[reduction]  # fmt: skip
    return function(x, positions, updates)


@op("TensorScatter")
def tensor_scatter(call: Any, past: Any, update: Any, write_indices: Any = None) -> Any:
    """Writes each example's update along an axis, starting at its own index; mode "circular" wraps around."""
    past, update = tensor(past), tensor(update)
    rank = past.shape.rank
    axis = call.get("axis", -2) % rank
    rest = [other for other in range(1, rank) if other != axis]
    perm = [0, axis, *rest]
    inverse = [perm.index(i) for i in range(rank)]
    cache, part = tf.transpose(past, perm), tf.transpose(update, perm)
    batch, steps = tf.shape(part, tf.int64)[0], tf.shape(part, tf.int64)[1]
    first = tf.zeros([batch], tf.int64) if write_indices is None else tf.cast(write_indices, tf.int64)
    along = first[:, None] + tf.range(steps)
    if call.get("mode", "linear") == "circular":
        along = tf.math.floormod(along, tf.shape(cache, tf.int64)[1])
    rows = tf.broadcast_to(tf.range(batch)[:, None], tf.shape(along))
    return tf.transpose(tf.tensor_scatter_nd_update(cache, tf.stack([rows, along], -1), part), inverse)
