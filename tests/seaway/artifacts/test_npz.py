"""Damaged .npz files end in one line, whichever byte is damaged, and do not stay open."""

import gc
import warnings
from pathlib import Path

import numpy as np
import pytest

from seaway.artifacts import npz
from seaway.errors import DataError
from seaway.load.payloads import read_model


def test_arrays_by_name(tmp_path: Path) -> None:
    np.savez(tmp_path / "x.npz", a=np.arange(3), b=np.float32([[1, 2]]))
    arrays = npz.read(tmp_path / "x.npz")
    assert {name: array.tolist() for name, array in arrays.items()} == {"a": [0, 1, 2], "b": [[1, 2]]}
    with pytest.raises(FileNotFoundError):
        npz.read(tmp_path / "none.npz")


def test_any_damaged_byte_is_a_value_error_or_harmless(tmp_path: Path) -> None:
    file, errors = tmp_path / "x.npz", set()
    np.savez_compressed(file, x=np.arange(3))
    whole = file.read_bytes()
    for place in range(len(whole)):
        for value in (0, 255, whole[place] ^ 1, whole[place] ^ 64):
            file.write_bytes(whole[:place] + bytes([value]) + whole[place + 1 :])
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")  # zipfile's, of names that occur twice
                try:
                    npz.read(file)
                except ValueError as error:
                    errors.add(str(error))
    assert any("encrypted" in text for text in errors), "a RuntimeError of zipfile"
    assert any("compression" in text for text in errors), "a NotImplementedError of zipfile"
    assert "" not in errors


@pytest.mark.parametrize("content", [b"", b"PK\x03\x04", b"nonsense", b"\x93NUMPY"])
def test_a_broken_file_of_examples_is_closed(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "x.npz").write_bytes(content)
    with warnings.catch_warnings():
        warnings.simplefilter("error", ResourceWarning)
        with pytest.raises(DataError, match=r"x\.npz is not an \.npz file of arrays \(.+\); write one with"):
            read_model(tmp_path / "x.npz")
        gc.collect()
