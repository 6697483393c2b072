"""Element types: ONNX's numbers for them, and wider types where TensorFlow has no kernel for one."""

from collections.abc import Callable
from typing import Any

import numpy as np
import onnx
import tensorflow as tf


def of(number: int) -> Any:
    """The TensorFlow type for ONNX's element type. Raises ValueError if TensorFlow has none."""
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
    """Decorates an operator without an exact kernel for `dtypes`: computes those in `wider` and casts the result back.

    Only valid if `wider` represents every value of the type, and the result does not depend on the width or is rounded
    once where the type's own kernel rounds each step.
    """

    def wrap(function: Callable[..., Any]) -> Callable[..., Any]:
        def widened(call: Any, *inputs: Any) -> Any:
            dtype = tf.as_dtype(next(x.dtype for x in inputs if x is not None))
            if dtype not in dtypes:
                return function(call, *inputs)
            wide = [x if x is None or tf.as_dtype(x.dtype) != dtype else tf.cast(x, wider) for x in inputs]
            result = function(call, *wide)
            return [tf.cast(x, dtype) for x in result] if isinstance(result, list) else tf.cast(result, dtype)

        return widened

    return wrap


SMALL = (tf.int8, tf.uint8, tf.int16, tf.uint16)
HALVES = (tf.float16, tf.bfloat16)


def scalar(value: float, like: Any) -> Any:
    """A number as an array with the dtype of `like`."""
    return np.asarray(value, tf.as_dtype(like.dtype).as_numpy_dtype)
