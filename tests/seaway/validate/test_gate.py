"""Changes that the gate must refuse, each made to a real chain that passes."""

import dataclasses
import html
import json
import shutil
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest

from seaway.artifacts import artifact_metadata, golden
from seaway.convert.convert import CONVERTERS, convert_artifact
from seaway.errors import MetadataError, Refused
from seaway.validate.__main__ import main
from seaway.validate.validate import validate


@pytest.fixture(scope="module")
def first_layer(untouched: Any) -> tuple[str, ...]:
    """The first convolution's weight, and every other tensor with one number per output channel."""
    graph = onnx.load(untouched.onnx / "model.onnx").graph
    conv = next(node for node in graph.node if node.op_type == "Conv")
    norm = next(node for node in graph.node if node.op_type == "BatchNormalization" and node.input[0] == conv.output[0])
    weights = {initializer.name for initializer in graph.initializer}  # not a bias of zeros, which nodes make
    return tuple(name for name in (*conv.input[1:], *norm.input[1:]) if name in weights)


@pytest.fixture(scope="module")
def conv(first_layer: tuple[str, ...]) -> str:
    return first_layer[0]


def refusal(chain: Any, dataset: bool = True, report: bool = False) -> str:
    """The gate's message; nothing may have been written but the report."""
    with pytest.raises(Refused) as caught:
        chain.validate(dataset, report)
    assert not chain.parity.exists()
    assert chain.report.exists() == report
    return str(caught.value)


def swapped(array: np.ndarray) -> np.ndarray:
    array[[0, 1]] = array[[1, 0]]
    return array


def scaled(array: np.ndarray) -> np.ndarray:
    return array * np.float32(1.01)


def each(*changes: Callable[[Any], None]) -> Callable[[Any], None]:
    def apply(model: Any) -> None:
        for change in changes:
            change(model)

    return apply


def nothing(model: Any) -> None:
    """No change."""


def test_the_untouched_chain_passes(chain: Any) -> None:
    metadata = chain.validate(report=True)
    assert artifact_metadata.check(chain.parity, "parity") == metadata
    assert metadata.parents == {
        "onnx": artifact_metadata.read(chain.onnx),
        "saved_model": artifact_metadata.read(chain.saved_model),
    }
    assert metadata.metrics["max_abs"] < 1e-5
    parity = json.loads((chain.parity / "parity.json").read_text())
    rows = {row["hop"]: row for row in parity["rows"]}
    assert list(rows) == ["PyTorch", "ONNX Runtime", "SavedModel", "SavedModel from_png"]
    assert rows["PyTorch"]["accuracy"] == rows["ONNX Runtime"]["accuracy"] == rows["SavedModel"]["accuracy"]
    assert rows["SavedModel from_png"]["accuracy"] is None
    assert rows["SavedModel"]["max_abs"].keys() == {"scores", "logits"}
    assert all(row["wrong"] == row["flipped"] == 0 for row in rows.values())
    assert all(check["passed"] for check in parity["checks"])
    assert {path.name for path in chain.parity.iterdir()} == {"card.json", "parity.json"}, "nothing with a date"
    assert "channels last" in chain.report.read_text()


def test_the_untouched_chain_passes_without_a_dataset(chain: Any) -> None:
    metadata = chain.validate(dataset=False)
    assert not [name for name in metadata.metrics if name.startswith("accuracy")]


@pytest.mark.parametrize("converter", CONVERTERS)
def test_converted_again_from_the_same_model_it_passes(chain_of: Any, converter: str) -> None:
    chain_of.convert_edited(nothing, converter=converter)
    metadata = chain_of.validate()
    assert metadata.kind == "parity"
    assert metadata.parents["saved_model"].settings["converter"] == converter


@pytest.mark.parametrize("converter", CONVERTERS)
def test_two_channels_swapped(chain_of: Any, weight_change: Any, first_layer: tuple[str, ...], converter: str) -> None:
    """Every value is still there; only Seaway's converter tells where each belongs."""
    chain = chain_of
    chain.convert_edited(each(*(weight_change(name, swapped) for name in first_layer)), converter=converter)
    message = refusal(chain, report=True)
    report = chain.report.read_text(encoding="utf-8")
    assert "✗ failed validation" in report
    assert all(line.strip() in html.unescape(report) for line in message.splitlines()[1:])
    assert ("weights:" in message) == (converter == "seaway")
    assert "SavedModel, golden examples one by one: 128 outputs are out of tolerance" in message
    assert "SavedModel, test set" in message
    assert "SavedModel from_png" in message
    assert "ONNX Runtime, " not in message, "only the SavedModel is off"


