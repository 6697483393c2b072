"""Weights that the converter splits, reorders, sums or computes with are followed, and any change to them is seen."""

import dataclasses
import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
import torchvision  # noqa: F401  before TensorFlow: the other way round, importing it ends the process
from onnx import TensorProto, helper, numpy_helper

from seaway.artifacts import artifact_metadata
from seaway.artifacts.constants import Constant, from_json
from seaway.convert.convert import convert_artifact
from seaway.errors import ModelError, Refused
from seaway.export.export import export_model
from seaway.validate import constants
from seaway.validate.validate import validate

FIXTURES = Path(__file__).resolve().parents[2] / "fixtures"
# Net → a weight of it that is not stored as it is.
CHANGED = {
    "grouped": "0.weight", "depthwise": "0.weight", "depthwise_3d": "0.weight", "strided_3d": "0.weight",
    "grouped_up": "0.weight", "dilated_up": "0.weight", "lstm": "layer.bias_hh_l0", "gru": "layer.weight_ih_l0_reverse",
    "rnn": "layer.bias_ih_l1", "cosine": "", "low_rank": "down", "positions": "positions", "relative_bias": "table",
    "mixes": "mix", "zeroed_bias": "qkv.bias",
    "fake_8_bit": "", "pruned": "0.weight_orig", "weight_norm": "",
}  # fmt: skip


@pytest.mark.parametrize("name", CHANGED)
def test_a_weight_is_followed_through_what_the_converter_does(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, weight_change: Any, name: str
) -> None:
    monkeypatch.syspath_prepend(FIXTURES)
    import derived_nets

    onnx_folder, saved_model = tmp_path / "onnx", tmp_path / "saved_model"
    shape = derived_nets.NETS[name][1]
    metadata = export_model(f"python:derived_nets:{name}", onnx_folder, weights=None, inputs=[shape])
    convert_artifact(onnx_folder, saved_model)
    validate(onnx_folder, saved_model, None, tmp_path / "parity")

    changed = CHANGED[name]
    if changed:
        assert changed in metadata.weights
    else:  # scaled as a whole it would be normalised or rounded away
        changed = next(iter(metadata.weights))
    convert_edited(onnx_folder, saved_model, weight_change(changed, with_one_element_changed))
    with pytest.raises(
        Refused, match=rf"weights: .*{changed}.* is not in the SavedModel with its values from model.onnx"
    ):
        validate(onnx_folder, saved_model, None, tmp_path / "other")


def with_one_element_changed(array: np.ndarray) -> np.ndarray:
    """The first of its elements that is not 0, by a third."""
    flat = array.reshape(-1)
    flat[np.flatnonzero(flat)[0]] *= np.float32(4 / 3)
    return array


def convert_edited(onnx_folder: Path, saved_model: Path, change: Callable[[Any], None]) -> None:
    """A SavedModel with another weight than its metadata says, as a faulty converter would write it."""
    other = onnx_folder.with_name("edited")
    shutil.copytree(onnx_folder, other)
    model = onnx.load(other / "model.onnx")
    change(model)
    onnx.save(model, other / "model.onnx")
    artifact_metadata.write(other, artifact_metadata.read(other))
    convert_artifact(other, saved_model)
    converted = artifact_metadata.read(saved_model)
    parents = {"onnx": artifact_metadata.read(onnx_folder)}
    artifact_metadata.write(saved_model, dataclasses.replace(converted, parents=parents))


WEIGHT = np.arange(12, dtype=np.float32).reshape(3, 4) + 1


