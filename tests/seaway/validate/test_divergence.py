"""The guilty operator: wrong conversions of small graphs, of which the node that was changed must be named."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnx.parser
import pytest
import torchvision  # noqa: F401  before TensorFlow: the other way round, importing it ends the process
from onnx import numpy_helper

from seaway.artifacts import carriers, onnx_model
from seaway.convert.convert import convert
from seaway.errors import ModelError
from seaway.validate import divergence, sides

# A convolution, whose tensors are channels last in TensorFlow, a reshape to computed sizes, a loop, a product.
NET = """
<ir_version: 8, opset_import: ["" : 17]>
net (float[N, 2, 6, 6] x, float[4, 2, 3, 3] conv_weight, float[36, 5] head_weight, float[5] head_bias)
  => (float[N, 5] y)
<int64[1] one = {1}, float up = {1.5}, int64 turns = {2}, bool yes = {1}>
{
  c = Conv <pads = [1, 1, 1, 1]> (x, conv_weight)
  r = Relu (c)
  p = AveragePool <kernel_shape = [3, 3], strides = [2, 2], pads = [1, 1, 1, 1]> (r)
  t = Transpose <perm = [0, 2, 3, 1]> (p)
  below = Neg (t)
  padded = Elu <alpha = 0.5> (below)
  zero = Constant <value_ints = [0]> ()
  all = Shape (x)
  n = Gather (all, zero)
  rest = Constant <value_ints = [-1]> ()
  target = Concat <axis = 0> (n, rest)
  flat = Reshape (padded, target)
  wide = Concat <axis = 1> (flat, flat)
  cut_end = Constant <value_ints = [36]> ()
  cut = Slice (wide, zero, cut_end, one)
  looped = Loop (turns, yes, cut) <body = body (int64 i, bool go, float[N, 36] v) => (bool on, float[N, 36] w)
    { on = Identity (go) w = Mul (v, up) }>
  y = Gemm <alpha = 0.1> (looped, head_weight, head_bias)
}
"""
WEIGHTS = ("conv_weight", "head_weight", "head_bias")


def model(change: Any = None) -> onnx.ModelProto:
    """The graph with weights; `change` gets its nodes by their output, and the graph."""
    made = onnx.parser.parse_model(NET)
    generator = np.random.default_rng(0)
    for value in [value for value in made.graph.input if value.name in WEIGHTS]:
        shape = [dim.dim_value for dim in value.type.tensor_type.shape.dim]
        array = generator.normal(size=shape).astype(np.float32)
        made.graph.initializer.append(numpy_helper.from_array(array, value.name.replace("_", ".")))
        made.graph.input.remove(value)
    onnx_model.rename(made.graph, {name: name.replace("_", ".") for name in WEIGHTS})
    for node in made.graph.node:
        node.name = f"node_{node.output[0]}"
    if change:
        change({node.output[0]: node for node in made.graph.node}, made.graph)
    return made


def attribute(output: str, name: str, value: Any) -> Any:
    def change(nodes: dict[str, Any], graph: Any) -> None:
        kept = [each for each in nodes[output].attribute if each.name != name]
        del nodes[output].attribute[:]
        nodes[output].attribute.extend([*kept, onnx.helper.make_attribute(name, value)])

    return change


def operator(output: str, op_type: str) -> Any:
    def change(nodes: dict[str, Any], graph: Any) -> None:
        nodes[output].op_type = op_type

    return change


def weight(output: str, index: int, factor: float) -> Any:
    """A constant of the node's own in place of an input."""

    def change(nodes: dict[str, Any], graph: Any) -> None:
        name = nodes[output].input[index]
        array = next(numpy_helper.to_array(tensor) for tensor in graph.initializer if tensor.name == name)
        graph.initializer.append(numpy_helper.from_array(array * np.float32(factor), "changed"))
        nodes[output].input[index] = "changed"

    return change


def longer_loop(nodes: dict[str, Any], graph: Any) -> None:
    next(tensor for tensor in graph.initializer if tensor.name == "turns").CopyFrom(
        numpy_helper.from_array(np.array(3), "turns")
    )


