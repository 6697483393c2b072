"""Resize and Upsample: by TensorFlow's kernels where they compute the same, else axis by axis from the definition.

Coordinates are computed in float32, step by step as ONNX Runtime does: in the nearest modes the last bit decides.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import tensorflow as tf

from seaway.convert.native import layout, shapes
from seaway.convert.native.dtypes import tensor
from seaway.convert.native.table import VALUES, op
from seaway.convert.native.values import Part, Value, parts_of

HALF_PIXEL = ("half_pixel", "half_pixel_symmetric", "pytorch_half_pixel")
TRANSFORMATIONS = (*HALF_PIXEL, "align_corners", "asymmetric", "tf_crop_and_resize", "tf_half_pixel_for_nn")
ROUNDINGS = ("round_prefer_floor", "round_prefer_ceil", "floor", "ceil", "simple")


@dataclass(frozen=True, slots=True)
class How:
    """The node's attributes."""

    mode: str
    transformation: str
    rounding: str
    antialias: bool
    cubic: float
    exclude_outside: bool
    extrapolation: float


@dataclass(frozen=True, slots=True)
class Axis:
    """An axis that is resized. Sizes, the factor and the part that is taken are numbers, or scalars at run time."""

    place: int
    size: Part
    wanted: Part
    scale: Any
    roi: tuple[Any, Any] | None
    by_size: bool = False  # the factor is the new size by the old one

    @property
    def known(self) -> bool:
        return not any(tf.is_tensor(n) for n in (self.size, self.wanted, self.scale, *(self.roi or ())))

    @property
    def even(self) -> bool:
        """Whether the factor is exactly the new size by the old one, as TensorFlow's kernels have it."""
        if self.by_size:
            return True
        if tf.is_tensor(self.scale):
            return False
        if tf.is_tensor(self.size) or tf.is_tensor(self.wanted):
            return float(self.scale).is_integer()
        return math.isclose(self.size * self.scale, self.wanted, rel_tol=1e-6)


@op("Resize", since=11, kind=VALUES)
def resize(
    call: Any, x: Value, roi: Value | None = None, scales: Value | None = None, sizes: Value | None = None
) -> Any:
    how = How(
        call.get("mode", "nearest"), call.get("coordinate_transformation_mode", "half_pixel"),
        call.get("nearest_mode", "round_prefer_floor"), bool(call.get("antialias", 0)),
        call.get("cubic_coeff_a", -0.75), bool(call.get("exclude_outside", 0)), call.get("extrapolation_value", 0.0),
    )  # fmt: skip
    policy = call.get("keep_aspect_ratio_policy", "stretch")
    return _resized(x, _axes(call.get("axes"), policy, how, x, roi, scales, sizes), how)


@op("Resize", since=10, kind=VALUES)
@op("Upsample", since=9, kind=VALUES)
def resize_old(call: Any, x: Value, scales: Value) -> Any:
    how = How(call.get("mode", "nearest"), "asymmetric", "simple", False, -0.75, False, 0.0)
    return _resized(x, _axes(None, "stretch", how, x, None, scales, None), how)


@op("Upsample", since=7, kind=VALUES)
def upsample_old(call: Any, x: Value) -> Any:
    return resize_old(call, x, Value(np.array(call.get("scales"), np.float32)))


def _axes(
    axes: Sequence[int] | None, policy: str, how: How, x: Value, roi: Value | None, scales: Value | None,
    sizes: Value | None,
) -> list[Axis]:  # fmt: skip
    """The axes that change. What decides on the first two axes may be known at run time alone: they are taken to stay
    as they are, and it is checked then."""
    if x.rank is None:
        raise ValueError("a tensor of a rank that is not known")
    held = shapes.numbers(x.held)
    own = held if x.order is None else [held[x.order.index(axis)] for axis in range(x.rank)]
    places = [axis % x.rank for axis in (axes if axes is not None else range(x.rank))]
    factors, wanted = _scalars(scales, len(places)), _scalars(sizes, len(places))
    if (factors is None) == (wanted is None):
        raise ValueError("neither or both of scales and sizes are given")
    parts = _scalars(roi, 2 * len(places)) if how.transformation == "tf_crop_and_resize" else None
    if wanted is not None:
        factors = [_single(w) / _single(own[p]) for w, p in zip(wanted, places, strict=True)]
        if policy != "stretch":
            wanted, factors = _kept([own[p] for p in places], factors, policy)
    assert factors is not None
    result = []
    for i, place in enumerate(places):
        size, scale = own[place], factors[i]
        new = _grown(size, scale) if wanted is None else wanted[i]
        taken = None if parts is None else (parts[i], parts[len(places) + i])
        axis = Axis(place, size, new, scale, taken, wanted is not None and policy == "stretch")
        if not _stays(axis, x.rank):
            result.append(axis)
    return result


