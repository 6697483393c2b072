"""Writes SavedModels of many makers and eras, each with what TensorFlow itself answers; run as a program.

    python tests/seaway/serve/make_foreign_models.py OUT

OUT/models/NAME/1       the SavedModels
OUT/cases/NAME.pickle   calls of their signatures: a list of (signature, inputs, outputs)

Models of TensorFlow 2 answer through the functions that tf.saved_model.load returns, those of TensorFlow 1 through a
session, as in TensorFlow Serving.
"""

import itertools
import json
import os
import pickle
import shutil
import sys
import tarfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import tensorflow as tf
from google.protobuf import text_format
from tensorflow.core.protobuf import saved_model_pb2

os.environ["KERAS_BACKEND"] = "tensorflow"
import keras

v1 = tf.compat.v1
FIXTURES = Path(__file__).parents[2] / "fixtures"
Inputs = dict[str, np.ndarray]
Call = tuple[str, Inputs]
Maker = Callable[[Path], list[Call]]
DEFAULT = "serving_default"
RANDOM = np.random.default_rng(0)
V2: list[Maker] = []
V1: list[Maker] = []
EXAMPLE = {
    "age": tf.io.FixedLenFeature([1], tf.float32, default_value=[0.0]),
    "name": tf.io.FixedLenFeature([1], tf.string, default_value=[""]),
    "tags": tf.io.VarLenFeature(tf.int64),
}


def spec(shape: list[int | None] | None, dtype: Any = tf.float32, name: str = "x") -> tf.TensorSpec:
    return tf.TensorSpec(shape, dtype, name=name)


def signatures(folder: Path, module: Any, **works: tuple[Callable[..., Any], list[tf.TensorSpec]]) -> None:
    module.works = {name: tf.function(work, input_signature=specs) for name, (work, specs) in works.items()}
    tf.saved_model.save(module, str(folder), signatures=module.works)


def floats(*shape: int) -> np.ndarray:
    return RANDOM.normal(size=shape).astype(np.float32)


def texts(*values: str | bytes) -> np.ndarray:
    return np.array([value.encode() if isinstance(value, str) else value for value in values], object)


def example(age: float, name: str, *tags: int) -> bytes:
    example_ = tf.train.Example()
    example_.features.feature["age"].float_list.value.append(age)
    example_.features.feature["name"].bytes_list.value.append(name.encode())
    example_.features.feature["tags"].int64_list.value.extend(tags)
    return example_.SerializeToString()


EXAMPLES = np.array([example(30, "Ada", 3, 4), example(7, "Bob"), example(-1, "?", 9)], object)


# ---- Keras 3


def keras_functional(folder: Path) -> list[Call]:
    """Two inputs, two outputs with other names than an identifier's."""
    image, extra = keras.Input([8, 8, 1], name="image"), keras.Input([3], name="extra")
    hidden = keras.layers.BatchNormalization()(keras.layers.Conv2D(4, 3, activation="relu")(image))
    hidden = keras.layers.Concatenate()([keras.layers.GlobalAveragePooling2D()(hidden), extra])
    outputs = {"scores": keras.layers.Dense(5, "softmax")(hidden), "total": keras.layers.Dense(1)(hidden)}
    keras.Model([image, extra], outputs).export(str(folder), verbose=False)
    return [(DEFAULT, {"image": floats(n, 8, 8, 1), "extra": floats(n, 3)}) for n in (1, 4)]


class Recurrent(keras.Model):
    def __init__(self) -> None:
        super().__init__()
        self.embed, self.read = keras.layers.Embedding(20, 4, mask_zero=True), keras.layers.LSTM(3)
        self.drop, self.last = keras.layers.Dropout(0.5), keras.layers.Dense(2)

    def call(self, tokens: Any, training: bool = False) -> Any:
        return self.last(self.drop(self.read(self.embed(tokens)), training=training))


def keras_subclassed(folder: Path) -> list[Call]:
    """A recurrent net with a mask, for sequences of any length."""
    model = Recurrent()
    model(np.ones([1, 2], np.int32))
    model.export(str(folder), verbose=False, input_signature=[spec([None, None], tf.int32, "tokens")])
    return [(DEFAULT, {"tokens": RANDOM.integers(0, 20, (3, n)).astype(np.int32)}) for n in (1, 5)]


