"""BitCast: the same bits as another element type."""

from typing import Any

import tensorflow as tf

from seaway.convert.native import dtypes
from seaway.convert.native.dtypes import tensor
from seaway.convert.native.registry import op


@op("BitCast")
def bit_cast(call: Any, x: Any) -> Any:
    x, target = tensor(x), dtypes.of(call.get("to"))
    x = tf.cast(x, tf.uint8) if x.dtype == tf.bool else x
    if target == tf.bool:
        return tf.not_equal(x, tf.zeros_like(x))
    if x.dtype.size != target.size:
        raise ValueError(f"{x.dtype.name} and {target.name} are not of the same size")
    return tf.bitcast(x, target)
