"""Folders of EMNIST's own IDX files, read in chunks: pictures come out upright, labels as indices into class names.

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
_CHUNK = 8192  # pictures at a time: 6 MB
_ANY_FILE = re.compile(r"emnist-(.+)-(?:(?:train|test)-(?:images-idx3|labels-idx1)-ubyte(?:\.gz)?|mapping\.txt)")


@dataclass(frozen=True, slots=True)
class Folder:
    """One split in a folder; `first` is the label of the first class in the files (EMNIST's letters begin at 1)."""

    path: Path
    split: str
    labels: tuple[str, ...]
    first: int
    files: dict[str, Path]  # "train-images", "train-labels", "test-images", "test-labels", and "mapping" where it is

    def count(self, part: str) -> int:
        """How many pictures the part has, from the headers. Raises DataError where pictures and labels disagree."""
        images, labels = self.files[f"{part}-images"], self.files[f"{part}-labels"]
        with _opened(images, 3) as (_, (count, *size)), _opened(labels, 1) as (_, (marks,)):
            if (size[0], size[1]) != IMAGE_SIZE:
                raise DataError(
                    f"{images}: pictures are {size[0]}x{size[1]}, EMNIST's are {IMAGE_SIZE[0]}x{IMAGE_SIZE[1]}; "
                    "scale them and write the file again"
                )
            if count != marks:
                raise DataError(f"{images}: {count} pictures, but {labels} has {marks} labels; get both files again")
        return int(count)

    def chunks(self, part: str) -> Iterator[tuple[np.ndarray, np.ndarray]]:
        """Images uint8 [n, 28, 28], upright, and labels uint8 [n]. Raises DataError for what the files do not hold."""
        images, labels = self.files[f"{part}-images"], self.files[f"{part}-labels"]
        with _opened(images, 3) as (pictures, (count, height, width)), _opened(labels, 1) as (marks, _):
            for start in range(0, count, _CHUNK):
                n = min(_CHUNK, count - start)
                stored = _read(pictures, n * height * width, images).reshape(n, height, width)
                yield stored.transpose(0, 2, 1), self._indices(_read(marks, n, labels), labels)
            _expect_end(pictures, images)
            _expect_end(marks, labels)

    def fingerprint(self) -> str:
        """sha256 over names and contents of the split's files: any changed byte changes it."""
        whole = hashlib.sha256()
        for path in sorted(self.files.values()):
            with path.open("rb") as opened:
                whole.update(f"{path.name}\0{hashlib.file_digest(opened, 'sha256').hexdigest()}\n".encode())
        return whole.hexdigest()

    def _indices(self, stored: np.ndarray, path: Path) -> np.ndarray:
        last = self.first + len(self.labels) - 1
        wrong = (stored < self.first) | (stored > last)
        if wrong.any():
            named = self.files.get("mapping") or f"EMNIST's {self.split} split"
            raise DataError(
                f"{path}: label {stored[wrong][0]} is out of range: {named} names {self.first} to {last}; "
                "use the mapping and the label file of the same split"
            )
        return stored - np.uint8(self.first)


def find(path: Path, split: str | None = None) -> Folder:
    """The split in the folder, or the named one of several. Raises DataError for what is missing."""
    if not path.is_dir():
        raise DataError(f"{path}: no such folder; give the folder that holds EMNIST's files, as idx:DIR")
    there = sorted({match[1] for entry in path.iterdir() if (match := _ANY_FILE.fullmatch(entry.name))})
    if split is None:
        if len(there) != 1:
            found = f"files of several splits ({', '.join(there)})" if there else "no emnist-<split>-… files"
            remedy = f"name one, as in idx:{path}#{there[0]}" if there else "put EMNIST's own files there"
            raise DataError(f"{path}: {found}; {remedy}")
        split = there[0]
    elif split not in there:
        raise DataError(f"{path}: no emnist-{split}-… files; it has {', '.join(there) or 'none of any split'}")
    files = {f"{part}-{kind}": _file(path, split, part, kind) for part in PARTS for kind in KINDS}
    mapping = path / f"emnist-{split}-mapping.txt"
    if mapping.exists():
        files["mapping"] = mapping
        first, labels = _read_mapping(mapping)
    elif split in SPLITS:
        first, labels = standard_labels(split)
    else:
        raise DataError(f"{mapping}: missing; write one line a class: its label and the character's code, as in `0 48`")
    return Folder(path, split, labels, first, files)


def standard_labels(split: str) -> tuple[int, tuple[str, ...]]:
    """The first label in the files and the class names of one of EMNIST's six splits, as in its mapping files."""
    digits, upper, lower = string.digits, string.ascii_uppercase, string.ascii_lowercase
    unmerged = "abdefghnqrt"  # the lower-case letters that do not look like their upper case (Cohen et al. 2017, III.C)
    first = 1 if split == "letters" else 0
    return first, tuple(
        {"byclass": digits + upper + lower, "letters": upper, "digits": digits, "mnist": digits}.get(
            split, digits + upper + unmerged
        )
    )


def file_name(split: str, part: str, kind: str) -> str:
    """EMNIST's name of a file, unpacked: part "train" or "test", kind "images" or "labels"."""
    return f"emnist-{split}-{part}-{kind}-{'idx3' if kind == 'images' else 'idx1'}-ubyte"


def _read_mapping(path: Path) -> tuple[int, tuple[str, ...]]:
    try:
        rows = [[int(word) for word in line.split()] for line in path.read_text("ascii").splitlines() if line.strip()]
        names = tuple(chr(row[1]) for row in rows)
    except (ValueError, IndexError, OverflowError):
        raise DataError(
            f"{path}: not EMNIST's mapping; each line is a label and a character's code, as in `0 48`"
        ) from None
    keys = [row[0] for row in rows]
    if not keys or keys[0] not in (0, 1) or keys != list(range(keys[0], keys[0] + len(keys))) or keys[-1] > 255:
        raise DataError(f"{path}: labels must count up by one from 0 or 1, at most to 255; get EMNIST's own file again")
    for row, name in zip(rows, names, strict=True):
        if not name.isprintable() or name.isspace():
            raise DataError(f"{path}: {row[1]} is not a visible character's code; each line is as in `0 48`")
    if len(set(names)) != len(names):
        raise DataError(f"{path}: two labels name the same character; get EMNIST's own file again")
    return keys[0], names


def _file(path: Path, split: str, part: str, kind: str) -> Path:
    plain = path / file_name(split, part, kind)
    packed = plain.with_name(plain.name + ".gz")
    if plain.exists():
        return plain
    if packed.exists():
        return packed
    raise DataError(f"{packed}: missing, and so is it without .gz; put EMNIST's own file there")


@contextmanager
def _opened(path: Path, dimensions: int) -> Iterator[tuple[IO[bytes], tuple[int, ...]]]:
    """Opens an IDX file, packed or not, and reads its header: a stream at the first item, and the sizes."""
    with _unpacked(path) as stream:
        header = _read(stream, 4 + 4 * dimensions, path).tobytes()
        magic, *sizes = struct.unpack(f">{1 + dimensions}I", header)
        if magic != 0x0800 + dimensions:
            raise DataError(
                f"{path}: begins with {magic:#010x}, not with {0x0800 + dimensions:#010x}: "
                f"not an IDX file of bytes in {dimensions} dimensions; put EMNIST's own file there"
            )
        yield stream, tuple(sizes)


def _unpacked(path: Path) -> IO[bytes]:
    return cast(IO[bytes], gzip.open(path)) if path.suffix == ".gz" else path.open("rb")


def _read(stream: IO[bytes], size: int, path: Path) -> np.ndarray:
    """Exactly `size` bytes as uint8. Raises DataError where the file is broken or ends before."""
    try:
        read = stream.read(size)
    except gzip.BadGzipFile:
        raise DataError(
            f"{path}: not a gzip file, despite its name; get it again, or remove .gz if it is unpacked"
        ) from None
    except (EOFError, zlib.error) as error:
        raise DataError(f"{path}: truncated or damaged ({error}); get it again") from None
    if len(read) != size:
        raise DataError(f"{path}: truncated: it ends before its header says; get it again")
    return np.frombuffer(read, np.uint8)


def _expect_end(stream: IO[bytes], path: Path) -> None:
    try:
        more = stream.read(1)
    except (OSError, EOFError, zlib.error) as error:  # the checksum at the end is read here
        raise DataError(f"{path}: truncated or damaged ({error}); get it again") from None
    if more:
        raise DataError(f"{path}: goes on after what its header says; get it again")
