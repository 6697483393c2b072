"""How the converter tells the gate what carries each value of the ONNX graph in the SavedModel (conversion.json,
`values`): a tensor of its function `call`, or single numbers."""

from dataclasses import dataclass
from typing import Any

from seaway.errors import ModelError

MAX_NUMBERS = 64  # a larger constant-folded value is not recorded


@dataclass(frozen=True, slots=True)
class Carrier:
    """Either `tensor`, a tensor's name, whose axis i is axis order[i] of the value (None: in order); or `elements` of a
    value of that `shape`: each a number, or the name of a scalar tensor."""

    tensor: str = ""
    order: tuple[int, ...] | None = None
    elements: tuple[int | float | bool | str, ...] | None = None
    shape: tuple[int, ...] = ()

    def to_json(self) -> dict[str, Any]:
        """{"tensor": "conv/Conv2D:0", "order": [0, 2, 3, 1]} or {"elements": [2, "size:0"], "shape": [2]}."""
        if self.elements is not None:
            return {"elements": list(self.elements), "shape": list(self.shape)}
        return {"tensor": self.tensor} | ({} if self.order is None else {"order": list(self.order)})

    def tensors(self) -> tuple[str, ...]:
        """The names of the tensors that are needed."""
        if self.elements is None:
            return (self.tensor,)
        return tuple(element for element in self.elements if isinstance(element, str))


def from_json(raw: Any) -> Carrier:
    """Raises ModelError."""
    try:
        if "tensor" in raw:
            name, order = raw["tensor"], raw.get("order")
            if isinstance(name, str) and (order is None or sorted(order) == list(range(len(order)))):
                return Carrier(name, None if order is None else tuple(order))
        elements, shape = raw["elements"], raw["shape"]
        if all(isinstance(each, int | float | str) for each in elements) and all(type(each) is int for each in shape):
            return Carrier(elements=tuple(elements), shape=tuple(shape))
    except (KeyError, TypeError):
        pass
    raise ModelError(f"conversion.json has {str(raw)[:80]} in place of a tensor; convert again")
