"""The SavedModel backend, on models that TensorFlow saves."""

import itertools
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torchvision  # noqa: F401  before TensorFlow: the other way round, importing it ends the process

from seaway.artifacts.card import Tensor
from seaway.errors import InvalidInput, ModelError, NotFound, SeawayError
from seaway.protocols import tensors
from seaway.serve.backends.savedmodel import MOST_CALLABLES, SavedModel, load, tf

Models = Callable[..., Path]

ROWS = tf.TensorSpec([None, 4], tf.float32, name="x")
PICTURES = tf.TensorSpec([None, 8, 8, 1], tf.float32, name="x")
ANYTHING = tf.TensorSpec(None, tf.float32, name="x")
TEXT = tf.TensorSpec([None], tf.string, name="text")


@pytest.fixture
def saved(tmp_path: Path) -> Models:
    """Writes a SavedModel of functions, each a signature: name → (function, its inputs)."""

    def make(module: Any = None, **works: tuple[Callable[..., Any], list[Any]]) -> Path:
        module = module or tf.Module()
        module.works = {
            name: tf.function(work, input_signature=specs).get_concrete_function()
            for name, (work, specs) in works.items()
        }
        tf.saved_model.save(module, str(tmp_path / "1"), signatures=module.works)
        return tmp_path / "1"

    return make


def strings(*values: bytes) -> np.ndarray:
    return np.array(values, object)


def convolution() -> tuple[Any, Callable[..., Any]]:
    module = tf.Module()
    module.kernel = tf.Variable(np.random.default_rng(0).normal(size=(3, 3, 1, 2)).astype(np.float32))
    return module, lambda x: {"y": tf.reduce_sum(tf.nn.conv2d(x, module.kernel, 1, "SAME"), [1, 2])}


def test_it_answers_as_tensorflow_does(saved: Models) -> None:
    module, work = convolution()
    folder = saved(module, serving_default=(work, [PICTURES]))
    model = load(folder, None, 2)
    for rows in (1, 3, 32):
        x = np.random.default_rng(rows).random((rows, 8, 8, 1), dtype=np.float32)
        expected = tf.saved_model.load(str(folder)).signatures["serving_default"](x=tf.constant(x))["y"]
        assert np.allclose(model.predict("serving_default", {"x": x})["y"], expected, atol=1e-5)
    model.close()


def test_signatures_and_definitions_tell_what_the_model_takes_and_gives(saved: Models) -> None:
    def two(b: Any, a: Any) -> dict[str, Any]:
        return {"late": tf.strings.as_string(a), "early": tf.cast(b, tf.float64)}

    folder = saved(
        serving_default=(two, [tf.TensorSpec([None, 3], tf.int64, name="b"), tf.TensorSpec([], tf.bool, name="a")]),
        free=(lambda x: {"y": x + 1}, [ANYTHING]),
    )
    model = SavedModel(folder, None, 1)
    assert model.platform == "tensorflow_savedmodel"
    found = model.signatures["serving_default"]
    assert found.inputs == (Tensor("a", "bool", ()), Tensor("b", "int64", (None, 3)))
    assert found.outputs == (Tensor("early", "float64", (None, 3)), Tensor("late", "str", ()))
    assert found.method == "tensorflow/serving/predict"
    assert found.unranked == frozenset()
    assert model.signatures["free"].unranked == {"x", "y"}
    defined = model.definitions["serving_default"]["inputs"]["b"]
    assert defined["dtype"] == "DT_INT64"
    assert [dim["size"] for dim in defined["tensor_shape"]["dim"]] == ["-1", "3"]
    assert "__saved_model_init_op" in model.definitions
    answers = model.predict("serving_default", {"a": np.array(True), "b": np.ones((2, 3), np.int64)})
    assert list(answers) == ["early", "late"]


