"""The folder is laid out as torchvision leaves it after its download; torchvision itself reads it here."""

import socket
import string
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from torchvision.datasets import EMNIST

from seaway.data import datasets
from seaway.errors import DataError

Writer = Callable[..., Path]
LABELS = {"digits": range(10), "letters": range(1, 27), "byclass": range(62)}


@pytest.fixture
def cache(write_idx: Writer, tmp_path: Path) -> Path:
    for split, labels in LABELS.items():
        write_idx(split, [*labels], [*labels][::-1], packed=False, folder=tmp_path / "cache/EMNIST/raw")
    return tmp_path / "cache"


@pytest.fixture
def no_internet(monkeypatch: pytest.MonkeyPatch) -> None:
    """Every download goes to a proxy that is not there."""
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        port = taken.getsockname()[1]
    for scheme in ("http_proxy", "https_proxy"):
        monkeypatch.setenv(scheme, f"http://127.0.0.1:{port}")
        monkeypatch.setenv(scheme.upper(), f"http://127.0.0.1:{port}")
    for name in ("no_proxy", "NO_PROXY"):
        monkeypatch.delenv(name, raising=False)


@pytest.mark.parametrize("split", LABELS)
def test_images_are_torchvisions_stood_upright(cache: Path, tmp_path: Path, split: str) -> None:
    labels = datasets.read(f"emnist:{split}", tmp_path, cache)
    for part in ("train", "test"):
        theirs = EMNIST(str(cache), split=split, train=part == "train")
        np.testing.assert_array_equal(np.load(tmp_path / f"{part}_images.npy"), theirs.data.numpy().transpose(0, 2, 1))
        ours = [labels[index] for index in np.load(tmp_path / f"{part}_labels.npy")]
        assert [name.lower() for name in ours] == [theirs.classes[int(target)].lower() for target in theirs.targets]


def test_byclass_is_the_default(cache: Path, tmp_path: Path) -> None:
    labels = datasets.read("emnist", tmp_path, cache)
    assert "".join(labels) == string.digits + string.ascii_uppercase + string.ascii_lowercase


@pytest.mark.usefixtures("no_internet")
def test_without_the_internet_a_workaround_is_named(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"cannot be downloaded .*; download https?://.* yourself.*idx:DIR#letters"):
        datasets.read("emnist:letters", tmp_path, tmp_path / "cache")


@pytest.mark.usefixtures("no_internet")
@pytest.mark.parametrize("part", ["train", "test"])
def test_an_incomplete_download_is_noticed(cache: Path, tmp_path: Path, part: str) -> None:
    (cache / f"EMNIST/raw/emnist-digits-{part}-labels-idx1-ubyte").unlink()
    with pytest.raises(DataError, match=r"emnist:digits: .* cannot be downloaded"):
        datasets.read("emnist:digits", tmp_path, cache)