def keras_signatures(folder: Path) -> list[Call]:
    """A net's variables in a tf.Module with several signatures, one of them compiled with XLA."""
    model = keras.Sequential([keras.Input([4]), keras.layers.Dense(3, "gelu"), keras.layers.LayerNormalization()])
    module = tf.Module()
    module.weights = [variable.value for variable in model.variables]
    compiled = tf.function(lambda x: model(x), jit_compile=True)
    signatures(
        folder,
        module,
        serving_default=(lambda x: {"y": model(x)}, [spec([None, 4])]),
        compiled=(lambda x: {"y": compiled(x)}, [spec([None, 4])]),
        best=(lambda x: {"class": tf.argmax(model(x), 1), "score": tf.reduce_max(model(x), 1)}, [spec([None, 4])]),
    )
    return [(name, {"x": floats(3, 4)}) for name in (DEFAULT, "compiled", "best")]


def keras_unrestored(folder: Path) -> list[Call]:
    """A net of Keras 3 through tf.saved_model.save: sessions, and so servers, do not restore its variables."""
    model = keras.Sequential([keras.Input([4]), keras.layers.Dense(3)])
    signatures(folder, model, serving_default=(lambda x: {"y": model(x)}, [spec([None, 4])]))
    return []


def keras_endpoints(folder: Path) -> list[Call]:
    """ExportArchive: endpoints, of which one returns a list."""
    model = keras.Sequential([keras.Input([4]), keras.layers.Dense(3)])
    archive = keras.export.ExportArchive()
    archive.track(model)
    archive.add_endpoint("call", model.call, [spec([None, 4])])
    archive.add_endpoint("both", lambda x: [model(x), x * 2], [spec([None, 4])])
    archive.write_out(str(folder), verbose=False)
    return [(name, {"x": floats(2, 4)}) for name in ("call", "both", DEFAULT)]


def keras_text(folder: Path) -> list[Call]:
    """Strings to a score: TextVectorization's table, and StringLookup's from a vocabulary file among the assets."""
    vocabulary = folder.parent.parent / "words.txt"
    vocabulary.write_text("red\ngreen\nblau\n")
    text, colour = keras.Input([], dtype="string", name="text"), keras.Input([1], dtype="string", name="colour")
    vectors = keras.layers.TextVectorization(output_sequence_length=6, ngrams=2)
    vectors.adapt(["the cat sat", "the dog ran", "a cat ran"])
    lookup = keras.layers.StringLookup(vocabulary=str(vocabulary), num_oov_indices=2, output_mode="one_hot")
    words = keras.layers.GlobalAveragePooling1D()(keras.layers.Embedding(30, 4)(vectors(text)))
    back = keras.layers.StringLookup(vocabulary=["no", "yes"], invert=True)
    score = keras.layers.Dense(2)(keras.layers.Concatenate()([words, lookup(colour)]))
    verdict = back(keras.layers.Lambda(lambda s: tf.argmax(s, 1) + 1, output_shape=())(score))
    model = keras.Model([text, colour], {"score": score, "verdict": verdict})
    signature = [[spec([None], tf.string, "text"), spec([None, 1], tf.string, "colour")]]
    model.export(str(folder), verbose=False, input_signature=signature)
    vocabulary.unlink()  # the model has its own copy
    colours = texts("red", "blau", "gr\u00fcn").reshape(3, 1)
    return [(DEFAULT, {"text": texts("The CAT ran!", "", "un chat \u00e9norme"), "colour": colours})]


def keras_features(folder: Path) -> list[Call]:
    """Preprocessing layers for columns of several types."""
    city, age = keras.Input([1], dtype="string", name="city"), keras.Input([1], name="age")
    code = keras.Input([1], dtype="int64", name="code")
    normal = keras.layers.Normalization()
    normal.adapt(np.float32([[20], [30], [70]]))
    columns = [
        normal(age),
        keras.layers.Discretization([10.0, 30.0, 50.0], output_mode="one_hot")(age),
        keras.layers.Hashing(8, output_mode="one_hot", salt=3)(city),
        keras.layers.IntegerLookup(vocabulary=[7, 70, 700], output_mode="multi_hot")(code),
        keras.layers.HashedCrossing(5, output_mode="one_hot")((city, keras.layers.Lambda(tf.strings.as_string)(code))),
    ]
    keras.Model([city, age, code], keras.layers.Dense(1)(keras.layers.Concatenate()(columns))).export(
        str(folder), verbose=False
    )
    return [
        (
            DEFAULT,
            {
                "city": texts("Oslo", "Rome").reshape(2, 1),
                "age": np.float32([[33], [8]]),
                "code": np.int64([[70], [1]]),
            },
        )
    ]


