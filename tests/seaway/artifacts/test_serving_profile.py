"""Serving profiles: written beside a version, read back, and refused with the file's name if they are unusable."""

import json
import shutil
from dataclasses import replace
from pathlib import Path

import pytest

from seaway.artifacts import artifact_metadata, model_repository, serving_profile
from seaway.artifacts.serving_profile import Candidate, Measurement, Parity, Profile
from seaway.errors import MetadataError

EXAMPLE = Path(__file__).parents[3] / "seaway" / "example" / "characters" / "1"
ONNX = Candidate("onnx", 1, 2)
TENSORFLOW = Candidate("savedmodel", 2, 1, onednn=False)


@pytest.fixture
def repository(tmp_path: Path) -> Path:
    shutil.copytree(EXAMPLE, tmp_path / "models" / "characters" / "1")
    return tmp_path / "models"


def metadata(repository: Path) -> artifact_metadata.ArtifactMetadata:
    return model_repository.read_metadata(repository, "characters", 1)


def profile(repository: Path, chosen: Candidate = ONNX) -> Profile:
    return Profile(
        version=f"characters@{metadata(repository).sha256}",
        measured_at="2026-12-01T10:00:00+00:00",
        cpu="a CPU",
        cores=2,
        chosen=chosen,
        reason="ONNX Runtime was 2.00 times as fast (1.90 to 2.10 in 5 rounds)",
        measurements=(
            Measurement(ONNX, {"1": 0.1, "8": 0.4, "32": 1.5}),
            Measurement(TENSORFLOW, {}, "it cannot be loaded"),
        ),
        ratios=(1.9, 2.1),
        parity={
            "onnx": {"serving_default": Parity(40, 0, 1e-6)},
            "savedmodel": {"serving_default": Parity(40, 0, None)},
        },
    )


def test_a_profile_is_read_as_it_was_written_and_changes_no_digest(repository: Path) -> None:
    assert serving_profile.find(repository, "characters", metadata(repository)) is None
    assert serving_profile.settings(repository, "characters", metadata(repository)) == {}
    written = profile(repository)
    file = serving_profile.write(repository, "characters", metadata(repository), written)
    assert serving_profile.find(repository, "characters", metadata(repository)) == written
    assert metadata(repository).sha256 in file.parts
    artifact_metadata.check(
        model_repository.path(repository, "characters", 1), "version", at=model_repository.METADATA_FILE
    )
    assert model_repository.versions(repository, "characters") == [1]
    other = profile(repository, TENSORFLOW)
    serving_profile.write(repository, "characters", metadata(repository), other)  # measured again
    assert serving_profile.find(repository, "characters", metadata(repository)) == other


def test_settings_are_environment_variables_of_the_server() -> None:
    assert ONNX.settings == {"SEAWAY_BACKEND": "onnx", "SEAWAY_THREADS": "1"}
    assert TENSORFLOW.settings == {
        "SEAWAY_BACKEND": "savedmodel",
        "SEAWAY_THREADS": "2",
        "TF_ENABLE_ONEDNN_OPTS": "0",
    }
    assert ONNX.settings.keys() | TENSORFLOW.settings.keys() == {*serving_profile.SETTINGS}
    assert serving_profile.describe(ONNX.settings) == "SEAWAY_BACKEND=onnx SEAWAY_THREADS=1"
    assert ONNX.title == "ONNX Runtime, 1 thread, batches over 2 cores"
    assert TENSORFLOW.title == "TensorFlow, 2 threads, oneDNN off"


@pytest.mark.parametrize(
    ("change", "problem"),
    [
        ({"schema_version": 2}, "schema_version is 2, but this Seaway reads 1"),
        ({"version": f"characters@{'f' * 64}"}, "it is of the version with the digest ffffffffffff, not "),
        ({"chosen": {"backend": "tpu", "threads": 1, "cores": 1}}, "the engine 'tpu' is none of savedmodel, onnx"),
        ({"chosen": {"backend": "onnx", "threads": 0, "cores": 1}}, "threads is 0; it must be from 1 to 4096"),
        (
            {"chosen": {"backend": "onnx", "threads": "1; x", "cores": 1}},
            "threads is '1; x'; it must be from 1 to 4096",
        ),
        ({"chosen": {"backend": "onnx", "threads": 1, "cores": 1, "onednn": "no"}}, "onednn is 'no'"),
        ({"chosen": {"backend": "onnx"}}, "not a serving profile (TypeError: "),
        ({"parity": {}}, "it has no evidence that ONNX Runtime gives the recorded outputs"),
        ({"parity": {"onnx": {"logits": {"examples": 4, "wrong": 1, "max_abs": 2}}}}, "it has no evidence that ONNX"),
        ({"ratios": None}, "not a serving profile (TypeError: "),
        ({"surprise": 1}, "not a serving profile (TypeError: "),
    ],
)
def test_an_unusable_profile_is_named(repository: Path, change: dict[str, object], problem: str) -> None:
    file = serving_profile.write(repository, "characters", metadata(repository), profile(repository))
    file.write_text(json.dumps(json.loads(file.read_text()) | change))
    with pytest.raises(MetadataError) as refused:
        serving_profile.find(repository, "characters", metadata(repository))
    assert str(refused.value).startswith(f"{file}: {problem}")
    assert str(refused.value).endswith("; run `seaway tune-serving` again, or remove the file")


@pytest.mark.parametrize("content", [b"", b"{", b"[]", b"\xff", b"null"])
def test_a_damaged_profile_is_named(repository: Path, content: bytes) -> None:
    file = serving_profile.write(repository, "characters", metadata(repository), profile(repository))
    file.write_bytes(content)
    with pytest.raises(MetadataError, match=f"{file}: "):
        serving_profile.find(repository, "characters", metadata(repository))


def test_a_profile_of_another_version_is_not_found(repository: Path) -> None:
    serving_profile.write(repository, "characters", metadata(repository), profile(repository))
    other = replace(metadata(repository), sha256="0" * 64)
    assert serving_profile.find(repository, "characters", other) is None
