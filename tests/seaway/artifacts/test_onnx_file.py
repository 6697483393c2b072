"""Memory-mapped weights have the same values as with onnx; damaged files are refused."""

from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from google.protobuf.message import DecodeError  # type: ignore[import-untyped]
from onnx import TensorProto, helper, numpy_helper

from seaway.artifacts import onnx_file

WEIGHTS = {
    "large": np.random.default_rng(1).normal(size=(60, 50)).astype(np.float32),
    "whole": np.arange(2000, dtype=np.int64),
    "half": np.linspace(0, 1, 4096, dtype=np.float16),
    "small": np.float32([1, 2]),
    "none": np.zeros((0, 3), np.float32),
}


def a_model() -> Any:
    nodes = [helper.make_node("Identity", [name], [f"{name}_out"]) for name in WEIGHTS]
    values = {n: helper.np_dtype_to_tensor_dtype(w.dtype) for n, w in WEIGHTS.items()}
    outputs = [helper.make_tensor_value_info(f"{n}_out", kind, WEIGHTS[n].shape) for n, kind in values.items()]
    graph = helper.make_graph(nodes, "g", [], outputs, [numpy_helper.from_array(w, n) for n, w in WEIGHTS.items()])
    floats = helper.make_tensor("listed", TensorProto.FLOAT, [2000], np.ones(2000, np.float32).tolist())
    graph.initializer.append(floats)  # as numbers, not as raw bytes
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)


@pytest.mark.parametrize("beside", [False, True], ids=["in the file", "in a file beside it"])
def test_every_weight_has_its_values_and_the_rest_equals_onnx_load(tmp_path: Path, beside: bool) -> None:
    model, path = a_model(), tmp_path / "model.onnx"
    onnx.save(a_model(), path, save_as_external_data=beside, location="data" if beside else None, size_threshold=0)
    read = onnx_file.read(path)
    assert read.ByteSize() < model.ByteSize() / 2
    onnx.checker.check_model(onnx_file.checkable(read))
    for got, wanted in zip(read.graph.initializer, model.graph.initializer, strict=True):
        assert got.name == wanted.name
        array = onnx_file.array(got)
        assert array.dtype == numpy_helper.to_array(wanted).dtype
        assert np.array_equal(array, numpy_helper.to_array(wanted))
    for one in (read, model):
        del one.graph.initializer[:]
    assert read == model


def test_a_file_truncated_anywhere_is_refused(tmp_path: Path) -> None:
    whole, path = a_model().SerializeToString(), tmp_path / "model.onnx"
    for end in range(100, len(whole) - 60, 997):  # at the end stand the outputs and the opset, fields of their own
        path.write_bytes(whole[:end])
        with pytest.raises(DecodeError):
            onnx_file.read(path)


@pytest.mark.parametrize("location", ["../data", "/etc/hostname", "a/../../data", ""])
def test_data_outside_the_models_folder_is_not_read(tmp_path: Path, location: str) -> None:
    model = a_model()
    tensor = model.graph.initializer[0]
    tensor.ClearField("raw_data")
    tensor.data_location = TensorProto.EXTERNAL
    tensor.external_data.add(key="location", value=location)
    (tmp_path / "model.onnx").write_bytes(model.SerializeToString())
    with pytest.raises(ValueError, match=r"'large' is outside the model's folder"):
        onnx_file.read(tmp_path / "model.onnx")


def test_data_that_is_too_short_or_too_long_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "model.onnx"
    onnx.save(a_model(), path, save_as_external_data=True, location="data", size_threshold=0)
    (tmp_path / "data").write_bytes((tmp_path / "data").read_bytes()[:100])
    with pytest.raises(ValueError, match="ends within the data of the tensor 'large'"):
        onnx_file.read(path)
