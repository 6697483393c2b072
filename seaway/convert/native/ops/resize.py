"""Resize and Upsample: with TensorFlow's kernels where they compute the same, else axis by axis from the definition.

Coordinates are computed in float32, step by step as ONNX Runtime does: in the nearest modes the last bit matters.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import tensorflow as tf

from seaway.convert.native import layout, shapes
from seaway.convert.native.dtypes import tensor
from seaway.convert.native.registry import VALUES, op
from seaway.convert.native.values import Dim, Value, dims_of

HALF_PIXEL = ("half_pixel", "half_pixel_symmetric", "pytorch_half_pixel")
TRANSFORMATIONS = (*HALF_PIXEL, "align_corners", "asymmetric", "tf_crop_and_resize", "tf_half_pixel_for_nn")
ROUNDINGS = ("round_prefer_floor", "round_prefer_ceil", "floor", "ceil", "simple")


@dataclass(frozen=True, slots=True)
class ResizeConfig:
    """The node's attributes."""

    mode: str
    transformation: str
    rounding: str
    antialias: bool
    cubic: float
    exclude_outside: bool
    extrapolation: float


@dataclass(frozen=True, slots=True)
class ResizedAxis:
    """An axis that is resized. Sizes, scale and roi are numbers, or scalar tensors if known only at run time."""

    index: int
    size: Dim
    new_size: Dim
    scale: Any
    roi: tuple[Any, Any] | None
    from_sizes: bool = False  # the scale is new_size / size

    @property
    def is_static(self) -> bool:
        return not any(tf.is_tensor(n) for n in (self.size, self.new_size, self.scale, *(self.roi or ())))

    @property
    def is_size_ratio(self) -> bool:
        """Whether the scale is exactly new_size / size, as in TensorFlow's kernels."""
        if self.from_sizes:
            return True
        if tf.is_tensor(self.scale):
            return False
        if tf.is_tensor(self.size) or tf.is_tensor(self.new_size):
            return float(self.scale).is_integer()
        return math.isclose(self.size * self.scale, self.new_size, rel_tol=1e-6)


@op("Resize", since=11, kind=VALUES)
def resize(
    call: Any, x: Value, roi: Value | None = None, scales: Value | None = None, sizes: Value | None = None
) -> Any:
    config = ResizeConfig(
        call.get("mode", "nearest"), call.get("coordinate_transformation_mode", "half_pixel"),
        call.get("nearest_mode", "round_prefer_floor"), bool(call.get("antialias", 0)),
        call.get("cubic_coeff_a", -0.75), bool(call.get("exclude_outside", 0)), call.get("extrapolation_value", 0.0),
    )  # fmt: skip
    policy = call.get("keep_aspect_ratio_policy", "stretch")
    return _resized(x, _axes(call.get("axes"), policy, config, x, roi, scales, sizes), config)


@op("Resize", since=10, kind=VALUES)
@op("Upsample", since=9, kind=VALUES)
def resize_old(call: Any, x: Value, scales: Value) -> Any:
    config = ResizeConfig(call.get("mode", "nearest"), "asymmetric", "simple", False, -0.75, False, 0.0)
    return _resized(x, _axes(None, "stretch", config, x, None, scales, None), config)


@op("Upsample", since=7, kind=VALUES)
def upsample_old(call: Any, x: Value) -> Any:
    return resize_old(call, x, Value(np.array(call.get("scales"), np.float32)))


