"""Tracing records one path through forward(); this refuses nets whose path depends on the numbers they are given.

The tracer only warns, and also where a branch depends on nothing but fixed sizes, as in most vision transformers. So
its warnings are collected, and where there is one, torch.export, which follows symbols and not numbers, must agree.
"""

import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import torch

from components.export.usernet import is_library, summary
from components.export.wrap import Wrapped
from seaway.errors import ModelError

PLACES = 3  # named in one message
TracerWarning: type[Warning] = torch.jit.TracerWarning  # type: ignore[attr-defined]
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
                notes.append(Note(str(message), filename, lineno))
            else:
                show(message, category, filename, lineno, *rest, **more)

        warnings.showwarning = collect
        yield notes


def settle(wrapped: Wrapped, inputs: tuple[torch.Tensor, ...], notes: list[Note]) -> None:
    """Passes where there are no notes or torch.export sees no such path. Raises ModelError with file and line."""
    if not notes:
        return
    batch = torch.export.Dim("batch")
    try:
        with torch.no_grad(), warnings.catch_warnings():
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


def _places(notes: list[Note]) -> str:
    users = [note for note in notes if not is_library(note.filename)] or notes
    places = dict.fromkeys(f"{note.filename}:{note.line}: {note.message.split(' might cause')[0]}" for note in users)
    return "; ".join(list(places)[:PLACES])
