"""Writes the tiny SavedModels that the tests serve; run as a program, so that no test process imports TensorFlow.

half/1, half/2   y = x/2 + 2 and x/2 + 3, and the same of tf.Examples as a regression and a classification
centred/1        y = x - mean(x): a row's output depends on its batch
multi/7          two inputs, three outputs of different types and ranks
every/1          one input and output of each type that GraphPipe has
types/1          one signature for each type and shape that JSON must carry
hard/1           `conv` kills the process on an input of rank 1, `fatal` unless `sizes` has 4 elements; `slow` takes
                 the given number of steps
"""

import sys
from pathlib import Path

import tensorflow as tf
from tensorflow.core.protobuf import saved_model_pb2

FLOATS = tf.TensorSpec([None], tf.float32, name="x")
EXAMPLES = tf.TensorSpec([None], tf.string, name="inputs")
METHODS = {"regress_x_to_y": "tensorflow/serving/regress", "classify_x_to_y": "tensorflow/serving/classify"}


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

    @signature(EXAMPLES)
    def regress(self, inputs):
        return {"outputs": self.of_examples(inputs)}

    @signature(EXAMPLES)
    def classify(self, inputs):
        return {"scores": self.of_examples(inputs)}

    def of_examples(self, inputs):
        wanted = tf.io.FixedLenFeature([1], tf.float32, default_value=[0.0])
        return self.half * tf.io.parse_example(inputs, {"x": wanted})["x"] + self.offset


class Centred(tf.Module):
    @signature(FLOATS)
    def serve(self, x):
        return {"y": x - tf.reduce_mean(x)}


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
        return {"y": tf.reduce_sum(self.convolved(x))}

    @signature(tf.TensorSpec([None], tf.int32, name="sizes"))
    def fatal(self, sizes):
        return {"y": tf.reduce_sum(self.convolved(tf.ones(sizes)))}

    def convolved(self, x):
        # This operator kills the process on a wrong rank on every kind of CPU.
        pads = tf.zeros([4, 2], tf.int32)
        return tf.raw_ops.FusedPadConv2D(
            input=x, paddings=pads, filter=self.weights, mode="REFLECT", strides=[1, 1, 1, 1], padding="VALID"
        )

    @signature(tf.TensorSpec([None], tf.int32, name="steps"))
    def slow(self, steps):
        square = tf.ones([64, 64])
        total = tf.while_loop(
            lambda i, _: i < tf.reduce_max(steps), lambda i, s: (i + 1, tf.linalg.l2_normalize(s @ square)), (0, square)
        )
        return {"y": tf.cast(steps, tf.float32) + 0 * tf.reduce_sum(total[1])}


def every() -> tuple[tf.Module, dict[str, tf.types.experimental.ConcreteFunction]]:
    names = ("uint8", "int8", "uint16", "int16", "uint32", "int32", "uint64", "int64", "float16", "float32", "float64")
    specs = [tf.TensorSpec([None, 2], tf.as_dtype(name), name=f"in_{name}") for name in (*names, "string")]
    module = tf.Module()
    module.echo = tf.function(
        lambda *arrays: {f"out_{array.dtype.name}": tf.identity(array) for array in arrays}, input_signature=specs
    )
    return module, {"serving_default": module.echo.get_concrete_function()}


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


def name_methods(path: Path) -> None:
    """Sets the methods: TensorFlow 2 always writes "predict"."""
    model = saved_model_pb2.SavedModel.FromString(path.read_bytes())
    for name, method in METHODS.items():
        model.meta_graphs[0].signature_def[name].method_name = method
    path.write_bytes(model.SerializeToString(deterministic=True))


def main(out: Path) -> None:
    for version, offset in ((1, 2.0), (2, 3.0)):
        half = HalfPlus(offset)
        save = {"serving_default": half.serve, "twice": half.twice}
        save |= {"regress_x_to_y": half.regress, "classify_x_to_y": half.classify}
        tf.saved_model.save(half, str(out / "half" / str(version)), signatures=save)
        name_methods(out / "half" / str(version) / "saved_model.pb")
    multi, hard, centred = Multi(), Hard(), Centred()
    tf.saved_model.save(centred, str(out / "centred" / "1"), signatures={"serving_default": centred.serve})
    tf.saved_model.save(multi, str(out / "multi" / "7"), signatures={"serving_default": multi.serve})
    module, signatures = every()
    tf.saved_model.save(module, str(out / "every" / "1"), signatures=signatures)
    module, signatures = types()
    tf.saved_model.save(module, str(out / "types" / "1"), signatures=signatures)
    tf.saved_model.save(
        hard, str(out / "hard" / "1"), signatures={"conv": hard.conv, "fatal": hard.fatal, "slow": hard.slow}
    )


main(Path(sys.argv[1]))