def test_ever_other_outputs_are_not_remembered_for_ever(saved: Models) -> None:
    names = ["a", "b", "c", "d", "e"]
    model = SavedModel(saved(serving_default=(lambda x: {n: x + i for i, n in enumerate(names)}, [ANYTHING])), None, 1)
    for asked in itertools.permutations(names):
        answers = model.predict("serving_default", {"x": np.float32([1])}, list(asked))
        assert {name: array.tolist() for name, array in answers.items()} == {n: [1 + names.index(n)] for n in asked}
    assert len(model._callables) <= MOST_CALLABLES
    model.close()


def test_more_dimensions_than_numpy_has(saved: Models) -> None:
    def both(x: Any, s: Any) -> dict[str, Any]:
        return {"y": x * 2, "rank": tf.rank(x), "s": s}

    words = tf.TensorSpec(None, tf.string, name="s")
    model = SavedModel(saved(serving_default=(both, [ANYTHING, words])), None, 1)
    for shape in ((2, *[1] * 252, 3), (1,) * 33, (*[1] * 99, 0)):
        count = int(np.prod(shape))
        x = tensors.shaped(np.arange(count, dtype=np.float32), shape)
        for s in (strings(b"\xff", b""), tensors.shaped(strings(*[b"w"] * count), shape)):
            answers = model.predict("serving_default", {"x": x, "s": s})
            assert (answers["y"].shape, answers["rank"].item()) == (shape, len(shape))
            assert np.asarray(answers["y"]).reshape(-1).tolist() == [2 * i for i in range(count)]
            assert (answers["s"].shape, answers["s"].reshape(-1).tolist()) == (s.shape, s.reshape(-1).tolist())
    model.close()


def test_outputs_are_given_as_asked_for(saved: Models) -> None:
    folder = saved(serving_default=(lambda x: {"a": x, "b": -x, "c": 2 * x}, [ROWS]))
    model = load(folder, None, 1)
    x = np.ones((1, 4), np.float32)
    assert list(model.predict("serving_default", {"x": x}, ["c", "a"])) == ["c", "a"]
    with pytest.raises(InvalidInput, match=r"no output \['d'\]; it has \['a', 'b', 'c'\]"):
        model.predict("serving_default", {"x": x}, ["a", "d"])
    with pytest.raises(NotFound, match="no signature 'other'"):
        model.predict("other", {"x": x})
    with pytest.raises(InvalidInput, match=r"takes \['x'\], but \['y'\] came"):
        model.predict("serving_default", {"y": x})


def test_variables_that_calls_change_keep_their_value(saved: Models) -> None:
    module = tf.Module()
    module.count = tf.Variable(0)

    def count(x: Any) -> dict[str, Any]:
        with tf.control_dependencies([tf.size(x)]):
            return {"count": module.count.assign_add(1)}

    folder = saved(
        module, serving_default=(count, [ROWS]), read=(lambda x: {"count": module.count + 0 * tf.shape(x)[0]}, [ROWS])
    )
    model = load(folder, None, 1)
    x = {"x": np.ones((1, 4), np.float32)}
    assert [int(model.predict("serving_default", x)["count"]) for _ in range(3)] == [1, 2, 3]
    assert int(model.predict("read", x)["count"]) == 3
    assert int(load(folder, None, 1).predict("read", x)["count"]) == 0


