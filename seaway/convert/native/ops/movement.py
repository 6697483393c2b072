"""Operators that move, repeat or create elements: Reshape, Transpose, Concat, Pad and the like."""

import math
from typing import Any

import numpy as np
import tensorflow as tf

from seaway.convert.native import dtypes, shapes
from seaway.convert.native.dtypes import scalar, tensor
from seaway.convert.native.registry import KEEP, VALUES, op
from seaway.convert.native.values import Value


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
    """Moves nothing: only records the new axis order."""
    rank = x.rank
    if rank is None:
        return tf.transpose(x.tensor, call.get("perm"))
    perm = call.get("perm") or list(reversed(range(rank)))
    if x.constant:
        return x.tensor.transpose(perm)
    order = x.order or tuple(range(rank))
    return Value(x.tensor, tuple(perm.index(axis) for axis in order))


@op("Reshape", since=5, sizes=(1,))
def reshape(call: Any, x: Any, sizes: Any) -> Any:
    if not isinstance(sizes, tuple):
        if not call.get("allowzero", 0):
            input_dims = tf.shape(x, tf.int64)
            count = tf.size(sizes)
            input_dims = tf.pad(input_dims, [[0, tf.maximum(0, count - tf.size(input_dims))]])[:count]
            sizes = tf.where(tf.equal(sizes, 0), input_dims, sizes)
        return tf.reshape(x, sizes)
    if not call.get("allowzero", 0):
        input_dims = shapes.shape_dims(x) if 0 in [s for s in sizes if isinstance(s, int)] else []
        sizes = tuple(input_dims[i] if isinstance(s, int) and s == 0 else s for i, s in enumerate(sizes))
    return tf.reshape(x, shapes.reshape_target(sizes))


@op("Reshape", since=1)
def reshape_old(call: Any, x: Any) -> Any:
    return reshape(call, x, tuple(call.get("shape")))


@op("Flatten", kind=VALUES)
def flatten(call: Any, x: Value) -> Any:
    data, axis = x.plain(), call.get("axis", 1)
    if x.rank is None:
        before, after = tf.reduce_prod(tf.shape(data)[:axis]), tf.reduce_prod(tf.shape(data)[axis:])
        return tf.reshape(data, [before, after])
    sizes = shapes.shape_dims(data)
    axis = axis + len(sizes) if axis < 0 else axis
    return tf.reshape(data, shapes.reshape_target([math.prod(sizes[:axis]), math.prod(sizes[axis:])]))


def _axes(call: Any, axes_input: Any) -> list[int] | None:
    axes = call.get("axes") if axes_input is None else axes_input
    return None if axes is None else [int(a) for a in np.asarray(axes).reshape(-1)]


@op("Squeeze")
def squeeze(call: Any, x: Any, axes: Any = None) -> Any:
    if axes is None or isinstance(axes, np.ndarray):
        return tf.squeeze(x, _axes(call, axes))
    sizes = tf.shape(x, tf.int64)
    keep = shapes.scatter(tf.zeros_like(tf.reshape(axes, [-1])), axes, tf.ones_like(sizes))
    result = tf.reshape(x, tf.boolean_mask(sizes, keep > 0))
    count = tf.TensorShape(axes.shape).num_elements()
    if count is not None and x.shape.rank is not None:
        result.set_shape([None] * (x.shape.rank - count))
    return result


@op("Unsqueeze")
def unsqueeze(call: Any, x: Any, axes: Any = None) -> Any:
    x = tensor(x)
    if axes is not None and not isinstance(axes, np.ndarray):
        count = tf.TensorShape(axes.shape).num_elements()
        if count is None or x.shape.rank is None:
            raise ValueError("the number of added axes is unknown")
        rank_after = x.shape.rank + count
        is_new = shapes.scatter(tf.zeros_like(tf.reshape(axes, [-1])), axes, tf.ones([rank_after], tf.int64)) > 0
        source_axes = tf.maximum(tf.cumsum(tf.cast(is_new, tf.int32)) - 1, 0)
        sizes = tf.concat([tf.shape(x, tf.int64), [1]], 0)  # never empty, so that gather always finds an element
        return tf.reshape(x, tf.where(is_new, tf.gather(sizes, source_axes), tf.ones([rank_after], tf.int64)))
    static_axes = _axes(call, axes) or []
    if x.shape.rank is None:
        if len(static_axes) > 1 and min(static_axes) < 0:
            raise ValueError("negative axes need a tensor of known rank")
        for axis in sorted(static_axes):
            x = tf.expand_dims(x, axis)
        return x
    rank = x.shape.rank + len(static_axes)
    for axis in sorted(axis + rank if axis < 0 else axis for axis in static_axes):
        x = tf.expand_dims(x, axis)
    return x


