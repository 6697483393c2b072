"""Random numbers. They are drawn anew at each call; a seed fixes TensorFlow's own sequence, not another runtime's."""

from typing import Any

import tensorflow as tf

from seaway.convert.native import dtypes, shapes
from seaway.convert.native.dtypes import tensor
from seaway.convert.native.table import op


def _seed(call: Any) -> int | None:
    seed = call.get("seed")
    return None if seed is None else int(seed)


def _drawn(call: Any, sizes: Any, wanted: Any) -> Any:
    if not wanted.is_floating:
        raise ValueError(f"random numbers of type {wanted.name}")
    wide = tf.float64 if wanted == tf.float64 else tf.float32
    if "Normal" in call.node.op:
        mean, scale = call.get("mean", 0.0), call.get("scale", 1.0)
        return tf.cast(tf.random.normal(sizes, mean, scale, wide, _seed(call)), wanted)
    low, high = call.get("low", 0.0), call.get("high", 1.0)
    return tf.cast(tf.random.uniform(sizes, low, high, wide, _seed(call)), wanted)


@op("RandomNormal", "RandomUniform", foldable=False)
def random(call: Any) -> Any:
    return _drawn(call, call.get("shape"), dtypes.of(call.get("dtype", 1)))


@op("RandomNormalLike", "RandomUniformLike", foldable=False)
def random_like(call: Any, x: Any) -> Any:
    wanted = dtypes.of(call.get("dtype")) if call.get("dtype") else tf.as_dtype(x.dtype)
    return _drawn(call, _sizes(x), wanted)


def _sizes(x: Any) -> Any:
    return shapes.as_tensor(shapes.numbers(x))


@op("Bernoulli", foldable=False)
def bernoulli(call: Any, x: Any) -> Any:
    x = tensor(x)
    wanted = dtypes.of(call.get("dtype")) if call.get("dtype") else x.dtype
    wide = tf.float64 if x.dtype == tf.float64 else tf.float32
    return tf.cast(tf.random.uniform(_sizes(x), dtype=wide, seed=_seed(call)) < tf.cast(x, wide), wanted)


@op("Multinomial", foldable=False)
def multinomial(call: Any, x: Any) -> Any:
    """`x` holds log probabilities, which need not add up to one."""
    wanted = dtypes.of(call.get("dtype", 6))
    x = tensor(x)
    wide = tf.cast(x, tf.float32) if x.dtype in dtypes.HALVES else x
    return tf.random.categorical(wide, call.get("sample_size", 1), wanted, _seed(call))
