"""DFT, STFT and MelWeightMatrix."""

from typing import Any

import numpy as np
import tensorflow as tf

from seaway.convert.native import dtypes
from seaway.convert.native.dtypes import HALVES, tensor
from seaway.convert.native.registry import op


@op("DFT", since=20)
def dft(call: Any, x: Any, length: Any = None, axis: Any = None) -> Any:
    is_static = axis is None or isinstance(axis, np.ndarray)
    axis_index = (
        (-2 if axis is None else int(axis.reshape(-1)[0])) if is_static else tf.cast(tf.reshape(axis, []), tf.int32)
    )
    return _dft(call, tensor(x), length, axis_index)


@op("DFT", since=17)
def dft_old(call: Any, x: Any, length: Any = None) -> Any:
    return _dft(call, tensor(x), length, call.get("axis", 1))


def _dft(call: Any, x: Any, length: Any, axis: Any) -> Any:
    """Transforms [..., 1 or 2] (real or complex) along an axis other than the last."""
    perm, inverse_perm = _to_last(axis, x.shape.rank)
    transposed = tf.transpose(_signal(x), perm)
    inverse, onesided = bool(call.get("inverse", 0)), bool(call.get("onesided", 0))
    if inverse and onesided:
        result = _real_inverse(_as_complex(transposed), length)
        return tf.cast(tf.transpose(result, inverse_perm)[..., None], x.dtype)
    transposed = transposed if length is None else _with_length(transposed, length)
    result = tf.signal.ifft(_as_complex(transposed)) if inverse else _transformed(transposed, onesided)
    return _real_imag(tf.transpose(result, inverse_perm), x.dtype)


def _to_last(axis: Any, rank: int) -> tuple[Any, Any]:
    """The permutation that moves an axis to the end, once the last axis is gone, and its inverse."""
    if isinstance(axis, int):
        axis = axis + rank if axis < 0 else axis
        perm = [*(i for i in range(rank - 1) if i != axis), axis]
        return perm, [perm.index(i) for i in range(rank - 1)]
    axis = tf.where(axis < 0, axis + rank, axis)
    every = tf.range(rank - 1)
    order = tf.ensure_shape(tf.concat([tf.boolean_mask(every, every != axis), axis[None]], 0), [rank - 1])
    return order, tf.math.invert_permutation(order)


def _transformed(x: Any, onesided: bool) -> Any:
    """The DFT along the last axis. For a real signal the second half mirrors the first."""
    if x.dtype.is_complex:
        result = tf.signal.fft(x)
        return result[..., : tf.shape(result)[-1] // 2 + 1] if onesided else result
    half = tf.signal.rfft(x)
    if onesided:
        return half
    mirrored = half[..., 1 : (tf.shape(x)[-1] + 1) // 2]
    return tf.concat([half, tf.math.conj(tf.reverse(mirrored, [-1]))], -1)


def _signal(x: Any) -> Any:
    """The signal without its last axis, whose size says whether it is real or complex."""
    components = x.shape[-1]
    if components not in (1, 2):
        raise ValueError("cannot tell whether the signal is real or complex: its last axis must be 1 or 2")
    floats = tf.cast(x, tf.float32) if x.dtype in HALVES else x
    return floats[..., 0] if components == 1 else tf.complex(floats[..., 0], floats[..., 1])


def _as_complex(x: Any) -> Any:
    return x if x.dtype.is_complex else tf.complex(x, tf.zeros_like(x))


def _real_imag(x: Any, dtype: Any) -> Any:
    return tf.cast(tf.stack([tf.math.real(x), tf.math.imag(x)], -1), dtype)


def _with_length(x: Any, length: Any) -> Any:
    """Crops the last axis, or pads it with zeros."""
    length = int(length.reshape(-1)[0]) if isinstance(length, np.ndarray) else tf.cast(tf.reshape(length, []), tf.int32)
    x = x[..., :length]
    padding = tf.maximum(length - tf.shape(x)[-1], 0)
    return tf.pad(x, tf.concat([tf.zeros([x.shape.rank - 1, 2], tf.int32), [[0, padding]]], 0))


def _real_inverse(x: Any, length: Any) -> Any:
    count = 2 * (tf.shape(x)[-1] - 1) if length is None else tf.cast(tf.reshape(length, []), tf.int32)
    return tf.signal.irfft(_with_length(x, count // 2 + 1), tf.reshape(count, [1]))


@op("STFT")
def stft(call: Any, x: Any, step: Any, window: Any = None, length: Any = None) -> Any:
    """[batch, samples, 1 or 2] → [batch, frames, frequencies, 2]."""
    x = tensor(x)
    if window is None and length is None:
        raise ValueError("neither a window nor a frame length")
    count = tf.shape(window)[0] if length is None else tf.cast(tf.reshape(length, []), tf.int32)
    if isinstance(length, np.ndarray):
        count = int(length.reshape(-1)[0])
    step = tf.cast(tf.reshape(step, []), tf.int32)
    signal = _signal(x if x.shape.rank > 2 else x[..., None])
    frames = tf.signal.frame(signal, count, step, axis=1)
    frames = frames if window is None else frames * tf.cast(window, frames.dtype)
    return _real_imag(_transformed(frames, bool(call.get("onesided", 1))), x.dtype)


@op("MelWeightMatrix")
def mel(call: Any, count: Any, length: Any, rate: Any, lowest: Any, highest: Any) -> Any:
    """[frequencies, bins]: triangular filters of equal width on the mel scale."""
    dtype = dtypes.of(call.get("output_datatype", 1))
    count, length, rate = (tf.cast(tf.reshape(v, []), tf.int64) for v in (count, length, rate))
    low, high = (_mel(tf.cast(tf.reshape(v, []), tf.float64)) for v in (lowest, highest))
    points = tf.range(count + 2)
    hertz = low + tf.cast(points, tf.float64) * (high - low) / tf.cast(count + 2, tf.float64)
    hertz = 700 * (tf.pow(tf.constant(10.0, tf.float64), hertz / 2595) - 1)
    bins = tf.cast(tf.floor(tf.cast(length + 1, tf.float64) * hertz / tf.cast(rate, tf.float64)), tf.int64)
    left, centre, right = bins[:-2], bins[1:-1], bins[2:]
    rows = tf.range(length // 2 + 1)[:, None]
    rising = tf.where(left == centre, tf.ones([], tf.float64), _ratio(rows - left, centre - left))
    rising = tf.where(tf.logical_and(rows >= left, rows <= centre), rising, tf.zeros([], tf.float64))
    falling = tf.logical_and(rows >= centre, rows < right)
    return tf.cast(tf.where(falling, _ratio(right - rows, right - centre), rising), dtype)


def _mel(hertz: Any) -> Any:
    return 2595 * tf.math.log(1 + hertz / 700) / np.log(10.0)


def _ratio(numerator: Any, denominator: Any) -> Any:
    return tf.math.divide_no_nan(tf.cast(numerator, tf.float64), tf.cast(denominator, tf.float64))