def _scalars(value: Value | None, count: int) -> list[Any] | None:
    """The numbers of a list, each known by itself; None where it is left out or empty."""
    if value is None or value.shape == (0,):
        return None
    parts = parts_of(value)
    if parts is None:
        held = value.plain()
        parts = tuple(float(n) for n in held.reshape(-1)) if value.constant else tuple(held[i] for i in range(count))
    if len(parts) != count:
        raise ValueError(f"{len(parts)} numbers where there should be {count}")
    return list(parts)


def _single(number: Any) -> Any:
    return tf.cast(number, tf.float32) if tf.is_tensor(number) else np.float32(number)


def _grown(size: Part, scale: Any) -> Part:
    if not tf.is_tensor(scale) and float(scale).is_integer():
        return size * int(scale)
    new = _single(size) * _single(scale)
    return tf.cast(new, tf.int64) if tf.is_tensor(new) else int(new)


def _kept(own: Sequence[Part], factors: Sequence[Any], policy: str) -> tuple[list[Part], list[Any]]:
    """Sizes and factors where the proportions are kept: one factor for all axes."""
    if policy not in ("not_larger", "not_smaller"):
        raise ValueError(f"keep_aspect_ratio_policy {policy}")
    if any(tf.is_tensor(factor) for factor in factors):
        scale = (tf.reduce_min if policy == "not_larger" else tf.reduce_max)(tf.stack(list(factors)))
        return [tf.cast(tf.floor(_single(size) * scale + 0.5), tf.int64) for size in own], [scale] * len(own)
    scale = (min if policy == "not_larger" else max)(factors)
    return [int(np.floor(np.float32(size) * scale + np.float32(0.5))) for size in own], [scale] * len(own)


def _stays(axis: Axis, rank: int) -> bool:
    whole = axis.roi is None or (not any(tf.is_tensor(n) for n in axis.roi) and axis.roi == (0, 1))
    if axis.known:
        return axis.size == axis.wanted and math.isclose(axis.scale, 1, rel_tol=1e-6) and whole
    if not tf.is_tensor(axis.scale) and axis.scale == 1 and whole:
        return True
    if axis.place > 1 or rank < 3:
        return False
    tf.debugging.assert_equal(tf.cast(axis.wanted, tf.int64), tf.cast(axis.size, tf.int64))
    if axis.roi is not None:
        tf.debugging.assert_equal(tf.stack([tf.cast(n, tf.float32) for n in axis.roi]), [0.0, 1.0])
    return True


def _resized(x: Value, axes: Sequence[Axis], how: How) -> Any:
    if how.mode not in ("nearest", "linear", "bilinear", "trilinear", "cubic"):
        raise ValueError(f"mode {how.mode}")
    if how.transformation not in TRANSFORMATIONS or how.rounding not in ROUNDINGS:
        raise ValueError(f"{how.transformation} with {how.rounding}")
    if not axes:
        return x
    kernel = _kernel(x, axes, how)
    if kernel is not None:
        order = layout.channels_last(x.rank or 0)
        return Value(_by_kernel(tensor(x.ordered(order)), axes, *kernel), order)
    held, own = tensor(x.held), x.held.dtype
    if how.mode != "nearest" and own != tf.float64:
        held = tf.cast(held, tf.float32)
    own = tf.as_dtype(own)
    for axis in reversed(axes):
        place = axis.place if x.order is None else x.order.index(axis.place)
        held = _along(held, place, axis, how)
        if how.antialias and own.is_integer:  # as ONNX Runtime does: whole numbers after each axis
            held = tf.cast(tf.saturate_cast(tf.floor(held + 0.5), own), held.dtype)
    return Value(_back(held, own), x.order)


def _back(x: Any, dtype: Any) -> Any:
    if x.dtype == dtype:
        return x
    return tf.cast(x, dtype) if dtype.is_floating else tf.saturate_cast(x, dtype)


# By TensorFlow's kernels: [N, H, W, C], the coordinates told by align_corners and half_pixel_centers.