def _axes(
    axes: Sequence[int] | None, policy: str, config: ResizeConfig, x: Value, roi: Value | None, scales: Value | None,
    sizes: Value | None,
) -> list[ResizedAxis]:  # fmt: skip
    """The axes that change. If the first two axes' sizes are known only at run time, they are assumed unchanged, and an
    assertion in the graph checks that."""
    if x.rank is None:
        raise ValueError("a tensor of unknown rank")
    dims_in_order = shapes.shape_dims(x.tensor)
    dims = dims_in_order if x.order is None else [dims_in_order[x.order.index(axis)] for axis in range(x.rank)]
    indices = [axis % x.rank for axis in (axes if axes is not None else range(x.rank))]
    factors, new_sizes = _elements(scales, len(indices)), _elements(sizes, len(indices))
    if (factors is None) == (new_sizes is None):
        raise ValueError("exactly one of scales and sizes is required")
    roi_values = _elements(roi, 2 * len(indices)) if config.transformation == "tf_crop_and_resize" else None
    if new_sizes is not None:
        factors = [_float32(new) / _float32(dims[i]) for new, i in zip(new_sizes, indices, strict=True)]
        if policy != "stretch":
            new_sizes, factors = _keep_aspect_ratio([dims[i] for i in indices], factors, policy)
    assert factors is not None
    result = []
    for i, index in enumerate(indices):
        size, scale = dims[index], factors[i]
        new_size = _scaled_size(size, scale) if new_sizes is None else new_sizes[i]
        axis_roi = None if roi_values is None else (roi_values[i], roi_values[len(indices) + i])
        axis = ResizedAxis(index, size, new_size, scale, axis_roi, new_sizes is not None and policy == "stretch")
        if not _is_unchanged(axis, x.rank):
            result.append(axis)
    return result


def _elements(value: Value | None, count: int) -> list[Any] | None:
    """The elements of a vector input; None if it is omitted or empty."""
    if value is None or value.shape == (0,):
        return None
    values = dims_of(value)
    if values is None:
        data = value.plain()
        values = tuple(float(n) for n in data.reshape(-1)) if value.constant else tuple(data[i] for i in range(count))
    if len(values) != count:
        raise ValueError(f"{len(values)} numbers instead of {count}")
    return list(values)


def _float32(number: Any) -> Any:
    return tf.cast(number, tf.float32) if tf.is_tensor(number) else np.float32(number)


def _scaled_size(size: Dim, scale: Any) -> Dim:
    if not tf.is_tensor(scale) and float(scale).is_integer():
        return size * int(scale)
    new = _float32(size) * _float32(scale)
    return tf.cast(new, tf.int64) if tf.is_tensor(new) else int(new)


def _keep_aspect_ratio(dims: Sequence[Dim], factors: Sequence[Any], policy: str) -> tuple[list[Dim], list[Any]]:
    """Sizes and scales that keep the aspect ratio: one scale for all axes."""
    if policy not in ("not_larger", "not_smaller"):
        raise ValueError(f"keep_aspect_ratio_policy {policy}")
    if any(tf.is_tensor(factor) for factor in factors):
        scale = (tf.reduce_min if policy == "not_larger" else tf.reduce_max)(tf.stack(list(factors)))
        return [tf.cast(tf.floor(_float32(size) * scale + 0.5), tf.int64) for size in dims], [scale] * len(dims)
    scale = (min if policy == "not_larger" else max)(factors)
    return [int(np.floor(np.float32(size) * scale + np.float32(0.5))) for size in dims], [scale] * len(dims)


def _is_unchanged(axis: ResizedAxis, rank: int) -> bool:
    full_roi = axis.roi is None or (not any(tf.is_tensor(n) for n in axis.roi) and axis.roi == (0, 1))
    if axis.is_static:
        return axis.size == axis.new_size and math.isclose(axis.scale, 1, rel_tol=1e-6) and full_roi
    if not tf.is_tensor(axis.scale) and axis.scale == 1 and full_roi:
        return True
    if axis.index > 1 or rank < 3:
        return False
    tf.debugging.assert_equal(tf.cast(axis.new_size, tf.int64), tf.cast(axis.size, tf.int64))
    if axis.roi is not None:
        tf.debugging.assert_equal(tf.stack([tf.cast(n, tf.float32) for n in axis.roi]), [0.0, 1.0])
    return True


