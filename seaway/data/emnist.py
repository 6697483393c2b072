"""EMNIST, downloaded by torchvision and read from the folder of IDX files that it writes."""

import http.client
from pathlib import Path

from seaway.artifacts import atomic
from seaway.data import idx
from seaway.errors import DataError


def open_split(split: str, cache: Path) -> idx.IdxFolder:
    """The split, downloaded to `cache`/EMNIST/raw (536 MB, all splits at once) if it is not there yet.

    Raises DataError for an unknown split, without torchvision, and without internet access.
    """
    check_split(split)
    raw = cache / "EMNIST" / "raw"
    complete = {
        part: all((raw / idx.file_name(split, part, kind)).exists() for kind in idx.KINDS) for part in idx.PARTS
    }
    if not all(complete.values()):
        # torchvision checks for one part, downloads both, and loads that part: the smaller test set if it is missing.
        _download(split, cache, train=complete["test"])
    return idx.find(raw, split)


def _download(split: str, cache: Path, train: bool) -> None:
    try:
        from torchvision.datasets import EMNIST
    except ImportError:
        raise DataError(
            f"emnist:{split}: the download needs torchvision, which is not installed; "
            "install it, or download the files yourself and use idx:DIR"
        ) from None
    try:
        atomic.make_folder(cache)
        EMNIST(str(cache), split=split, train=train, download=True)
        atomic.sync(cache / "EMNIST")
    except (OSError, http.client.HTTPException, RuntimeError) as error:
        raise DataError(
            f"emnist:{split}: {cache} does not hold it, and it cannot be downloaded ({error}); download {EMNIST.url} "
            f"yourself, unpack it and give the folder with its .gz files as idx:DIR#{split}"
        ) from None


def check_split(split: str) -> None:
    if split not in idx.SPLITS:
        raise DataError(f"emnist:{split}: no such split; EMNIST has {', '.join(idx.SPLITS)}")
