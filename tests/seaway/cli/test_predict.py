"""What `seaway predict` prints of a model without labels."""

import numpy as np
import pytest

from seaway.cli import predict

ROWS = np.arange(6, dtype=np.float32).reshape(2, 3)


@pytest.mark.parametrize(
    ("outputs", "rows"),
    [
        ([ROWS], [("0.0, 1.0, 2.0",), ("3.0, 4.0, 5.0",)]),
        ([ROWS, np.array([7, 8])], [("0.0, 1.0, 2.0", "7"), ("3.0, 4.0, 5.0", "8")]),
        ([np.float32(0.5)], [("0.5",)]),
        ([ROWS, np.float32(0.5)], [("0.0, 1.0, 2.0, 3.0, 4.0, 5.0", "0.5")]),  # no common rows
        ([np.arange(9)[None]], [("0, 1, 2, 3, 4, 5, 6, 7, …",)]),
        ([np.zeros((0, 3))], []),
        ([np.zeros((2, 0)), ROWS[:, 0]], [("", "0.0"), ("", "3.0")]),
    ],
)
def test_a_row_for_each_example_with_all_outputs(outputs: list[np.ndarray], rows: predict.Rows) -> None:
    assert predict._values([np.asarray(output) for output in outputs]) == rows