@op("Concat", kind=KEEP)
def concat(call: Any, *inputs: Any) -> Any:
    tensors = [tensor(g) for g in inputs]
    return tf.concat(tensors, call.axis(call.get("axis", 1), tensors[0].shape.rank))


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
    count, size = call.get("num_outputs", len(call.node.outputs)), x.shape[axis]
    if size is None and call.since >= 18:
        dim = tf.shape(x)[axis]
        ends = tf.minimum(tf.range(count + 1) * -(-dim // count), dim)
        return list(tf.split(x, ends[1:] - ends[:-1], axis, num=count))
    if size is None or size % count == 0:
        return list(tf.split(x, count, axis))
    chunk = -(-size // count)
    return list(tf.split(x, [min(chunk, size - start) for start in range(0, chunk * count, chunk)], axis))


@op("Expand", sizes=(1,))
def expand(call: Any, x: Any, sizes: Any) -> Any:
    x = tensor(x)
    if not isinstance(sizes, tuple):
        return tf.broadcast_to(x, tf.broadcast_dynamic_shape(tf.shape(x, tf.int64), tf.cast(sizes, tf.int64)))
    dims = shapes.shape_dims(x)
    rank = max(len(dims), len(sizes))
    dims, requested = [1] * (rank - len(dims)) + dims, [1] * (rank - len(sizes)) + list(sizes)
    target = [_wider(*pair) for pair in zip(dims, requested, strict=True)]
    if rank == x.shape.rank and all(t is o for t, o in zip(target, dims, strict=True)):
        return tf.identity(x)
    return tf.broadcast_to(x, shapes.as_tensor(target))


def _wider(size: Any, requested_size: Any) -> Any:
    """The size of an axis after broadcasting; unknown sizes are assumed to match."""
    if isinstance(size, int) and isinstance(requested_size, int):
        if size not in (1, requested_size) and requested_size != 1:
            raise ValueError(f"an axis of size {size} cannot be expanded to {requested_size}")
        return requested_size if size == 1 else size
    if isinstance(size, int):
        return requested_size if size == 1 else size
    if isinstance(requested_size, int):
        return size if requested_size == 1 else requested_size
    return tf.where(tf.equal(size, 1), tf.cast(requested_size, tf.int64), size)


@op("Tile", since=6)
def tile(call: Any, x: Any, repeats: Any) -> Any:
    return tf.tile(x, repeats)


@op("Tile", since=1)
def tile_old(call: Any, x: Any, tiles: Any, axis: Any) -> Any:
    return tf.tile(x, tf.tensor_scatter_nd_update(tf.ones(x.shape.rank, tf.int64), [[axis]], [tiles]))


@op("Pad", since=11, kind=KEEP, sizes=(1,))
def pad(call: Any, x: Any, pads: Any, value: Any = None, axes: Any = None) -> Any:
    """A negative pad crops. Axes with static pads keep their static size even if other pads are dynamic."""
    x = tensor(x)
    rank = x.shape.rank
    if axes is not None and not isinstance(axes, np.ndarray):
        pads, half = tf.reshape(pads, [-1]), tf.size(axes)
        pads = tf.concat([shapes.scatter(p, axes, tf.zeros([rank])) for p in (pads[:half], pads[half:])], 0)
        axes = None
    positions = [call.axis(int(a), rank) for a in (axes if axes is not None else range(rank))]
    widths: list[list[Any]] = [[0, 0] for _ in range(rank)]
    for i, position in enumerate(positions):
        widths[position] = [pads[i], pads[len(positions) + i]]
    is_static = [all(isinstance(n, int) for n in pair) for pair in widths]
    sizes = [
        n + sum(pair) if n is not None and k else None for n, pair, k in zip(x.shape, widths, is_static, strict=True)
    ]
    x = x[tuple(_crop(*pair) for pair in widths)] if any(_may_crop(n) for pair in widths for n in pair) else x
    result = _padded(x, [[_padding_only(n) for n in pair] for pair in widths], call.get("mode", "constant"), value)
    return tf.ensure_shape(result, sizes) if not all(is_static) else result


def _may_crop(n: Any) -> bool:
    return not isinstance(n, int) or n < 0


def _padding_only(n: Any) -> Any:
    return max(n, 0) if isinstance(n, int) else tf.maximum(tf.cast(n, tf.int64), 0)


def _crop(before: Any, after: Any) -> slice:
    start = max(-before, 0) if isinstance(before, int) else tf.maximum(-tf.cast(before, tf.int64), 0)
    if isinstance(after, int):
        return slice(start, after if after < 0 else None)
    after = tf.cast(after, tf.int64)
    return slice(start, tf.where(after < 0, after, np.int64(2**31 - 1)))


def _padded(x: Any, widths: list[list[Any]], mode: str, value: Any) -> Any:
    if mode not in ("constant", "reflect") or (
        mode == "reflect" and x.shape.rank > 5
    ):  # tf.pad reflects at most five axes
        for axis, pair in enumerate(widths):
            unpadded = all(isinstance(n, int) and n == 0 for n in pair)
            x = x if unpadded else _pad_by_gather(x, axis, pair, mode)
        return x
    all_static = all(isinstance(n, int) for pair in widths for n in pair)
    paddings = widths if all_static else tf.stack([tf.stack([tf.cast(n, tf.int64) for n in pair]) for pair in widths])
    if mode == "reflect":
        return tf.pad(x, paddings, "REFLECT")
    return tf.pad(x, paddings, constant_values=0 if value is None else tf.cast(tf.reshape(value, []), x.dtype))


def _pad_by_gather(x: Any, axis: int, widths: Any, mode: str) -> Any:
    """Modes edge, wrap and reflect: gathers the axis by indices that continue beyond its ends."""
    size = tf.cast(shapes.shape_dims(x)[axis], tf.int64)
    indices = tf.range(-widths[0], size + widths[1])
    if mode == "reflect":
        indices = size - 1 - tf.abs(size - 1 - tf.abs(indices))
    elif mode == "edge":
        indices = tf.clip_by_value(indices, np.int64(0), size - 1)
    else:
        indices = tf.math.floormod(indices, size)
    return tf.gather(x, indices, axis=axis)


@op("Pad", since=1, kind=KEEP)
def pad_old(call: Any, x: Any) -> Any:
    return pad(call, x, call.get("pads") or call.get("paddings"), scalar(call.get("value", 0.0), x))


@op("Range")
def range_(call: Any, start: Any, limit: Any, delta: Any) -> Any:
    return tf.range(tf.reshape(start, []), tf.reshape(limit, []), tf.reshape(delta, []))


@op("EyeLike")
def eye_like(call: Any, x: Any) -> Any:
    dtype = dtypes.of(call.get("dtype")) if call.get("dtype") else tf.as_dtype(x.dtype)
    rows, columns = tf.shape(x)[0], tf.shape(x)[1]
    ones = tf.equal(tf.range(rows)[:, None] + call.get("k", 0), tf.range(columns)[None])
    return tf.cast(ones, dtype)


@op("Trilu")
def trilu(call: Any, x: Any, k: Any = None) -> Any:
    x = tensor(x)
    k = 0 if k is None else tf.cast(tf.reshape(k, []), tf.int32)
    rows, columns = tf.range(tf.shape(x)[-2])[:, None], tf.range(tf.shape(x)[-1])[None]
    keep = columns - rows >= k if call.get("upper", 1) else columns - rows <= k
    return tf.where(keep, x, tf.zeros_like(x))


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
        return tf.zeros([0, tf.cast(tf.not_equal(x, tf.zeros_like(x)), tf.int32)], tf.int64)
    return tf.transpose(tf.where(tf.not_equal(x, tf.zeros_like(x))))


@op("Compress")
def compress(call: Any, x: Any, condition: Any) -> Any:
    x, axis = tensor(x), call.get("axis")
    x = tf.reshape(x, [-1]) if axis is None else x
    axis = 0 if axis is None else axis
    indices = tf.where(condition)[:, 0]
    return tf.gather(x, indices, axis=axis)


@op("ReverseSequence")
def reverse_sequence(call: Any, x: Any, lengths: Any) -> Any:
    return tf.reverse_sequence(x, lengths, call.get("time_axis", 0), call.get("batch_axis", 1))
