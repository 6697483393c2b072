"""The SavedModel backend, on models that TensorFlow saves."""

import itertools
import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torchvision  # noqa: F401  before TensorFlow: the other way round, importing it ends the process

from seaway.artifacts.artifact_metadata import Tensor
from seaway.errors import InvalidInput, ModelError, NotFound, SeawayError
from seaway.protocols import tensors
from seaway.serve.backends.savedmodel import MAX_CALLABLES, SavedModel, load, tf

Models = Callable[..., Path]

ROWS = tf.TensorSpec([None, 4], tf.float32, name="x")
IMAGES = tf.TensorSpec([None, 8, 8, 1], tf.float32, name="x")
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


def test_it_predicts_what_tensorflow_does(saved: Models) -> None:
    module, work = convolution()
    folder = saved(module, serving_default=(work, [IMAGES]))
    model = load(folder, None, 2)
    for rows in (1, 3, 32):
        x = np.random.default_rng(rows).random((rows, 8, 8, 1), dtype=np.float32)
        expected = tf.saved_model.load(str(folder)).signatures["serving_default"](x=tf.constant(x))["y"]
        assert np.allclose(model.predict("serving_default", {"x": x})["y"], expected, atol=1e-5)
    model.close()


def test_signatures_and_definitions_describe_inputs_and_outputs(saved: Models) -> None:
    def two(b: Any, a: Any) -> dict[str, Any]:
        return {"late": tf.strings.as_string(a), "early": tf.cast(b, tf.float64)}

    folder = saved(
        serving_default=(two, [tf.TensorSpec([None, 3], tf.int64, name="b"), tf.TensorSpec([], tf.bool, name="a")]),
        free=(lambda x: {"y": x + 1}, [ANYTHING]),
    )
    model = SavedModel(folder, None, 1)
    assert model.platform == "tensorflow_savedmodel"
    signature = model.signatures["serving_default"]
    assert signature.inputs == (Tensor("a", "bool", ()), Tensor("b", "int64", (None, 3)))
    assert signature.outputs == (Tensor("early", "float64", (None, 3)), Tensor("late", "str", ()))
    assert signature.method == "tensorflow/serving/predict"
    assert signature.unranked == frozenset()
    assert model.signatures["free"].unranked == {"x", "y"}
    defined = model.definitions["serving_default"]["inputs"]["b"]
    assert defined["dtype"] == "DT_INT64"
    assert [dim["size"] for dim in defined["tensor_shape"]["dim"]] == ["-1", "3"]
    assert "__saved_model_init_op" in model.definitions
    outputs = model.predict("serving_default", {"a": np.array(True), "b": np.ones((2, 3), np.int64)})
    assert list(outputs) == ["early", "late"]


def test_the_number_of_cached_callables_is_bounded(saved: Models) -> None:
    names = ["a", "b", "c", "d", "e"]
    model = SavedModel(saved(serving_default=(lambda x: {n: x + i for i, n in enumerate(names)}, [ANYTHING])), None, 1)
    for order in itertools.permutations(names):
        outputs = model.predict("serving_default", {"x": np.float32([1])}, list(order))
        assert {name: array.tolist() for name, array in outputs.items()} == {n: [1 + names.index(n)] for n in order}
    assert len(model._callables) <= MAX_CALLABLES
    model.close()


def test_more_dimensions_than_numpy_supports(saved: Models) -> None:
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


def test_only_the_requested_outputs_are_returned_in_order(saved: Models) -> None:
    folder = saved(serving_default=(lambda x: {"a": x, "b": -x, "c": 2 * x}, [ROWS]))
    model = load(folder, None, 1)
    x = np.ones((1, 4), np.float32)
    assert list(model.predict("serving_default", {"x": x}, ["c", "a"])) == ["c", "a"]
    with pytest.raises(InvalidInput, match=r"no output \['d'\]; it has \['a', 'b', 'c'\]"):
        model.predict("serving_default", {"x": x}, ["a", "d"])
    with pytest.raises(NotFound, match="no signature 'other'"):
        model.predict("other", {"x": x})
    with pytest.raises(InvalidInput, match=r"takes \['x'\], but got \['y'\]"):
        model.predict("serving_default", {"y": x})


def test_calls_can_change_variables(saved: Models) -> None:
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


def test_tables_loops_branches_random_numbers_and_data_sets_work(saved: Models) -> None:
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

    def random(x: Any) -> dict[str, Any]:
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
        random=(random, [ROWS]),
        dataset=(dataset, [ROWS]),
        noinline=(lambda x: {"y": apart(x)}, [ROWS]),
    )
    model = load(folder, None, 1)
    x = np.array([[1, 2, 3, 4], [-1, 0, 0, 5]], np.float32)
    assert model.predict("serving_default", {"text": strings(b"b", b"x", b"a")})["y"].tolist() == [2, -1, 1]
    assert [model.predict("remember", {"text": strings(b"a")})["y"].tolist() for _ in range(2)] == [[1], [2]]
    assert model.predict("loop", {"x": x})["y"].tolist() == [[2, 4, 6, 8], [1, 0, 0, -5]]
    assert np.array_equal(model.predict("random", {"x": x})["y"], x)
    assert model.predict("dataset", {"x": x})["y"] == 2
    assert np.array_equal(model.predict("noinline", {"x": x})["y"], x + 3)


def test_a_graph_of_tensorflow_1_is_served(tmp_path: Path) -> None:
    """With reference variables, a missing GPU as their device, and a saver of its own."""
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