def test_tables_loops_branches_chance_and_data_sets_work(saved: Models) -> None:
    module = tf.Module()
    module.table = tf.lookup.StaticHashTable(tf.lookup.KeyValueTensorInitializer(["a", "b"], [1, 2]), -1)
    module.seen = tf.lookup.experimental.MutableHashTable(tf.string, tf.int32, 0)

    def lookup(text: Any) -> dict[str, Any]:
        return {"y": module.table.lookup(text)}

    def remember(text: Any) -> dict[str, Any]:
        counts = module.seen.lookup(text) + 1
        with tf.control_dependencies([module.seen.insert(text, counts)]):
            return {"y": tf.identity(counts)}

    def loop(x: Any) -> dict[str, Any]:
        return {"y": tf.map_fn(lambda row: tf.cond(row[0] > 0, lambda: row * 2, lambda: -row), x)}

    def chance(x: Any) -> dict[str, Any]:
        return {"y": x + 0 * tf.random.uniform(tf.shape(x))}

    def dataset(x: Any) -> dict[str, Any]:
        return {"y": tf.data.Dataset.from_tensor_slices(x).map(lambda r: r + 1).reduce(0.0, lambda a, r: a + r[0])}

    @tf.function(experimental_attributes={"_noinline": True})
    def apart(x: Any) -> Any:
        return tf.while_loop(lambda i, _: i < 3, lambda i, y: (i + 1, y + 1), (0, x))[1]

    folder = saved(
        module,
        serving_default=(lookup, [TEXT]),
        remember=(remember, [TEXT]),
        loop=(loop, [ROWS]),
        chance=(chance, [ROWS]),
        dataset=(dataset, [ROWS]),
        noinline=(lambda x: {"y": apart(x)}, [ROWS]),
    )
    model = load(folder, None, 1)
    x = np.array([[1, 2, 3, 4], [-1, 0, 0, 5]], np.float32)
    assert model.predict("serving_default", {"text": strings(b"b", b"x", b"a")})["y"].tolist() == [2, -1, 1]
    assert [model.predict("remember", {"text": strings(b"a")})["y"].tolist() for _ in range(2)] == [[1], [2]]
    assert model.predict("loop", {"x": x})["y"].tolist() == [[2, 4, 6, 8], [1, 0, 0, -5]]
    assert np.array_equal(model.predict("chance", {"x": x})["y"], x)
    assert model.predict("dataset", {"x": x})["y"] == 2
    assert np.array_equal(model.predict("noinline", {"x": x})["y"], x + 3)


def test_a_graph_of_tensorflow_1_is_served(tmp_path: Path) -> None:
    """Reference variables placed beside each other on a GPU that is not here, and a saver of its own."""
    folder = tmp_path / "1"
    with tf.Graph().as_default(), tf.compat.v1.Session(config=soft()) as session, tf.device("/device:GPU:0"):
        x = tf.compat.v1.placeholder(tf.float32, [None, 4], name="x")
        weight = tf.compat.v1.get_variable("w", [4, 2], initializer=tf.ones_initializer(), use_resource=False)
        y = tf.matmul(x, weight, name="y")
        session.run(tf.compat.v1.global_variables_initializer())
        builder = tf.compat.v1.saved_model.Builder(str(folder))
        signature = tf.compat.v1.saved_model.predict_signature_def({"x": x}, {"y": y})
        builder.add_meta_graph_and_variables(session, ["serve"], {"serving_default": signature})
        builder.save()
    model = load(folder, None, 1)
    assert model.predict("serving_default", {"x": np.ones((1, 4), np.float32)})["y"].tolist() == [[4, 4]]


def soft() -> Any:
    return tf.compat.v1.ConfigProto(allow_soft_placement=True)


def test_truncated_variables_are_told(saved: Models) -> None:
    module, work = convolution()
    folder = saved(module, serving_default=(work, [PICTURES]))
    data = next((folder / "variables").glob("variables.data-*"))
    data.write_bytes(data.read_bytes()[:10])
    with pytest.raises(ModelError, match="the SavedModel cannot be loaded"):
        load(folder, None, 1)


def test_ranks_and_sizes_pass_to_a_graph_that_can_take_them(saved: Models) -> None:
    model = load(saved(serving_default=(lambda x: {"y": x * 2}, [ROWS])), None, 1)
    for shape in ((), (3,), (2, 5), (1, 2, 3, 4)):
        assert model.predict("serving_default", {"x": np.ones(shape, np.float32)})["y"].shape == shape


def test_what_tensorflow_says_is_passed_on_with_its_status(saved: Models) -> None:
    model = load(saved(serving_default=(lambda x: {"y": tf.reduce_sum(x, 1)}, [ROWS])), None, 1)
    with pytest.raises(SeawayError, match=r"Invalid reduction dimension .*\n.*\[\[\{\{.*node Sum\}\}\]\]") as found:
        model.predict("serving_default", {"x": np.ones(3, np.float32)})
    assert found.value.status == 400
    with pytest.raises(SeawayError, match="actual string vs") as found:
        model.predict("serving_default", {"x": strings(b"a")})
    assert found.value.status == 400