def test_a_wrong_operator_is_named_in_the_refusal_the_report_and_a_file(chain: Any) -> None:
    def change(model: Any) -> None:
        node = next(node for node in model.graph.node if node.op_type == "BatchNormalization")
        next(each for each in node.attribute if each.name == "epsilon").f = 1e-2

    node = next(n for n in onnx.load(chain.onnx / "model.onnx").graph.node if n.op_type == "BatchNormalization")
    chain.convert_edited(change)
    message = refusal(chain, dataset=False, report=True)
    said = message.splitlines()[-1]
    assert said.startswith(f"the first operator that differs is BatchNormalization (node {node.name!r}, module ")
    assert message.count("the first operator") == 1
    report = html.unescape(chain.report.read_text(encoding="utf-8"))
    assert "The operator that differs" in report
    assert said in report
    assert f">{node.name}</text>" in report
    found = json.loads(chain.report.with_suffix(".divergence.json").read_text(encoding="utf-8"))
    assert found["sentence"] == said
    assert (found["guilty"]["node"], found["guilty"]["operator"]) == (node.name, "BatchNormalization")
    assert found["guilty"]["expected"] != found["guilty"]["actual"]
    chain.convert()
    chain.validate(dataset=False, report=True)
    assert not chain.report.with_suffix(".divergence.json").exists(), "it passes now"
    assert "The operator that differs" not in chain.report.read_text(encoding="utf-8")


def test_without_a_record_the_refusal_says_why_no_operator_is_named(chain: Any, weight_change: Any, conv: str) -> None:
    chain.convert_edited(weight_change(conv, scaled))
    file = chain.saved_model / "conversion.json"
    record = json.loads(file.read_text())
    del record["values"]
    file.write_text(json.dumps(record))
    artifact_metadata.write(chain.saved_model, artifact_metadata.read(chain.saved_model))
    last = refusal(chain, dataset=False).splitlines()[-1]
    assert last.startswith("no operator can be named: ")
    assert "convert again, with --converter seaway" in last


def test_a_wrong_weight_names_the_node_that_takes_it(chain: Any, weight_change: Any, conv: str) -> None:
    """Its values are found to be others, and so is the convolution's output."""
    chain.convert_edited(weight_change(conv, lambda array: array * np.float32(1 + 2e-5)))
    message = refusal(chain, dataset=False)
    assert "weights: weight" in message
    assert "the first operator that differs is Conv" in message


@pytest.mark.parametrize("min_bytes", [1, 1 << 12, 1 << 40], ids=["all variables", "some", "all constants"])
def test_weights_are_found_in_variables_as_in_constants(
    chain: Any, weight_change: Any, conv: str, monkeypatch: pytest.MonkeyPatch, min_bytes: int
) -> None:
    monkeypatch.setattr("seaway.convert.native.weights.MIN_VARIABLE_BYTES", min_bytes)
    chain.convert("seaway")
    chain.validate(dataset=False)
    shutil.rmtree(chain.parity)
    chain.convert_edited(weight_change(conv, scaled), converter="seaway")
    assert f"weight {conv!r} is not in the SavedModel with its values from model.onnx" in refusal(chain)


@pytest.mark.parametrize("which", ["first weight", "its bias"])
def test_a_weight_tensor_scaled_by_one_per_cent(
    chain: Any, weight_change: Any, first_layer: tuple[str, ...], which: str
) -> None:
    name = {"first weight": first_layer[0], "its bias": first_layer[-3]}[which]
    chain.convert_edited(weight_change(name, scaled))
    message = refusal(chain)
    assert f"weight {name!r} is not in the SavedModel with its values from model.onnx" in message
    assert "SavedModel, golden examples in one batch:" in message
    assert "out of tolerance" in message


def test_labels_permuted_in_the_onnx_artifact(chain: Any) -> None:
    """Consistently: metadata, labels.txt, and a SavedModel converted from there. Only the lineage still differs."""
    metadata = artifact_metadata.read(chain.onnx)
    permuted = (metadata.labels[1], metadata.labels[0], *metadata.labels[2:])
    (chain.onnx / "labels.txt").write_text("\n".join(permuted) + "\n", encoding="utf-8")
    artifact_metadata.write(chain.onnx, dataclasses.replace(metadata, labels=permuted))
    chain.convert()
    message = refusal(chain, dataset=False)
    assert "labels: label 0 is '0' instead of '1' in the metadata of the checkpoint" in message
    assert "in the metadata of the dataset" in message


