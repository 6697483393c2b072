"""Fourier transforms, and what is used with them."""

from typing import Any

import numpy as np
import tensorflow as tf

from components.convert.native import dtypes
from components.convert.native.dtypes import HALVES, tensor
from components.convert.native.table import op


@op("DFT", since=20)
def dft(call: Any, x: Any, length: Any = None, axis: Any = None) -> Any:
    if axis is not None and not isinstance(axis, np.ndarray):
        raise ValueError("an axis that is known at run time alone")
    return _dft(call, tensor(x), length, -2 if axis is None else int(axis.reshape(-1)[0]))


@op("DFT", since=17)
def dft_old(call: Any, x: Any, length: Any = None) -> Any:
    return _dft(call, tensor(x), length, call.get("axis", 1))


def _dft(call: Any, x: Any, length: Any, axis: int) -> Any:
    """[..., 1 or 2], real or complex, along an axis that is not the last."""
    rank = x.shape.rank
    axis = axis + rank if axis < 0 else axis
    places = [*(i for i in range(rank) if i not in (axis, rank - 1)), axis]
    back = [places.index(i) for i in range(rank - 1)]
    values = _complex(x)
    turned = tf.transpose(values, places)
    inverse, onesided = bool(call.get("inverse", 0)), bool(call.get("onesided", 0))
    if inverse and onesided:
        got = _real_inverse(turned, length)
        return tf.cast(tf.transpose(got, back)[..., None], x.dtype)
    turned = turned if length is None else _sized(turned, length)
    got = tf.signal.ifft(turned) if inverse else tf.signal.fft(turned)
    got = got[..., : tf.shape(got)[-1] // 2 + 1] if onesided else got
    return _pairs(tf.transpose(got, back), x.dtype)


def _complex(x: Any) -> Any:
    parts = x.shape[-1]
    if parts not in (1, 2):
        raise ValueError("whether the signal is real or complex is not known: its last axis must be 1 or 2")
    wide = tf.cast(x, tf.float32) if x.dtype in HALVES else x
    return tf.complex(wide[..., 0], tf.zeros_like(wide[..., 0]) if parts == 1 else wide[..., 1])


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
    signal = x if x.shape.rank == 2 else _complex(x)
    parts = [signal] if x.shape.rank == 2 or x.shape[-1] == 1 else [tf.math.real(signal), tf.math.imag(signal)]
    frames = [tf.signal.frame(tf.math.real(part), count, step, axis=1) for part in parts]
    if window is not None:
        frames = [frame * tf.cast(window, frame.dtype) for frame in frames]
    onesided = bool(call.get("onesided", 1))
    if len(frames) == 1 and onesided:
        return _pairs(tf.signal.rfft(frames[0]), x.dtype)
    got = tf.signal.fft(tf.complex(frames[0], tf.zeros_like(frames[0]) if len(frames) == 1 else frames[1]))
    got = got[..., : tf.shape(got)[-1] // 2 + 1] if onesided else got
    return _pairs(got, x.dtype)


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
