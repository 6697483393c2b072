"""An image model small enough to read: 5 classes of 12x10 images, normalised, one convolution, one dense layer."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
import torchvision  # noqa: F401  before TensorFlow: the other way round, importing it ends the process
from onnx import TensorProto, helper, numpy_helper

from seaway import tensorflow_import
from seaway.artifacts import artifact_metadata
from seaway.artifacts.artifact_metadata import ArtifactMetadata, Tensor, Tolerance

LABELS = ("a", "b", "é", "d", "E")


@pytest.fixture(scope="session")
def tf() -> Any:
    return tensorflow_import.import_tensorflow()


@pytest.fixture(scope="session")
def image_model() -> Any:
    rng = np.random.default_rng(7)
    weights = {
        "mean": np.float32(0.2),
        "std": np.float32(0.4),
        "conv.weight": rng.normal(size=(4, 1, 3, 3)).astype(np.float32),
        "conv.bias": rng.normal(size=4).astype(np.float32),
        "fc.weight": rng.normal(size=(5, 4 * 10 * 8)).astype(np.float32) / 8,
        "fc.bias": rng.normal(size=5).astype(np.float32),
    }
    nodes = [
        helper.make_node("Sub", ["image", "mean"], ["centred"], "/Sub"),
        helper.make_node("Div", ["centred", "std"], ["normal"], "/Div"),
        helper.make_node("Transpose", ["normal"], ["nchw"], "/Transpose", perm=[0, 3, 1, 2]),
        helper.make_node("Conv", ["nchw", "conv.weight", "conv.bias"], ["conv"], "/conv/Conv"),
        helper.make_node("Relu", ["conv"], ["relu"], "/Relu"),
        helper.make_node("Flatten", ["relu"], ["flat"], "/Flatten"),
        helper.make_node("Gemm", ["flat", "fc.weight", "fc.bias"], ["logits"], "/fc/Gemm", transB=1),
        helper.make_node("Softmax", ["logits"], ["scores"], "/Softmax", axis=1),
    ]
    return make_model(
        nodes, {"image": ["n", 12, 10, 1]}, {"scores": ["n", 5], "logits": ["n", 5]}, weights=weights, opset=13
    )


@pytest.fixture
def image_artifact(tmp_path: Path, image_model: Any) -> Path:
    return write_artifact(tmp_path / "onnx", image_model)


@pytest.fixture(params=["seaway", "onnx-tf"])
def converter(request: pytest.FixtureRequest) -> str:
    """Each converter in turn."""
    return str(request.param)


@pytest.fixture(scope="session")
def all_saved_images(tmp_path_factory: pytest.TempPathFactory, image_model: Any) -> dict[str, Path]:
    """The image model converted by each converter; read-only."""
    from seaway.convert.convert import CONVERTERS, convert_artifact

    folder = tmp_path_factory.mktemp("images")
    onnx = write_artifact(folder / "onnx", image_model)
    for name in CONVERTERS:
        convert_artifact(onnx, folder / name, name)
    return {name: folder / name for name in CONVERTERS}


@pytest.fixture
def saved_images(all_saved_images: dict[str, Path], converter: str) -> Path:
    return all_saved_images[converter]


@pytest.fixture(scope="session")
def make() -> Callable[..., Any]:
    return make_model


def make_model(
    nodes: list[Any],
    inputs: dict[str, list[Any]],
    outputs: dict[str, list[Any]],
    weights: dict[str, np.ndarray] | None = None,
    opset: int = 13,
    dtype: int = TensorProto.FLOAT,
) -> Any:
    graph = helper.make_graph(
        nodes,
        "tiny",
        [helper.make_tensor_value_info(name, dtype, shape) for name, shape in inputs.items()],
        [helper.make_tensor_value_info(name, TensorProto.FLOAT, shape) for name, shape in outputs.items()],
        [numpy_helper.from_array(np.asarray(w), name) for name, w in (weights or {}).items()],
    )
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", opset)], ir_version=8)


def write_artifact(folder: Path, model: Any, labels: tuple[str, ...] = LABELS) -> Path:
    folder.mkdir()
    onnx.save(model, folder / "model.onnx")
    (folder / "labels.txt").write_text("\n".join(labels) + "\n", encoding="utf-8")
    metadata = ArtifactMetadata(
        kind="onnx",
        name="tiny",
        inputs=(Tensor("image", "float32", (None, 12, 10, 1)),),
        outputs=(Tensor("scores", "float32", (None, 5)), Tensor("logits", "float32", (None, 5))),
        labels=labels,
        tolerances={"scores": Tolerance(1e-5, 0), "logits": Tolerance(1e-4, 0)},
    )
    artifact_metadata.write(folder, metadata)
    return folder
