"""Runs forward() on one example after another in a child process, so that a crash only rules out that example.

A large integer may make forward() allocate or run without bound (`torch.arange(n)`), or crash the process. The child is
forked before this process has run the net, and computes on one thread, so it inherits no thread pool.
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
from seaway.export.inputs import Examples
from seaway.export.wrap import Wrapped
from seaway.nets.user import summary
from seaway.platform import limits

EXAMPLE_TIMEOUT_S = 5.0
TOTAL_TIMEOUT_S = 60.0  # the remaining examples count as not accepted
MAX_GROWTH_BYTES = 2 << 30  # beyond the loaded net, for all examples of a batch together
REFERENCE_EXAMPLES = 4  # their outputs set the scale of outputs and rounding

SLOW, CRASHES, LATE = "takes longer than", "crashes the process", "not tried after"
COSTLY = (SLOW, CRASHES, LATE)  # refusals after which the search stops refining


class Trials:
    """`refusal(example)` returns why forward() does not accept an example; "" if it does."""

    def __init__(self, wrapped: Wrapped, ordinary: Examples) -> None:
        """`ordinary`: all examples so far; if forward() does not accept those, it accepts nothing."""
        self._wrapped, self._ordinary = wrapped, ordinary
        self._deadline = time.monotonic() + TOTAL_TIMEOUT_S
        self._child: Any = None
        self.count = 0

    def __enter__(self) -> "Trials":
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self._end()

    def example(self, array: np.ndarray, row: int) -> np.ndarray:
        """One example of an input as forward() takes it: a batch of one, or the whole array without a batch."""
        return array[row : row + 1] if self._wrapped.inputs.batch else array

    def refusal(self, example: Examples) -> str:
        """Takes one example."""
        remaining_s = self._deadline - time.monotonic()
        if remaining_s <= 0:
            return f"{LATE} {TOTAL_TIMEOUT_S:.0f} s of trials"
        self.count += 1
        try:
            if self._child is None:
                self._start()
                refused = self._receive(REFERENCE_EXAMPLES * EXAMPLE_TIMEOUT_S)
                if refused:
                    return f"forward() does not accept 0 and 1: {refused}"
            self._connection.send(example)
            return self._receive(min(EXAMPLE_TIMEOUT_S, remaining_s))
        except (EOFError, OSError):
            self._child.join()
            code = self._child.exitcode
            self._end()
            return f"{CRASHES} by signal {-code}" if code and code < 0 else CRASHES

    def _start(self) -> None:
        # Tensor methods import it on first use, which takes seconds: do it once here, not in every child.
        importlib.import_module("torch._dynamo")
        context = multiprocessing.get_context("fork")
        self._connection, child_end = context.Pipe()
        arguments = (child_end, self._connection, self._wrapped, self._ordinary)
        self._child = context.Process(target=_serve, args=arguments, daemon=True)
        self._child.start()
        child_end.close()

    def _receive(self, timeout_s: float) -> str:
        if self._connection.poll(timeout_s):
            return str(self._connection.recv())
        self._end()
        return f"{SLOW} {timeout_s:.0f} s"

    def _end(self) -> None:
        if self._child is not None:
            self._child.kill()
            self._child.join()
            self._connection.close()
            self._child = None


class _Rounding(TorchDispatchMode):  # type: ignore[no-untyped-call]
    """Moves every computed float to a neighboring value, as another runtime's rounding does."""

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


def _serve(connection: Connection, parent_end: Connection, wrapped: Wrapped, ordinary: Examples) -> None:
    """The child's loop: first runs `ordinary`, then replies to each example."""
    parent_end.close()
    devnull = os.open(os.devnull, os.O_WRONLY)
    for stream in (1, 2):  # user code may print, and a crash prints a report
        os.dup2(devnull, stream)
    faulthandler.disable()
    limits.disable_core_dumps()
    warnings.simplefilter("ignore")
    torch.set_num_threads(1)
    count = len(next(iter(ordinary.values()))) if wrapped.inputs.batch else 1
    reference = ordinary
    try:
        if wrapped.inputs.batch:
            reference = wrap.batch_of(ordinary, min(REFERENCE_EXAMPLES, count))
        allowed = {name: _allowed(*sizes) for name, sizes in _measure(wrapped, reference).items()}
        connection.send("")
    except Exception as error:  # user code may raise anything
        connection.send(summary(error))
        return
    limits.limit_memory_growth(MAX_GROWTH_BYTES // count)  # allocations beyond that fail, and PyTorch raises an error
    while True:
        try:
            example = connection.recv()
        except EOFError:
            return
        try:
            moved = {name: moved for name, (_, moved) in _measure(wrapped, example).items()}
            coarse = any(distance > allowed[name] for name, distance in moved.items())
            connection.send("float32 rounds its outputs too coarsely to compare" if coarse else "")
        except Exception as error:
            connection.send(summary(error))


def _allowed(largest: float, rounding: float) -> float:
    """Beyond this, the result reflects rounding more than the net, and the tolerance would have to grow with it."""
    return max(largest * tolerance.CEILING / tolerance.SAFETY_FACTOR, tolerance.SAFETY_FACTOR * rounding)


def _measure(wrapped: Wrapped, example: Examples) -> dict[str, tuple[float, float]]:
    """Each float output's largest value, and how far rounding alone moves it. Raises whatever forward() does."""
    inputs = wrap.tensors(example)
    with torch.no_grad():
        outputs = wrapped.named(*inputs)
        with _Rounding():
            others = wrapped.named(*inputs)
    measured = {}
    for name, output in outputs.items():
        if not output.is_floating_point() or not output.numel():
            continue
        if bool(output.isnan().any()):
            raise ValueError("returns outputs that are not finite")
        if others[name].shape != output.shape:
            raise ValueError("returns another number of results after rounding")
        finite = output.isfinite() & others[name].isfinite()
        largest, moved = (value[finite].abs().double() for value in (output, others[name] - output))
        measured[name] = (float(largest.max()), float(moved.max())) if finite.any() else (0.0, 0.0)
    return measured
