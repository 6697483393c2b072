"""Writes the SavedModels behind the recorded responses of TensorFlow Serving: make_models.py OUT_DIR

half/1, half/2 (y = x/2 + 2 and x/2 + 3), multi/7 and types/1. Needs TensorFlow 2.20 or later.
"""

import sys
from pathlib import Path

import tensorflow as tf
from tensorflow.core.protobuf import saved_model_pb2


def signature(*specs):
    return lambda method: tf.function(method, input_signature=specs)


def sole(dtype, shape=None, name="x"):
    return signature(tf.TensorSpec(shape, dtype, name=name))


EXAMPLES = sole(tf.string, [None], "inputs")


class Half(tf.Module):
    def __init__(self, offset):
        super().__init__()
        self.a, self.b = tf.Variable(0.5), tf.Variable(offset)

    @sole(tf.float32, [None])
    def predict(self, x):
        return {"y": self.a * x + self.b}

    @EXAMPLES
    def regress(self, inputs):
        return {"outputs": self.of_examples(inputs)}

    @EXAMPLES
    def classify(self, inputs):
        return {"scores": self.of_examples(inputs)}

    def of_examples(self, inputs):
        feature = tf.io.FixedLenFeature([1], tf.float32, default_value=[0.0])
        return self.a * tf.io.parse_example(inputs, {"x": feature})["x"] + self.b


class Multi(tf.Module):
    @signature(tf.TensorSpec([None, 2], tf.float32, name="a"), tf.TensorSpec([None], tf.int32, name="b"))
    def predict(self, a, b):
        s = tf.reduce_sum(a, 1) + tf.cast(b, tf.float32)
        return {"sum": s, "label": tf.strings.as_string(b), "pair": tf.stack([s, -s], 1)}


class Types(tf.Module):
    @sole(tf.string, name="s")
    def strings(self, s):
        return {"out": s, "out_bytes": s}

    @sole(tf.bool)
    def bools(self, x):
        return {"y": tf.logical_not(x)}

    @sole(tf.int64)
    def int64s(self, x):
        return {"y": x}

    @sole(tf.uint8)
    def uint8s(self, x):
        return {"y": x}

    @sole(tf.int8)
    def int8s(self, x):
        return {"y": x}

    @sole(tf.uint32)
    def uint32s(self, x):
        return {"y": x}

    @sole(tf.float64)
    def doubles(self, x):
        return {"y": x}

    @sole(tf.float32)
    def floats(self, x):
        return {"y": x}

    @sole(tf.float16)
    def halves(self, x):
        return {"y": x}

    @sole(tf.float32)
    def scalar(self, x):
        return {"y": tf.reduce_sum(x)}

    @sole(tf.float32)
    def special(self, x):
        return {"y": tf.math.log(x)}

    @sole(tf.float32, [None, 2, 3])
    def shaped(self, x):
        return {"y": tf.reduce_sum(x, [1, 2])}


TYPES = (
    *("strings", "bools", "int64s", "uint8s", "int8s", "uint32s", "doubles", "floats", "halves"),
    *("scalar", "special", "shaped"),
)
HALF = {"serving_default": "predict", "regress_x_to_y": "regress", "classify_x_to_y": "classify"}


def save(model, names, folder):
    signatures = {name: getattr(model, method) for name, method in names.items()}
    tf.saved_model.save(model, str(folder), signatures=signatures)


def name_methods(path):
    """TensorFlow 2 gives every signature the method "predict"; TensorFlow Serving requires "classify" and "regress"."""
    model = saved_model_pb2.SavedModel.FromString(path.read_bytes())
    for name, method in HALF.items():
        for graph in model.meta_graphs:
            graph.signature_def[name].method_name = f"tensorflow/serving/{method}"
    path.write_bytes(model.SerializeToString(deterministic=True))


out = Path(sys.argv[1])
for version, offset in (("1", 2.0), ("2", 3.0)):
    save(Half(offset), HALF, out / "half" / version)
    name_methods(out / "half" / version / "saved_model.pb")
save(Multi(), {"serving_default": "predict"}, out / "multi" / "7")
save(Types(), {name: name for name in TYPES}, out / "types" / "1")
