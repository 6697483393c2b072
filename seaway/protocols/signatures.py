"""Which signature a request means, where its protocol has no word for it, and whether its tensors are that one's."""

from collections.abc import Collection, Mapping

import numpy as np

from seaway.artifacts.card import Tensor
from seaway.errors import InvalidInput
from seaway.protocols import tensors
from seaway.protocols.calls import DEFAULT_SIGNATURE, Served, Signature


def by_preference(served: Served) -> list[str]:
    """The signatures' names, serving_default first, the others in order."""
    return sorted(served.signatures, key=lambda name: (name != DEFAULT_SIGNATURE, name))


def choose(served: Served, called: str, count: int, given: Collection[str], outputs: Collection[str]) -> str:
    """The signature `called`, or where that is "" the first by preference, that has `count` inputs, the `given` names
    among them, and the `outputs`. Raises InvalidInput, naming what there is."""
    first = served.signatures.get(called or DEFAULT_SIGNATURE)
    if first is not None and _fits(first, count, given, outputs):
        return called or DEFAULT_SIGNATURE
    if not called:
        for name in by_preference(served):
            if _fits(served.signatures[name], count, given, outputs):
                return name
    offered = "; ".join(f"{name}{_shown(served.signatures[name])}" for name in by_preference(served)[:20])
    raise InvalidInput(
        f"no signature of {served.name}/{served.version}{f' called {called!r}' if called else ''} takes {count} "
        f"inputs{f' {sorted(given)}' if given else ''} and gives {list(outputs) or 'its outputs'}; there are: {offered}"
    )


def check_dtypes(served: Served, name: str, inputs: Mapping[str, np.ndarray]) -> None:
    """Raises InvalidInput for an input whose dtype is not the signature's: nothing is cast silently."""
    for tensor in served.signatures[name].inputs:
        array = inputs[tensor.name]
        if tensors.DTYPES.get(tensor.dtype) != array.dtype:
            raise InvalidInput(
                f"input {tensor.name!r} is {tensors.dtype_name(array)}, but {name} of {served.name}/{served.version} "
                f"takes {tensor.dtype}; send it as that"
            )


def check_shapes(signature: Signature, inputs: Mapping[str, np.ndarray]) -> None:
    """Raises InvalidInput for an input whose rank or sizes are not those that the signature declares."""
    if wrong := contradiction(signature, inputs):
        raise InvalidInput(wrong)


def contradiction(signature: Signature, inputs: Mapping[str, np.ndarray]) -> str:
    """What is wrong with the first input whose rank or sizes are not the signature's, or ""."""
    for tensor in signature.inputs:
        declared, came = tensor.shape, inputs[tensor.name].shape
        fits = len(declared) == len(came) and all(a is None or a == b for a, b in zip(declared, came, strict=True))
        if not fits and tensor.name not in signature.unranked:
            expected = [-1 if size is None else size for size in declared]
            return f'input "{tensor.name}": expected {expected}, got {list(came)}'
    return ""


def _fits(signature: Signature, count: int, given: Collection[str], outputs: Collection[str]) -> bool:
    return count == len(signature.inputs) and _has(signature.inputs, given) and _has(signature.outputs, outputs)


def _has(side: tuple[Tensor, ...], names: Collection[str]) -> bool:
    return not names or {tensor.name for tensor in side}.issuperset(names)


def _shown(signature: Signature) -> str:
    sides = (", ".join(tensor.name for tensor in side[:20]) for side in (signature.inputs, signature.outputs))
    return "({}) -> ({})".format(*sides)
