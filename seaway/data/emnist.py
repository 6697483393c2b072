"""EMNIST itself, downloaded by torchvision and read as the IDX folder that it leaves behind."""

import http.client
from pathlib import Path

from seaway.artifacts import atomic
from seaway.data import idx
from seaway.errors import DataError


def open_split(split: str, cache: Path) -> idx.Folder:
    """The split, downloaded to `cache`/EMNIST/raw (536 MB, all splits at once) where it is not there yet.

    Raises DataError for an unknown split, without torchvision, and without a way to the internet.
    """
    check_split(split)
    raw = cache / "EMNIST" / "raw"
    whole = {part: all((raw / idx.file_name(split, part, kind)).exists() for kind in idx.KINDS) for part in idx.PARTS}
    if not all(whole.values()):
        # torchvision looks for one part and downloads both; it then loads that part, and the test set is the small one.
        _download(split, cache, train=whole["test"])
    return idx.find(raw, split)


def _download(split: str, cache: Path, train: bool) -> None:
    try:
        from torchvision.datasets import EMNIST
    except ImportError:
        raise DataError(
            f"emnist:{split}: torchvision is not installed here, and it makes the download; "
            "install it, or download by hand and use idx:DIR"
        ) from None
    try:
        atomic.make_folder(cache)
        EMNIST(str(cache), split=split, train=train, download=True)
        atomic.sync(cache / "EMNIST")
    except (OSError, http.client.HTTPException, RuntimeError) as error:
        raise DataError(
            f"emnist:{split}: {cache} does not hold it, and it cannot be downloaded ({error}); download {EMNIST.url} "
            f"by hand, unpack it and give the folder with its .gz files as idx:DIR#{split}"
        ) from None


def check_split(split: str) -> None:
    if split not in idx.SPLITS:
        raise DataError(f"emnist:{split}: no such split; EMNIST has {', '.join(idx.SPLITS)}")
