"""Derives the tolerance of later hops against PyTorch from the net itself.

Another runtime sums in another order, so its rounding differs by about as much as PyTorch's float32 differs from exact
arithmetic. That distance is measured on the golden inputs, against the same net in float64. Ten times as much leaves
room for harder inputs, and is still far below the effect of a changed weight.
"""

import warnings
from collections.abc import Iterable
from dataclasses import replace

import numpy as np
import torch
from torch.func import functional_call

from seaway.artifacts.artifact_metadata import Tolerance
from seaway.export import wrap
from seaway.export.inputs import Examples
from seaway.export.outputs import LOGITS, SCORES
from seaway.export.wrap import Wrapped

SAFETY_FACTOR = 10.0
FLOOR = 1e-5  # times the largest output if below 1: a net may round nothing on the golden inputs, but elsewhere
FALLBACK = 1e-4  # if the net cannot run in float64
CEILING = 1e-3  # times the largest output: beyond that the gate would miss a weight scaled by 1 %
HALF_CEILING = 2e-2  # the same, for nets that compute in float16 or bfloat16
REL = 1e-5  # rounding grows with the value: about 80 float32 steps
# The maximum change of a score per unit of change of all logits: the activation's steepest slope.
SLOPE = {"softmax": 0.5, "sigmoid": 0.25}
EXACT = Tolerance(0.0, 0.0)  # of integers and booleans

Outputs = dict[str, np.ndarray]


def derive(wrapped: Wrapped, calls: list[tuple[Examples, Outputs]]) -> dict[str, Tolerance]:
    """A tolerance for each output, given the examples of some calls and PyTorch's outputs for them."""
    exact = [_in_float64(wrapped, examples, outputs) for examples, outputs in calls]
    half = computes_in_half(wrapped)
    tolerances: dict[str, Tolerance] = {}
    for name, output in calls[0][1].items():
        if not np.issubdtype(output.dtype, np.floating):
            tolerances[name] = EXACT
            continue
        pairs = [
            (results[name], None if other is None else other.get(name))
            for (_, results), other in zip(calls, exact, strict=True)
        ]
        allowed = _allowed(pairs, HALF_CEILING if half or output.dtype == np.float16 else CEILING)
        tolerances[name] = Tolerance(_round_up(allowed), max(REL, 2 * float(np.finfo(output.dtype).eps)))
    if SLOPE.get(wrapped.activation):
        # Derived from the slope instead of measured scores: golden scores near 0 and 1 hide the range in between.
        scores = max(FLOOR, SLOPE[wrapped.activation] * tolerances[LOGITS].abs)
        tolerances[SCORES] = Tolerance(_round_up(scores), REL)
    return tolerances


def from_outputs(calls: list[Outputs]) -> dict[str, Tolerance]:
    """A tolerance for each output of a model that cannot run in float64, given its outputs for some calls."""
    return {
        name: Tolerance(_round_up(_allowed([(outputs[name], None) for outputs in calls], CEILING)), REL)
        if np.issubdtype(output.dtype, np.floating)
        else EXACT
        for name, output in calls[0].items()
    }


def computes_in_half(wrapped: Wrapped) -> str:
    """The name of the half-precision type of the net's weights, or of its bfloat16 inputs; "" if there is none."""
    halves = {tensor.dtype for tensor in wrapped.net.state_dict().values()} & {torch.float16, torch.bfloat16}
    if halves:
        return str(halves.pop()).removeprefix("torch.")
    return "bfloat16" if wrapped.inputs.narrowed else ""


def _allowed(pairs: list[tuple[np.ndarray, np.ndarray | None]], ceiling: float) -> float:
    """The absolute tolerance of one output, from its values and, if there are any, those in float64."""
    finite = [np.abs(value[np.isfinite(value)]).astype(np.float64) for value, _ in pairs]
    largest = max(float(value.max(initial=0)) for value in finite)
    errors = [_distance(value, exact) for value, exact in pairs if exact is not None and exact.shape == value.shape]
    error = max(errors) if len(errors) == len(pairs) else FALLBACK / SAFETY_FACTOR
    floor = FLOOR * min(1.0, largest) or FLOOR
    return float(np.clip(SAFETY_FACTOR * error, floor, max(floor, ceiling * largest)))


def _distance(value: np.ndarray, exact: np.ndarray) -> float:
    both = np.isfinite(value) & np.isfinite(exact)
    return float(np.abs(value[both].astype(np.float64) - exact[both]).max(initial=0))


def _in_float64(wrapped: Wrapped, examples: Examples, names: Iterable[str]) -> Outputs | None:
    """The outputs in float64; None if forward() hard-codes another type."""
    tensors = tuple(_double(tensor) for tensor in wrap.tensors(examples))
    # Not only state_dict(), which has no buffers that are not persistent
    state = {name: _double(tensor) for name, tensor in (wrapped.state_dict() | dict(wrapped.named_buffers())).items()}
    inputs, wrapped.inputs = wrapped.inputs, replace(wrapped.inputs, narrowed=frozenset())
    try:
        with torch.no_grad(), warnings.catch_warnings():
            warnings.simplefilter("ignore")
            outputs = [tensor.numpy() for tensor in functional_call(wrapped, state, tensors)]
    except Exception:  # user code may raise anything; it only has to support its own type
        return None
    finally:
        wrapped.inputs = inputs
    exact = {n: o for n, o in zip(names, outputs, strict=True) if o.dtype == np.float64}
    return exact if all(np.isfinite(output).any() or not output.size for output in exact.values()) else None


def _double(tensor: torch.Tensor) -> torch.Tensor:
    return tensor.double() if tensor.is_floating_point() else tensor


def _round_up(value: float) -> float:
    """Rounds up to two significant digits."""
    if not value:
        return 0.0
    digit = 10.0 ** (np.floor(np.log10(value)) - 1)
    return float(f"{np.ceil(value / digit - 1e-9) * digit:.1e}")