CHANGES = {
    "c": [attribute("c", "pads", [2, 1, 0, 1]), weight("c", 1, 1.001)],
    "r": [operator("r", "Abs")],
    "p": [attribute("p", "count_include_pad", 1)],
    "padded": [attribute("padded", "alpha", 0.501)],
    "looped": [longer_loop],
    "y": [attribute("y", "alpha", 0.1001), weight("y", 2, -1.0)],
}


def save(made: onnx.ModelProto, folder: Path) -> Path:
    folder.mkdir()
    onnx.save(made, folder / "model.onnx")
    return folder / "model.onnx"


@pytest.fixture(scope="module")
def inputs() -> dict[str, np.ndarray]:
    return {"x": np.random.default_rng(1).normal(size=(3, 2, 6, 6)).astype(np.float32)}


@pytest.fixture(scope="module")
def file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return save(model(), tmp_path_factory.mktemp("net") / "onnx")


def saved(change: Any, folder: Path) -> Path:
    """What a converter makes of the net that gets one node wrong."""
    convert(save(model(change), folder / "wrong"), folder / "saved_model")
    return folder / "saved_model"


def test_every_value_of_a_right_conversion_agrees(file: Path, inputs: Any, tmp_path: Path) -> None:
    folder = saved(None, tmp_path)
    own, other = sides.OnnxValues(file, inputs), sides.SavedModelValues(folder, inputs)
    found = divergence.find(own, other)
    values = {output for node in own.model.graph.node for output in node.output}
    assert found.guilty is None
    assert found.compared == len(values)
    assert found.sentence() == (
        f"no operator can be named: all {len(values)} intermediate values of ONNX Runtime and the SavedModel agree"
    )
    fetched = other.fetch(sorted(values))
    for name, array in own.fetch(sorted(values)).items():
        assert fetched[name].shape == array.shape, name
        np.testing.assert_allclose(fetched[name], array, rtol=1e-5, atol=1e-5)


def test_channels_last_tensors_are_recorded_with_their_order(tmp_path: Path) -> None:
    carried = sides.read_carriers(saved(None, tmp_path))
    assert carried["c"].order == (0, 2, 3, 1)
    assert carried["n"].elements is not None, "a list of sizes has no tensor of its own"
    assert carried["rest"] == carriers.Carrier(elements=(-1,), shape=(1,))
    for carrier in carried.values():
        assert carriers.from_json(json.loads(json.dumps(carrier.to_json()))) == carrier