def tf_keras_2(folder: Path) -> list[Call]:
    """A net that Keras 2 (tf_keras 2.21) saved with model.save: a StringLookup of a file, two inputs, two outputs. The
    archive has it and its answers, as Keras gave them."""
    with tarfile.open(FIXTURES / "tf_keras_2.tar.xz") as archive:
        archive.extractall(folder.parent / "archive", filter="data")
    made = folder.parent / "archive" / "tf_keras_2"
    (made / "1").rename(folder)
    [recorded] = json.loads((made / "answers.json").read_text())
    shutil.rmtree(made.parent)
    colours = texts(*itertools.chain(*recorded["inputs"]["colour"])).reshape(-1, 1)
    inputs = {"colour": colours, "sizes": np.float32(recorded["inputs"]["sizes"])}
    outputs = tf.saved_model.load(str(folder)).signatures[recorded["signature"]](
        **{name: tf.constant(value) for name, value in inputs.items()}
    )
    assert outputs.keys() == recorded["outputs"].keys()
    assert all(np.allclose(outputs[name], value) for name, value in recorded["outputs"].items())
    return [(recorded["signature"], inputs)]


# ---- tf.Module


def module_defaults(folder: Path) -> list[Call]:
    """Arguments with default values, with which TensorFlow fills the signature's `defaults`."""
    module = tf.Module()
    module.weight = tf.Variable([2.0, 3.0], dtype=tf.float32)
    default, half = tf.constant([10.0, 20.0]), tf.constant(0.5)

    @tf.function(input_signature=[spec([None, 2]), tf.TensorSpec([2], name="add"), tf.TensorSpec([], name="scale")])
    def work(x: Any, add: Any = default, scale: Any = half) -> dict[str, Any]:
        return {"y": (x * module.weight + add) * scale}

    module.work = work
    tf.saved_model.save(module, str(folder), signatures={DEFAULT: module.work})
    given = {"x": floats(3, 2), "add": np.float32([1, 2]), "scale": np.float32(4)}
    return [
        (DEFAULT, given),
        (DEFAULT, {"x": given["x"]}),
        (DEFAULT, {"x": given["x"], "scale": given["scale"]}),
    ]


def tables(folder: Path) -> list[Call]:
    """Tables: of a vocabulary file, with buckets for other words, of constants, mutable ones that are restored."""
    vocabulary = folder.parent.parent / "vocabulary.txt"
    vocabulary.write_text("alpha\t10\nbeta\t20\n")
    module = tf.Module()
    from_file = tf.lookup.TextFileInitializer(str(vocabulary), tf.string, 0, tf.int64, 1, delimiter="\t")
    module.file = tf.lookup.StaticHashTable(from_file, -1)
    lines = tf.lookup.TextFileInitializer(
        str(vocabulary), tf.string, tf.lookup.TextFileIndex.WHOLE_LINE, tf.int64, tf.lookup.TextFileIndex.LINE_NUMBER
    )
    module.buckets = tf.lookup.StaticVocabularyTable(lines, 3)
    module.names = tf.lookup.StaticHashTable(
        tf.lookup.KeyValueTensorInitializer(tf.constant([10, 20], tf.int64), ["ten", "twenty"]), "?"
    )
    module.mutable = tf.lookup.experimental.MutableHashTable(tf.string, tf.float32, -1.0)
    module.mutable.insert(["alpha", "gamma"], [1.5, 2.5])
    module.dense = tf.lookup.experimental.DenseHashTable(tf.int64, tf.int64, -1, -2, -3)
    module.dense.insert(tf.constant([10], tf.int64), tf.constant([100], tf.int64))

    def work(words: Any) -> dict[str, Any]:
        ids = module.file.lookup(words)
        return {
            "ids": ids,
            "names": module.names.lookup(ids),
            "buckets": module.buckets.lookup(words),
            "restored": module.mutable.lookup(words),
            "dense": module.dense.lookup(ids),
        }

    signatures(folder, module, serving_default=(work, [spec([None], tf.string, "words")]))
    vocabulary.unlink()
    return [(DEFAULT, {"words": texts("beta", "gamma", "alpha", b"\xff\0")})]


