from pathlib import Path

import numpy as np
import pytest

from seaway.artifacts import golden
from seaway.artifacts.artifact_metadata import Tolerance
from seaway.artifacts.golden import Golden, compare
from seaway.errors import MetadataError

EXPECTED = np.array([[0.1, 0.9], [0.5, 0.5]], np.float32)
TOLERANCE = Tolerance(abs=1e-3, rel=0)


def test_round_trip(tmp_path: Path) -> None:
    written = Golden({"x": np.arange(6).reshape(2, 3)}, {"scores": EXPECTED, "logits": EXPECTED * 2})
    golden.write(tmp_path / "golden.npz", written)
    found = golden.read(tmp_path / "golden.npz")
    assert list(found.inputs) == ["x"]
    assert sorted(found.outputs) == ["logits", "scores"]
    np.testing.assert_array_equal(found.outputs["scores"], EXPECTED)


@pytest.mark.parametrize("content", [None, b"", b"PK\x03\x04 truncated", b"text"])
def test_unreadable(tmp_path: Path, content: bytes | None) -> None:
    if content is not None:
        (tmp_path / "golden.npz").write_bytes(content)
    with pytest.raises(MetadataError, match="golden examples cannot be read"):
        golden.read(tmp_path / "golden.npz")


def test_equal() -> None:
    result = compare(EXPECTED.copy(), EXPECTED, TOLERANCE)
    assert (result.max_abs, result.max_rel, result.wrong, result.flipped, result.rows) == (0, 0, 0, 0, 2)


def test_within_tolerance_counts_the_distance_only() -> None:
    result = compare(EXPECTED + np.float32(5e-4), EXPECTED, TOLERANCE)
    assert result.wrong == result.flipped == 0
    assert result.max_abs == pytest.approx(5e-4, rel=1e-3)


def test_relative_tolerance_grows_with_the_value() -> None:
    big = EXPECTED * 1000
    assert compare(big * np.float32(1.0005), big, Tolerance(0, 1e-3)).wrong == 0
    assert compare(big * np.float32(1.002), big, Tolerance(0, 1e-3)).wrong == 2


def test_a_flip_counts_only_if_pytorchs_margin_is_clear() -> None:
    result = compare(EXPECTED[:, ::-1], EXPECTED, TOLERANCE)
    assert (result.wrong, result.flipped) == (1, 1)  # the second row is a tie, and equal to itself mirrored


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
def test_not_finite_is_wrong(value: float) -> None:
    got = EXPECTED.copy()
    got[1, 0] = value
    result = compare(got, EXPECTED, TOLERANCE)
    assert result.wrong == 1
    assert result.max_abs == np.inf


def test_infinity_equals_itself() -> None:
    both = np.array([[np.inf, -np.inf, np.nan], [np.inf, np.inf, 0]], np.float32)
    assert compare(both.copy(), both, TOLERANCE).wrong == 0


def test_another_shape_is_all_wrong() -> None:
    assert compare(EXPECTED[:1], EXPECTED, TOLERANCE).wrong == 2
    assert compare(EXPECTED.reshape(2, 2, 1), EXPECTED, TOLERANCE).wrong == 2


def test_no_rows() -> None:
    nothing = np.zeros((0, 3), np.float32)
    assert compare(nothing, nothing, TOLERANCE).rows == 0
