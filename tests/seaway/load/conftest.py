import sys
from pathlib import Path

import pytest

sys.path.append(str(Path(__file__).parent))  # toy.py and responder.py, without a package named tests


@pytest.fixture(scope="module")
def volume(tmp_path_factory):
    """A volume with one version of the toy."""
    import toy

    folder = tmp_path_factory.mktemp("toy")
    toy.make(folder / "made").publish(folder / "volume")
    return folder / "volume"


@pytest.fixture
def server(volume):
    from responder import serving

    with serving(volume) as started:
        yield started