def ragged(folder: Path) -> list[Call]:
    """RaggedTensors inside, and an input of unknown rank."""

    def words(text: Any) -> dict[str, Any]:
        split = tf.strings.split(tf.strings.lower(text))
        lengths = tf.strings.length(split, "UTF8_CHAR")
        total = tf.reduce_sum(lengths, 1) + tf.map_fn(tf.size, lengths, fn_output_signature=tf.int32)
        return {"padded": split.to_tensor("-"), "total": total, "counts": split.row_lengths()}

    signatures(
        folder,
        tf.Module(),
        serving_default=(words, [spec([None], tf.string, "text")]),
        anything=(lambda x: {"y": x * 2, "rank": tf.rank(x), "shape": tf.shape(x)}, [spec(None)]),
    )
    calls: list[Call] = [("anything", {"x": floats(*shape)}) for shape in ((), (3,), (2, 1, 2))]
    return [*calls, (DEFAULT, {"text": texts("A bb ccc", "", "\u00c4\u00d6  d")})]


def types(folder: Path) -> list[Call]:
    """A signature for each type, and scalars."""
    names = "bool uint8 int8 uint16 int16 uint32 int32 uint64 int64 float16 float32 float64 complex64 complex128"
    calls: list[Call] = []
    works: dict[str, Any] = {}
    for name in names.split():
        works[name] = (lambda x: {"same": tf.identity(x), "first": x[0, 0]}, [spec([None, 2], tf.as_dtype(name))])
        calls.append((name, {"x": np.array([[0, 1], [1, 1]]).astype(name)}))
    works["ends"] = (lambda x: {"y": tf.reverse(x, [0])}, [spec([None], tf.int64)])
    works["scalar"] = (lambda x: {"y": tf.cast(x, tf.float64) / 3}, [spec([], tf.int64)])
    works["nothing"] = (lambda: {"pi": tf.constant([3.14, 3.0]), "name": tf.constant("\u03c0")}, [])
    signatures(folder, tf.Module(), **works)
    edges = np.array([np.iinfo(np.int64).min, np.iinfo(np.int64).max, 0], np.int64)
    return [*calls, ("ends", {"x": edges}), ("scalar", {"x": np.int64(7)}), ("nothing", {})]


