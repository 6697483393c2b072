"""ONNX → SavedModel: signatures, names, numbers, bytes, and every kind of bad model, compared with ONNX Runtime."""

import dataclasses
import json
import re
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any, get_args

import numpy as np
import onnx
import onnxruntime
import pytest
from onnx import TensorProto, helper

from seaway.artifacts import artifact_metadata
from seaway.artifacts.artifact_metadata import Tensor
from seaway.convert.__main__ import main
from seaway.convert.convert import CONVERTERS, DEFAULT_CONVERTER, convert, convert_artifact
from seaway.errors import InvalidInput, MetadataError, ModelError, explain

Make = Callable[..., Any]


def saved(model: Any, folder: Path) -> Path:
    """Writes a model into a folder and returns its path."""
    folder.mkdir(exist_ok=True)
    onnx.save(model, folder / "model.onnx")
    return folder / "model.onnx"


def reference(path: Path, inputs: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
    session = onnxruntime.InferenceSession(path, providers=["CPUExecutionProvider"])
    names = [o.name for o in session.get_outputs()]
    return dict(zip(names, session.run(names, inputs), strict=True))


def run(tf: Any, folder: Path, signature: str, inputs: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
    loaded = tf.saved_model.load(str(folder)).signatures[signature]
    return {name: value.numpy() for name, value in loaded(**{n: tf.constant(v) for n, v in inputs.items()}).items()}


@pytest.mark.parametrize("batch", [1, 7])
def test_an_artifact_keeps_its_interface_and_its_numbers(
    tf: Any, image_artifact: Path, saved_images: Path, batch: int
) -> None:
    image = np.random.default_rng(1).random((batch, 12, 10, 1), dtype=np.float32)
    expected = reference(image_artifact / "model.onnx", {"image": image})
    scores = run(tf, saved_images, "serving_default", {"image": image})
    logits = run(tf, saved_images, "logits", {"image": image})
    assert list(scores) == ["scores"]
    assert list(logits) == ["logits"]
    assert np.allclose(scores["scores"], expected["scores"], rtol=0, atol=1e-6)
    assert np.allclose(logits["logits"], expected["logits"], rtol=0, atol=1e-5)


def test_the_server_loads_it_and_gives_the_same_outputs(tf: Any, image_artifact: Path, saved_images: Path) -> None:
    from seaway.serve.backends.savedmodel import load

    image = np.random.default_rng(1).random((3, 12, 10, 1), dtype=np.float32)
    expected = reference(image_artifact / "model.onnx", {"image": image})
    served = load(saved_images, None, 1)
    assert {*served.signatures} == {"serving_default", "logits", "from_png"}
    outputs = served.predict("serving_default", {"image": image})
    served.close()
    assert np.allclose(outputs["scores"], expected["scores"], rtol=0, atol=1e-6)


def test_the_metadata_keeps_the_interface_and_names_its_parent(
    image_artifact: Path, tmp_path: Path, converter: str
) -> None:
    metadata = convert_artifact(image_artifact, tmp_path / "saved_model", converter)
    onnx_metadata = artifact_metadata.read(image_artifact)
    assert artifact_metadata.check(tmp_path / "saved_model", "saved_model") == metadata
    assert metadata.parents["onnx"] == onnx_metadata
    assert metadata.settings == {"converter": converter, "opset": 13}
    assert (metadata.inputs, metadata.outputs, metadata.labels) == (
        onnx_metadata.inputs,
        onnx_metadata.outputs,
        onnx_metadata.labels,
    )
    assert (tmp_path / "saved_model/labels.txt").read_text(encoding="utf-8").split() == list(metadata.labels)


def test_the_conversion_report_counts_operators(saved_images: Path, converter: str) -> None:
    conversion = json.loads((saved_images / "conversion.json").read_text())
    before, after = conversion["onnx"], conversion["saved_model"]
    assert before["operators"] == dict.fromkeys(
        ["Conv", "Div", "Flatten", "Gemm", "Relu", "Softmax", "Sub", "Transpose"], 1
    )
    assert before["nodes"] == 8
    assert before["weights_bytes"] == 4 * (2 + 4 * 9 + 4 + 5 * 320 + 5)
    assert before["bytes"] > before["weights_bytes"]
    assert (after["convolutions"], after["channels_last"]) == (1, 1)
    assert after["transposes"] == after["operators"]["Transpose"]
    assert (after["transposes"] == 1) == (converter == "seaway")
    assert "DecodePng" not in after["operators"], "from_png is not part of the model"
    assert after["bytes"] == sum(
        path.stat().st_size for name in ("saved_model.pb", "variables/*") for path in saved_images.glob(name)
    )
    assert conversion.get("folded") == (0 if converter == "seaway" else None)


def test_weights_stay_whole(image_model: Any, saved_images: Path) -> None:
    from seaway.validate import saved_file

    arrays = [*saved_file.constants(saved_file.read(saved_images)), *saved_file.variables(saved_images)]
    checksums = [artifact_metadata.checksum(array) for array in arrays]
    for weight in (w for w in image_model.graph.initializer if w.dims):  # a scalar may occur elsewhere too
        assert checksums.count(artifact_metadata.checksum(onnx.numpy_helper.to_array(weight))) == 1, weight.name


def test_the_same_model_gives_the_same_bytes(image_artifact: Path, tmp_path: Path, converter: str) -> None:
    for name in ("first", "second"):
        command = [sys.executable, "-m", "seaway.convert", "--converter", converter, "--onnx", image_artifact]
        done = subprocess.run([*command, "--saved-model", tmp_path / name], capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stderr
        assert done.stderr == ""
        assert "writing signatures serving_default, logits, from_png" in done.stdout
        assert re.search(r"8 nodes of ONNX became \d+ of TensorFlow, .*1 of 1 convolutions channels last", done.stdout)
    assert artifact_metadata.check(tmp_path / "first").sha256 == artifact_metadata.check(tmp_path / "second").sha256


def test_a_bare_file_keeps_the_names_of_its_graph(tf: Any, make: Make, tmp_path: Path, converter: str) -> None:
    nodes = [
        helper.make_node("Add", ["input.1", "class"], ["sum.1"], "weird name:0"),
        helper.make_node("Mul", ["input.1", "class"], ["product"]),
    ]
    model = make(nodes, {"input.1": ["n", 3], "class": ["n", 3]}, {"sum.1": ["n", 3], "product": ["n", 3]})
    metadata = convert(saved(model, tmp_path), tmp_path / "saved_model", converter)
    assert [t.name for t in metadata.inputs] == ["input_1", "class_"]
    a, b = np.float32([[1, 2, 3]]), np.float32([[4, 5, 6]])
    outputs = run(tf, tmp_path / "saved_model", "serving_default", {"input_1": a, "class_": b})
    assert np.array_equal(outputs["sum.1"], a + b)
    assert np.array_equal(outputs["product"], a * b)


def test_the_command_line_takes_a_bare_file(image_model: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = saved(image_model, tmp_path)
    monkeypatch.setattr(sys, "argv", ["convert", str(path), str(tmp_path / "saved_model")])
    main()
    metadata = artifact_metadata.check(tmp_path / "saved_model", "saved_model")
    assert metadata.name == "model"
    assert metadata.inputs == (Tensor("image", "float32", (None, 12, 10, 1)),)
    assert [t.name for t in metadata.outputs] == ["scores", "logits"]


@pytest.mark.parametrize("keepdims", [0, 1])
@pytest.mark.parametrize("axes", [[1, 2], [-1], [0, 1, 2, 3], [], None])
def test_sums_run_over_all_their_axes(
    tf: Any, make: Make, tmp_path: Path, converter: str, axes: list[int] | None, keepdims: int
) -> None:
    node = helper.make_node("ReduceSum", ["x"] + ["axes"] * (axes is not None), ["y"], "sum", keepdims=keepdims)
    weights = {} if axes is None else {"axes": np.array(axes, np.int64)}
    x = np.random.default_rng(2).random((2, 3, 4, 5), dtype=np.float32)
    y = x.sum(axis=tuple(axes) if axes else None, keepdims=bool(keepdims))
    path = saved(make([node], {"x": [2, 3, 4, 5]}, {"y": list(y.shape)}, weights), tmp_path)
    convert(path, tmp_path / "saved_model", converter)
    outputs = run(tf, tmp_path / "saved_model", "serving_default", {"x": x})["y"]
    assert outputs.shape == y.shape == reference(path, {"x": x})["y"].shape
    assert np.allclose(outputs, y, rtol=1e-5, atol=0)


def test_dropout_outside_training_drops_nothing(tf: Any, make: Make, tmp_path: Path, converter: str) -> None:
    node = helper.make_node("Dropout", ["x", "ratio", "training"], ["y"], "drop")
    weights = {"ratio": np.float32(0.5), "training": np.array(False)}
    convert(
        saved(make([node], {"x": ["n", 100]}, {"y": ["n", 100]}, weights), tmp_path),
        tmp_path / "saved_model",
        converter,
    )
    x = np.ones((2, 100), np.float32)
    assert np.array_equal(run(tf, tmp_path / "saved_model", "serving_default", {"x": x})["y"], x)


def test_onnx_tf_refuses_dropout_in_training(make: Make, tmp_path: Path) -> None:
    node = helper.make_node("Dropout", ["x", "ratio", "training"], ["y"], "drop")
    weights = {"ratio": np.float32(0.5), "training": np.array(True)}
    path = saved(make([node], {"x": ["n", 4]}, {"y": ["n", 4]}, weights), tmp_path)
    with pytest.raises(ModelError, match=r"drop: a Dropout in training mode.*eval\(\)"):
        convert(path, tmp_path / "saved_model", "onnx-tf")
    assert not (tmp_path / "saved_model").exists()


@pytest.mark.parametrize("upper", [0, 1])
@pytest.mark.parametrize("k", [None, 0, -1, 2, 9, -9])
def test_trilu(tf: Any, make: Make, tmp_path: Path, converter: str, k: int | None, upper: int) -> None:
    node = helper.make_node("Trilu", ["x"] + ["k"] * (k is not None), ["y"], upper=upper)
    weights = {} if k is None else {"k": np.int64(k)}
    path = saved(make([node], {"x": ["n", 3, 4]}, {"y": ["n", 3, 4]}, weights, opset=14), tmp_path)
    convert(path, tmp_path / "saved_model", converter)
    x = np.arange(1, 25, dtype=np.float32).reshape(2, 3, 4)
    outputs = run(tf, tmp_path / "saved_model", "serving_default", {"x": x})["y"]
    assert np.array_equal(outputs, (np.triu if upper else np.tril)(x, k or 0))


@pytest.mark.parametrize(
    ("op", "shape", "axes"),
    [
        ("Squeeze", [2, 1, 3, 1], [1, 3]),
        ("Squeeze", [2, 1, 3, 1], [-1]),
        ("Squeeze", [2, 1, 3, 1], None),
        ("Unsqueeze", [2, 3], [0, -1]),
        ("Unsqueeze", [2, 3], [2, 1]),
    ],
)
def test_squeeze_and_unsqueeze_with_axes_as_an_input(
    tf: Any, make: Make, tmp_path: Path, converter: str, op: str, shape: list[int], axes: list[int] | None
) -> None:
    node = helper.make_node(op, ["x"] + ["axes"] * (axes is not None), ["y"])
    weights = {} if axes is None else {"axes": np.array(axes, np.int64)}
    x = np.arange(6, dtype=np.float32).reshape(shape)
    y = np.expand_dims(x, tuple(axes)) if op == "Unsqueeze" and axes else np.squeeze(x, tuple(axes) if axes else None)
    path = saved(make([node], {"x": shape}, {"y": list(y.shape)}, weights), tmp_path)
    convert(path, tmp_path / "saved_model", converter)
    outputs = run(tf, tmp_path / "saved_model", "serving_default", {"x": x})["y"]
    assert outputs.shape == y.shape == reference(path, {"x": x})["y"].shape
    assert np.array_equal(outputs, y)


@pytest.mark.parametrize("part", [{}, {"start": 1}, {"end": -1}, {"start": -2, "end": 3}])
def test_shape_with_start_and_end(tf: Any, make: Make, tmp_path: Path, converter: str, part: dict[str, int]) -> None:
    nodes = [
        helper.make_node("Shape", ["x"], ["sizes"], **part),
        helper.make_node("Cast", ["sizes"], ["y"], to=TensorProto.FLOAT),
    ]
    x = np.zeros((2, 3, 4), np.float32)
    y = np.array(x.shape[part.get("start") : part.get("end")], np.float32)
    convert(
        saved(make(nodes, {"x": ["n", 3, 4]}, {"y": [len(y)]}, {}, opset=15), tmp_path),
        tmp_path / "saved_model",
        converter,
    )
    assert np.array_equal(run(tf, tmp_path / "saved_model", "serving_default", {"x": x})["y"], y)


def test_every_unsupported_node_is_named_at_once(make: Make, tmp_path: Path) -> None:
    nodes = [
        helper.make_node("ReduceMean", ["x", "axes"], ["a"], "mean/of"),
        helper.make_node("Relu", ["a"], ["b"], "fine"),
        helper.make_node("Gelu", ["b"], ["y"], "act"),
    ]
    model = make(nodes, {"x": ["n", 4]}, {"y": ["n", 1]}, {"axes": np.array([1], np.int64)}, opset=20)
    with pytest.raises(ModelError) as caught:
        convert(saved(model, tmp_path), tmp_path / "saved_model", "onnx-tf")
    message = str(caught.value)
    assert "2 of the model's nodes: ReduceMean-18 (mean/of); Gelu-20 (act)." in message
    assert "onnx-tf, which ends at opset 15," in message
    assert (
        "Use --converter seaway, replace these operators in the network, or export it with opset_version=15" in message
    )


def test_onnx_tf_refuses_recurrent_cells_by_name(make: Make, tmp_path: Path) -> None:
    weights = {"w": np.ones((1, 8, 3), np.float32), "r": np.ones((1, 8, 2), np.float32)}
    node = helper.make_node("LSTM", ["x", "w", "r"], ["y"], "cell", hidden_size=2)
    path = saved(make([node], {"x": [5, 1, 3]}, {"y": [5, 1, 1, 2]}, weights), tmp_path)
    with pytest.raises(ModelError, match=r"LSTM-7 \(cell\)"):
        convert(path, tmp_path / "saved_model", "onnx-tf")


def test_a_newer_opset_than_onnx_supports_names_the_newest_that_converts(make: Make, tmp_path: Path) -> None:
    newest = onnx.defs.onnx_opset_version()
    relu = helper.make_node("Relu", ["x"], ["y"])
    path = saved(make([relu], {"x": [1]}, {"y": [1]}, opset=newest + 1), tmp_path)
    with pytest.raises(ModelError) as caught:
        convert(path, tmp_path / "saved_model")
    assert f"its opset is {newest + 1}, but onnx {onnx.__version__} supports at most {newest};" in str(caught.value)
    (advised,) = re.findall(r"export the model with opset_version=(\d+) or lower", str(caught.value))
    path = saved(make([relu], {"x": [1]}, {"y": [1]}, opset=int(advised)), tmp_path)
    assert convert(path, tmp_path / "saved_model").settings["opset"] == newest


def test_a_failing_node_is_named(make: Make, tmp_path: Path, converter: str) -> None:
    node = helper.make_node("Gemm", ["x", "w"], ["y"], "dense")
    model = make([node], {"x": ["n", 4]}, {"y": ["n", 2]}, {"w": np.ones((5, 2), np.float32)})
    with pytest.raises(ModelError, match=r"Gemm-13 \(dense\)"):
        convert(saved(model, tmp_path), tmp_path / "saved_model")


@pytest.mark.parametrize("content", [b"", b"not an ONNX file", b"\x89PNG\r\n\x1a\n", b"{}", bytes(1000)])
def test_a_file_that_is_not_onnx_is_refused(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "model.onnx").write_bytes(content)
    with pytest.raises(ModelError, match=r"model\.onnx: not an ONNX file, or a truncated one"):
        convert(tmp_path / "model.onnx", tmp_path / "saved_model")


@pytest.mark.parametrize("share", [0.05, 0.5, 0.999])
def test_a_truncated_file_is_refused(image_model: Any, tmp_path: Path, share: float) -> None:
    path = saved(image_model, tmp_path)
    whole = path.read_bytes()
    path.write_bytes(whole[: int(len(whole) * share)])
    with pytest.raises(ModelError, match=r"model\.onnx"):
        convert(path, tmp_path / "saved_model")


def test_a_missing_file_a_folder_and_missing_metadata_are_named(image_artifact: Path, tmp_path: Path) -> None:
    with pytest.raises(ModelError, match="no such file"):
        convert(tmp_path / "none.onnx", tmp_path / "saved_model")
    with pytest.raises(ModelError, match="a folder"):
        convert(image_artifact, tmp_path / "saved_model")
    (image_artifact / "card.json").unlink()
    with pytest.raises(MetadataError, match=r"card\.json"):
        convert_artifact(image_artifact, tmp_path / "saved_model")


def test_an_edited_artifact_is_refused(image_artifact: Path, tmp_path: Path) -> None:
    (image_artifact / "labels.txt").write_text("x\n")
    with pytest.raises(MetadataError, match="changed after its metadata was written"):
        convert_artifact(image_artifact, tmp_path / "saved_model")


def test_metadata_that_does_not_match_the_graph_is_refused(image_artifact: Path, tmp_path: Path) -> None:
    metadata = artifact_metadata.read(image_artifact)
    wrong = dataclasses.replace(metadata, inputs=(Tensor("image", "float32", (None, 28, 28, 1)),))
    artifact_metadata.write(image_artifact, wrong)
    with pytest.raises(ModelError, match=r"the metadata has the input image: float32 \[None, 28, 28, 1\]"):
        convert_artifact(image_artifact, tmp_path / "saved_model")


def test_a_folder_with_other_content_is_not_replaced(image_artifact: Path, tmp_path: Path) -> None:
    (tmp_path / "precious").mkdir()
    (tmp_path / "precious/thesis.txt").write_text("…")
    with pytest.raises(InvalidInput, match="not a SavedModel"):
        convert_artifact(image_artifact, tmp_path / "precious")
    assert (tmp_path / "precious/thesis.txt").exists()


def test_an_older_savedmodel_is_replaced(image_artifact: Path, tmp_path: Path) -> None:
    convert(image_artifact / "model.onnx", tmp_path / "saved_model")
    metadata = convert_artifact(image_artifact, tmp_path / "saved_model")
    assert artifact_metadata.check(tmp_path / "saved_model") == metadata


def test_the_default_is_the_same_everywhere() -> None:
    from seaway.cli import options
    from seaway.pipeline import definitions

    for pipeline in map(definitions.pipeline, ("characters", "ship")):
        declared = pipeline.pipeline_spec.root.input_definitions.parameters["converter"]
        assert declared.default_value.string_value == DEFAULT_CONVERTER
    assert options.DEFAULT_CONVERTER == DEFAULT_CONVERTER == next(iter(CONVERTERS))
    assert get_args(get_args(options.Converter)[0]) == tuple(CONVERTERS)


def test_an_unknown_converter_lists_the_known_ones(image_artifact: Path, tmp_path: Path) -> None:
    with pytest.raises(InvalidInput, match="choose from seaway, onnx-tf"):
        convert_artifact(image_artifact, tmp_path / "saved_model", "magic")


def test_a_full_disk_is_a_message_and_leaves_nothing(make: Make, tmp_path: Path, small_disk: Path) -> None:
    weight = np.random.default_rng(0).random((1000, 500), dtype=np.float32)  # 2 MB onto 1 MB
    node = helper.make_node("MatMul", ["x", "w"], ["y"])
    path = saved(make([node], {"x": ["n", 1000]}, {"y": ["n", 500]}, {"w": weight}), tmp_path)
    with pytest.raises(OSError, match="No space left") as caught:
        convert(path, small_disk / "saved_model")
    assert "the disk is full" in explain(caught.value)
    assert list(small_disk.iterdir()) == []


def test_a_bad_model_ends_the_command_with_one_line(tmp_path: Path) -> None:
    (tmp_path / "model.onnx").write_bytes(b"nonsense")
    command = [sys.executable, "-m", "seaway.convert", tmp_path / "model.onnx", tmp_path / "saved_model"]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 1
    assert done.stderr.startswith("python -m seaway.convert: ")
    assert done.stderr.count("\n") == 1
    assert not (tmp_path / "saved_model").exists()
