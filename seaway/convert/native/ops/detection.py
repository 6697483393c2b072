"""Operators of object detectors: NonMaxSuppression, RoiAlign, MaxRoiPool."""

from typing import Any

import numpy as np
import tensorflow as tf

from seaway.convert.native.dtypes import tensor
from seaway.convert.native.registry import SPATIAL, op


@op("NonMaxSuppression", since=10)
def non_max_suppression(
    call: Any, boxes: Any, scores: Any, max_boxes: Any = None, max_overlap: Any = None, min_score: Any = None
) -> Any:
    """int64 [kept, 3]: batch, class and box index of each kept box, ordered by batch, class and score."""
    boxes, scores = tf.cast(boxes, tf.float32), tf.cast(scores, tf.float32)
    if call.get("center_point_box", 0):
        centre, half = boxes[..., :2], boxes[..., 2:] / 2
        boxes = tf.concat([centre - half, centre + half], -1)
    classes, count = tf.shape(scores)[1], tf.shape(scores)[2]
    limit = tf.constant(0, tf.int64) if max_boxes is None else tf.reshape(tf.cast(max_boxes, tf.int64), [])
    limit = tf.cast(tf.clip_by_value(limit, np.int64(0), tf.cast(count, tf.int64)), tf.int32)
    limits = [
        tf.constant(default, tf.float32) if value is None else tf.reshape(tf.cast(value, tf.float32), [])
        for value, default in ((max_overlap, 0.0), (min_score, -np.inf))
    ]

    def select(index: Any) -> Any:
        kept, valid = tf.raw_ops.NonMaxSuppressionV4(
            boxes=boxes[index // classes], scores=scores[index // classes, index % classes], max_output_size=limit,
            iou_threshold=limits[0], score_threshold=limits[1], pad_to_max_output_size=True,
        )  # fmt: skip
        return tf.where(tf.range(limit) < valid, kept, -1)

    pairs = tf.range(tf.shape(scores)[0] * classes)
    kept = tf.map_fn(select, pairs, fn_output_signature=tf.TensorSpec([None], tf.int32))
    rows = tf.where(kept >= 0)
    pair, class_count = rows[:, 0], tf.cast(classes, tf.int64)
    return tf.stack([pair // class_count, pair % class_count, tf.cast(tf.gather_nd(kept, rows), tf.int64)], -1)


@op("RoiAlign", since=10, kind=SPATIAL)
def roi_align(call: Any, x: Any, rois: Any, batches: Any) -> Any:
    """Divides each region into a grid of cells; a cell's value is the mean or the maximum of its samples."""
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
    use_max = call.get("mode", "avg") == "max"
    # Coordinates from -1 to the size sample the edge elements: the padding lets crop_and_resize reach that far.
    padded = tf.pad(tf.cast(x, tf.float32), [[0, 0], [1, 1], [1, 1], [0, 0]], "SYMMETRIC")

    def samples(start: Any, span: Any, batch: Any, counts: Any) -> Any:
        """[R, cells, C] for regions with the same `counts` ([2]) of samples in each cell."""
        step = span / tf.cast(cells * counts, tf.float32)
        first = start + step / 2
        last = first + step * tf.cast(cells * counts - 1, tf.float32)
        if use_max:
            return _max_of_weighted(tf.cast(x, tf.float32), first, step, batch, cells, counts)
        reach = tf.cast(tf.shape(padded)[1:3] - 1, tf.float32)
        boxes = tf.concat([(first + 1) / reach, (last + 1) / reach], -1)
        size = tf.cast(cells * counts, tf.int32)
        sampled = tf.image.crop_and_resize(padded, boxes, batch, size)
        by_cell = tf.reshape(sampled, [-1, cells[0], counts[0], cells[1], counts[1], x.shape[-1]])
        return tf.reduce_mean(by_cell, [2, 4])

    if ratio > 0:
        result = samples(starts, spans, batches, np.array([ratio, ratio], np.int32))
    else:  # as many samples as a cell has elements, which differs between regions

        def pool_region(region: Any) -> Any:
            start, span, batch = region
            counts = tf.cast(tf.math.ceil(span / np.array(cells, np.float32)), tf.int32)
            sampled = samples(start[None], span[None], batch[None], tf.maximum(counts, 1))[0]
            return tf.where(tf.reduce_all(counts > 0), sampled, tf.zeros_like(sampled))

        signature = tf.TensorSpec([*cells, x.shape[-1]], tf.float32)
        result = tf.map_fn(pool_region, (starts, spans, batches), fn_output_signature=signature)
    return tf.cast(tf.ensure_shape(result, [None, *cells, x.shape[-1]]), x.dtype)


def _max_of_weighted(x: Any, first: Any, step: Any, batch: Any, cells: np.ndarray, counts: Any) -> Any:
    """As ONNX defines it: the maximum of the four weighted elements around each sample, not of their sums."""
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
    maximum = None
    for row, above in taps[0]:
        for column, left in taps[1]:
            index = tf.cast(row, tf.int32)[:, :, None] * sizes[1] + tf.cast(column, tf.int32)[:, None]
            flat_index = index + (batch * sizes[0] * sizes[1])[:, None, None]
            sampled = tf.gather(tf.reshape(flat, [-1, x.shape[-1]]), flat_index)
            sampled *= (above[:, :, None] * left[:, None])[..., None]
            maximum = sampled if maximum is None else tf.maximum(maximum, sampled)
    by_cell = tf.reshape(maximum, [-1, cells[0], counts[0], cells[1], counts[1], x.shape[-1]])
    return tf.reduce_max(by_cell, [2, 4])


@op("MaxRoiPool", kind=SPATIAL)
def max_roi_pool(call: Any, x: Any, rois: Any) -> Any:
    """The maximum of each cell of each region ([R, 5]); 0 for an empty cell."""
    x, rois = tensor(x), tensor(rois)
    cells, scale = call.get("pooled_shape"), call.get("spatial_scale", 1.0)
    sizes = tf.shape(x)[1:3]

    def bounds(low: Any, high: Any, axis: int) -> tuple[Any, Any]:
        span = tf.maximum(high - low + 1, 1) / cells[axis]
        steps = tf.cast(tf.range(cells[axis] + 1), span.dtype)
        starts = tf.cast(tf.floor(steps[:-1] * span), tf.int32) + tf.cast(low, tf.int32)
        ends = tf.cast(tf.math.ceil(steps[1:] * span), tf.int32) + tf.cast(low, tf.int32)
        return tf.clip_by_value(starts, 0, sizes[axis]), tf.clip_by_value(ends, 0, sizes[axis])

    def pool_region(roi: Any) -> Any:
        left, top, right, bottom = tf.unstack(_half_up(tf.cast(roi[1:], tf.float32) * scale))
        sampled = x[tf.cast(roi[0], tf.int32)]
        for axis, (starts, ends) in enumerate((bounds(top, bottom, 0), bounds(left, right, 1))):
            positions = tf.range(sizes[axis])
            within = (positions >= starts[:, None]) & (positions < ends[:, None])
            inner = within[:, :, None, None] if axis == 0 else within[None, :, :, None]
            sampled = sampled[None] if axis == 0 else sampled[:, None]
            sampled = tf.reduce_max(tf.where(inner, sampled, x.dtype.min), axis + 1)
        empty = tf.equal(sampled, x.dtype.min)
        return tf.where(empty, tf.zeros_like(sampled), sampled)

    result = tf.map_fn(pool_region, rois, fn_output_signature=tf.TensorSpec([*cells, x.shape[-1]], x.dtype))
    return tf.ensure_shape(result, [None, *cells, x.shape[-1]])


def _half_up(x: Any) -> Any:
    return tf.where(x < 0, tf.math.ceil(x - 0.5), tf.floor(x + 0.5))