def test_truncated_variables_are_an_error(saved: Models) -> None:
    module, work = convolution()
    folder = saved(module, serving_default=(work, [IMAGES]))
    data = next((folder / "variables").glob("variables.data-*"))
    data.write_bytes(data.read_bytes()[:10])
    with pytest.raises(ModelError, match="the SavedModel cannot be loaded"):
        load(folder, None, 1)


def test_unexpected_shapes_pass_to_a_graph_that_accepts_them(saved: Models) -> None:
    model = load(saved(serving_default=(lambda x: {"y": x * 2}, [ROWS])), None, 1)
    for shape in ((), (3,), (2, 5), (1, 2, 3, 4)):
        assert model.predict("serving_default", {"x": np.ones(shape, np.float32)})["y"].shape == shape


def test_tensorflow_s_errors_are_passed_on_with_their_status(saved: Models) -> None:
    model = load(saved(serving_default=(lambda x: {"y": tf.reduce_sum(x, 1)}, [ROWS])), None, 1)
    with pytest.raises(SeawayError, match=r'^input "x": expected \[-1, 4\], got \[3\]: Invalid reduc[^{]*$') as found:
        model.predict("serving_default", {"x": np.ones(3, np.float32)})
    assert found.value.status == 400
    with pytest.raises(SeawayError, match="actual string vs") as found:
        model.predict("serving_default", {"x": strings(b"a", b"b", b"c", b"d").reshape(1, 4)})
    assert found.value.status == 400


def test_an_output_that_is_an_input_is_an_error_as_in_tensorflow_serving(tmp_path: Path) -> None:
    with tf.Graph().as_default(), tf.compat.v1.Session() as session:
        x = tf.compat.v1.placeholder(tf.float32, [None], "x")
        tf.compat.v1.saved_model.simple_save(session, str(tmp_path / "1"), {"x": x}, {"x": x, "y": 2 * x})
    model = load(tmp_path / "1", None, 1)
    with pytest.raises(SeawayError, match=r"x:0 is both fed and fetched") as found:
        model.predict("serving_default", {"x": np.float32([1])})
    assert found.value.status == 400
    assert model.predict("serving_default", {"x": np.float32([1])}, ["y"])["y"].tolist() == [2]


def test_an_error_of_the_graph_does_not_name_its_nodes(saved: Models) -> None:
    def checked(x: Any) -> dict[str, Any]:
        with tf.control_dependencies([tf.debugging.assert_positive(x, "the amounts must be positive")]):
            return {"y": tf.identity(x)}

    model = load(saved(serving_default=(checked, [ROWS])), None, 1)
    with pytest.raises(SeawayError, match="the amounts must be positive") as found:
        model.predict("serving_default", {"x": -np.ones((1, 4), np.float32)})
    assert (found.value.status, "{{" in str(found.value)) == (400, False)


# Signatures whose convolutions kill the process if they are run with these shapes
CONVOLVE_WRONG_SHAPES = """
import json, sys
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
outcomes = []
for name in model.signatures:
    for shape in json.loads(sys.argv[2]):
        try:
            outcome = list(model.predict(name, {"x": np.ones(shape, np.float32)})["y"].shape)
        except InvalidInput as error:
            outcome = str(error)
        outcomes.append([name, shape, outcome])
print(json.dumps(outcomes))
"""


def test_shapes_that_would_kill_the_process_are_rejected(tmp_path: Path) -> None:
    right = [2, 8, 8, 1]
    wrong = [[], [8], [8, 8], [1, 8, 8], [1, 8, 8, 1, 1], [0], [0, 8, 8], [1, 8, 8, 3], [1, 9, 8, 1], [2] * 8]
    command = [sys.executable, "-c", CONVOLVE_WRONG_SHAPES, str(tmp_path / "1"), json.dumps([*wrong, right])]
    done = subprocess.run(command, capture_output=True, text=True, cwd=Path(__file__).parents[3], check=False)
    assert done.returncode == 0, done.stderr[-2000:]
    outcomes = json.loads(done.stdout)
    assert len(outcomes) == 3 * (len(wrong) + 1)
    for signature, shape, outcome in outcomes:
        expected = [2, 8, 8, 2] if shape == right else f'input "x": expected [-1, 8, 8, 1], got {shape}'
        assert outcome == expected, signature


def test_a_batch_of_no_rows_works_even_if_the_graph_fails_on_it(saved: Models) -> None:
    def first_row(x: Any) -> dict[str, Any]:
        return {"y": x + x[0], "name": tf.strings.as_string(x[:, 0] + x[0, 0])}

    folder = saved(
        serving_default=(first_row, [ROWS]),
        total=(lambda x: {"y": tf.reduce_sum(x, 0) + x[0]}, [ROWS]),
        plain=(lambda x: {"y": x + 1}, [ROWS]),
    )
    model = load(folder, None, 1)
    no_rows = {"x": np.empty((0, 4), np.float32)}
    answers = model.predict("serving_default", no_rows)
    assert {name: (array.shape, array.dtype) for name, array in answers.items()} == {
        "name": ((0,), np.dtype(object)),
        "y": ((0, 4), np.dtype(np.float32)),
    }
    assert list(model.predict("serving_default", no_rows, ["y"])) == ["y"]
    assert model.predict("plain", no_rows)["y"].shape == (0, 4)
    with pytest.raises(SeawayError):  # its output has no batch dimension
        model.predict("total", no_rows)
    with pytest.raises(SeawayError):  # not the declared sizes
        model.predict("serving_default", {"x": np.empty((0, 5), np.float32)[:, :, None]})


def test_importing_starts_no_thread() -> None:
    """The forkserver forks after importing it."""
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
