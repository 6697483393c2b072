"""The gate's checks that only read files: digests, weights, interfaces, labels."""

from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import chain
from pathlib import Path
from typing import Any

from seaway.artifacts import artifact_metadata, interface, onnx_file
from seaway.artifacts.artifact_metadata import ArtifactMetadata, Tensor
from seaway.artifacts.constants import from_json
from seaway.errors import MetadataError
from seaway.validate import constants as constants_check
from seaway.validate import saved_file

LABELS = "labels.txt"
WEIGHTS = "weights"


@dataclass(frozen=True, slots=True)
class Check:
    """The result of one check; it passed if `faults` is empty."""

    name: str
    faults: tuple[str, ...]
    note: str = ""

    @property
    def passed(self) -> bool:
        return not self.faults


def digests(onnx: Path, saved_model: Path, dataset: Path | None) -> Check:
    """Every file matches its metadata; the SavedModel was converted from this ONNX model, trained on this dataset."""
    faults = []
    kinds: list[tuple[Path, artifact_metadata.Kind]] = [(onnx, "onnx"), (saved_model, "saved_model")]
    if dataset:
        kinds.append((dataset, "dataset"))
    for folder, kind in kinds:
        try:
            artifact_metadata.check(folder, kind)
        except MetadataError as error:
            faults.append(str(error))
    exported = artifact_metadata.read(onnx)
    parent = artifact_metadata.read(saved_model).parents.get("onnx")
    if parent is None or parent.sha256 != exported.sha256:
        faults.append(f"{saved_model} was not converted from the current {onnx}; convert it again")
    trained_on = next((c for c in _lineage(exported) if c.kind == "dataset"), None)
    if dataset and trained_on and trained_on.sha256 != artifact_metadata.read(dataset).sha256:
        faults.append(f"{dataset} is not the dataset that the model was trained on; give that one")
    return Check(
        "digests", tuple(faults), f"{exported.sha256[:12]} → {artifact_metadata.read(saved_model).sha256[:12]}"
    )


def weights(
    metadata: ArtifactMetadata, model: Any, saved: Any, saved_model: Path, constants: list[Any] | None
) -> Check:
    """Each weight of the metadata is in the ONNX model under its name, and in the SavedModel with all its values.

    `constants`: where those of the SavedModel come from, from conversion.json; None if the converter does not say.
    """
    checksums = {
        i.name: artifact_metadata.checksum(onnx_file.array(i))
        for i in model.graph.initializer
        if i.name in metadata.weights
    }
    faults = [
        f"weight {name!r} is not in model.onnx"
        if name not in checksums
        else f"weight {name!r} in model.onnx was changed"
        for name, checksum in metadata.weights.items()
        if checksums.get(name) != checksum
    ]
    if constants is not None:
        if not faults:
            stored = chain(saved_file.constants(saved), saved_file.variables(saved_model))
            origins = [from_json(raw) for raw in constants]
            faults += dict.fromkeys(constants_check.faults(metadata.weights, model, origins, stored))
        note = f"{len(metadata.weights)} weights, followed into {len(constants)} constants"
        return Check(WEIGHTS, tuple(faults), note)
    remaining = Counter(artifact_metadata.checksum(w) for w in saved_file.constants(saved))
    shared = {
        artifact_metadata.checksum(w) for w in saved_file.variables(saved_model)
    }  # equal weights are one variable
    for name, checksum in metadata.weights.items():
        remaining[checksum] -= 1
        if remaining[checksum] < 0 and checksum not in shared:
            faults.append(f"weight {name!r} is not in the SavedModel with its values from model.onnx")
    return Check(WEIGHTS, tuple(faults), f"{len(metadata.weights)} weights, each in ONNX and SavedModel")


def interfaces(
    metadata: ArtifactMetadata, saved_metadata: ArtifactMetadata, graph: saved_file.Signature, saved: Any
) -> Check:
    """Names, dtypes and shapes of the ONNX graph and of each signature match the metadata."""
    faults = []
    if (saved_metadata.inputs, saved_metadata.outputs) != (metadata.inputs, metadata.outputs):
        faults.append("the SavedModel's metadata has other inputs or outputs than the ONNX model's")
    for side, expected, actual in (("input", metadata.inputs, graph[0]), ("output", metadata.outputs, graph[1])):
        faults += _differences(f"model.onnx: {side}", expected, actual)
    signatures = saved_file.signatures(saved)
    expected_signatures = interface.signatures(metadata.inputs, metadata.outputs, metadata.labels)
    for name, (inputs, outputs) in expected_signatures.items():
        if name not in signatures:
            faults.append(f"the SavedModel has no signature {name!r}")
            continue
        faults += _differences(f"signature {name}: input", inputs, signatures[name][0])
        faults += _differences(f"signature {name}: output", outputs, signatures[name][1])
    return Check("interface", tuple(faults), f"signatures {', '.join(expected_signatures)}")


def labels(onnx: Path, saved_model: Path, saved: Any) -> Check:
    """The same labels in the same order in all metadata of the lineage, beside both models, and in the graph."""
    metadata = artifact_metadata.read(onnx)
    named = {
        f"the metadata of the {c.kind}": c.labels for c in _lineage(artifact_metadata.read(saved_model)) if c.labels
    }
    if metadata.labels:
        named |= {str(folder / LABELS): _read_labels(folder / LABELS) for folder in (onnx, saved_model)}
    differences = {where: _first_difference(actual, metadata.labels) for where, actual in named.items()}
    faults = [f"{difference} in {where}" for where, difference in differences.items() if difference]
    signatures = interface.signatures(metadata.inputs, metadata.outputs, metadata.labels)
    with_labels = signatures.keys() & {interface.FROM_PNG, interface.LABEL}
    if with_labels and metadata.labels not in saved_file.string_constants(saved):
        faults.append(
            f"the labels in the SavedModel's graph ({with_labels.pop()}) differ from the metadata's, or are in another "
            "order"
        )
    return Check("labels", tuple(faults), f"{len(metadata.labels)} labels")


def _lineage(metadata: ArtifactMetadata) -> Iterator[ArtifactMetadata]:
    yield metadata
    for parent in metadata.parents.values():
        yield from _lineage(parent)


def _read_labels(path: Path) -> tuple[str, ...]:
    try:
        return tuple(path.read_text(encoding="utf-8").splitlines())
    except (OSError, UnicodeDecodeError):
        return ()


def _first_difference(actual: tuple[str, ...], expected: tuple[str, ...]) -> str:
    """ "label 3 is 'b' instead of 'c'"; empty if they agree."""
    if len(actual) != len(expected):
        return f"{len(actual)} labels instead of {len(expected)}"
    wrong = [i for i, (a, b) in enumerate(zip(actual, expected, strict=True)) if a != b]
    return f"label {wrong[0]} is {actual[wrong[0]]!r} instead of {expected[wrong[0]]!r}" if wrong else ""


def _differences(where: str, expected: tuple[Tensor, ...], actual: tuple[Tensor, ...]) -> list[str]:
    by_name = {t.name: t for t in actual}
    faults = [
        f"{where} {_shown(t)} of the metadata is {_shown(by_name[t.name]) if t.name in by_name else 'missing'}"
        for t in expected
        if by_name.get(t.name) != t
    ]
    extra = sorted(by_name.keys() - {t.name for t in expected})
    return faults + [f"{where} {name!r} is not in the metadata" for name in extra]


def _shown(tensor: Tensor) -> str:
    return f"{tensor.name}: {tensor.dtype} {list(tensor.shape)}"
