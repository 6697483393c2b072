"""Derives the tolerance of later hops against PyTorch from the net itself.

Another runtime sums in another order, so its rounding differs by about as much as PyTorch's float32 differs from exact
arithmetic. That distance is measured on the golden inputs, against the same net in float64. Ten times as much leaves
room for harder inputs, and is still far below the effect of a changed weight.
"""

import warnings

import numpy as np
import torch
from torch.func import functional_call

from seaway.artifacts.artifact_metadata import Tolerance
from seaway.export import wrap
from seaway.export.wrap import Wrapped

SAFETY_FACTOR = 10.0
FLOOR = 1e-5  # times the largest logit if below 1: a net may round nothing on the golden inputs, but elsewhere
FALLBACK = 1e-4  # if the net cannot run in float64
CEILING = 1e-3  # times the largest logit: beyond that the gate would miss a weight scaled by 1 %
REL = 1e-5  # rounding grows with the value: about 80 float32 steps
# The maximum change of a score per unit of change of all logits: the activation's steepest slope.
SLOPE = {"softmax": 0.5, "sigmoid": 0.25}


def derive(wrapped: Wrapped, examples: dict[str, np.ndarray], outputs: dict[str, np.ndarray]) -> dict[str, Tolerance]:
    """Tolerances for `scores` and `logits`, given PyTorch's float32 outputs for the examples."""
    logits = outputs["logits"].astype(np.float64)
    exact = _in_float64(wrapped, examples)
    error = FALLBACK / SAFETY_FACTOR if exact is None else float(np.abs(logits - exact).max())
    largest = float(np.abs(logits).max())
    floor = FLOOR * min(1.0, largest) or FLOOR
    allowed = float(np.clip(SAFETY_FACTOR * error, floor, max(floor, CEILING * largest)))
    # Derived from the slope instead of measured scores: golden scores near 0 and 1 hide the range in between.
    scores = allowed if wrapped.activation == "none" else max(FLOOR, SLOPE[wrapped.activation] * allowed)
    return {"scores": Tolerance(_round_up(scores), REL), "logits": Tolerance(_round_up(allowed), REL)}


def _in_float64(wrapped: Wrapped, examples: dict[str, np.ndarray]) -> np.ndarray | None:
    """The logits in float64; None if forward() hard-codes float32."""
    inputs = [_double(tensor) for tensor in wrap.tensors(examples)]
    state = {name: _double(tensor) for name, tensor in wrapped.state_dict().items()}
    try:
        with torch.no_grad(), warnings.catch_warnings():
            warnings.simplefilter("ignore")
            _, logits = functional_call(wrapped, state, tuple(inputs))
    except Exception:  # user code may raise anything; it only has to support float32
        return None
    exact = logits.numpy()
    return exact if exact.dtype == np.float64 and np.isfinite(exact).all() else None


def _double(tensor: torch.Tensor) -> torch.Tensor:
    return tensor.double() if tensor.is_floating_point() else tensor


def _round_up(value: float) -> float:
    """Rounds up to two significant digits."""
    digit = 10.0 ** (np.floor(np.log10(value)) - 1)
    return float(f"{np.ceil(value / digit - 1e-9) * digit:.1e}")
