"""How the converter tells the gate where a constant of the SavedModel comes from (conversion.json, `constants`)."""

from dataclasses import astuple, dataclass
from typing import Any

import numpy as np

from seaway.errors import ModelError


@dataclass(frozen=True, slots=True)
class Constant:
    """A constant of the SavedModel as a view of a value of the ONNX graph: a weight, or one folded from weights.

    Its element i, j, … is element offset + i * strides[0] + j * strides[1] + … of the flattened value.
    """

    value: str
    offset: int
    shape: tuple[int, ...]
    strides: tuple[int, ...]

    def view(self, value: np.ndarray) -> np.ndarray:
        """The constant's elements in the value, an array [...]; not a copy. Raises ModelError if they leave it."""
        flat = value.reshape(-1)
        steps = [(size - 1) * stride for size, stride in zip(self.shape, self.strides, strict=True)]
        first = self.offset + sum(min(step, 0) for step in steps)
        last = self.offset + sum(max(step, 0) for step in steps)
        if min(self.shape, default=1) < 1 or first < 0 or last >= flat.size:
            raise ModelError(f"conversion.json names elements of {self.value!r} that it does not have; convert again")
        strides = [stride * flat.itemsize for stride in self.strides]
        return np.lib.stride_tricks.as_strided(flat[self.offset :], self.shape, strides)

    def to_json(self) -> list[Any]:
        return list(astuple(self))


def from_json(raw: Any) -> Constant:
    """Raises ModelError."""
    try:
        value, offset, shape, strides = raw
        numbers = [offset, *shape, *strides]
        if not isinstance(value, str) or any(type(number) is not int for number in numbers):
            raise TypeError
        if len(shape) != len(strides):
            raise ValueError
    except (TypeError, ValueError):
        raise ModelError(f"conversion.json has {str(raw)[:80]} in place of a constant; convert again") from None
    return Constant(value, offset, tuple(shape), tuple(strides))