def test_labels_permuted_in_the_metadata_only(chain: Any) -> None:
    metadata = artifact_metadata.read(chain.onnx)
    permuted = (*metadata.labels[:-2], metadata.labels[-1], metadata.labels[-2])
    artifact_metadata.write(chain.onnx, dataclasses.replace(metadata, labels=permuted))
    message = refusal(chain)
    assert f"label 5 is 'b' instead of 'c' in {chain.onnx / 'labels.txt'}" in message
    assert "was not converted from" in message


def test_labels_permuted_in_the_savedmodels_graph(chain: Any) -> None:
    labels = artifact_metadata.read(chain.onnx).labels
    chain.convert_edited(nothing, labels=(*labels[1:], labels[0]))
    message = refusal(chain)
    assert "the labels in the SavedModel's graph (from_png) differ from the metadata's" in message
    assert "SavedModel from_png gives the wrong label for" in message


def test_labels_permuted_beside_the_savedmodel(chain: Any) -> None:
    labels = artifact_metadata.read(chain.saved_model).labels
    (chain.saved_model / "labels.txt").write_text("\n".join(reversed(labels)) + "\n", encoding="utf-8")
    artifact_metadata.write(chain.saved_model, artifact_metadata.read(chain.saved_model))
    assert f"in {chain.saved_model / 'labels.txt'}" in refusal(chain)


def test_weights_changed_after_export(chain: Any, weight_change: Any, conv: str) -> None:
    chain.edit_onnx(weight_change(conv, scaled), rewrite_metadata=False)
    message = refusal(chain)
    assert "digests: " in message
    assert "a file in it was changed after its metadata was written" in message
    assert f"weight {conv!r} in model.onnx was changed" in message
    assert "ONNX Runtime, golden examples" in message


def test_weights_changed_after_export_with_new_metadata_and_converted_again(
    chain: Any, weight_change: Any, conv: str
) -> None:
    chain.edit_onnx(weight_change(conv, scaled))
    chain.convert()
    message = refusal(chain)
    assert "digests:" not in message
    assert f"weight {conv!r} in model.onnx was changed" in message
    assert "ONNX Runtime, golden examples" in message
    assert "SavedModel, golden examples" in message


def test_a_missing_weight(chain: Any, conv: str) -> None:
    def rename(model: Any) -> None:
        next(i for i in model.graph.initializer if i.name == conv).name = "other"
        for node in model.graph.node:
            node.input[:] = ["other" if name == conv else name for name in node.input]

    chain.edit_onnx(rename)
    chain.convert()
    message = refusal(chain, dataset=False)
    assert message.splitlines()[1:] == [f"  weights: weight {conv!r} is not in model.onnx"]


def test_an_older_savedmodel_beside_a_newer_export(chain: Any) -> None:
    metadata = artifact_metadata.read(chain.onnx)
    artifact_metadata.write(
        chain.onnx, dataclasses.replace(metadata, settings={**metadata.settings, "exported": "again"})
    )
    message = refusal(chain, dataset=False)
    assert f"{chain.saved_model} was not converted from the current {chain.onnx}" in message


def test_another_dataset(chain: Any) -> None:
    labels = np.load(chain.dataset / "test_labels.npy")
    np.save(chain.dataset / "test_labels.npy", labels[::-1])
    artifact_metadata.write(chain.dataset, artifact_metadata.read(chain.dataset))
    assert "is not the dataset that the model was trained on" in refusal(chain)


def test_a_signature_with_another_shape(chain: Any) -> None:
    """A SavedModel whose batch is fixed, as a converter may leave it."""
    metadata = artifact_metadata.read(chain.saved_model)
    other = chain.folder / "fixed"
    other.mkdir()
    model = onnx.load(chain.onnx / "model.onnx")
    for value in (*model.graph.input, *model.graph.output):
        value.type.tensor_type.shape.dim[0].dim_value = 64
    onnx.save(model, other / "model.onnx")
    (other / "labels.txt").write_bytes((chain.onnx / "labels.txt").read_bytes())

    def fixed(tensors: tuple[artifact_metadata.Tensor, ...]) -> tuple[artifact_metadata.Tensor, ...]:
        return tuple(dataclasses.replace(t, shape=(64, *t.shape[1:])) for t in tensors)

    parent = artifact_metadata.read(chain.onnx)
    artifact_metadata.write(
        other, dataclasses.replace(parent, inputs=fixed(parent.inputs), outputs=fixed(parent.outputs))
    )
    convert_artifact(other, chain.saved_model)
    artifact_metadata.write(chain.saved_model, metadata)
    message = refusal(chain, dataset=False)
    assert (
        "signature serving_default: input image: float32 [None, 20, 16, 1] of the metadata is image: float32 [64,"
        in message
    )
    assert "the SavedModel has no signature 'from_png'" in message
    assert "TensorFlow failed: " in message  # a single example does not fit


