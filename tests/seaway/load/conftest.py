import sys
from pathlib import Path

import pytest

sys.path.append(str(Path(__file__).parent))  # toy.py and responder.py, without a package named tests


@pytest.fixture(scope="module")
def repository(tmp_path_factory):
    """A model repository with one version of the toy model."""
    import toy

    folder = tmp_path_factory.mktemp("toy")
    toy.make(folder / "made").publish(folder / "models")
    return folder / "models"


@pytest.fixture
def server(repository):
    from responder import serving

    with serving(repository) as started:
        yield started