def _resized(x: Value, axes: Sequence[ResizedAxis], config: ResizeConfig) -> Any:
    if config.mode not in ("nearest", "linear", "bilinear", "trilinear", "cubic"):
        raise ValueError(f"mode {config.mode}")
    if config.transformation not in TRANSFORMATIONS or config.rounding not in ROUNDINGS:
        raise ValueError(f"{config.transformation} with {config.rounding}")
    if not axes:
        return x
    kernel = _find_kernel(x, axes, config)
    if kernel is not None:
        order = layout.channels_last(x.rank or 0)
        return Value(_run_kernel(tensor(x.ordered(order)), axes, *kernel), order)
    resized, dtype = tensor(x.tensor), x.tensor.dtype
    if config.mode != "nearest" and dtype != tf.float64:
        resized = tf.cast(resized, tf.float32)
    dtype = tf.as_dtype(dtype)
    for axis in reversed(axes):
        index = axis.index if x.order is None else x.order.index(axis.index)
        resized = _resize_axis(resized, index, axis, config)
        if config.antialias and dtype.is_integer:  # ONNX Runtime rounds to integers after each axis
            resized = tf.cast(tf.saturate_cast(tf.floor(resized + 0.5), dtype), resized.dtype)
    return Value(_cast_back(resized, dtype), x.order)


def _cast_back(x: Any, dtype: Any) -> Any:
    if x.dtype == dtype:
        return x
    return tf.cast(x, dtype) if dtype.is_floating else tf.saturate_cast(x, dtype)


# With TensorFlow's kernels: [N, H, W, C], coordinates chosen by align_corners and half_pixel_centers.


def _find_kernel(x: Value, axes: Sequence[ResizedAxis], config: ResizeConfig) -> tuple[bool, bool, bool] | None:
    """(nearest, align_corners, half_pixel_centers) of an equivalent TensorFlow kernel; None if there is none."""
    dtype = tf.as_dtype(x.dtype)
    if x.rank not in (3, 4, 5) or any(axis.index < 2 for axis in axes):
        return None
    if config.transformation == "tf_crop_and_resize" or dtype in (tf.bool, tf.uint32, tf.uint64, tf.string):
        return None
    if config.mode == "nearest":
        choices = [(False, False), (False, True), (True, False)]
        matching = [choice for choice in choices if all(_same_indices(axis, config, *choice) for axis in axes)]
        return (True, *matching[0]) if matching else None
    downsampling = config.antialias and not all(not tf.is_tensor(axis.scale) and axis.scale >= 1 for axis in axes)
    if config.mode == "cubic" or downsampling or dtype == tf.float64 or (config.antialias and dtype.is_integer):
        return None
    if config.transformation == "align_corners":
        return False, True, False
    if not all(axis.is_size_ratio for axis in axes):
        return None
    if config.transformation == "pytorch_half_pixel" and any(tf.is_tensor(a.new_size) or a.new_size == 1 for a in axes):
        return None
    return (
        None if config.transformation == "tf_half_pixel_for_nn" else (False, False, config.transformation in HALF_PIXEL)
    )


def _same_indices(axis: ResizedAxis, config: ResizeConfig, align_corners: bool, half_pixel: bool) -> bool:
    """Whether the kernel selects the same indices as ONNX, float32 rounding included."""
    if not axis.is_static:  # scaling by a power of two is exact in any order of operations
        power_of_two = not tf.is_tensor(axis.scale) and axis.is_size_ratio and math.log2(axis.scale).is_integer()
        floor = config.rounding in ("floor", "simple")
        return power_of_two and floor and config.transformation == "asymmetric" and not align_corners and not half_pixel
    size, new_size = axis.size, axis.new_size
    use_corners = align_corners and new_size > 1
    scale = np.float32(size - 1) / np.float32(new_size - 1) if use_corners else np.float32(size) / np.float32(new_size)
    coordinates = (np.arange(new_size, dtype=np.float32) + np.float32(0.5 if half_pixel else 0)) * scale
    indices = np.floor(coordinates.astype(np.float64) + 0.5) if align_corners else np.floor(coordinates)
    return bool(np.array_equal(np.clip(indices, 0, size - 1), _nearest_indices(axis, config)))