@pytest.mark.parametrize(
    ("output", "change"),
    [(output, change) for output, changes in CHANGES.items() for change in changes],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_the_changed_node_is_named(output: str, change: Any, file: Path, inputs: Any, tmp_path: Path) -> None:
    folder = saved(change, tmp_path)
    found = divergence.find(sides.OnnxValues(file, inputs), sides.SavedModelValues(folder, inputs))
    assert found.guilty is not None, found.reason
    assert (found.guilty.node, found.guilty.output) == (f"node_{output}", output)
    assert f"(node 'node_{output}'" in found.sentence()
    assert found.guilty.max_abs is not None
    assert found.guilty.max_abs > 0
    assert found.guilty.unseen == ()
    assert json.loads(json.dumps(found.to_json(), allow_nan=False))["guilty"]["expected"] == found.guilty.expected


def test_the_finding_says_where_and_what(file: Path, inputs: Any, tmp_path: Path) -> None:
    folder = saved(attribute("c", "pads", [2, 1, 0, 1]), tmp_path)
    own = sides.OnnxValues(file, inputs)
    guilty = divergence.find(own, sides.SavedModelValues(folder, inputs)).guilty
    assert guilty is not None
    assert (guilty.operator, guilty.module, guilty.attributes["pads"]) == ("Conv", "conv", "[1, 1, 1, 1]")
    assert guilty.expected == f"{own.fetch(['c'])['c'][guilty.index]:.9g}"
    assert guilty.actual != guilty.expected
    assert [(near.operator, near.before) for near in guilty.neighbours] == [("Relu", False)]


def test_a_difference_that_a_right_node_enlarges_does_not_accuse_it(tmp_path: Path) -> None:
    """Softmax of 1e6 · x turns rounding of the sum into another class; the only wrong node comes after it."""
    text = """<ir_version: 8, opset_import: ["" : 17]>
      net (float[N, 8] x) => (float[N, 8] y) <float big = {1000000.0}, float one = {1.0}, int64[1] last = {-1}>
      { s = Tanh (x) m = Mul (s, big) p = Softmax <axis = 1> (m) q = Elu <alpha = 1.0> (p) n = Neg (q)
        y = Elu <alpha = 1.0> (n) }"""
    made = onnx.parser.parse_model(text)
    right = save(made, tmp_path / "right")
    made.graph.node[-1].attribute[0].f = 1.1
    wrong = save(made, tmp_path / "wrong")
    row = np.linspace(0.5, 0.5 + 1e-6, 8, dtype=np.float32)
    x = np.stack([row, row[::-1]])
    own, other = sides.OnnxValues(right, {"x": x}), sides.OnnxValues(wrong, {"x": x + np.float32(6e-8)}, "the other")
    assert divergence.ratio(other.fetch(["p"])["p"], own.fetch(["p"])["p"]) > 1
    found = divergence.find(own, other)
    assert found.guilty is not None, found.reason
    assert found.guilty.output == "y"


def test_a_node_at_which_the_other_side_fails_is_named(file: Path, inputs: Any) -> None:
    class Failing(sides.OnnxValues):
        def fetch(self, values: Any) -> dict[str, np.ndarray]:
            if {"padded", "flat", "wide"} & {*values}:
                raise ModelError("TensorFlow failed: no kernel")
            return super().fetch(values)

    found = divergence.find(sides.OnnxValues(file, inputs), Failing(file, inputs, "the SavedModel"))
    assert found.guilty is not None
    assert found.guilty.output == "padded"
    assert found.sentence().endswith("at which the SavedModel fails: TensorFlow failed: no kernel")


def test_a_node_without_a_value_is_told_beside_the_next(file: Path, inputs: Any, tmp_path: Path) -> None:
    folder = saved(operator("r", "Abs"), tmp_path)
    record = json.loads((folder / "conversion.json").read_text())
    del record["values"]["r"]
    (folder / "conversion.json").write_text(json.dumps(record))
    found = divergence.find(sides.OnnxValues(file, inputs), sides.SavedModelValues(folder, inputs))
    assert found.guilty is not None
    assert (found.guilty.output, found.guilty.unseen) == ("p", ("node_r",))
    assert found.sentence().endswith("; or one before it, whose value the SavedModel does not show: node_r")


def test_a_savedmodel_without_a_record_is_an_error_that_says_what_to_do(tmp_path: Path, inputs: Any) -> None:
    folder = saved(None, tmp_path)
    record = json.loads((folder / "conversion.json").read_text())
    del record["values"]
    (folder / "conversion.json").write_text(json.dumps(record))
    with pytest.raises(ModelError, match=r"does not record .*convert again, with --converter seaway"):
        sides.SavedModelValues(folder, inputs)


@pytest.mark.parametrize(
    ("actual", "expected", "differs"),
    [
        ([1.0, 100.0], [1.0005, 100.0], False),  # 5e-6 of the largest
        ([1.0, 100.0], [1.01, 100.0], True),
        ([np.nan, np.inf], [np.nan, np.inf], False),
        ([np.nan], [1.0], True),
        ([0.0], [1e-30], True),
    ],
)
def test_floats_differ_by_more_than_rounding(actual: list[float], expected: list[float], differs: bool) -> None:
    pair = np.array(actual, np.float32), np.array(expected, np.float32)
    assert (divergence.ratio(*pair) > 1) == differs


def test_integers_and_strings_must_be_equal_and_bytes_nearly() -> None:
    large = np.array([2**60]), np.array([2**60 + 1])
    assert divergence.ratio(*large) > 1
    assert divergence.ratio(np.array([4], np.uint8), np.array([5], np.uint8)) <= 1
    assert divergence.ratio(np.array([4], np.uint8), np.array([6], np.uint8)) > 1
    assert divergence.ratio(np.array(["a"], object), np.array(["b"], object)) > 1
    assert divergence.ratio(np.zeros((2, 1)), np.zeros((1, 2))) > 1
