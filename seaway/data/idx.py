"""Folders of EMNIST's own IDX files, read in chunks: images come out upright, labels as indices into class names.

    emnist-<split>-{train,test}-images-idx3-ubyte[.gz]   28x28, stored transposed
    emnist-<split>-{train,test}-labels-idx1-ubyte[.gz]
    emnist-<split>-mapping.txt                           "label code [code]" a line; optional for EMNIST's six splits

The format: http://yann.lecun.com/exdb/mnist/ (big-endian magic 0x0000 08 <dimensions>, sizes, then the bytes).
"""

import gzip
import hashlib
import re
import string
import struct
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import IO, cast

import numpy as np

from seaway.errors import DataError

SPLITS = ("byclass", "bymerge", "balanced", "letters", "digits", "mnist")
PARTS = ("train", "test")
KINDS = ("images", "labels")
IMAGE_SIZE = (28, 28)
_CHUNK = 8192  # images: 6 MB
_ANY_FILE = re.compile(r"emnist-(.+)-(?:(?:train|test)-(?:images-idx3|labels-idx1)-ubyte(?:\.gz)?|mapping\.txt)")


@dataclass(frozen=True, slots=True)
class IdxFolder:
    """One split in a folder; `first` is the label of the first class in the files (EMNIST's letters begin at 1)."""

    path: Path
    split: str
    labels: tuple[str, ...]
    first: int
    files: dict[
        str, Path
    ]  # "train-images", "train-labels", "test-images", "test-labels", and "mapping" if there is one

    def count(self, part: str) -> int:
        """The number of images in the part, from the headers. Raises DataError if images and labels disagree."""
        images, labels = self.files[f"{part}-images"], self.files[f"{part}-labels"]
        with _opened(images, 3) as (_, (count, *size)), _opened(labels, 1) as (_, (label_count,)):
            if (size[0], size[1]) != IMAGE_SIZE:
                raise DataError(
                    f"{images}: images are {size[0]}x{size[1]}, EMNIST's are {IMAGE_SIZE[0]}x{IMAGE_SIZE[1]}; "
                    "scale them and write the file again"
                )
            if count != label_count:
                raise DataError(
                    f"{images}: {count} images, but {labels} has {label_count} labels; get both files again"
                )
        return int(count)

    def chunks(self, part: str) -> Iterator[tuple[np.ndarray, np.ndarray]]:
        """Images uint8 [n, 28, 28], upright, and labels uint8 [n]. Raises DataError for broken files."""
        images, labels = self.files[f"{part}-images"], self.files[f"{part}-labels"]
        with _opened(images, 3) as (image_stream, (count, height, width)), _opened(labels, 1) as (label_stream, _):
            for start in range(0, count, _CHUNK):
                n = min(_CHUNK, count - start)
                stored = _read(image_stream, n * height * width, images).reshape(n, height, width)
                yield stored.transpose(0, 2, 1), self._indices(_read(label_stream, n, labels), labels)
            _expect_end(image_stream, images)
            _expect_end(label_stream, labels)

    def fingerprint(self) -> str:
        """sha256 over the names and contents of the split's files."""
        digest = hashlib.sha256()
        for path in sorted(self.files.values()):
            with path.open("rb") as stream:
                digest.update(f"{path.name}\0{hashlib.file_digest(stream, 'sha256').hexdigest()}\n".encode())
        return digest.hexdigest()

    def _indices(self, stored: np.ndarray, path: Path) -> np.ndarray:
        last = self.first + len(self.labels) - 1
        wrong = (stored < self.first) | (stored > last)
        if wrong.any():
            mapping = self.files.get("mapping") or f"EMNIST's {self.split} split"
            raise DataError(
                f"{path}: label {stored[wrong][0]} is out of range: {mapping} has {self.first} to {last}; "
                "use the mapping and the label file of the same split"
            )
        return stored - np.uint8(self.first)


def find(path: Path, split: str | None = None) -> IdxFolder:
    """The folder's only split, or the named one. Raises DataError if files are missing."""
    if not path.is_dir():
        raise DataError(f"{path}: no such folder; give the folder that holds EMNIST's files, as idx:DIR")
    splits = sorted({match[1] for entry in path.iterdir() if (match := _ANY_FILE.fullmatch(entry.name))})
    if split is None:
        if len(splits) != 1:
            problem = f"files of several splits ({', '.join(splits)})" if splits else "no emnist-<split>-… files"
            remedy = f"name one, e.g. idx:{path}#{splits[0]}" if splits else "put EMNIST's own files there"
            raise DataError(f"{path}: {problem}; {remedy}")
        split = splits[0]
    elif split not in splits:
        raise DataError(f"{path}: no emnist-{split}-… files; it has {', '.join(splits) or 'no split at all'}")
    files = {f"{part}-{kind}": _file(path, split, part, kind) for part in PARTS for kind in KINDS}
    mapping = path / f"emnist-{split}-mapping.txt"
    if mapping.exists():
        files["mapping"] = mapping
        first, labels = _read_mapping(mapping)
    elif split in SPLITS:
        first, labels = standard_labels(split)
    else:
        raise DataError(
            f"{mapping}: missing; write one line per class: its label and the character's code, e.g. `0 48`"
        )
    return IdxFolder(path, split, labels, first, files)


