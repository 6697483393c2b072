"""TensorProtos that have fewer numbers than their shape: the last one is repeated, within a limit."""

import numpy as np
import pytest

from seaway.errors import InvalidInput
from seaway.protocols import tensorproto

FLOAT, STRING = 1, 7


def serialized(dtype: int, shape: list[int], **numbers: list[object]) -> bytes:
    tensor = tensorproto.TensorProto(dtype=dtype, **numbers)
    for size in shape:
        tensor.tensor_shape.dim.add(size=size)
    return bytes(tensor.SerializeToString())


def test_the_last_number_is_repeated() -> None:
    array = tensorproto.read(serialized(FLOAT, [2, 3], float_val=[1.5, 2.5]), "x")
    np.testing.assert_array_equal(array, np.float32([[1.5, 2.5, 2.5], [2.5, 2.5, 2.5]]))
    largest = tensorproto.MAX_FILLED_BYTES // 4
    assert tensorproto.read(serialized(FLOAT, [largest], float_val=[1]), "x").shape == (largest,)


@pytest.mark.parametrize(
    "message",
    [
        serialized(FLOAT, [tensorproto.MAX_FILLED_BYTES // 4 + 1], float_val=[1]),
        serialized(FLOAT, [1 << 30]),
        serialized(STRING, [1 << 24], string_val=[b"a"]),
    ],
)
def test_a_small_message_takes_no_large_memory(message: bytes) -> None:
    with pytest.raises(InvalidInput, match=r"^x has [01] of the \d+ elements of its shape .* up to 16 MiB: send all"):
        tensorproto.read(message, "x")
