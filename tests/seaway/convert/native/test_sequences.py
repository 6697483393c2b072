"""Tensors that are split into a sequence and taken out of it again, compared with ONNX Runtime."""

from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import helper

from seaway.convert.convert import convert
from seaway.errors import ModelError

X = np.arange(48, dtype=np.float32).reshape(2, 3, 8)


def _outputs(tf: Any, model: Any, folder: Path) -> tuple[list[Any], list[Any]]:
    import onnxruntime

    path = folder / "model.onnx"
    onnx.save(model, path)
    metadata = convert(path, folder / "saved")
    returned = tf.saved_model.load(str(folder / "saved")).signatures["serving_default"](x=tf.constant(X))
    session = onnxruntime.InferenceSession(str(path), providers=["CPUExecutionProvider"])
    return [returned[tensor.name].numpy() for tensor in metadata.outputs], session.run(None, {"x": X})


@pytest.mark.parametrize(
    ("sizes", "positions", "attributes"),
    [
        ([2, 5, 1], (0, 1, 2, -1), {"axis": 2}),
        ([3, 5], (1, 0), {"axis": -1}),
        (3, (0, 1, 2), {"axis": 2}),  # the last chunk is shorter
        (None, (0, 2), {"axis": 1}),
        (None, (0, 2), {"axis": 1, "keepdims": 0}),
        (None, (1,), {}),
    ],
)
def test_elements_of_a_split_are_slices(
    tf: Any, make: Any, tmp_path: Path, sizes: Any, positions: tuple[int, ...], attributes: dict[str, int]
) -> None:
    weights = {f"i{n}": np.array(position) for n, position in enumerate(positions)}
    if sizes is not None:
        weights["sizes"] = np.array(sizes)
    nodes = [helper.make_node("SplitToSequence", ["x", "sizes"] if sizes is not None else ["x"], ["s"], **attributes)]
    nodes += [helper.make_node("SequenceAt", ["s", f"i{n}"], [f"y{n}"]) for n in range(len(positions))]
    shape = ["a", "b", "c"][: 2 + attributes.get("keepdims", 1)]
    model = make(nodes, {"x": list(X.shape)}, {f"y{n}": shape for n in range(len(positions))}, weights=weights)
    outputs, expected = _outputs(tf, model, tmp_path)
    assert len(expected) == len(positions)
    for output, array in zip(outputs, expected, strict=True):
        np.testing.assert_array_equal(output, array)


@pytest.mark.parametrize("opset", [11, 20])
def test_sizes_may_be_computed(tf: Any, make: Any, tmp_path: Path, opset: int) -> None:
    """As of torch.split by what a mixture of experts counted: here 2, 0 and 6, the dimensions of x being 2, 3 and 8."""
    nodes = [
        helper.make_node("Shape", ["x"], ["shape"]),
        helper.make_node("Gather", ["shape", "first"], ["two"]),
        helper.make_node("Sub", ["two", "two"], ["none"]),
        helper.make_node("Mul", ["two", "three"], ["six"]),
        helper.make_node("Concat", ["two", "none", "six"], ["sizes"], axis=0),
        helper.make_node("SplitToSequence", ["x", "sizes"], ["s"], axis=-1),
        *(helper.make_node("SequenceAt", ["s", f"i{n}"], [f"y{n}"]) for n in range(3)),
    ]
    weights = {f"i{n}": np.array(n) for n in range(3)} | {"first": np.array([0]), "three": np.array([3])}
    outputs = {f"y{n}": ["a", "b", f"c{n}"] for n in range(3)}
    model = make(nodes, {"x": ["N", 3, 8]}, outputs, weights=weights, opset=opset)
    converted, expected = _outputs(tf, model, tmp_path)
    assert [array.shape[-1] for array in expected] == [2, 0, 6]
    for output, array in zip(converted, expected, strict=True):
        np.testing.assert_array_equal(output, array)


def test_positions_of_constant_nodes_and_splits_in_subgraphs(tf: Any, make: Any, tmp_path: Path) -> None:
    def body(position: int) -> Any:
        nodes = [
            helper.make_node("Constant", [], ["i"], value_int=position),
            helper.make_node("Constant", [], ["sizes"], value_ints=[1, 7]),
            helper.make_node("SplitToSequence", ["x", "sizes"], ["s"], axis=2),
            helper.make_node("SequenceAt", ["s", "i"], ["out"]),
        ]
        return helper.make_graph(nodes, "body", [], [helper.make_tensor_value_info("out", 1, ["a", "b", "c"])])

    nodes = [
        helper.make_node("ReduceSum", ["x"], ["total"], keepdims=0),
        helper.make_node("Greater", ["total", "zero"], ["positive"]),
        helper.make_node("If", ["positive"], ["y"], then_branch=body(1), else_branch=body(0)),
    ]
    model = make(nodes, {"x": list(X.shape)}, {"y": ["a", "b", "c"]}, weights={"zero": np.float32(0)})
    outputs, expected = _outputs(tf, model, tmp_path)
    np.testing.assert_array_equal(outputs[0], expected[0])


def test_a_position_that_is_not_constant_is_refused_by_name(make: Any) -> None:
    from seaway.convert.native import net

    nodes = [
        helper.make_node("SplitToSequence", ["x"], ["s"], "split", axis=1),
        helper.make_node("SequenceAt", ["s", "at"], ["y"], "element"),
    ]
    model = make(nodes, {"x": list(X.shape), "at": []}, {"y": ["a", "b", "c"]})
    model.graph.input[1].type.tensor_type.elem_type = onnx.TensorProto.INT64
    with pytest.raises(ModelError, match=r"2 of the model's nodes .* SplitToSequence-11 \(split\)"):
        net.convert(model)