def _run_kernel(x: Any, axes: Sequence[ResizedAxis], nearest: bool, align_corners: bool, half_pixel: bool) -> Any:
    sizes, dtype = shapes.shape_dims(x), x.dtype
    new_sizes = sizes[1:-1]
    for axis in axes:
        new_sizes[axis.index - 2] = axis.new_size

    def run(x: Any, size: Sequence[Dim]) -> Any:
        size = tf.cast(shapes.as_tensor(size), tf.int32)
        image = tf.compat.v1.image
        function = image.resize_nearest_neighbor if nearest else image.resize_bilinear
        return function(x, size, align_corners=align_corners, half_pixel_centers=half_pixel)

    if len(new_sizes) == 1:
        x = run(x[:, None], [1, *new_sizes])[:, 0]
    elif len(new_sizes) == 2:
        x = run(x, new_sizes)
    else:  # the last two axes first, then the first axis with those two flattened
        (n, d, h, w, c), (front, height, width) = sizes, new_sizes
        x = run(tf.reshape(x, shapes.reshape_target([n * d, h, w, c])), [height, width])
        x = run(tf.reshape(x, shapes.reshape_target([n, d, height * width, c])), [front, height * width])
        x = tf.reshape(x, shapes.reshape_target([n, front, height, width, c]))
    return _cast_back(x, dtype)


# From the definition, along one axis.


def _resize_axis(x: Any, index: int, axis: ResizedAxis, config: ResizeConfig) -> Any:
    broadcast_shape = [-1 if i == index else 1 for i in range(x.shape.rank)]
    if config.mode == "nearest":
        result = tf.gather(x, _constant_folded(axis, lambda: _nearest_indices(axis, config)), axis=index)
    elif config.antialias and (tf.is_tensor(axis.scale) or axis.scale < 1):
        weights = tf.cast(_constant_folded(axis, lambda: _antialias_weights(axis, config)), x.dtype)
        result = _product(weights, x, index)
    else:
        indices, weights = _constant_folded(axis, lambda: _taps(axis, config))
        taps = [
            tf.gather(x, indices[:, i], axis=index) * tf.reshape(tf.cast(weights[:, i], x.dtype), broadcast_shape)
            for i in range(indices.shape[1])
        ]
        result = tf.add_n(taps)
    if config.transformation != "tf_crop_and_resize":
        return result

    def outside() -> Any:
        coordinates = _coordinates(axis, config)
        return (coordinates < 0) | (coordinates > _float32(axis.size) - 1)

    return tf.where(
        tf.reshape(_constant_folded(axis, outside), broadcast_shape),
        tf.cast(config.extrapolation, result.dtype),
        result,
    )


def _constant_folded(axis: ResizedAxis, function: Any) -> Any:
    """Calls `function` during conversion and returns arrays if the axis is static."""
    if not axis.is_static:
        return function()
    with tf.init_scope():
        result = function()
        return [np.asarray(one) for one in result] if isinstance(result, tuple) else np.asarray(result)


def _coordinates(axis: ResizedAxis, config: ResizeConfig) -> Any:
    """float32 [new_size]: the input coordinate of each output element."""
    positions = tf.cast(tf.range(axis.new_size), tf.float32)
    size, new_size, scale = (tf.cast(n, tf.float32) for n in (axis.size, axis.new_size, axis.scale))
    # Not `/`: TensorFlow's optimizer turns a division by a constant into a multiplication, which rounds differently.
    divide = tf.math.divide_no_nan
    match config.transformation:
        case "half_pixel":
            return divide(positions + 0.5, scale) - 0.5
        case "pytorch_half_pixel":
            return tf.where(new_size > 1, divide(positions + 0.5, scale) - 0.5, tf.zeros_like(positions))
        case "half_pixel_symmetric":
            return size / 2 * (1 - divide(new_size, scale * size)) + divide(positions + 0.5, scale) - 0.5
        case "align_corners":
            return divide(positions * (size - 1), new_size - 1)
        case "tf_half_pixel_for_nn":
            return divide(positions + 0.5, scale)
        case "tf_crop_and_resize":
            start, end = (tf.cast(n, tf.float32) for n in axis.roi or (0, 1))
            coordinates = start * (size - 1) + divide(positions * (end - start) * (size - 1), new_size - 1)
            return tf.where(new_size > 1, coordinates, tf.ones_like(positions) * (0.5 * (start + end) * (size - 1)))
        case _:
            return divide(positions, scale)