def control_flow(folder: Path) -> list[Call]:
    """Loops, branches, maps over rows, recurrence in TensorArrays, and a gradient."""

    def collatz(n: Any) -> Any:
        def step(n: Any, count: Any) -> Any:
            return tf.cond(n % 2 == 0, lambda: n // 2, lambda: 3 * n + 1), count + 1

        return tf.while_loop(lambda n, _: n > 1, step, (n, tf.constant(0, tf.int64)))[1]

    def work(x: Any) -> dict[str, Any]:
        sums = tf.TensorArray(tf.int64, tf.shape(x)[0])
        total = tf.constant(0, tf.int64)
        for i in tf.range(tf.shape(x)[0]):
            total += x[i]
            sums = sums.write(i, total)
        return {"steps": tf.map_fn(collatz, x), "sums": sums.stack()}

    def gradient(x: Any) -> dict[str, Any]:
        with tf.GradientTape() as tape:
            tape.watch(x)
            y = tf.reduce_sum(tf.switch_case(tf.size(x) % 2, [lambda: x**2, lambda: tf.sin(x)]))
        return {"slope": tape.gradient(y, x)}

    signatures(
        folder,
        tf.Module(),
        serving_default=(work, [spec([None], tf.int64)]),
        gradient=(gradient, [spec([None])]),
    )
    calls: list[Call] = [("gradient", {"x": floats(n)}) for n in (2, 3)]
    return [*calls, (DEFAULT, {"x": np.int64([1, 6, 27])})]


def big_constant(folder: Path) -> list[Call]:
    """A constant of 4 MB in the graph, not a variable; float64."""
    table = RANDOM.normal(size=(1000, 512))
    signatures(
        folder,
        tf.Module(),
        serving_default=(lambda i: {"row": tf.gather(tf.constant(table), i)}, [spec([None], tf.int32, "i")]),
    )
    return [(DEFAULT, {"i": np.int32([0, 999, 5])})]


def warm(folder: Path) -> list[Call]:
    """Warm-up requests, which TensorFlow Serving replays; each adds one to a variable."""
    from tensorflow_serving.apis import model_pb2, predict_pb2, prediction_log_pb2

    module = tf.Module()
    module.count = tf.Variable(0)

    def work(x: Any) -> dict[str, Any]:
        module.count.assign_add(1)
        return {"y": x}

    signatures(
        folder,
        module,
        serving_default=(work, [spec([None])]),
        count=(lambda: {"count": tf.identity(module.count)}, []),
    )
    (folder / "assets.extra").mkdir()
    request = predict_pb2.PredictRequest(model_spec=model_pb2.ModelSpec(name="warm"))
    request.inputs["x"].CopyFrom(tf.make_tensor_proto([1.0, 2.0]))
    log = prediction_log_pb2.PredictionLog(predict_log=prediction_log_pb2.PredictLog(request=request))
    with tf.io.TFRecordWriter(str(folder / "assets.extra" / "tf_serving_warmup_requests")) as writer:
        for _ in range(3):
            writer.write(log.SerializeToString())
    return []  # the test reads the count


def python_code(folder: Path) -> list[Call]:
    """Calls Python, which no server can."""
    signatures(
        folder,
        tf.Module(),
        serving_default=(lambda x: {"y": tf.py_function(lambda v: v + 1, [x], tf.float32)}, [spec([None])]),
    )
    return []


V2 += [keras_functional, keras_subclassed, keras_signatures, keras_endpoints, keras_text, keras_features]
V2 += [
    keras_unrestored,
    tf_keras_2,
    module_defaults,
    tables,
    ragged,
    types,
    control_flow,
    big_constant,
    warm,
    python_code,
]


# ---- TensorFlow 1


def infos(**tensors: Any) -> dict[str, Any]:
    return {name: v1.saved_model.build_tensor_info(tensor) for name, tensor in tensors.items()}


def definition(inputs: dict[str, Any], outputs: dict[str, Any], method: str = "predict") -> Any:
    return v1.saved_model.build_signature_def(inputs, outputs, f"tensorflow/serving/{method}")


def v1_simple_save(folder: Path) -> list[Call]:
    """simple_save, with variables of references, and partitioned ones."""
    with v1.Session(graph=tf.Graph()) as session:
        x = v1.placeholder(tf.float32, [None, 6], "x")
        parts = v1.fixed_size_partitioner(3)
        wide = v1.get_variable("wide", [6, 4], partitioner=parts, initializer=v1.glorot_uniform_initializer(seed=1))
        bias = v1.get_variable("bias", [4], initializer=v1.random_normal_initializer(seed=2), use_resource=False)
        y = tf.add(tf.matmul(x, tf.convert_to_tensor(wide)), bias, name="y")
        session.run(v1.global_variables_initializer())
        v1.saved_model.simple_save(session, str(folder), {"x": x}, {"y": y})
    return [(DEFAULT, {"x": floats(3, 6)})]


def v1_sharded(folder: Path) -> list[Call]:
    """A saver of one's own, which writes several data files; a graph for training beside the one that serves."""
    config = v1.ConfigProto(device_count={"CPU": 3})
    builder = v1.saved_model.Builder(str(folder))
    for tags in (["train"], ["serve"], ["serve", "gpu"]):
        with v1.Session(graph=tf.Graph(), config=config) as session:
            x = v1.placeholder(tf.float32, [None, 2])
            total = x
            for i in range(3):
                with tf.device(f"/cpu:{i}"):
                    total *= v1.get_variable(f"w{i}", [2], initializer=v1.constant_initializer(i + 2.0))
            outputs = {tags[-1]: total + (0.0 if tags == ["serve"] else 100.0)}
            signature = definition(infos(x=x), infos(**outputs))
            session.run(v1.global_variables_initializer())
            saver = v1.train.Saver(sharded=True)
            if tags == ["train"]:
                builder.add_meta_graph_and_variables(session, tags, {DEFAULT: signature}, saver=saver)
            else:
                builder.add_meta_graph(tags, {DEFAULT: signature}, saver=saver)
    builder.save()
    assert len(list((folder / "variables").glob("variables.data-*"))) > 1
    return [(DEFAULT, {"x": floats(2, 2)})]


def v1_names(folder: Path) -> list[Call]:
    """Names of any characters; a variable itself as the output, without inputs; one tensor under two names; an input in
    the middle of the graph that was trained, the second output of its node."""
    with v1.Session(graph=tf.Graph()) as session:
        images, labels = v1.train.batch(
            [tf.zeros([2]), tf.constant(1, tf.int64)], 4, name="batch", allow_smaller_final_batch=True
        )
        counter = v1.get_variable("counter", [2], initializer=v1.constant_initializer(7.0), use_resource=False)
        x = v1.placeholder(tf.float32, [None, 2], "scope/x")
        doubled = tf.multiply(x, counter, name="out/doubled-1")
        made = {
            DEFAULT: definition(infos(**{"x:0": x}), infos(**{"out/doubled-1": doubled, "a b.\u00e9": -doubled})),
            "variable": definition({}, infos(counter=counter)),
            "twice": definition(infos(x=x), infos(first=doubled, second=doubled)),
            "fed/inside": definition(infos(labels=labels), infos(y=labels * 2)),
            "both": definition(
                infos(images=images, labels=labels), infos(y=tf.cast(labels, tf.float32) + images[:, 0])
            ),
        }
        session.run(v1.global_variables_initializer())
        builder = v1.saved_model.Builder(str(folder))
        builder.add_meta_graph_and_variables(session, ["serve"], made)
        builder.save()
    some = np.int64([5, 6])
    return [
        (DEFAULT, {"x:0": floats(2, 2)}),
        ("variable", {}),
        ("twice", {"x": floats(1, 2)}),
        ("fed/inside", {"labels": some}),
        ("both", {"labels": some, "images": floats(2, 2)}),
    ]


def estimator(folder: Path) -> list[Call]:
    """As an Estimator exports itself: tf.Examples to classify, regress and predict, and their features as another way
    in; a vocabulary among the assets, whose table an operator initializes."""
    vocabulary = folder.parent.parent / "names.txt"
    vocabulary.write_text("Ada\nBob\n")
    with v1.Session(graph=tf.Graph()) as session:
        serialized = v1.placeholder(tf.string, [None], "input_example_tensor")
        features = v1.parse_example(serialized, EXAMPLE)
        path = tf.constant(str(vocabulary))
        v1.add_to_collection(v1.GraphKeys.ASSET_FILEPATHS, path)
        file = tf.lookup.TextFileInitializer(
            path, tf.string, tf.lookup.TextFileIndex.WHOLE_LINE, tf.int64, tf.lookup.TextFileIndex.LINE_NUMBER
        )
        known = tf.cast(tf.lookup.StaticHashTable(file, -1).lookup(features["name"]), tf.float32)
        tags = tf.cast(v1.sparse_reduce_sum(features["tags"], 1, keepdims=True), tf.float32)
        weights = v1.get_variable("linear/weights", [2, 2], initializer=v1.random_normal_initializer(seed=3))
        columns = tf.concat([features["age"] / 10, known], 1)
        logits = tf.matmul(columns, weights)
        scores = tf.nn.softmax(logits, name="head/predictions/probabilities")
        classes = tf.tile(tf.constant([["0", "1"]]), [tf.shape(logits)[0], 1])
        raw = infos(age=features["age"], name=features["name"])
        logistic = {"probabilities": scores, "class_ids": tf.argmax(logits, 1), "classes": classes}
        made = {
            DEFAULT: definition(infos(inputs=serialized), infos(classes=classes, scores=scores), "classify"),
            "regression": definition(infos(inputs=serialized), infos(outputs=logits[:, :1] + tags), "regress"),
            "predict": definition(infos(examples=serialized), infos(**logistic)),
            "features": definition(raw, infos(**logistic)),
        }
        session.run([v1.global_variables_initializer(), v1.tables_initializer()])
        builder = v1.saved_model.Builder(str(folder))
        assets = v1.get_collection(v1.GraphKeys.ASSET_FILEPATHS)
        builder.add_meta_graph_and_variables(
            session, ["serve"], made, assets, main_op=v1.tables_initializer(), strip_default_attrs=True
        )
        builder.save()
    vocabulary.unlink()
    ages, names = np.float32([[30], [7]]), texts("Bob", "Eve").reshape(2, 1)
    return [
        (DEFAULT, {"inputs": EXAMPLES}),
        ("regression", {"inputs": EXAMPLES}),
        ("predict", {"examples": EXAMPLES}),
        ("features", {"age": ages, "name": names}),
    ]


def v1_control_flow(folder: Path) -> list[Call]:
    """Loops and branches as frames and switches, and a legacy_init_op."""
    v1.disable_control_flow_v2()
    with v1.Session(graph=tf.Graph()) as session:
        x = v1.placeholder(tf.float32, [None], "x")
        steps = v1.placeholder_with_default(tf.constant(3), [], "steps")
        weight = v1.get_variable("weight", [], initializer=v1.constant_initializer(1.5), use_resource=True)
        _, y = v1.while_loop(lambda i, _: i < steps, lambda i, y: (i + 1, y * weight), (0, x))
        y = v1.cond(tf.reduce_sum(y) > 0, lambda: y, lambda: -y)
        table = tf.lookup.StaticHashTable(tf.lookup.KeyValueTensorInitializer([3, 4], ["three", "four"]), "many")
        session.run([v1.global_variables_initializer(), v1.tables_initializer()])
        signature = definition(infos(x=x, steps=steps), infos(y=y, word=table.lookup(steps)))
        builder = v1.saved_model.Builder(str(folder))
        init = v1.tables_initializer(name="legacy")
        builder.add_meta_graph_and_variables(session, ["serve"], {DEFAULT: signature}, legacy_init_op=init)
        builder.save()
    v1.enable_control_flow_v2()
    return [(DEFAULT, {"x": np.float32([-1, x]), "steps": np.int32(steps)}) for x, steps in ((5, 3), (-2, 4))]


def text_form(folder: Path) -> list[Call]:
    """saved_model.pbtxt in place of saved_model.pb."""
    calls = v1_simple_save(folder)
    file = folder / "saved_model.pb"
    message = saved_model_pb2.SavedModel.FromString(file.read_bytes())
    (folder / "saved_model.pbtxt").write_text(text_format.MessageToString(message))
    file.unlink()
    return calls


V1 += [v1_simple_save, v1_sharded, v1_names, estimator, v1_control_flow, text_form]


# ---- what TensorFlow answers


def array(value: Any) -> np.ndarray:
    return np.array(value, object) if isinstance(value, bytes) else np.asarray(value)


def answers_of_functions(folder: Path, calls: list[Call]) -> list[dict[str, np.ndarray]]:
    loaded = tf.saved_model.load(str(folder))
    saved = saved_model_pb2.SavedModel.FromString((folder / "saved_model.pb").read_bytes())

    def answer(name: str, inputs: Inputs) -> dict[str, np.ndarray]:
        function = loaded.signatures[name]
        defaults = saved.meta_graphs[0].signature_def[name].defaults  # which only TensorFlow Serving fills in
        given = {key: tf.make_ndarray(value) for key, value in defaults.items()} | inputs
        dtypes = {key: spec_.dtype for key, spec_ in function.structured_input_signature[1].items()}
        fed = {key: tf.constant(value, dtypes[key]) for key, value in given.items()}
        return {key: array(value.numpy()) for key, value in function(**fed).items()}

    return [answer(*call) for call in calls]


def answers_of_session(folder: Path, calls: list[Call]) -> list[dict[str, np.ndarray]]:
    with v1.Session(graph=tf.Graph()) as session:
        found = v1.saved_model.load(session, ["serve"], str(folder)).signature_def

        def answer(name: str, inputs: Inputs) -> dict[str, np.ndarray]:
            feeds = {found[name].inputs[key].name: value for key, value in inputs.items()}
            return {k: array(session.run(info.name, feeds)) for k, info in found[name].outputs.items()}

        return [answer(*call) for call in calls]


def main(out: Path) -> None:
    (out / "cases").mkdir(parents=True)
    for maker in (*V2, *V1):
        tf.random.set_seed(0)
        folder = out / "models" / maker.__name__ / "1"
        folder.parent.mkdir(parents=True)
        calls = maker(folder)
        answers = answers_of_session if maker in V1 else answers_of_functions
        cases = [(*call, outputs) for call, outputs in zip(calls, answers(folder, calls), strict=True)]
        (out / "cases" / f"{maker.__name__}.pickle").write_bytes(pickle.dumps(cases))
    # The same model without a version folder
    shutil.copytree(out / "models" / "keras_functional" / "1", out / "direct")
    shutil.copytree(out / "models" / "text_form" / "1", out / "direct_text")


if __name__ == "__main__":
    main(Path(sys.argv[1]))
