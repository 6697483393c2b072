"""Refuses nets with data-dependent control flow, because tracing records only one path through forward().

The tracer only warns, even if a branch depends only on fixed sizes, as in most vision transformers. So this collects
its warnings, and the calls that it misses; if there are any, torch.export, which traces symbolically, decides.
"""

import re
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
from seaway.export import silence, wrap
from seaway.export.wrap import Wrapped
from seaway.nets.user import is_library, summary

MAX_LOCATIONS = 3  # in one message
TracerWarning: type[Warning] = torch.jit.TracerWarning  # type: ignore[attr-defined]
FREEZES_SILENTLY = ("equal", "allclose", "is_nonzero", "__index__")
# Their checks of lengths and batches, of packed sequences for example, change no output: the graph is compared with
# PyTorch at other lengths and batches. torch.export cannot trace packed sequences.
RECURRENT = (torch.nn.utils.rnn.__file__, torch.nn.modules.rnn.__file__)
READS_A_NUMBER = (torch.ops.aten.item.default, torch.ops.aten._local_scalar_dense.default)
_VIOLATED = re.compile(r"Constraints violated \(([^)]*)\)")


class DataDependent(ModelError):
    """forward() takes another path, or other constants, for other inputs."""


@dataclass(frozen=True, slots=True)
class Note:
    """One of the tracer's warnings."""

    message: str
    filename: str
    line: int


@contextmanager
def listening() -> Iterator[list[Note]]:
    """Collects the tracer's warnings instead of showing them; other warnings are shown as usual."""
    notes: list[Note] = []
    with warnings.catch_warnings():
        warnings.simplefilter("always", TracerWarning)
        # The legacy exporter warns of its deprecation at every call; graph.py says why it is used.
        warnings.filterwarnings("ignore", message="You are using the legacy TorchScript", category=DeprecationWarning)
        warnings.filterwarnings("ignore", message="The feature will be removed", category=DeprecationWarning)
        # What it says of recurrent cells, other batches show: the graph is compared with PyTorch at several.
        warnings.filterwarnings("ignore", message="Exporting a model to ONNX with a batch_size other than 1")
        show = warnings.showwarning

        def collect(
            message: Warning | str, category: type[Warning], filename: str, lineno: int, *rest: Any, **more: Any
        ) -> None:
            if issubclass(category, TracerWarning):
                if _innermost() in RECURRENT:
                    return
                notes.append(Note(_first_sentence(message), *_location(filename, lineno)))
            else:
                show(message, category, filename, lineno, *rest, **more)

        warnings.showwarning = collect
        with _Listener(notes):
            yield notes


class _Listener(TorchFunctionMode):
    """Notes calls that turn tensors into Python values without a warning of the tracer."""

    def __init__(self, notes: list[Note]) -> None:
        super().__init__()
        self.notes = notes

    def __torch_function__(
        self, func: Callable[..., Any], types: Any, args: tuple[Any, ...] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        name = getattr(func, "__name__", "")
        if name in FREEZES_SILENTLY:
            self.notes.append(Note(f"{name} turns a tensor into a Python value", *_location("", 0)))
        return func(*args, **(kwargs or {}))


def check(wrapped: Wrapped, inputs: tuple[torch.Tensor, ...], notes: list[Note]) -> None:
    """Passes if there are no notes or torch.export finds no such path. Raises DataDependent with file and line."""
    if not notes:
        return
    try:
        with torch.no_grad(), silence.discard_stderr(), warnings.catch_warnings():
            warnings.simplefilter("ignore")  # its deprecations; only its verdict matters
            program = torch.export.export(
                wrapped, inputs, dynamic_shapes={"inputs": dynamic_shapes(wrapped)}, strict=False
            )
    except Exception as error:  # torch.export raises many kinds; each means that it cannot trace forward()
        verdict = summary(error)
        if (violated := _VIOLATED.search(verdict)) and "batch" not in violated[1].split(", "):
            return  # a path for each size, not for each input: the graph is compared at other sizes anyway
    else:
        # torch.export treats .item() and the like as unknown numbers, but tracing froze them
        frozen = [node for node in program.graph.nodes if node.target in READS_A_NUMBER]
        if not frozen:
            return
        verdict = "forward() reads a number out of a tensor"
    raise DataDependent(
        "forward() has data-dependent control flow or constants, which an ONNX graph cannot represent: "
        f"{_locations(notes)} (torch.export: {verdict}); "
        "use torch.where instead of if, and tensors instead of item() or len()"
    )


def dynamic_shapes(wrapped: Wrapped) -> tuple[dict[int, Any], ...]:
    """The inputs' dynamic axes for torch.export: axes of the same name have the same size."""
    axes = wrapped.inputs.dynamic_axes()
    dims = {name: torch.export.Dim(name) for names in axes for name in names.values()}
    return tuple({axis: dims[name] for axis, name in names.items()} for names in axes)


def _first_sentence(message: Warning | str) -> str:
    return str(message).split(" might cause")[0].split(". ")[0]


def _innermost() -> str:
    """The file whose code converts a tensor, below this module's own frames."""
    own = (__file__, warnings.__file__)
    files = (frame.f_code.co_filename for frame, _ in traceback.walk_stack(sys._getframe()))
    return next((file for file in files if file not in own), "")


def _location(filename: str, line: int) -> tuple[str, int]:
    """The current line of the user's code; the given location if only library code is running."""
    for frame, current_line in traceback.walk_stack(sys._getframe()):
        if frame.f_code.co_filename == wrap.__file__:
            break
        if not is_library(frame.f_code.co_filename):
            return frame.f_code.co_filename, current_line
    return filename, line


def _locations(notes: list[Note]) -> str:
    locations = dict.fromkeys(f"{note.filename}:{note.line}: {note.message}" for note in notes)
    return "; ".join(sorted(locations, key=lambda location: is_library(location.split(":")[0]))[:MAX_LOCATIONS])
