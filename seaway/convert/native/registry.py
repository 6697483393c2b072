"""The registry of operators: (domain, name, version) → a function of a few lines.

    @op("Elu", kind=ELEMENTWISE)
    def elu(call, x):
        return ...

The function receives its `Call`, which has the node's attributes, and the node's inputs (None for an omitted one); it
returns an output or a list of outputs. A constant input is a numpy array, any other a tensor. `since` lists the
operator versions that the function implements; it also serves later ones up to the next entry. `kind` says in which
axis order the function takes tensors:

PLAIN         ONNX's order
ELEMENTWISE   any order, the same for all inputs, which are broadcast
KEEP          the first input's order; inputs of the same rank are transposed to it; call.axis() maps an ONNX axis to it
SPATIAL       the first input and output channels last, [N, ..., C]; the other inputs in ONNX's order
VALUES        the function takes and returns Value, and handles the order itself
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

PLAIN, ELEMENTWISE, KEEP, SPATIAL, VALUES = "plain", "elementwise", "keep", "spatial", "values"
ML = "ai.onnx.ml"  # ONNX's domain of classical machine learning
MICROSOFT = "com.microsoft"  # ONNX Runtime's own domain: what its optimizer and quantizer write


@dataclass(frozen=True, slots=True)
class Entry:
    """`foldable`: whether a node with constant inputs may be constant-folded; `sizes`: the indices of the inputs that
    are lists of dims, which the function receives as tuples of ints and int64 scalar tensors if each dim is tracked."""

    function: Callable[..., Any]
    kind: str
    foldable: bool
    sizes: tuple[int, ...]


_REGISTRY: dict[tuple[str, str], dict[int, Entry]] = {}


def op(
    *names: str,
    since: int | tuple[int, ...] = 1,
    kind: str = PLAIN,
    foldable: bool = True,
    sizes: tuple[int, ...] = (),
    domain: str = "",
) -> Callable[[Callable[..., Any]], Callable[..., Any]]:
    """Registers a function for one or more operators of a domain, ONNX's default one if none is given."""

    def register(function: Callable[..., Any]) -> Callable[..., Any]:
        for name in names:
            versions = _REGISTRY.setdefault((domain, name), {})
            for version in (since,) if isinstance(since, int) else since:
                assert version not in versions, f"{domain}.{name}-{version} is registered twice"
                versions[version] = Entry(function, kind, foldable, sizes)
        return function

    return register


def find(name: str, domain: str, since: int) -> Entry | None:
    """The entry whose `since` is the newest that is not newer than this version; None if there is none."""
    versions = _REGISTRY.get((domain, name), {})
    candidates = [version for version in versions if version <= since]
    return versions[max(candidates)] if candidates else None
