"""The table of operators: (name, version) → a function of a few lines.

    @op("Elu", kind=ELEMENTWISE)
    def elu(call, x):
        return ...

A function is given its call, by which it asks for attributes, and the node's inputs, None for one that is left out; it
returns an output or a list of them. An input is a numpy array where it is constant, else a tensor. `since` names the
versions of the definition that it carries, and later ones up to the next entry. `kind` says in which order of axes it
takes tensors:

PLAIN         as ONNX defines it
ELEMENTWISE   any, the same for all inputs, which are broadcast
KEEP          any, that of the first input; call.axis() tells where an axis is now; inputs of the same rank follow
SPATIAL       the first input channels last, [N, ..., C], and so the first output; the other inputs as ONNX defines them
VALUES        the function takes and returns Value, and sees to the order itself
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

PLAIN, ELEMENTWISE, KEEP, SPATIAL, VALUES = "plain", "elementwise", "keep", "spatial", "values"


@dataclass(frozen=True, slots=True)
class Entry:
    """`foldable`: whether with constant inputs it can be worked out while the model is built; `sizes`: the inputs that
    are lists of sizes, given as tuples of ints and int64 scalar tensors where their numbers are known one by one."""

    function: Callable[..., Any]
    kind: str
    foldable: bool
    sizes: tuple[int, ...]


_TABLE: dict[str, dict[int, Entry]] = {}


def op(
    *names: str,
    since: int | tuple[int, ...] = 1,
    kind: str = PLAIN,
    foldable: bool = True,
    sizes: tuple[int, ...] = (),
) -> Callable[[Callable[..., Any]], Callable[..., Any]]:
    """Enters a function for one operator of ONNX's own domain or several."""

    def enter(function: Callable[..., Any]) -> Callable[..., Any]:
        for name in names:
            versions = _TABLE.setdefault(name, {})
            for version in (since,) if isinstance(since, int) else since:
                assert version not in versions, f"{name}-{version} is in the table twice"
                versions[version] = Entry(function, kind, foldable, sizes)
        return function

    return enter


def find(name: str, domain: str, since: int) -> Entry | None:
    """The entry for this version of the definition: that of the newest `since` which is not newer."""
    versions = {} if domain else _TABLE.get(name, {})
    known = [version for version in versions if version <= since]
    return versions[max(known)] if known else None