def test_wrong_reference_outputs_for_the_test_set(chain: Any) -> None:
    path = chain.onnx / golden.TEST_OUTPUTS
    outputs = golden.read(path).outputs
    golden.write(path, golden.Golden({}, {name: array[::-1] for name, array in outputs.items()}))
    artifact_metadata.write(chain.onnx, artifact_metadata.read(chain.onnx))
    chain.convert()
    message = refusal(chain)
    assert "ONNX Runtime, test set: " in message
    assert "choose a different class from PyTorch's" in message


@pytest.mark.parametrize(
    ("file", "truncate"), [("saved_model.pb", True), ("saved_model.pb", False), ("variables/variables.index", True)]
)
def test_a_savedmodel_with_a_broken_or_missing_file(chain: Any, file: str, truncate: bool) -> None:
    path = chain.saved_model / file
    if truncate:
        path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])
    else:
        path.unlink()
    message = refusal(chain)
    assert f"{chain.saved_model}: a file in it was changed" in message


@pytest.mark.parametrize("content", [b"no ONNX", None])
def test_a_broken_onnx_file(chain: Any, content: bytes | None) -> None:
    path = chain.onnx / "model.onnx"
    if content is None:
        path.unlink()
    else:
        path.write_bytes(content)
    message = refusal(chain, dataset=False)
    assert f"{chain.onnx}: a file in it was changed" in message
    assert "files: " in message
    assert "export the model again" in message


@pytest.mark.parametrize("name", [golden.GOLDEN, golden.TEST_OUTPUTS])
def test_a_missing_reference(chain: Any, name: str) -> None:
    (chain.onnx / name).unlink()
    artifact_metadata.write(chain.onnx, artifact_metadata.read(chain.onnx))
    chain.convert()
    assert f"{chain.onnx / name}: golden examples cannot be read" in refusal(chain)


@pytest.mark.parametrize("which", ["onnx", "saved_model"])
def test_a_folder_without_metadata_is_not_an_artifact(chain: Any, which: str) -> None:
    (chain.folder / which / "card.json").unlink()
    with pytest.raises(MetadataError, match=r"card\.json is missing"):
        chain.validate()
    assert not chain.parity.exists()


def test_folders_given_the_wrong_way_round(chain: Any) -> None:
    with pytest.raises(MetadataError, match="expected an artifact of kind 'onnx'"):
        validate(chain.saved_model, chain.onnx, None, chain.parity, None)


def test_the_command_exits_with_status_1(
    chain: Any, weight_change: Any, conv: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    chain.convert_edited(weight_change(conv, scaled))
    folders = ["--onnx", str(chain.onnx), "--saved-model", str(chain.saved_model), "--parity", str(chain.parity)]
    monkeypatch.setattr(sys, "argv", ["validate", *folders])
    with pytest.raises(SystemExit) as ended:
        main()
    assert ended.value.code == 1
    assert "python -m seaway.validate: characters failed validation:\n  weights: weight" in capsys.readouterr().err


def test_a_full_disk_leaves_nothing(chain: Any, small_disk: Path) -> None:
    (small_disk / "filler").write_bytes(bytes(1024 * 1024 - 8192))
    with pytest.raises(OSError, match="No space left"):
        validate(chain.onnx, chain.saved_model, None, small_disk / "parity", None)
    assert [path.name for path in small_disk.iterdir()] == ["filler"]


def test_a_missing_folder(chain: Any, tmp_path: Path) -> None:
    with pytest.raises(MetadataError, match="nowhere"):
        validate(chain.onnx, tmp_path / "nowhere", None, chain.parity, None)


def test_a_refusal_leaves_an_older_parity_unchanged(chain: Any, weight_change: Any, conv: str) -> None:
    older = chain.validate()
    chain.convert_edited(weight_change(conv, scaled))
    with pytest.raises(Refused):
        chain.validate()
    assert artifact_metadata.check(chain.parity) == older
    assert older.parents["saved_model"].sha256 != artifact_metadata.read(chain.saved_model).sha256
