"""Compares an exported graph with PyTorch, in ONNX Runtime."""

import re
from collections.abc import Iterator
from pathlib import Path

import numpy as np

from seaway.artifacts import golden
from seaway.artifacts.artifact_metadata import Tolerance
from seaway.errors import ModelError
from seaway.export import model_file, tolerance, wrap
from seaway.export.inputs import Examples
from seaway.export.tolerance import Outputs
from seaway.export.wrap import Wrapped
from seaway.nets.user import summary

_NO_KERNEL = re.compile(r"Could not find an implementation for (\w+)\(\d+\)")
MAX_SHOWN = 8  # integers of one input in a message


def compare(
    folder: Path, wrapped: Wrapped, calls: list[tuple[Examples, Outputs]], tolerances: dict[str, Tolerance]
) -> None:
    """Checks in ONNX Runtime that the graph gives PyTorch's outputs for all calls, and for other batches of the first.

    Raises ModelError.
    """
    try:
        session = model_file.session(folder / model_file.MODEL)
    except Exception as error:
        if missing := _NO_KERNEL.search(str(error)):
            half = tolerance.computes_in_half(wrapped)
            remedy = f" in {half}, in which the network computes; call .float() on it" if half else " for these types"
            raise ModelError(f"ONNX Runtime has no kernel for {missing[1]}{remedy}") from error
        raise ModelError(f"ONNX Runtime cannot load the exported graph: {summary(error)}") from error
    for examples, expected in _varied(wrapped, calls):
        try:
            outputs = session.run(list(expected), examples)
        except Exception as error:
            raise ModelError(
                f"the exported graph does not run for {_sizes(wrapped, examples)}, so forward() fixes a size: keep it "
                f"free with x.flatten(1) or x.shape[0]{_one_size(wrapped)} ({summary(error)})"
            ) from error
        for (name, reference), array in zip(expected.items(), outputs, strict=True):
            compared = golden.compare(array, reference, tolerances[name])
            if compared.wrong or compared.flipped:
                how = f"{compared.wrong} differ, by up to {compared.max_abs:.3g} (allowed {tolerances[name].abs:.3g})"
                if array.shape != reference.shape:
                    how = f"its shape is {list(array.shape)}, not {list(reference.shape)}"
                raise ModelError(
                    f"ONNX Runtime gives other {name} than PyTorch for {_sizes(wrapped, examples)}: {how}"
                    f"{_first_inputs(wrapped, examples, array, reference, tolerances[name])}: {_reason(wrapped)}"
                )


def _varied(wrapped: Wrapped, calls: list[tuple[Examples, Outputs]]) -> Iterator[tuple[Examples, Outputs]]:
    for batch in (1, 3) if wrapped.inputs.batch else ():
        examples = wrap.batch_of(calls[0][0], batch)
        yield examples, wrap.run(wrapped, examples)
    yield from calls


def _sizes(wrapped: Wrapped, examples: Examples) -> str:
    """The batch and the open sizes of a call, in words."""
    named: dict[str, int] = {}
    if wrapped.inputs.batch:
        named["batch"] = len(next(iter(examples.values())))
    for name, axes in wrapped.inputs.axes.items():
        sides = examples[name].shape[wrapped.inputs.batch :]
        named |= {axis: side for axis, side in zip(axes, sides, strict=True) if isinstance(axis, str)}
    return ", ".join(f"{name} {size}" for name, size in named.items()) or "the same inputs"


def _one_size(wrapped: Wrapped) -> str:
    """Advice for a net with open sizes: no exporter writes a Python loop as one."""
    names = list(wrapped.inputs.sizes)
    return f"; if it loops over {names[0]} in Python, ship one size, as --size {names[0]}=16..16" if names else ""


def _reason(wrapped: Wrapped) -> str:
    if half := tolerance.computes_in_half(wrapped):
        return f"the network computes in {half}, which each runtime rounds otherwise; call .float() on it"
    return "the graph does not do what forward() does; look for numbers or sizes that forward() reads out of tensors"


def _first_inputs(
    wrapped: Wrapped, rows: Examples, outputs: np.ndarray, expected: np.ndarray, tolerance: Tolerance
) -> str:
    """The integers of the first differing example, and whether it has NaN or infinities, which are often the reason."""
    if outputs.shape != expected.shape or not expected.ndim or len(expected) != len(next(iter(rows.values()))):
        return ""
    for row in range(len(expected) if wrapped.inputs.batch else 0):
        result = golden.compare(outputs[row : row + 1], expected[row : row + 1], tolerance)
        if result.wrong or result.flipped:
            example = {name: array[row].ravel() for name, array in rows.items()}
            shown = [
                f"{name} {', '.join(map(str, numbers[:MAX_SHOWN]))}"
                for name, numbers in example.items()
                if numbers.dtype.kind in "iu"
            ]
            unusual = {"NaN": np.isnan, "infinities": np.isinf}
            shown += [
                f"{name} with {kind}"
                for kind, test in unusual.items()
                for name, numbers in example.items()
                if numbers.dtype.kind == "f" and test(numbers).any()
            ]
            return f", the first of them for {'; '.join(shown)}" if shown else ""
    return ""
