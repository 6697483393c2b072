"""Random numbers, drawn anew at each call. A seed fixes TensorFlow's sequence, which differs from other runtimes'."""

from typing import Any

import tensorflow as tf

from seaway.convert.native import dtypes, shapes
from seaway.convert.native.dtypes import tensor
from seaway.convert.native.registry import op


def _seed(call: Any) -> int | None:
    seed = call.get("seed")
    return None if seed is None else int(seed)


def _random(call: Any, sizes: Any, dtype: Any) -> Any:
    if not dtype.is_floating:
        raise ValueError(f"random numbers of type {dtype.name}")
    compute_dtype = tf.float64 if dtype == tf.float64 else tf.float32
    if "Normal" in call.node.op:
        mean, scale = call.get("mean", 0.0), call.get("scale", 1.0)
        return tf.cast(tf.random.normal(sizes, mean, scale, compute_dtype, _seed(call)), dtype)
    low, high = call.get("low", 0.0), call.get("high", 1.0)
    return tf.cast(tf.random.uniform(sizes, low, high, compute_dtype, _seed(call)), dtype)


@op("RandomNormal", "RandomUniform", foldable=False)
def random(call: Any) -> Any:
    return _random(call, call.get("shape"), dtypes.of(call.get("dtype", 1)))


@op("RandomNormalLike", "RandomUniformLike", foldable=False)
def random_like(call: Any, x: Any) -> Any:
    dtype = dtypes.of(call.get("dtype")) if call.get("dtype") else tf.as_dtype(x.dtype)
    return _random(call, _shape_of(x), dtype)


def _shape_of(x: Any) -> Any:
    return shapes.as_tensor(shapes.shape_dims(x))


@op("Bernoulli", foldable=False)
def bernoulli(call: Any, x: Any) -> Any:
    x = tensor(x)
    dtype = dtypes.of(call.get("dtype")) if call.get("dtype") else x.dtype
    compute_dtype = tf.float64 if x.dtype == tf.float64 else tf.float32
    return tf.cast(
        tf.random.uniform(_shape_of(x), dtype=compute_dtype, seed=_seed(call)) < tf.cast(x, compute_dtype), dtype
    )


@op("Multinomial", foldable=False)
def multinomial(call: Any, x: Any) -> Any:
    """`x` holds unnormalized log probabilities."""
    dtype = dtypes.of(call.get("dtype", 6))
    x = tensor(x)
    floats = tf.cast(x, tf.float32) if x.dtype in dtypes.HALVES else x
    return tf.random.categorical(floats, call.get("sample_size", 1), dtype, _seed(call))
