"""A model repository that an earlier Seaway wrote (tests/conformance) works with today's code, and stays as it is."""

import hashlib
import shutil
from pathlib import Path

import pytest

from seaway.artifacts import artifact_metadata, golden, model_repository
from seaway.artifacts.model_repository import Move
from seaway.cli import hop_table
from seaway.errors import MetadataError
from seaway.promote.promote import promote
from seaway.promote.rollback import rollback
from seaway.validate import runners

RECORDED = Path(__file__).resolve().parents[2] / "conformance" / "seaway-d38a8fe"
NAME = "tiny"
DIGESTS = {
    1: "0833d6fe86213b3d1f8683f75199d624edc8a9cc5e746645aa8eb5dd5ef49834",
    2: "93fd01508271997b40ff79c20e1296bfe7860a9293324aa2d069a6e3c01cba3c",
}


@pytest.fixture
def repository(tmp_path: Path) -> Path:
    """A copy: version 1 is stable, version 2 is the canary, each with its evidence; there is no history yet."""
    return Path(shutil.copytree(RECORDED, tmp_path / "models"))


def checksums(folder: Path) -> dict[str, str]:
    files = (path for path in folder.rglob("*") if path.is_file())
    return {str(path.relative_to(folder)): hashlib.sha256(path.read_bytes()).hexdigest() for path in files}


def test_versions_labels_and_history_are_read(repository: Path) -> None:
    found = model_repository.contents(repository)
    assert found.models == {NAME: {version: repository / NAME / str(version) for version in DIGESTS}}
    assert not found.skipped
    assert not found.unreadable
    assert model_repository.labels(repository, NAME) == {"stable": 1, "canary": 2}
    assert model_repository.history(repository, NAME) == [Move(1, "")]


@pytest.mark.parametrize("version", DIGESTS)
def test_digests_are_verified_and_the_lineage_is_read(repository: Path, version: int) -> None:
    folder = model_repository.existing(repository, NAME, version)
    metadata = artifact_metadata.check(folder, "version", at=model_repository.METADATA_FILE)
    assert metadata.sha256 == DIGESTS[version]
    parity = metadata.parents["parity"]
    assert parity.kind == "parity"
    assert {role: parent.kind for role, parent in parity.parents.items()} == {
        "onnx": "onnx",
        "saved_model": "saved_model",
    }
    weights = folder / "variables" / "variables.data-00000-of-00001"
    weights.write_bytes(weights.read_bytes()[::-1])
    with pytest.raises(MetadataError, match="changed"):
        artifact_metadata.check(folder, "version", at=model_repository.METADATA_FILE)


@pytest.mark.parametrize("version", DIGESTS)
def test_both_model_files_give_the_golden_outputs(repository: Path, version: int) -> None:
    folder = model_repository.existing(repository, NAME, version)
    metadata = model_repository.read_metadata(repository, NAME, version)
    recorded = golden.read(folder / model_repository.EXTRA / golden.GOLDEN)
    assert {len(array) for array in recorded.inputs.values()} == {64}
    saved_model = runners.tensorflow(folder)(["serving_default", "logits"])
    onnx = runners.onnx_runtime(folder / model_repository.EXTRA / "model.onnx")
    for run in (saved_model, onnx):
        outputs = run(recorded.inputs)
        for name, expected in recorded.outputs.items():
            compared = golden.compare(outputs[name], expected, metadata.tolerances[name])
            assert (compared.wrong, compared.rows) == (0, 64)


@pytest.mark.parametrize("version", DIGESTS)
def test_evidence_is_verified_and_shown(repository: Path, version: int, capsys: pytest.CaptureFixture[str]) -> None:
    (folder,) = model_repository.evidence(repository, NAME, DIGESTS[version]).iterdir()
    metadata = artifact_metadata.check(folder, "evidence")
    assert metadata.parents["version"].sha256 == DIGESTS[version]
    hop_table.print_hops(repository, NAME, version)
    shown = capsys.readouterr().out
    assert f"{NAME}/{version} @{DIGESTS[version][:12]}" in shown
    assert "served, REST" in shown
    assert f"{metadata.metrics['tfs_p50_ms']:.1f}" in shown


def test_the_hop_table_compares_no_reference_with_itself() -> None:
    row = {"hop": "ONNX Runtime", "accuracy": 0.5, "max_abs": {"scores": 0.0}, "wrong": 0}
    assert hop_table._cells(row, compared=False)[:3] + hop_table._cells(row, compared=False)[6:7] == [
        *("ONNX Runtime", "50.00%", "", "")
    ]
    assert hop_table._cells(row, compared=True)[2:7:4] == ["0.0e+00", "0"]


def test_a_version_is_promoted_and_rolled_back_and_no_recorded_file_changes(repository: Path) -> None:
    recorded = checksums(repository)
    assert promote(repository, NAME, 2) == 1
    assert model_repository.labels(repository, NAME) == {"stable": 2}
    assert rollback(repository, NAME) == f"{NAME}/1@{DIGESTS[1]}"
    assert model_repository.labels(repository, NAME) == {"stable": 1}
    assert [move.version for move in model_repository.history(repository, NAME)] == [1, 2, 1]
    del recorded[f"{NAME}/{model_repository.LABELS}"]  # a promoted version is no longer the canary
    assert checksums(repository).items() >= recorded.items()
