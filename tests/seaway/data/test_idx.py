import gzip
import string
import struct
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from seaway.data import idx
from seaway.errors import DataError

DIGITS = {n: str(n) for n in range(10)}
TRAIN, TEST = [*range(10), 3, 1], [2, 9, 0]
Writer = Callable[..., Path]


def everything(folder: idx.IdxFolder, part: str) -> tuple[np.ndarray, np.ndarray]:
    images, labels = zip(*folder.chunks(part), strict=True)
    return np.concatenate(images), np.concatenate(labels)


@pytest.fixture
def digits(write_idx: Writer) -> Path:
    return write_idx("digits", TRAIN, TEST, DIGITS)


@pytest.mark.parametrize("compressed", [True, False])
def test_images_come_out_upright_with_their_labels(write_idx: Writer, compressed: bool) -> None:
    folder = idx.find(write_idx("digits", TRAIN, TEST, DIGITS, packed=compressed))
    images, labels = everything(folder, "train")
    assert folder.labels == tuple(string.digits)
    assert folder.count("train") == 12
    assert folder.count("test") == 3
    np.testing.assert_array_equal(labels, TRAIN)
    np.testing.assert_array_equal(images[:, 3, 10], np.array(TRAIN) + 1)  # the row of ink is a row
    np.testing.assert_array_equal(images[:, 10, 3], 0)
    np.testing.assert_array_equal(images[:, 20, 3], np.arange(12) + 1)  # in the file's order
    np.testing.assert_array_equal(everything(folder, "test")[1], TEST)


def test_chunks_join_without_a_seam(digits: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    whole = everything(idx.find(digits), "train")
    monkeypatch.setattr(idx, "_CHUNK", 5)
    sizes = [len(labels) for _, labels in idx.find(digits).chunks("train")]
    assert sizes == [5, 5, 2]
    for one, other in zip(everything(idx.find(digits), "train"), whole, strict=True):
        np.testing.assert_array_equal(one, other)


def test_letters_begin_at_one(write_idx: Writer) -> None:
    folder = write_idx("letters", [*range(1, 27)], [1, 26], {n: string.ascii_uppercase[n - 1] for n in range(1, 27)})
    opened = idx.find(folder)
    assert opened.labels == tuple(string.ascii_uppercase)
    np.testing.assert_array_equal(everything(opened, "test")[1], [0, 25])


def test_emnists_own_splits_need_no_mapping_file(write_idx: Writer) -> None:
    classes = {"byclass": 62, "bymerge": 47, "balanced": 47, "letters": 26, "digits": 10, "mnist": 10}
    for split, count in classes.items():
        folder = idx.find(write_idx(split, [1], [1]), split)
        assert len(folder.labels) == count
        assert folder.first == (split == "letters")
    assert "".join(idx.standard_labels("bymerge")[1][36:]) == "abdefghnqrt"


def test_other_splits_need_one(write_idx: Writer) -> None:
    with pytest.raises(DataError, match=r"emnist-greek-mapping.txt: missing; write one line per class"):
        idx.find(write_idx("greek", [0], [0]))


def test_of_several_splits_one_is_named(write_idx: Writer, digits: Path) -> None:
    write_idx("mnist", [5], [6])
    with pytest.raises(DataError, match=r"several splits \(digits, mnist\); name one, e.g. idx:.*#digits"):
        idx.find(digits)
    assert everything(idx.find(digits, "mnist"), "train")[1] == [5]
    with pytest.raises(DataError, match=r"no emnist-balanced-… files; it has digits, mnist"):
        idx.find(digits, "balanced")


def test_any_changed_byte_changes_the_fingerprint(write_idx: Writer) -> None:
    folder = write_idx("digits", TRAIN, TEST, DIGITS, packed=False)
    seen = {idx.find(folder).fingerprint()}
    assert seen == {idx.find(folder).fingerprint()}
    for path in sorted(folder.iterdir()):
        whole = path.read_bytes()
        changed = whole.replace(b"57", b"58") if path.suffix == ".txt" else whole[:-1] + bytes([whole[-1] ^ 1])
        path.write_bytes(changed)
        seen.add(idx.find(folder).fingerprint())
        path.write_bytes(whole)
    assert len(seen) == 6


def damage_missing(path: Path) -> None:
    path.unlink()


def damage_truncated(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:-12])


def damage_no_header(path: Path) -> None:
    path.write_bytes(gzip.compress(b"\0\0\x08"))


def damage_short_content(path: Path) -> None:
    path.write_bytes(gzip.compress(gzip.decompress(path.read_bytes())[:-1]))


def damage_long_content(path: Path) -> None:
    path.write_bytes(gzip.compress(gzip.decompress(path.read_bytes()) + b"\0"))


def damage_not_gzip(path: Path) -> None:
    path.write_bytes(gzip.decompress(path.read_bytes()))


def damage_flipped_byte(path: Path) -> None:
    content = bytearray(path.read_bytes())
    content[-6] ^= 0xFF  # in gzip's checksum
    path.write_bytes(content)


