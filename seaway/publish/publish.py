"""Publishes a validated model as a version: SavedModel, ONNX model, golden examples and parity in one folder.

The three artifacts must belong together: the parity metadata names, by digest, the artifacts that it compared. The same
content is published once: publishing it again returns the number that it has.
"""

import shutil
from pathlib import Path

from seaway.artifacts import artifact_metadata, atomic, model_repository
from seaway.artifacts.artifact_metadata import ArtifactMetadata
from seaway.artifacts.golden import TEST_OUTPUTS, UNUSUAL
from seaway.errors import MetadataError, Refused, Unavailable

PARITY, CONVERSION, CLASS_NAMES = "parity.json", "conversion.json", "labels.txt"


class _AlreadyThere(Exception):
    """Ends the copy: the repository already has the same content."""

    def __init__(self, version: int) -> None:
        self.version = version


def publish(onnx: Path, saved_model: Path, parity: Path, repository: Path, name: str | None = None) -> int:
    """Copies the artifacts into `repository` as the next version of `name` (default: as exported); returns its number.

    Raises MetadataError for a damaged artifact, Refused if they do not belong together, Unavailable if the repository
    is missing or disappears, OSError for a disk that is full or read-only. An incomplete version is never visible.
    """
    version = _version_metadata(onnx, saved_model, parity, name)
    if not repository.is_dir():
        raise Unavailable(
            f"{repository}: no such model repository; is it mounted? (for a new one: mkdir -p {repository})"
        )

    def fill(folder: Path) -> None:
        # labels.txt comes with the ONNX model.
        _copy(saved_model, folder, without={artifact_metadata.METADATA_FILE, CLASS_NAMES, CONVERSION})
        _copy(onnx, folder / model_repository.EXTRA, without={artifact_metadata.METADATA_FILE, TEST_OUTPUTS, UNUSUAL})
        if (saved_model / CONVERSION).is_file():
            shutil.copyfile(saved_model / CONVERSION, folder / model_repository.EXTRA / CONVERSION)
        shutil.copyfile(parity / PARITY, folder / model_repository.EXTRA / PARITY)
        written = artifact_metadata.write(folder, version, at=model_repository.METADATA_FILE)
        for number in reversed(model_repository.versions(repository, version.name)):
            if _has_content(repository, version.name, number, written.sha256):
                raise _AlreadyThere(number)

    try:
        with atomic.locked(repository):  # so that two publishers of the same content do not both publish it
            number = model_repository.publish(repository, version.name, fill)
    except _AlreadyThere as existing:
        print(f"{version.name}/{existing.version} in {repository} is identical; nothing was published")
        number = existing.version
    except FileNotFoundError as error:
        raise Unavailable(
            f"{error.filename}: disappeared during publishing; is the model repository still mounted?"
        ) from None
    model_repository.write_models_config(repository)  # which lists the latest version of a model without labels
    return number


def _version_metadata(onnx: Path, saved_model: Path, parity: Path, name: str | None) -> ArtifactMetadata:
    """The version's metadata, once the three artifacts are verified and belong together."""
    exported = artifact_metadata.check(onnx, "onnx")
    converted = artifact_metadata.check(saved_model, "saved_model")
    validated = artifact_metadata.check(parity, "parity")
    for role, folder, artifact in (("onnx", onnx, exported), ("saved_model", saved_model, converted)):
        parent = validated.parents.get(role)
        if parent is None or parent.sha256 != artifact.sha256:
            raise Refused(
                f"{parity} was made for a different {role} artifact than {folder}: rerun python -m seaway.validate on "
                "these artifacts, then publish"
            )
    return ArtifactMetadata(
        kind="version",
        name=name or exported.name,
        inputs=converted.inputs,
        outputs=converted.outputs,
        labels=converted.labels,
        tolerances=converted.tolerances,
        metrics=validated.metrics,
        weights=exported.weights,
        parents={"parity": validated},
    )


def _has_content(repository: Path, name: str, number: int, digest: str) -> bool:
    """Whether this version is undamaged and has this digest."""
    try:
        return model_repository.read_metadata(repository, name, number).sha256 == digest and bool(
            artifact_metadata.check(
                model_repository.path(repository, name, number), "version", at=model_repository.METADATA_FILE
            )
        )
    except MetadataError:
        return False


def _copy(source: Path, target: Path, without: set[str]) -> None:
    """Copies all files below `source`, except those in `without` at its top level; an OSError names the file."""
    target.mkdir(exist_ok=True)
    for path in sorted(source.rglob("*")):
        relative = path.relative_to(source)
        if path.is_dir():
            (target / relative).mkdir(exist_ok=True)
        elif str(relative) not in without:
            shutil.copyfile(path, target / relative)
