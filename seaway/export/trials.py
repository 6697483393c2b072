"""Runs forward() on one example after another in a child process, whose end by any of them costs that example alone.

A large integer may make forward() allocate or run without bound (`torch.arange(n)`), or end the process. The child is
forked, before this process has run the net, and computes on one thread: no thread pool of this process is in it.
"""

import faulthandler
import importlib
import multiprocessing
import os
import time
import warnings
from multiprocessing.connection import Connection
from types import TracebackType
from typing import Any

import numpy as np
import torch
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from seaway.export import tolerance, wrap
from seaway.export.wrap import Wrapped
from seaway.nets.user import summary
from seaway.platform import limits

SECONDS = 5.0  # for one example
ALL_SECONDS = 60.0  # for all of them; what is left then counts as not accepted
MEMORY = 2 << 30  # beyond the loaded net, for all examples of a batch together
ORDINARY = 4  # examples that say how large outputs and their rounding are

SLOW, ENDS, LATE = "takes longer than", "ends the process", "not tried after"
COSTLY = (SLOW, ENDS, LATE)  # refusals that a search does not ask for again, to be more exact

Examples = dict[str, np.ndarray]


class Trials:
    """`refusal(example)` says why forward() does not take an example; "" where it does."""

    def __init__(self, wrapped: Wrapped, ordinary: Examples) -> None:
        """`ordinary` are all of the examples so far: forward() takes those, or nothing is accepted."""
        self._wrapped, self._ordinary = wrapped, ordinary
        self._until = time.monotonic() + ALL_SECONDS
        self._child: Any = None
        self.count = 0

    def __enter__(self) -> "Trials":
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self._end()

    def refusal(self, example: Examples) -> str:
        """Takes a batch of one."""
        left = self._until - time.monotonic()
        if left <= 0:
            return f"{LATE} {ALL_SECONDS:.0f} s of trials"
        self.count += 1
        try:
            if self._child is None:
                self._start()
                refused = self._answer(ORDINARY * SECONDS)
                if refused:
                    return f"forward() does not take 0 and 1: {refused}"
            self._connection.send(example)
            return self._answer(min(SECONDS, left))
        except (EOFError, OSError):
            self._child.join()
            code = self._child.exitcode
            self._end()
            return f"{ENDS} by signal {-code}" if code and code < 0 else ENDS

    def _start(self) -> None:
        # Tensor methods import it when they are first called, which takes seconds: once here, not in every child.
        importlib.import_module("torch._dynamo")
        context = multiprocessing.get_context("fork")
        self._connection, theirs = context.Pipe()
        arguments = (theirs, self._connection, self._wrapped, self._ordinary)
        self._child = context.Process(target=_serve, args=arguments, daemon=True)
        self._child.start()
        theirs.close()

    def _answer(self, seconds: float) -> str:
        if self._connection.poll(seconds):
            return str(self._connection.recv())
        self._end()
        return f"{SLOW} {seconds:.0f} s"

    def _end(self) -> None:
        if self._child is not None:
            self._child.kill()
            self._child.join()
            self._connection.close()
            self._child = None


class _Rounding(TorchDispatchMode):  # type: ignore[no-untyped-call]
    """Moves every float that is computed to a neighbour, as another runtime's rounding does."""

    def __init__(self) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self._generator = torch.Generator().manual_seed(0)

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        result = func(*args, **(kwargs or {}))
        if not _is_float(result) or any(returned.alias_info for returned in func._schema.returns):
            return result
        if not any(_is_float(value) for value in tree_leaves((args, kwargs))):
            return result
        step = torch.finfo(result.dtype).eps
        up = torch.rand(result.shape, generator=self._generator) < 0.5
        return result * torch.where(up, 1 + step, 1 - step).to(result.dtype)


def _is_float(value: object) -> bool:
    return isinstance(value, torch.Tensor) and value.is_floating_point()


def _serve(connection: Connection, parents: Connection, wrapped: Wrapped, ordinary: Examples) -> None:
    """The child: first what `ordinary` gives, then an answer for each example."""
    parents.close()
    nowhere = os.open(os.devnull, os.O_WRONLY)
    for stream in (1, 2):  # user code may print, and a crash reports itself
        os.dup2(nowhere, stream)
    faulthandler.disable()
    limits.leave_no_core()
    warnings.simplefilter("ignore")
    torch.set_num_threads(1)
    largest = rounding = 0.0
    count = len(next(iter(ordinary.values())))
    try:
        for row in range(min(ORDINARY, count)):
            logits, moved = _logits(wrapped, {name: array[row : row + 1] for name, array in ordinary.items()})
            largest, rounding = max(largest, float(logits.abs().max())), max(rounding, moved)
        connection.send("")
    except Exception as error:  # whatever user code raises
        connection.send(summary(error))
        return
    # Beyond this a result says more about rounding than about the net, and the tolerance would have to follow it.
    allowed = max(largest * tolerance.CEILING / tolerance.ROOM, tolerance.ROOM * rounding)
    limits.limit_growth(MEMORY // count)  # allocations beyond that fail; PyTorch raises it as an error
    while True:
        try:
            example = connection.recv()
        except EOFError:
            return
        try:
            _, moved = _logits(wrapped, example)
            connection.send("" if moved <= allowed else "float32 rounds it too coarsely to compare")
        except Exception as error:
            connection.send(summary(error))


def _logits(wrapped: Wrapped, example: Examples) -> tuple[torch.Tensor, float]:
    """What one example gives, and how far rounding alone moves it."""
    inputs = wrap.tensors(example)
    with torch.no_grad():
        logits = wrapped.call(*inputs)
        if not isinstance(logits, torch.Tensor) or logits.ndim != 2 or len(logits) != 1:
            raise ValueError("gives no logits [1, classes]")
        if not bool(torch.isfinite(logits).all()):
            raise ValueError("gives outputs that are not finite")
        with _Rounding():
            other = wrapped.call(*inputs)
    return logits, float((other - logits).abs().max())
