"""Follows every weight from PyTorch into the SavedModel, through what the converter does to it.

The converter records each constant as a view of a weight, or of a value that it folded from weights (a normalised or
gathered one, reordered gates, …). Here the folded values are computed again, by ONNX Runtime from the weights of
model.onnx, and the SavedModel must have each of those constants.
"""

from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

import numpy as np
import onnx
from onnx import numpy_helper

from seaway.artifacts import onnx_file
from seaway.artifacts.constants import Constant
from seaway.errors import ModelError
from seaway.validate import runners

FOLDING_EPS, FOLDING_REL = 256, 4e-3  # a folded value may differ by so much of its largest element, the lesser counts


def faults(
    weights: Iterable[str], model: Any, constants: Sequence[Constant], stored: Iterable[np.ndarray]
) -> Iterator[str]:
    """What is wrong, weight by weight. `stored`: the SavedModel's constants and variables.

    A weight must be stored with all elements, or have been folded into what is stored. Raises ModelError.
    """
    if model.functions:
        model = onnx.inliner.inline_local_functions(model)  # as the converter does
    arrays = {tensor.name: onnx_file.array(tensor) for tensor in model.graph.initializer}
    folded, ancestors = _fold(model, {c.value for c in constants} - arrays.keys(), arrays)
    found = {name: np.zeros(arrays[name].size, bool) for name in weights if name in arrays}
    saved = _Stored(stored)
    used: set[str] = set()
    for constant in constants:
        whole = arrays.get(constant.value, folded.get(constant.value))
        if whole is None:
            yield f"{constant.value!r}, which conversion.json names, cannot be computed from the weights; convert again"
        elif not saved.has(constant.view(whole), exact=constant.value in arrays):
            origin = ancestors.get(constant.value)
            name = f"{constant.value!r}, computed from {', '.join(origin)}," if origin else f"weight {constant.value!r}"
            yield f"{name} is not in the SavedModel with its values from model.onnx"
        elif constant.value in found:
            constant.view(found[constant.value])[...] = True
        else:
            used.update(ancestors.get(constant.value, ()))
    for name, elements in found.items():
        if not elements.all() and name not in used:
            yield f"weight {name!r} is not in the SavedModel with its values from model.onnx"


class _Stored:
    """The SavedModel's arrays, by value and by shape."""

    def __init__(self, arrays: Iterable[np.ndarray]) -> None:
        self._by_shape: dict[Any, list[np.ndarray]] = defaultdict(list)
        self._values: set[Any] = set()
        for array in arrays:
            self._by_shape[array.shape, array.dtype].append(array)
            self._values.add(_key(array))

    def has(self, expected: np.ndarray, exact: bool) -> bool:
        """Whether one is equal; or else, unless `exact`, close: another runtime rounds otherwise."""
        if _key(expected) in self._values:
            return True
        if exact:
            return False
        largest = np.abs(np.where(np.isfinite(expected), expected, 0)).max(initial=0)
        tolerance = float(largest) * min(FOLDING_EPS * float(np.finfo(expected.dtype).eps), FOLDING_REL)
        candidates = self._by_shape[expected.shape, expected.dtype]
        return any(np.allclose(array, expected, 0, tolerance, equal_nan=True) for array in candidates)


def _key(array: np.ndarray) -> tuple[Any, ...]:
    return array.shape, array.dtype, hash(np.ascontiguousarray(array).tobytes())


def _fold(
    model: Any, values: set[str], arrays: Mapping[str, np.ndarray]
) -> tuple[dict[str, np.ndarray], dict[str, list[str]]]:
    """Those values, computed by ONNX Runtime, and the weights that each is computed from.

    They may depend on sizes of the model's inputs, of which only those that are the same for every request matter.
    """
    producers = {name: node for node in model.graph.node for name in node.output if name}
    needed: dict[str, Any] = {}
    ancestors = {value: _ancestors(value, producers, arrays, needed) for value in values & producers.keys()}
    if not ancestors:
        return {}, {}
    names = {name for node in needed.values() for name in _names(node)}
    inputs = [value for value in model.graph.input if value.name in names - arrays.keys()]
    graph = onnx.helper.make_graph(
        [node for node in model.graph.node if any(name in needed for name in node.output)],
        "constants",
        inputs,
        [onnx.ValueInfoProto(name=value) for value in ancestors],
        [numpy_helper.from_array(arrays[name], name) for name in arrays.keys() & names],
    )
    part = onnx.helper.make_model(graph, opset_imports=model.opset_import, ir_version=model.ir_version)
    return runners.onnx_runtime(_bytes(part))({value.name: _zeros(value) for value in inputs}), ancestors


def _ancestors(
    value: str, producers: Mapping[str, Any], arrays: Mapping[str, np.ndarray], needed: dict[str, Any]
) -> list[str]:
    """The weights that the value is computed from; its nodes are added to `needed`, by their outputs."""
    weights, pending, seen = [], [value], {value}
    while pending:
        name = pending.pop()
        if name in arrays:
            weights.append(name)
        elif name in producers:
            needed[name] = producers[name]
            names = _names(producers[name])
            pending += names - seen
            seen |= names
    return sorted(weights)


def _names(node: Any) -> set[str]:
    """Those that the node reads, also in the branches of If and the bodies of Loop."""
    graphs = [graph for attribute in node.attribute for graph in (attribute.g, *attribute.graphs)]
    return {*node.input, *(name for graph in graphs for inner in graph.node for name in _names(inner))}


def _zeros(value: Any) -> np.ndarray:
    """An input of zeros, of size 1 where any size is allowed."""
    kind = value.type.tensor_type
    shape = [size.dim_value or 1 for size in kind.shape.dim]
    return np.zeros(shape, onnx.helper.tensor_dtype_to_np_dtype(kind.elem_type))


def _bytes(model: Any) -> bytes:
    try:
        return bytes(model.SerializeToString())
    except ValueError as error:  # protobuf's limit
        raise ModelError("the weights that the converter folded are over 2 GiB, and cannot be checked") from error