CALL_ENDING = """
import sys
from pathlib import Path
import numpy as np
from seaway.serve.backends.savedmodel import load, tf
from seaway.errors import InvalidInput
kernel = np.ones([3, 3, 1, 2], np.float32)

def conv(x):
    return tf.nn.conv2d(x, kernel, 1, "SAME")

def depthwise(x):
    return tf.nn.depthwise_conv2d(x, kernel, [1, 1, 1, 1], "SAME")

def deep(x):
    return tf.cond(tf.size(x) < 9**9, lambda: conv(x), lambda: tf.tile(x, [1, 1, 1, 2]))

module, spec = tf.Module(), tf.TensorSpec([None, 8, 8, 1], tf.float32, name="x")
def signature(work):
    return tf.function(lambda x: {"y": work(x)}, input_signature=[spec]).get_concrete_function()

module.works = {work.__name__: signature(work) for work in (conv, depthwise, deep)}
tf.saved_model.save(module, sys.argv[1], signatures=module.works)
model = load(Path(sys.argv[1]), None, 1)
for name in model.signatures:
    for shape in ((), (8,), (8, 8), (1, 8, 8), (1, 8, 8, 1, 1), (0,), (0, 8, 8), (1, 8, 8, 3), (1, 9, 8, 1), (2,) * 8):
        try:
            model.predict(name, {"x": np.ones(shape, np.float32)})
        except InvalidInput as error:
            print(error)
    print(model.predict(name, {"x": np.ones((2, 8, 8, 1), np.float32)})["y"].shape)
"""


def test_shapes_that_would_end_the_process_are_refused(tmp_path: Path) -> None:
    command = [sys.executable, "-c", CALL_ENDING, str(tmp_path / "1")]
    done = subprocess.run(command, capture_output=True, text=True, cwd=Path(__file__).parents[3], check=False)
    assert done.returncode == 0, done.stderr[-2000:]
    said = done.stdout.splitlines()
    assert len(said) == 33
    assert said[::11] == ['input "x": expected [-1, 8, 8, 1], got []'] * 3
    assert said[7::11] == ['input "x": expected [-1, 8, 8, 1], got [1, 8, 8, 3]'] * 3
    assert said[10::11] == ["(2, 8, 8, 2)"] * 3


def test_a_batch_of_no_rows_is_answered_even_where_the_graph_cannot(saved: Models) -> None:
    def first_row(x: Any) -> dict[str, Any]:
        return {"y": x + x[0], "name": tf.strings.as_string(x[:, 0] + x[0, 0])}

    folder = saved(
        serving_default=(first_row, [ROWS]),
        total=(lambda x: {"y": tf.reduce_sum(x, 0) + x[0]}, [ROWS]),
        plain=(lambda x: {"y": x + 1}, [ROWS]),
    )
    model = load(folder, None, 1)
    nothing = {"x": np.empty((0, 4), np.float32)}
    answers = model.predict("serving_default", nothing)
    assert {name: (array.shape, array.dtype) for name, array in answers.items()} == {
        "name": ((0,), np.dtype(object)),
        "y": ((0, 4), np.dtype(np.float32)),
    }
    assert list(model.predict("serving_default", nothing, ["y"])) == ["y"]
    assert model.predict("plain", nothing)["y"].shape == (0, 4)
    with pytest.raises(SeawayError):  # what it answers does not shrink with the batch
        model.predict("total", nothing)
    with pytest.raises(SeawayError):  # not the declared sizes
        model.predict("serving_default", {"x": np.empty((0, 5), np.float32)[:, :, None]})


def test_importing_starts_no_thread() -> None:
    """The nursery forks after importing it."""
    program = "import os; from seaway.serve.backends import savedmodel; print(len(os.listdir('/proc/self/task')))"
    done = subprocess.run(
        [sys.executable, "-c", program],
        capture_output=True,
        text=True,
        cwd=Path(__file__).parents[3],
        env={"PATH": "/usr/bin:/bin", "OPENBLAS_NUM_THREADS": "1"},
        check=True,
    )
    assert done.stdout.strip() == "1"
