"""Writes the tiny SavedModels that the tests serve; run as a program, so that no test process holds TensorFlow.

half/1, half/2   y = x/2 + 2 and x/2 + 3
multi/7          two inputs, three outputs of different types and ranks
types/1          one signature for each type and shape that JSON must carry
hard/1           `conv` ends the process on an input of rank 1; `slow` takes as many steps as it is told
"""

import sys
from pathlib import Path

import tensorflow as tf

FLOATS = tf.TensorSpec([None], tf.float32, name="x")


def signature(*specs: tf.TensorSpec):
    return lambda method: tf.function(method, input_signature=specs)


class HalfPlus(tf.Module):
    def __init__(self, offset: float) -> None:
        super().__init__()
        self.half, self.offset = tf.Variable(0.5), tf.Variable(offset)

    @signature(FLOATS)
    def serve(self, x):
        return {"y": self.half * x + self.offset}

    @signature(FLOATS)
    def twice(self, x):
        return {"double": 2 * x}


class Multi(tf.Module):
    @signature(tf.TensorSpec([None, 2], tf.float32, name="a"), tf.TensorSpec([None], tf.int32, name="b"))
    def serve(self, a, b):
        total = tf.reduce_sum(a, 1) + tf.cast(b, tf.float32)
        return {"sum": total, "label": tf.strings.as_string(b), "pair": tf.stack([total, -total], 1)}


class Hard(tf.Module):
    def __init__(self) -> None:
        super().__init__()
        self.weights = tf.Variable(tf.ones([3, 3, 1, 2]))

    @signature(tf.TensorSpec([None, 4, 4, 1], tf.float32, name="x"))
    def conv(self, x):
        return {"y": tf.reduce_sum(tf.nn.conv2d(x, self.weights, 1, "SAME"), [1, 2, 3])}

    @signature(tf.TensorSpec([None], tf.int32, name="steps"))
    def slow(self, steps):
        square = tf.ones([64, 64])
        total = tf.while_loop(
            lambda i, _: i < tf.reduce_max(steps), lambda i, s: (i + 1, tf.linalg.l2_normalize(s @ square)), (0, square)
        )
        return {"y": tf.cast(steps, tf.float32) + 0 * tf.reduce_sum(total[1])}


def types() -> tuple[tf.Module, dict[str, tf.types.experimental.ConcreteFunction]]:
    module, made = tf.Module(), {}

    def add(name, dtype, work, shape=None):
        function = tf.function(work, input_signature=[tf.TensorSpec(shape, dtype, name="x")])
        setattr(module, name, function)
        made[name] = function.get_concrete_function()

    for dtype in (tf.int64, tf.uint8, tf.int8, tf.uint32, tf.uint16, tf.float64, tf.float32, tf.float16):
        add(dtype.name, dtype, lambda x: {"y": tf.identity(x)})
    add("bool", tf.bool, lambda x: {"y": tf.logical_not(x)})
    add("strings", tf.string, lambda x: {"out": tf.identity(x), "out_bytes": tf.identity(x)})
    add("total", tf.float32, lambda x: {"y": tf.reduce_sum(x)})
    add("log", tf.float32, lambda x: {"y": tf.math.log(x)})
    add("shaped", tf.float32, lambda x: {"y": tf.reduce_sum(x, [1, 2])}, [None, 2, 3])
    return module, made


def main(out: Path) -> None:
    for version, offset in ((1, 2.0), (2, 3.0)):
        half = HalfPlus(offset)
        save = {"serving_default": half.serve, "twice": half.twice}
        tf.saved_model.save(half, str(out / "half" / str(version)), signatures=save)
    multi, hard = Multi(), Hard()
    tf.saved_model.save(multi, str(out / "multi" / "7"), signatures={"serving_default": multi.serve})
    module, signatures = types()
    tf.saved_model.save(module, str(out / "types" / "1"), signatures=signatures)
    tf.saved_model.save(hard, str(out / "hard" / "1"), signatures={"conv": hard.conv, "slow": hard.slow})


main(Path(sys.argv[1]))
