"""Publishes the bundled example to an empty model repository, so that a new server has a model at once.

python -m seaway.serve.seed --model-repository DIR
"""

import argparse
import shutil
from pathlib import Path

from seaway import errors
from seaway.arguments import ArgumentParser
from seaway.artifacts import artifact_metadata, atomic, model_repository
from seaway.artifacts.artifact_metadata import ArtifactMetadata
from seaway.errors import Unavailable

PROGRAM = "python -m seaway.serve.seed"
EXAMPLE = Path(__file__).resolve().parents[1] / "example" / "characters" / "1"


def seed(repository: Path, example: Path = EXAMPLE) -> bool:
    """Publishes the example and labels it stable if the repository has no model. Returns whether it has the example.

    If several processes call this at once, only one of them copies. Raises MetadataError for an incomplete example,
    Unavailable if the repository does not exist, OSError if it cannot be written.
    """
    metadata = artifact_metadata.check(example, "version", at=model_repository.METADATA_FILE)
    if not repository.is_dir():
        raise Unavailable(f"{repository}: the model repository does not exist; is it mounted?")
    with atomic.locked(repository):
        if not model_repository.models(repository):
            model_repository.publish(repository, metadata.name, lambda folder: _copy(example, folder))
    if not _holds_only(repository, metadata):
        return False
    if not model_repository.labels(repository, metadata.name):  # also after a process that was killed before this line
        model_repository.set_label(repository, metadata.name, model_repository.STABLE, 1, "the example")
    return True


def _holds_only(repository: Path, metadata: ArtifactMetadata) -> bool:
    if model_repository.models(repository) != [metadata.name]:
        return False
    if model_repository.versions(repository, metadata.name) != [1]:
        return False
    return model_repository.read_metadata(repository, metadata.name, 1).sha256 == metadata.sha256


def _copy(example: Path, folder: Path) -> None:
    for path in sorted(example.rglob("*")):  # contents only, not the permissions that they have in the image
        target = folder / path.relative_to(example)
        if path.is_dir():
            target.mkdir()
        else:
            shutil.copyfile(path, target)


def main() -> None:
    parser = ArgumentParser(prog=PROGRAM, description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument(
        "--model-repository",
        "--repository",
        dest="repository",
        type=Path,
        required=True,
        metavar="DIR",
        help="the model repository",
    )
    repository = parser.parse_args().repository
    with errors.exit_with_message(PROGRAM):
        has_example = seed(repository)
    print(f"{repository} has the example" if has_example else f"{repository} already has models: nothing to do")


if __name__ == "__main__":
    main()