def _nearest_indices(axis: ResizedAxis, config: ResizeConfig) -> Any:
    """int64 [new_size]: the index of the nearest input element."""
    coordinates = tf.cast(_coordinates(axis, config), tf.float64)
    match config.rounding:
        case "floor":
            coordinates = tf.floor(coordinates)
        case "ceil":
            coordinates = tf.math.ceil(coordinates)
        case "round_prefer_floor":
            coordinates = tf.math.ceil(coordinates - 0.5)
        case "round_prefer_ceil":
            coordinates = tf.floor(coordinates + 0.5)
        case _:  # "simple": versions without the attribute
            coordinates = tf.where(
                tf.cast(axis.scale, tf.float64) < 1, tf.math.ceil(coordinates), tf.floor(coordinates)
            )
    return tf.clip_by_value(tf.cast(coordinates, tf.int64), np.int64(0), tf.cast(axis.size, tf.int64) - 1)


def _taps(axis: ResizedAxis, config: ResizeConfig) -> tuple[Any, Any]:
    """[new_size, 2 or 4]: the input indices that each output element combines, and their weights."""
    coordinates, last = _coordinates(axis, config), tf.cast(axis.size, tf.float32) - 1
    if config.mode != "cubic":
        coordinates = tf.clip_by_value(coordinates, 0.0, last)
    low = tf.floor(coordinates)
    steps = tf.range(-1.0, 3.0) if config.mode == "cubic" else tf.range(0.0, 2.0)
    indices = low[:, None] + steps
    weights = _weight((coordinates - low)[:, None] - steps, config)
    if config.exclude_outside and config.mode == "cubic":
        weights = tf.where((indices >= 0) & (indices <= last), weights, tf.zeros_like(weights))
        weights /= tf.reduce_sum(weights, 1, keepdims=True)
    return tf.cast(tf.clip_by_value(indices, 0.0, last), tf.int64), weights


def _antialias_weights(axis: ResizedAxis, config: ResizeConfig) -> Any:
    """[new_size, size]: the weights of a filter widened by the downscaling factor."""
    coordinates, size = _coordinates(axis, config), tf.cast(axis.size, tf.int64)
    shrink = tf.minimum(tf.cast(axis.scale, tf.float32), 1.0)
    reach = tf.cast(tf.math.ceil(2 / shrink), tf.int64) + 1
    indices = tf.range(-reach, size + reach)
    weights = _weight((tf.cast(indices, tf.float32) - coordinates[:, None]) * shrink, config)
    if config.exclude_outside:
        weights = tf.where((indices >= 0) & (indices < size), weights, tf.zeros_like(weights))
    weights = tf.math.divide_no_nan(weights, tf.reduce_sum(weights, 1, keepdims=True))
    return weights @ tf.one_hot(tf.clip_by_value(indices, np.int64(0), size - 1), tf.cast(size, tf.int32))


def _weight(distance: Any, config: ResizeConfig) -> Any:
    return cubic(distance, config.cubic) if config.mode == "cubic" else tf.maximum(1 - tf.abs(distance), 0.0)


def cubic(distance: Any, a: float) -> Any:
    """The weight at a distance in Keys' cubic convolution."""
    x = tf.abs(distance)
    near, far = ((a + 2) * x - (a + 3)) * x * x + 1, ((a * x - 5 * a) * x + 8 * a) * x - 4 * a
    return tf.where(x <= 1, near, tf.where(x < 2, far, tf.zeros_like(x)))


def _product(weights: Any, x: Any, index: int) -> Any:
    """Applies a matrix [new_size, size] along an axis."""
    sizes = shapes.shape_dims(x)
    trailing = math.prod(sizes[index + 1 :])
    flat = tf.reshape(x, shapes.reshape_target([math.prod(sizes[:index]), sizes[index], trailing]))
    new_size = shapes.shape_dims(weights)[0]
    return tf.reshape(weights @ flat, shapes.reshape_target([*sizes[:index], new_size, *sizes[index + 1 :]]))
