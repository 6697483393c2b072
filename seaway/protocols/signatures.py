"""Choosing the signature that a request calls, and checking the request's tensors against it."""

from collections.abc import Collection, Mapping

import numpy as np

from seaway.artifacts.artifact_metadata import Tensor
from seaway.errors import InvalidInput
from seaway.protocols import tensors
from seaway.protocols.calls import DEFAULT_SIGNATURE, ModelVersionInfo, Signature


def by_preference(model: ModelVersionInfo) -> list[str]:
    """The signatures' names, serving_default first, the others in order."""
    return sorted(model.signatures, key=lambda name: (name != DEFAULT_SIGNATURE, name))


def choose(
    model: ModelVersionInfo, requested: str, count: int, input_names: Collection[str], outputs: Collection[str]
) -> str:
    """The signature `requested`, or the first by preference if that is "", if it has `count` inputs with these names
    (which may be fewer) and these outputs. Raises InvalidInput, which lists the signatures."""
    first = model.signatures.get(requested or DEFAULT_SIGNATURE)
    if first is not None and _fits(first, count, input_names, outputs):
        return requested or DEFAULT_SIGNATURE
    if not requested:
        for name in by_preference(model):
            if _fits(model.signatures[name], count, input_names, outputs):
                return name
    available = "; ".join(f"{name}{_describe(model.signatures[name])}" for name in by_preference(model)[:20])
    called, named = f" called {requested!r}" if requested else "", f" {sorted(input_names)}" if input_names else ""
    raise InvalidInput(
        f"no signature of {model.name}/{model.version}{called} takes {count} inputs{named} "
        f"and returns {list(outputs) or 'its outputs'}; available: {available}"
    )


def check_dtypes(model: ModelVersionInfo, name: str, inputs: Mapping[str, np.ndarray]) -> None:
    """Raises InvalidInput for an input whose dtype differs from the signature's: nothing is cast silently."""
    for tensor in model.signatures[name].inputs:
        array = inputs[tensor.name]
        if tensors.DTYPES.get(tensor.dtype) != array.dtype:
            raise InvalidInput(
                f"input {tensor.name!r} is {tensors.dtype_name(array)}, but {name} of {model.name}/{model.version} "
                f"takes {tensor.dtype}; send it as {tensor.dtype}"
            )


def check_shapes(signature: Signature, inputs: Mapping[str, np.ndarray]) -> None:
    """Raises InvalidInput for an input whose rank or sizes differ from the signature's."""
    if mismatch := shape_mismatch(signature, inputs):
        raise InvalidInput(mismatch)


def shape_mismatch(signature: Signature, inputs: Mapping[str, np.ndarray]) -> str:
    """A message about the first input whose rank or sizes differ from the signature's; "" if none does."""
    for tensor in signature.inputs:
        declared, sent = tensor.shape, inputs[tensor.name].shape
        fits = len(declared) == len(sent) and all(a is None or a == b for a, b in zip(declared, sent, strict=True))
        if not fits and tensor.name not in signature.unranked:
            expected = [-1 if size is None else size for size in declared]
            return f'input "{tensor.name}": expected {expected}, got {list(sent)}'
    return ""


def _fits(signature: Signature, count: int, input_names: Collection[str], outputs: Collection[str]) -> bool:
    return count == len(signature.inputs) and _has(signature.inputs, input_names) and _has(signature.outputs, outputs)


def _has(side: tuple[Tensor, ...], names: Collection[str]) -> bool:
    return not names or {tensor.name for tensor in side}.issuperset(names)


def _describe(signature: Signature) -> str:
    sides = (", ".join(tensor.name for tensor in side[:20]) for side in (signature.inputs, signature.outputs))
    return "({}) -> ({})".format(*sides)