def _kernel(x: Value, axes: Sequence[Axis], how: How) -> tuple[bool, bool, bool] | None:
    """Whether to the nearest, align_corners and half_pixel_centers, if TensorFlow's kernel computes the same."""
    own = tf.as_dtype(x.dtype)
    if x.rank not in (3, 4, 5) or any(axis.place < 2 for axis in axes):
        return None
    if how.transformation == "tf_crop_and_resize" or own in (tf.bool, tf.uint32, tf.uint64, tf.string):
        return None
    if how.mode == "nearest":
        choices = [(False, False), (False, True), (True, False)]
        fitting = [choice for choice in choices if all(_same_places(axis, how, *choice) for axis in axes)]
        return (True, *fitting[0]) if fitting else None
    smaller = how.antialias and not all(not tf.is_tensor(axis.scale) and axis.scale >= 1 for axis in axes)
    if how.mode == "cubic" or smaller or own == tf.float64 or (how.antialias and own.is_integer):
        return None
    if how.transformation == "align_corners":
        return False, True, False
    if not all(axis.even for axis in axes):
        return None
    if how.transformation == "pytorch_half_pixel" and any(tf.is_tensor(a.wanted) or a.wanted == 1 for a in axes):
        return None
    return None if how.transformation == "tf_half_pixel_for_nn" else (False, False, how.transformation in HALF_PIXEL)


def _same_places(axis: Axis, how: How, align_corners: bool, half_pixel: bool) -> bool:
    """Whether the kernel takes the places that ONNX does, float32's roundings included."""
    if not axis.known:  # a power of two is exact in any order of the steps
        power = not tf.is_tensor(axis.scale) and axis.even and math.log2(axis.scale).is_integer()
        floor = how.rounding in ("floor", "simple")
        return power and floor and how.transformation == "asymmetric" and not align_corners and not half_pixel
    size, new = axis.size, axis.wanted
    aligned = align_corners and new > 1
    scale = np.float32(size - 1) / np.float32(new - 1) if aligned else np.float32(size) / np.float32(new)
    at = (np.arange(new, dtype=np.float32) + np.float32(0.5 if half_pixel else 0)) * scale
    places = np.floor(at.astype(np.float64) + 0.5) if align_corners else np.floor(at)
    return bool(np.array_equal(np.clip(places, 0, size - 1), _places(axis, how)))


def _by_kernel(x: Any, axes: Sequence[Axis], nearest: bool, align_corners: bool, half_pixel: bool) -> Any:
    sizes, own = shapes.numbers(x), x.dtype
    wanted = sizes[1:-1]
    for axis in axes:
        wanted[axis.place - 2] = axis.wanted

    def run(x: Any, size: Sequence[Part]) -> Any:
        size = tf.cast(shapes.as_tensor(size), tf.int32)
        image = tf.compat.v1.image
        function = image.resize_nearest_neighbor if nearest else image.resize_bilinear
        return function(x, size, align_corners=align_corners, half_pixel_centers=half_pixel)

    if len(wanted) == 1:
        x = run(x[:, None], [1, *wanted])[:, 0]
    elif len(wanted) == 2:
        x = run(x, wanted)
    else:  # first the last two axes, then the first with these as one
        (n, d, h, w, c), (front, height, width) = sizes, wanted
        x = run(tf.reshape(x, shapes.as_target([n * d, h, w, c])), [height, width])
        x = run(tf.reshape(x, shapes.as_target([n, d, height * width, c])), [front, height * width])
        x = tf.reshape(x, shapes.as_target([n, front, height, width, c]))
    return _back(x, own)


# From the definition, along one axis.


def _along(x: Any, place: int, axis: Axis, how: How) -> Any:
    across = [-1 if i == place else 1 for i in range(x.shape.rank)]
    if how.mode == "nearest":
        got = tf.gather(x, _worked_out(axis, lambda: _places(axis, how)), axis=place)
    elif how.antialias and (tf.is_tensor(axis.scale) or axis.scale < 1):
        weights = tf.cast(_worked_out(axis, lambda: _filter(axis, how)), x.dtype)
        got = _product(weights, x, place)
    else:
        places, weights = _worked_out(axis, lambda: _taps(axis, how))
        taps = [
            tf.gather(x, places[:, i], axis=place) * tf.reshape(tf.cast(weights[:, i], x.dtype), across)
            for i in range(places.shape[1])
        ]
        got = tf.add_n(taps)
    if how.transformation != "tf_crop_and_resize":
        return got

    def outside() -> Any:
        at = _coordinates(axis, how)
        return (at < 0) | (at > _single(axis.size) - 1)

    return tf.where(tf.reshape(_worked_out(axis, outside), across), tf.cast(how.extrapolation, got.dtype), got)


def _worked_out(axis: Axis, function: Any) -> Any:
    """At once, as arrays, where all that decides is known."""
    if not axis.known:
        return function()
    with tf.init_scope():
        got = function()
        return [np.asarray(one) for one in got] if isinstance(got, tuple) else np.asarray(got)