def damage_magic(path: Path) -> None:
    path.write_bytes(gzip.compress(b"\0\0\x0d" + gzip.decompress(path.read_bytes())[3:]))


DAMAGES = {
    damage_missing: "missing, with and without .gz",
    damage_truncated: "truncated or damaged",
    damage_no_header: "truncated: it is shorter than its header says",
    damage_short_content: "truncated: it is shorter than its header says",
    damage_long_content: "longer than its header says",
    damage_not_gzip: "not a gzip file, despite its name",
    damage_flipped_byte: "truncated or damaged",
    damage_magic: "begins with 0x00000d0",
}


@pytest.mark.parametrize("kind", ["images-idx3", "labels-idx1"])
@pytest.mark.parametrize("damage", DAMAGES, ids=lambda damage: damage.__name__.removeprefix("damage_"))
def test_a_damaged_file_is_named(digits: Path, damage: Callable[[Path], None], kind: str) -> None:
    path = digits / f"emnist-digits-test-{kind}-ubyte.gz"
    damage(path)
    with pytest.raises(DataError) as raised:
        everything(idx.find(digits), "test")
    assert str(raised.value).startswith(f"{path}: {DAMAGES[damage]}")


def test_a_plain_file_may_be_truncated_too(write_idx: Writer) -> None:
    folder = write_idx("digits", TRAIN, TEST, DIGITS, packed=False)
    path = folder / "emnist-digits-train-images-idx3-ubyte"
    damage_truncated(path)
    with pytest.raises(DataError, match=rf"{path}: truncated: it is shorter than its header says; get it again"):
        everything(idx.find(folder), "train")


def test_there_must_be_as_many_labels_as_images(digits: Path, write_idx: Writer, tmp_path: Path) -> None:
    other = write_idx("digits", TRAIN[:-1], TEST, folder=tmp_path / "other")
    name = "emnist-digits-train-labels-idx1-ubyte.gz"
    (other / name).replace(digits / name)
    with pytest.raises(DataError, match=r"train-images-idx3-ubyte.gz: 12 images, but .*labels.* has 11 labels"):
        idx.find(digits).count("train")


def test_images_must_have_emnists_size(digits: Path) -> None:
    path = digits / "emnist-digits-test-images-idx3-ubyte.gz"
    path.write_bytes(gzip.compress(struct.pack(">4I", 0x0803, 3, 32, 32) + bytes(3 * 32 * 32)))
    with pytest.raises(DataError, match=r"images are 32x32, EMNIST's are 28x28; scale them"):
        idx.find(digits).count("test")


def test_labels_must_be_in_the_mapping(write_idx: Writer) -> None:
    opened = idx.find(write_idx("digits", [0, 1, 2], [1], {0: "0", 1: "1"}))
    with pytest.raises(DataError, match=r"train-labels.*: label 2 is out of range: .*mapping.txt has 0 to 1"):
        everything(opened, "train")
    opened = idx.find(write_idx("letters", [1], [0]), "letters")
    with pytest.raises(DataError, match="label 0 is out of range: EMNIST's letters split has 1 to 26"):
        everything(opened, "test")


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("", "labels must count up"),
        ("0 48\n2 49\n", "labels must count up"),
        ("2 48\n", "labels must count up"),
        ("0 48\n1 48\n", "two labels name the same"),
        ("0 zero\n", "not EMNIST's mapping"),
        ("0\n", "not EMNIST's mapping"),
        ("0 99999999\n", "not EMNIST's mapping"),
        ("0 10\n", "10 is not the code of a visible character"),
        ("0 55296\n", "55296 is not the code of a visible character"),
        ("0 é\n", "not EMNIST's mapping"),
    ],
)
def test_an_invalid_mapping_is_reported(digits: Path, text: str, reason: str) -> None:
    path = digits / "emnist-digits-mapping.txt"
    path.write_text(text)
    with pytest.raises(DataError, match=f"{path}: {reason}"):
        idx.find(digits)


def test_the_folder_must_exist(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"nowhere: no such folder; give the folder that holds EMNIST's files"):
        idx.find(tmp_path / "nowhere")
    with pytest.raises(DataError, match=r"no emnist-<split>-… files; put EMNIST's own files there"):
        idx.find(tmp_path)


def test_real_handwriting_is_upright(handwriting: Path) -> None:
    folder = idx.find(handwriting)
    assert (folder.count("train"), folder.count("test"), len(folder.labels)) == (88_858, 9_838, 62)
    images, labels = next(iter(folder.chunks("test")))
    bar = images[labels == folder.labels.index("T")].mean(axis=0)
    assert bar[:8].sum() > 2 * bar[-8:].sum()  # a T's ink is at its top
    stem = images[labels == folder.labels.index("L")].mean(axis=0)
    assert stem[:, :14].sum() > stem[:, 14:].sum()  # and an L's at its left
