"""Tracing records one path through forward(); this refuses nets whose path depends on the numbers they are given.

The tracer only warns, and also where a branch depends on nothing but fixed sizes, as in most vision transformers. So
its warnings are collected, with the calls that it overlooks, and where there is one, torch.export, which follows
symbols and not numbers, must agree.
"""

import sys
import traceback
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import torch
from torch.overrides import TorchFunctionMode

from seaway.errors import ModelError
from seaway.export import quiet, wrap
from seaway.export.wrap import Wrapped
from seaway.nets.user import is_library, summary

PLACES = 3  # named in one message
TracerWarning: type[Warning] = torch.jit.TracerWarning  # type: ignore[attr-defined]
FREEZES_SILENTLY = ("equal", "allclose", "is_nonzero", "__index__")
TAKES_A_NUMBER = (torch.ops.aten.item.default, torch.ops.aten._local_scalar_dense.default)


@dataclass(frozen=True, slots=True)
class Note:
    """One of the tracer's warnings."""

    message: str
    filename: str
    line: int


@contextmanager
def listening() -> Iterator[list[Note]]:
    """Collects the tracer's warnings instead of showing them; other warnings go where they went."""
    notes: list[Note] = []
    with warnings.catch_warnings():
        warnings.simplefilter("always", TracerWarning)
        # The legacy exporter announces its own end at every call; why it is used stands in graph.py.
        warnings.filterwarnings("ignore", message="You are using the legacy TorchScript", category=DeprecationWarning)
        warnings.filterwarnings("ignore", message="The feature will be removed", category=DeprecationWarning)
        show = warnings.showwarning

        def collect(
            message: Warning | str, category: type[Warning], filename: str, lineno: int, *rest: Any, **more: Any
        ) -> None:
            if issubclass(category, TracerWarning):
                notes.append(Note(_what(message), *_place(filename, lineno)))
            else:
                show(message, category, filename, lineno, *rest, **more)

        warnings.showwarning = collect
        with _Listener(notes):
            yield notes


class _Listener(TorchFunctionMode):
    """Notes the functions that make Python values of tensors without the tracer's warning."""

    def __init__(self, notes: list[Note]) -> None:
        super().__init__()
        self.notes = notes

    def __torch_function__(
        self, func: Callable[..., Any], types: Any, args: tuple[Any, ...] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        name = getattr(func, "__name__", "")
        if name in FREEZES_SILENTLY:
            self.notes.append(Note(f"{name} makes a Python value of a tensor", *_place("", 0)))
        return func(*args, **(kwargs or {}))


def settle(wrapped: Wrapped, inputs: tuple[torch.Tensor, ...], notes: list[Note]) -> None:
    """Passes where there are no notes or torch.export sees no such path. Raises ModelError with file and line."""
    if not notes:
        return
    batch = torch.export.Dim("batch")
    try:
        with torch.no_grad(), quiet.stderr(), warnings.catch_warnings():
            warnings.simplefilter("ignore")  # its own deprecations; only its verdict counts
            program = torch.export.export(
                wrapped, inputs, dynamic_shapes={"inputs": tuple({0: batch} for _ in inputs)}, strict=False
            )
    except Exception as error:  # torch.export raises many kinds, each meaning that it cannot follow
        verdict = summary(error)
    else:
        # .item() and its like pass torch.export as unknown numbers, but tracing has frozen them
        frozen = [node for node in program.graph.nodes if node.target in TAKES_A_NUMBER]
        if not frozen:
            return
        verdict = "a number is taken out of a tensor"
    raise ModelError(
        "forward() takes another path or other constants for other inputs, which a graph cannot follow: "
        f"{_places(notes)} (torch.export: {verdict}); "
        "write it with torch.where in place of if, and tensors in place of item() or len()"
    )


def _what(message: Warning | str) -> str:
    return str(message).split(" might cause")[0].split(". ")[0]


def _place(filename: str, line: int) -> tuple[str, int]:
    """The line of the user's code that runs now; the given one where only libraries' code does."""
    for frame, at in traceback.walk_stack(sys._getframe()):
        if frame.f_code.co_filename == wrap.__file__:
            break
        if not is_library(frame.f_code.co_filename):
            return frame.f_code.co_filename, at
    return filename, line


def _places(notes: list[Note]) -> str:
    places = dict.fromkeys(f"{note.filename}:{note.line}: {note.message}" for note in notes)
    return "; ".join(sorted(places, key=lambda place: is_library(place.split(":")[0]))[:PLACES])