def model() -> Any:
    """y = x @ transpose(w * 2), with w as WEIGHT."""
    nodes = [
        helper.make_node("Mul", ["w", "two"], ["doubled"]),
        helper.make_node("Transpose", ["doubled"], ["turned"]),
        helper.make_node("MatMul", ["x", "turned"], ["y"]),
    ]
    tensors = [numpy_helper.from_array(WEIGHT, "w"), numpy_helper.from_array(np.float32(2), "two")]
    x = helper.make_tensor_value_info("x", TensorProto.FLOAT, ["n", 4])
    y = helper.make_tensor_value_info("y", TensorProto.FLOAT, ["n", 3])
    return helper.make_model(
        helper.make_graph(nodes, "g", [x], [y], tensors), opset_imports=[helper.make_opsetid("", 17)]
    )


def faults(constants_: list[Constant], *stored: np.ndarray) -> list[str]:
    return list(constants.faults(["w"], model(), constants_, stored))


WHOLE = Constant("w", 0, (3, 4), (4, 1))
NOT_STORED = "weight 'w' is not in the SavedModel with its values from model.onnx"


def test_views_of_a_weight() -> None:
    assert faults([WHOLE], WEIGHT) == []
    assert faults([WHOLE], WEIGHT.copy().reshape(4, 3)) == [NOT_STORED, NOT_STORED]
    transposed, halves = Constant("w", 0, (4, 3), (1, 4)), [Constant("w", i, (3, 2), (4, 1)) for i in (0, 2)]
    assert faults([transposed], WEIGHT.T) == []
    assert faults(halves, WEIGHT[:, :2], WEIGHT[:, 2:]) == []
    assert faults([Constant("w", 11, (12,), (-1,))], WEIGHT.reshape(-1)[::-1]) == []


def test_a_part_is_not_the_weight() -> None:
    part = Constant("w", 0, (2, 4), (4, 1))
    assert faults([part], WEIGHT[:2]) == [NOT_STORED]
    assert faults([part, Constant("turned", 0, (4, 3), (3, 1))], WEIGHT[:2], 2 * WEIGHT.T) == [], "folded as well"
    assert faults([]) == [NOT_STORED]


def test_folded_values_are_computed_again() -> None:
    doubled = Constant("doubled", 0, (4, 3), (1, 4))
    assert faults([doubled], 2 * WEIGHT.T) == []
    assert faults([doubled], 2 * WEIGHT.T * np.float32(1 + 1e-6)) == [], "another runtime rounds otherwise"
    assert faults([doubled], 2 * WEIGHT.T * np.float32(1.01))[0] == (
        "'doubled', computed from two, w, is not in the SavedModel with its values from model.onnx"
    )


@pytest.mark.parametrize(
    ("constant", "says"),
    [
        (Constant("w", 1, (3, 4), (4, 1)), "elements of 'w' that it does not have"),
        (Constant("w", 0, (3, 4), (4, -1)), "elements of 'w' that it does not have"),
        (Constant("w", 0, (2**40, 2**40), (2**40, 1)), "elements of 'w' that it does not have"),
        (Constant("w", 0, (0, 4), (4, 1)), "elements of 'w' that it does not have"),
    ],
)
def test_elements_outside_the_value_are_not_read(constant: Constant, says: str) -> None:
    with pytest.raises(ModelError, match=says):
        faults([constant], WEIGHT)


@pytest.mark.parametrize(
    ("value", "says"),
    [
        ("x", "cannot be computed from the weights"),
        ("absent", "cannot be computed from the weights"),
        ("y", "is not in the SavedModel"),
    ],
)
def test_a_value_that_is_not_computed_from_weights(value: str, says: str) -> None:
    assert says in faults([Constant(value, 0, (3,), (1,)), WHOLE], WEIGHT)[0]


@pytest.mark.parametrize("raw", [None, 3, ["w"], ["w", 0, [3], [1, 1]], ["w", 0.5, [3], [1]], [1, 0, [3], [1]]])
def test_a_record_that_is_no_constant(raw: Any) -> None:
    with pytest.raises(ModelError, match="in place of a constant; convert again"):
        from_json(raw)


def test_a_constant_is_the_same_after_json() -> None:
    assert from_json(json.loads(json.dumps(WHOLE.to_json()))) == WHOLE
