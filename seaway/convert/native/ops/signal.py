"""Fourier transforms, and what is used with them."""

from typing import Any

import numpy as np
import tensorflow as tf

from seaway.convert.native import dtypes
from seaway.convert.native.dtypes import HALVES, tensor
from seaway.convert.native.table import op


@op("DFT", since=20)
def dft(call: Any, x: Any, length: Any = None, axis: Any = None) -> Any:
    known = axis is None or isinstance(axis, np.ndarray)
    place = (-2 if axis is None else int(axis.reshape(-1)[0])) if known else tf.cast(tf.reshape(axis, []), tf.int32)
    return _dft(call, tensor(x), length, place)


@op("DFT", since=17)
def dft_old(call: Any, x: Any, length: Any = None) -> Any:
    return _dft(call, tensor(x), length, call.get("axis", 1))


def _dft(call: Any, x: Any, length: Any, axis: Any) -> Any:
    """[..., 1 or 2], real or complex, along an axis that is not the last."""
    places, back = _last(axis, x.shape.rank)
    turned = tf.transpose(_signal(x), places)
    inverse, onesided = bool(call.get("inverse", 0)), bool(call.get("onesided", 0))
    if inverse and onesided:
        got = _real_inverse(_as_complex(turned), length)
        return tf.cast(tf.transpose(got, back)[..., None], x.dtype)
    turned = turned if length is None else _sized(turned, length)
    got = tf.signal.ifft(_as_complex(turned)) if inverse else _transformed(turned, onesided)
    return _pairs(tf.transpose(got, back), x.dtype)


def _last(axis: Any, rank: int) -> tuple[Any, Any]:
    """The orders that bring an axis to the end, the last being gone, and back."""
    if isinstance(axis, int):
        axis = axis + rank if axis < 0 else axis
        places = [*(i for i in range(rank - 1) if i != axis), axis]
        return places, [places.index(i) for i in range(rank - 1)]
    axis = tf.where(axis < 0, axis + rank, axis)
    every = tf.range(rank - 1)
    order = tf.ensure_shape(tf.concat([tf.boolean_mask(every, every != axis), axis[None]], 0), [rank - 1])
    return order, tf.math.invert_permutation(order)


def _transformed(x: Any, onesided: bool) -> Any:
    """Along the last axis. Of a real signal the second half mirrors the first."""
    if x.dtype.is_complex:
        got = tf.signal.fft(x)
        return got[..., : tf.shape(got)[-1] // 2 + 1] if onesided else got
    half = tf.signal.rfft(x)
    if onesided:
        return half
    mirrored = half[..., 1 : (tf.shape(x)[-1] + 1) // 2]
    return tf.concat([half, tf.math.conj(tf.reverse(mirrored, [-1]))], -1)


def _signal(x: Any) -> Any:
    """Without the last axis, which says whether it is real or complex."""
    parts = x.shape[-1]
    if parts not in (1, 2):
        raise ValueError("whether the signal is real or complex is not known: its last axis must be 1 or 2")
    wide = tf.cast(x, tf.float32) if x.dtype in HALVES else x
    return wide[..., 0] if parts == 1 else tf.complex(wide[..., 0], wide[..., 1])


def _as_complex(x: Any) -> Any:
    return x if x.dtype.is_complex else tf.complex(x, tf.zeros_like(x))


def _pairs(x: Any, wanted: Any) -> Any:
    return tf.cast(tf.stack([tf.math.real(x), tf.math.imag(x)], -1), wanted)


def _sized(x: Any, length: Any) -> Any:
    """The last axis cut, or filled up with zeros."""
    length = int(length.reshape(-1)[0]) if isinstance(length, np.ndarray) else tf.cast(tf.reshape(length, []), tf.int32)
    x = x[..., :length]
    more = tf.maximum(length - tf.shape(x)[-1], 0)
    return tf.pad(x, tf.concat([tf.zeros([x.shape.rank - 1, 2], tf.int32), [[0, more]]], 0))


def _real_inverse(x: Any, length: Any) -> Any:
    count = 2 * (tf.shape(x)[-1] - 1) if length is None else tf.cast(tf.reshape(length, []), tf.int32)
    return tf.signal.irfft(_sized(x, count // 2 + 1), tf.reshape(count, [1]))


@op("STFT")
def stft(call: Any, x: Any, step: Any, window: Any = None, length: Any = None) -> Any:
    """[batch, samples, 1 or 2] → [batch, frames, frequencies, 2]."""
    x = tensor(x)
    if window is None and length is None:
        raise ValueError("neither a window nor a length of frames")
    count = tf.shape(window)[0] if length is None else tf.cast(tf.reshape(length, []), tf.int32)
    if isinstance(length, np.ndarray):
        count = int(length.reshape(-1)[0])
    step = tf.cast(tf.reshape(step, []), tf.int32)
    signal = _signal(x if x.shape.rank > 2 else x[..., None])
    frames = tf.signal.frame(signal, count, step, axis=1)
    frames = frames if window is None else frames * tf.cast(window, frames.dtype)
    return _pairs(_transformed(frames, bool(call.get("onesided", 1))), x.dtype)


@op("MelWeightMatrix")
def mel(call: Any, count: Any, length: Any, rate: Any, lowest: Any, highest: Any) -> Any:
    """[frequencies, bins]: triangles, equally wide on the mel scale."""
    wanted = dtypes.of(call.get("output_datatype", 1))
    count, length, rate = (tf.cast(tf.reshape(v, []), tf.int64) for v in (count, length, rate))
    low, high = (_mel(tf.cast(tf.reshape(v, []), tf.float64)) for v in (lowest, highest))
    places = tf.range(count + 2)
    hertz = low + tf.cast(places, tf.float64) * (high - low) / tf.cast(count + 2, tf.float64)
    hertz = 700 * (tf.pow(tf.constant(10.0, tf.float64), hertz / 2595) - 1)
    bins = tf.cast(tf.floor(tf.cast(length + 1, tf.float64) * hertz / tf.cast(rate, tf.float64)), tf.int64)
    left, centre, right = bins[:-2], bins[1:-1], bins[2:]
    rows = tf.range(length // 2 + 1)[:, None]
    rising = tf.where(left == centre, tf.ones([], tf.float64), _share(rows - left, centre - left))
    rising = tf.where(tf.logical_and(rows >= left, rows <= centre), rising, tf.zeros([], tf.float64))
    falling = tf.logical_and(rows >= centre, rows < right)
    return tf.cast(tf.where(falling, _share(right - rows, right - centre), rising), wanted)


def _mel(hertz: Any) -> Any:
    return 2595 * tf.math.log(1 + hertz / 700) / np.log(10.0)


def _share(part: Any, whole: Any) -> Any:
    return tf.math.divide_no_nan(tf.cast(part, tf.float64), tf.cast(whole, tf.float64))