def standard_labels(split: str) -> tuple[int, tuple[str, ...]]:
    """The first label and the class names of one of EMNIST's six splits, as in its mapping files."""
    digits, upper, lower = string.digits, string.ascii_uppercase, string.ascii_lowercase
    unmerged = "abdefghnqrt"  # the lower-case letters that do not look like their upper case (Cohen et al. 2017, III.C)
    first = 1 if split == "letters" else 0
    return first, tuple(
        {"byclass": digits + upper + lower, "letters": upper, "digits": digits, "mnist": digits}.get(
            split, digits + upper + unmerged
        )
    )


def file_name(split: str, part: str, kind: str) -> str:
    """EMNIST's name of an uncompressed file: part "train" or "test", kind "images" or "labels"."""
    return f"emnist-{split}-{part}-{kind}-{'idx3' if kind == 'images' else 'idx1'}-ubyte"


def _read_mapping(path: Path) -> tuple[int, tuple[str, ...]]:
    try:
        rows = [[int(word) for word in line.split()] for line in path.read_text("ascii").splitlines() if line.strip()]
        names = tuple(chr(row[1]) for row in rows)
    except (ValueError, IndexError, OverflowError):
        raise DataError(
            f"{path}: not EMNIST's mapping; each line is a label and a character's code, e.g. `0 48`"
        ) from None
    keys = [row[0] for row in rows]
    if not keys or keys[0] not in (0, 1) or keys != list(range(keys[0], keys[0] + len(keys))) or keys[-1] > 255:
        raise DataError(f"{path}: labels must count up by one from 0 or 1, at most to 255; get EMNIST's own file again")
    for row, name in zip(rows, names, strict=True):
        if not name.isprintable() or name.isspace():
            raise DataError(
                f"{path}: {row[1]} is not the code of a visible character; each line is a label and a code, e.g. `0 48`"
            )
    if len(set(names)) != len(names):
        raise DataError(f"{path}: two labels name the same character; get EMNIST's own file again")
    return keys[0], names


def _file(path: Path, split: str, part: str, kind: str) -> Path:
    plain = path / file_name(split, part, kind)
    compressed = plain.with_name(plain.name + ".gz")
    if plain.exists():
        return plain
    if compressed.exists():
        return compressed
    raise DataError(f"{compressed}: missing, with and without .gz; put EMNIST's own file there")


@contextmanager
def _opened(path: Path, dimensions: int) -> Iterator[tuple[IO[bytes], tuple[int, ...]]]:
    """Opens an IDX file, compressed or not, and reads its header: the stream at the first item, and the sizes."""
    with _decompressed(path) as stream:
        header = _read(stream, 4 + 4 * dimensions, path).tobytes()
        magic, *sizes = struct.unpack(f">{1 + dimensions}I", header)
        if magic != 0x0800 + dimensions:
            raise DataError(
                f"{path}: begins with {magic:#010x}, not with {0x0800 + dimensions:#010x}: "
                f"not an IDX file of bytes in {dimensions} dimensions; put EMNIST's own file there"
            )
        yield stream, tuple(sizes)


def _decompressed(path: Path) -> IO[bytes]:
    return cast(IO[bytes], gzip.open(path)) if path.suffix == ".gz" else path.open("rb")


def _read(stream: IO[bytes], size: int, path: Path) -> np.ndarray:
    """Exactly `size` bytes as uint8. Raises DataError if the file is broken or too short."""
    try:
        content = stream.read(size)
    except gzip.BadGzipFile:
        raise DataError(
            f"{path}: not a gzip file, despite its name; get it again, or rename it without .gz if it is uncompressed"
        ) from None
    except (EOFError, zlib.error) as error:
        raise DataError(f"{path}: truncated or damaged ({error}); get it again") from None
    if len(content) != size:
        raise DataError(f"{path}: truncated: it is shorter than its header says; get it again")
    return np.frombuffer(content, np.uint8)


def _expect_end(stream: IO[bytes], path: Path) -> None:
    try:
        extra = stream.read(1)
    except (OSError, EOFError, zlib.error) as error:  # reads the checksum
        raise DataError(f"{path}: truncated or damaged ({error}); get it again") from None
    if extra:
        raise DataError(f"{path}: longer than its header says; get it again")
