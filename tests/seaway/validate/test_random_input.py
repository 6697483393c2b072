"""`seaway convert --check`: it detects differences, and reports their size."""

from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
import torchvision  # noqa: F401  before TensorFlow: the other way round, importing it ends the process
from onnx import TensorProto, helper, numpy_helper

from seaway.artifacts.artifact_metadata import Tensor
from seaway.convert.convert import convert
from seaway.errors import ModelError, Unsupported
from seaway.validate import random_input


def saved(folder: Path, bias: float, kind: int = TensorProto.FLOAT, size: int = 3) -> Path:
    """y = x + bias, z = -x, of any number of rows of `size`."""
    folder.mkdir()
    constant = numpy_helper.from_array(np.array(bias, helper.tensor_dtype_to_np_dtype(kind)), "b")
    graph = helper.make_graph(
        [helper.make_node("Add", ["x.1", "b"], ["y"]), helper.make_node("Neg", ["x.1"], ["z"])],
        "net",
        [helper.make_tensor_value_info("x.1", kind, ["n", size])],
        [helper.make_tensor_value_info(name, kind, ["n", size]) for name in ("y", "z")],
        [constant],
    )
    opset = [helper.make_opsetid("", 13)]
    onnx.save(helper.make_model(graph, opset_imports=opset, ir_version=8), folder / "model.onnx")
    return folder / "model.onnx"


@pytest.fixture(scope="module")
def converted(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path, Any]:
    folder = tmp_path_factory.mktemp("converted")
    file = saved(folder / "onnx", 1.0)
    return file, folder / "saved_model", convert(file, folder / "saved_model")


def test_the_same_model_has_no_difference(converted: tuple[Path, Path, Any]) -> None:
    differences = random_input.differences(*converted)
    assert [*differences] == ["y", "z"]
    assert {difference for difference, _ in differences.values()} == {0.0}
    assert min(largest for _, largest in differences.values()) > 0.5


def test_a_difference_is_found_in_the_output_that_has_it(converted: tuple[Path, Path, Any], tmp_path: Path) -> None:
    _, saved_model, metadata = converted
    differences = random_input.differences(saved(tmp_path / "other", 1.25), saved_model, metadata)
    assert differences["y"][0] == pytest.approx(0.25, abs=1e-6)
    assert differences["z"][0] == 0


def test_nan_against_a_number_is_a_difference(converted: tuple[Path, Path, Any], tmp_path: Path) -> None:
    _, saved_model, metadata = converted
    assert random_input.differences(saved(tmp_path / "other", np.nan), saved_model, metadata)["y"][0] == np.inf


def test_another_shape_is_refused(converted: tuple[Path, Path, Any], tmp_path: Path) -> None:
    _, saved_model, metadata = converted
    with pytest.raises((ModelError, Unsupported), match=r"ONNX Runtime failed|in TensorFlow and"):
        random_input.differences(saved(tmp_path / "other", 1.0, size=4), saved_model, metadata)


def test_random_values_have_the_requested_type() -> None:
    tensors = [Tensor(kind, kind, (None, 40)) for kind in ("float32", "float16", "bfloat16", "int64", "bool", "uint8")]
    arrays = random_input.random(tuple(tensors), 0)
    assert {name: str(array.dtype) for name, array in arrays.items()} == {
        tensor.name: tensor.dtype for tensor in tensors
    }
    assert {array.shape for array in arrays.values()} == {(2, 40)}
    assert set(arrays["int64"].flat) == {0, 1}
    assert len(set(arrays["float32"].flat)) == 80


def test_strings_have_no_random_values() -> None:
    with pytest.raises(Unsupported, match="random input does not support"):
        random_input.random((Tensor("x", "str", (1,)),), 0)


def test_a_size_that_the_conversion_fixed_is_found(
    converted: tuple[Path, Path, Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """TensorFlow runs at the first size of the dynamic axes alone."""
    file, saved_model, metadata = converted
    real = random_input.runners.tensorflow

    def only_two_rows(folder: Path) -> Any:
        def runner(names: Any) -> Any:
            run = real(folder)(names)

            def checked(inputs: dict[str, np.ndarray]) -> Any:
                if len(inputs["x_1"]) != 2:
                    raise ModelError("TensorFlow failed: another number of rows")
                return run(inputs)

            return checked

        return runner

    monkeypatch.setattr(random_input.runners, "tensorflow", only_two_rows)
    with pytest.raises(ModelError, match="another number of rows"):
        random_input.differences(file, saved_model, metadata)
