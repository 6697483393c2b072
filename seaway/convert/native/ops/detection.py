"""Operators of object detectors: boxes kept, regions pooled."""

from typing import Any

import numpy as np
import tensorflow as tf

from seaway.convert.native.dtypes import tensor
from seaway.convert.native.table import SPATIAL, op


@op("NonMaxSuppression", since=10)
def non_max_suppression(
    call: Any, boxes: Any, scores: Any, most: Any = None, overlap: Any = None, lowest: Any = None
) -> Any:
    """[kept, 3]: batch, class and box of what is kept, by batch, class and score."""
    boxes, scores = tf.cast(boxes, tf.float32), tf.cast(scores, tf.float32)
    if call.get("center_point_box", 0):
        centre, half = boxes[..., :2], boxes[..., 2:] / 2
        boxes = tf.concat([centre - half, centre + half], -1)
    classes, count = tf.shape(scores)[1], tf.shape(scores)[2]
    wanted = tf.constant(0, tf.int64) if most is None else tf.reshape(tf.cast(most, tf.int64), [])
    wanted = tf.cast(tf.clip_by_value(wanted, np.int64(0), tf.cast(count, tf.int64)), tf.int32)
    limits = [
        tf.constant(missing, tf.float32) if given is None else tf.reshape(tf.cast(given, tf.float32), [])
        for given, missing in ((overlap, 0.0), (lowest, -np.inf))
    ]

    def one(index: Any) -> Any:
        kept, valid = tf.raw_ops.NonMaxSuppressionV4(
            boxes=boxes[index // classes], scores=scores[index // classes, index % classes], max_output_size=wanted,
            iou_threshold=limits[0], score_threshold=limits[1], pad_to_max_output_size=True,
        )  # fmt: skip
        return tf.where(tf.range(wanted) < valid, kept, -1)

    every = tf.range(tf.shape(scores)[0] * classes)
    kept = tf.map_fn(one, every, fn_output_signature=tf.TensorSpec([None], tf.int32))
    rows = tf.where(kept >= 0)
    pair, wide = rows[:, 0], tf.cast(classes, tf.int64)
    return tf.stack([pair // wide, pair % wide, tf.cast(tf.gather_nd(kept, rows), tf.int64)], -1)


@op("RoiAlign", since=10, kind=SPATIAL)
def roi_align(call: Any, x: Any, rois: Any, batches: Any) -> Any:
    """For each region a grid of cells, for each cell the mean or the largest of some samples."""
    x, rois, batches = tensor(x), tf.cast(rois, tf.float32), tf.cast(batches, tf.int32)
    cells = np.array([call.get("output_height", 1), call.get("output_width", 1)], np.int32)
    half = call.since >= 16 and call.get("coordinate_transformation_mode", "half_pixel") == "half_pixel"
    ratio, scale = call.get("sampling_ratio", 0), call.get("spatial_scale", 1.0)
    if x.dtype not in (tf.float32, tf.float16, tf.bfloat16):
        raise ValueError(f"RoiAlign over {x.dtype.name}")
    corners = rois * scale - (0.5 if half else 0.0)
    starts = tf.reverse(corners[:, :2], [1])  # y before x
    spans = tf.reverse(corners[:, 2:], [1]) - starts
    spans = spans if half else tf.maximum(spans, 1.0)
    largest = call.get("mode", "avg") == "max"
    # From -1 to the size an element of the edge counts: so far crop_and_resize sees the padded tensor.
    wide = tf.pad(tf.cast(x, tf.float32), [[0, 0], [1, 1], [1, 1], [0, 0]], "SYMMETRIC")

    def samples(start: Any, span: Any, batch: Any, counts: Any) -> Any:
        """[R, cells, C] for regions with the same number of samples in each cell, [2]."""
        step = span / tf.cast(cells * counts, tf.float32)
        first = start + step / 2
        last = first + step * tf.cast(cells * counts - 1, tf.float32)
        if largest:
            return _largest(tf.cast(x, tf.float32), first, step, batch, cells, counts)
        reach = tf.cast(tf.shape(wide)[1:3] - 1, tf.float32)
        boxes = tf.concat([(first + 1) / reach, (last + 1) / reach], -1)
        size = tf.cast(cells * counts, tf.int32)
        seen = tf.image.crop_and_resize(wide, boxes, batch, size)
        by_cell = tf.reshape(seen, [-1, cells[0], counts[0], cells[1], counts[1], x.shape[-1]])
        return tf.reduce_mean(by_cell, [2, 4])

    if ratio > 0:
        got = samples(starts, spans, batches, np.array([ratio, ratio], np.int32))
    else:  # as many samples as elements lie in a cell: another number for each region

        def one(given: Any) -> Any:
            start, span, batch = given
            counts = tf.cast(tf.math.ceil(span / np.array(cells, np.float32)), tf.int32)
            seen = samples(start[None], span[None], batch[None], tf.maximum(counts, 1))[0]
            return tf.where(tf.reduce_all(counts > 0), seen, tf.zeros_like(seen))

        signature = tf.TensorSpec([*cells, x.shape[-1]], tf.float32)
        got = tf.map_fn(one, (starts, spans, batches), fn_output_signature=signature)
    return tf.cast(tf.ensure_shape(got, [None, *cells, x.shape[-1]]), x.dtype)


def _largest(x: Any, first: Any, step: Any, batch: Any, cells: np.ndarray, counts: Any) -> Any:
    """As ONNX has it, the largest of the four weighted elements around each sample, not of their sums."""
    sizes = tf.shape(x)[1:3]
    taps = []
    for axis in range(2):
        at = first[:, axis, None] + step[:, axis, None] * tf.cast(tf.range(cells[axis] * counts[axis]), tf.float32)
        size = tf.cast(sizes[axis], tf.float32)
        within = tf.cast((at >= -1) & (at <= size), tf.float32)
        at = tf.clip_by_value(at, 0.0, size - 1)
        low = tf.floor(at)
        high = tf.minimum(low + 1, size - 1)
        taps.append([(low, (1 - (at - low)) * within), (high, (at - low) * within)])
    flat = tf.reshape(x, [tf.shape(x)[0], sizes[0] * sizes[1], x.shape[-1]])
    best = None
    for row, above in taps[0]:
        for column, left in taps[1]:
            place = tf.cast(row, tf.int32)[:, :, None] * sizes[1] + tf.cast(column, tf.int32)[:, None]
            whole = place + (batch * sizes[0] * sizes[1])[:, None, None]
            seen = tf.gather(tf.reshape(flat, [-1, x.shape[-1]]), whole)
            seen *= (above[:, :, None] * left[:, None])[..., None]
            best = seen if best is None else tf.maximum(best, seen)
    by_cell = tf.reshape(best, [-1, cells[0], counts[0], cells[1], counts[1], x.shape[-1]])
    return tf.reduce_max(by_cell, [2, 4])


@op("MaxRoiPool", kind=SPATIAL)
def max_roi_pool(call: Any, x: Any, rois: Any) -> Any:
    """The largest element of each cell of each region, [R, 5]; 0 for a cell that is empty."""
    x, rois = tensor(x), tensor(rois)
    cells, scale = call.get("pooled_shape"), call.get("spatial_scale", 1.0)
    sizes = tf.shape(x)[1:3]

    def bounds(low: Any, high: Any, axis: int) -> tuple[Any, Any]:
        span = tf.maximum(high - low + 1, 1) / cells[axis]
        steps = tf.cast(tf.range(cells[axis] + 1), span.dtype)
        starts = tf.cast(tf.floor(steps[:-1] * span), tf.int32) + tf.cast(low, tf.int32)
        ends = tf.cast(tf.math.ceil(steps[1:] * span), tf.int32) + tf.cast(low, tf.int32)
        return tf.clip_by_value(starts, 0, sizes[axis]), tf.clip_by_value(ends, 0, sizes[axis])

    def one(roi: Any) -> Any:
        left, top, right, bottom = tf.unstack(_half_up(tf.cast(roi[1:], tf.float32) * scale))
        seen = x[tf.cast(roi[0], tf.int32)]
        for axis, (starts, ends) in enumerate((bounds(top, bottom, 0), bounds(left, right, 1))):
            places = tf.range(sizes[axis])
            within = (places >= starts[:, None]) & (places < ends[:, None])
            inner = within[:, :, None, None] if axis == 0 else within[None, :, :, None]
            seen = seen[None] if axis == 0 else seen[:, None]
            seen = tf.reduce_max(tf.where(inner, seen, x.dtype.min), axis + 1)
        empty = tf.equal(seen, x.dtype.min)
        return tf.where(empty, tf.zeros_like(seen), seen)

    got = tf.map_fn(one, rois, fn_output_signature=tf.TensorSpec([*cells, x.shape[-1]], x.dtype))
    return tf.ensure_shape(got, [None, *cells, x.shape[-1]])


def _half_up(x: Any) -> Any:
    return tf.where(x < 0, tf.math.ceil(x - 0.5), tf.floor(x + 0.5))
