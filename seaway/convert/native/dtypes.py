"""Element types: ONNX's numbers for them, and what to do where TensorFlow has no kernel for one."""

from collections.abc import Callable
from typing import Any

import numpy as np
import onnx
import tensorflow as tf


def of(number: int) -> Any:
    """ONNX's element type as TensorFlow's. Raises ValueError for one that TensorFlow does not have."""
    if number == onnx.TensorProto.STRING:
        return tf.string
    try:
        return tf.as_dtype(onnx.helper.tensor_dtype_to_np_dtype(number))
    except (TypeError, KeyError):
        name = onnx.TensorProto.DataType.Name(number)
        raise ValueError(f"TensorFlow has no element type {name}") from None


def tensor(value: Any) -> Any:
    """An array or tensor as a tensor."""
    return tf.convert_to_tensor(value)


def through(wider: Any, *dtypes: Any) -> Callable[[Callable[..., Any]], Callable[..., Any]]:
    """For operators without a kernel for some types: those are computed in `wider` and cast back.

    Only where every value of the type is one of `wider` and the result does not depend on its width.
    """

    def wrap(function: Callable[..., Any]) -> Callable[..., Any]:
        def widened(call: Any, *given: Any) -> Any:
            own = tf.as_dtype(next(g.dtype for g in given if g is not None))
            if own not in dtypes:
                return function(call, *given)
            wide = [g if g is None or tf.as_dtype(g.dtype) != own else tf.cast(g, wider) for g in given]
            got = function(call, *wide)
            return [tf.cast(g, own) for g in got] if isinstance(got, list) else tf.cast(got, own)

        return widened

    return wrap


SMALL = (tf.int8, tf.uint8, tf.int16, tf.uint16)
HALVES = (tf.float16, tf.bfloat16)


def scalar(value: float, like: Any) -> Any:
    """A number as an array of the type of a tensor or array."""
    return np.asarray(value, tf.as_dtype(like.dtype).as_numpy_dtype)