def _coordinates(axis: Axis, how: How) -> Any:
    """float32 [wanted]: where each element of the result lies in the input."""
    at = tf.cast(tf.range(axis.wanted), tf.float32)
    size, new, scale = (tf.cast(n, tf.float32) for n in (axis.size, axis.wanted, axis.scale))
    # Not by `/`: TensorFlow's optimiser makes a multiplication of a division by a constant, and rounds otherwise.
    over = tf.math.divide_no_nan
    match how.transformation:
        case "half_pixel":
            return over(at + 0.5, scale) - 0.5
        case "pytorch_half_pixel":
            return tf.where(new > 1, over(at + 0.5, scale) - 0.5, tf.zeros_like(at))
        case "half_pixel_symmetric":
            return size / 2 * (1 - over(new, scale * size)) + over(at + 0.5, scale) - 0.5
        case "align_corners":
            return over(at * (size - 1), new - 1)
        case "tf_half_pixel_for_nn":
            return over(at + 0.5, scale)
        case "tf_crop_and_resize":
            start, end = (tf.cast(n, tf.float32) for n in axis.roi or (0, 1))
            line = start * (size - 1) + over(at * (end - start) * (size - 1), new - 1)
            return tf.where(new > 1, line, tf.ones_like(at) * (0.5 * (start + end) * (size - 1)))
        case _:
            return over(at, scale)


def _places(axis: Axis, how: How) -> Any:
    """int64 [wanted]: the nearest elements."""
    at = tf.cast(_coordinates(axis, how), tf.float64)
    match how.rounding:
        case "floor":
            at = tf.floor(at)
        case "ceil":
            at = tf.math.ceil(at)
        case "round_prefer_floor":
            at = tf.math.ceil(at - 0.5)
        case "round_prefer_ceil":
            at = tf.floor(at + 0.5)
        case _:  # what versions without the attribute did
            at = tf.where(tf.cast(axis.scale, tf.float64) < 1, tf.math.ceil(at), tf.floor(at))
    return tf.clip_by_value(tf.cast(at, tf.int64), np.int64(0), tf.cast(axis.size, tf.int64) - 1)


def _taps(axis: Axis, how: How) -> tuple[Any, Any]:
    """[wanted, 2 or 4]: the elements that each element of the result is made of, and their weights."""
    at, last = _coordinates(axis, how), tf.cast(axis.size, tf.float32) - 1
    if how.mode != "cubic":
        at = tf.clip_by_value(at, 0.0, last)
    low = tf.floor(at)
    steps = tf.range(-1.0, 3.0) if how.mode == "cubic" else tf.range(0.0, 2.0)
    places = low[:, None] + steps
    weights = _weight((at - low)[:, None] - steps, how)
    if how.exclude_outside and how.mode == "cubic":
        weights = tf.where((places >= 0) & (places <= last), weights, tf.zeros_like(weights))
        weights /= tf.reduce_sum(weights, 1, keepdims=True)
    return tf.cast(tf.clip_by_value(places, 0.0, last), tf.int64), weights


def _filter(axis: Axis, how: How) -> Any:
    """[wanted, size]: the weights of all elements with a filter that is as much wider as the result is smaller."""
    at, size = _coordinates(axis, how), tf.cast(axis.size, tf.int64)
    narrow = tf.minimum(tf.cast(axis.scale, tf.float32), 1.0)
    beyond = tf.cast(tf.math.ceil(2 / narrow), tf.int64) + 1
    places = tf.range(-beyond, size + beyond)
    weights = _weight((tf.cast(places, tf.float32) - at[:, None]) * narrow, how)
    if how.exclude_outside:
        weights = tf.where((places >= 0) & (places < size), weights, tf.zeros_like(weights))
    weights = tf.math.divide_no_nan(weights, tf.reduce_sum(weights, 1, keepdims=True))
    return weights @ tf.one_hot(tf.clip_by_value(places, np.int64(0), size - 1), tf.cast(size, tf.int32))


def _weight(distance: Any, how: How) -> Any:
    return cubic(distance, how.cubic) if how.mode == "cubic" else tf.maximum(1 - tf.abs(distance), 0.0)


def cubic(distance: Any, a: float) -> Any:
    """How much an element counts at a distance, by Keys' cubic convolution."""
    x = tf.abs(distance)
    near, far = ((a + 2) * x - (a + 3)) * x * x + 1, ((a * x - 5 * a) * x + 8 * a) * x - 4 * a
    return tf.where(x <= 1, near, tf.where(x < 2, far, tf.zeros_like(x)))


def _product(weights: Any, x: Any, place: int) -> Any:
    """A matrix [wanted, size] applied along an axis."""
    sizes = shapes.numbers(x)
    after = math.prod(sizes[place + 1 :])
    flat = tf.reshape(x, shapes.as_target([math.prod(sizes[:place]), sizes[place], after]))
    new = shapes.numbers(weights)[0]
    return tf.reshape(weights @ flat, shapes.as_target([*sizes[:place], new, *sizes[place + 1 :]]))
