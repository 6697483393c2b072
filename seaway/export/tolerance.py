"""How far a later hop may be from PyTorch, derived from the net itself.

Another runtime sums in another order, so its rounding differs by about as much as PyTorch's float32 differs from exact
arithmetic. That distance is measured on the golden inputs, against the same net in float64; ten times that leaves room
for inputs that are harder than the golden ones, and is still far under what a changed weight does.
"""

import warnings

import numpy as np
import torch
from torch.func import functional_call

from seaway.artifacts.card import Tolerance
from seaway.export import wrap
from seaway.export.wrap import Wrapped

ROOM = 10.0
FLOOR = 1e-5  # of the largest logit under 1: a net whose golden rounding happens to vanish still rounds elsewhere
FALLBACK = 1e-4  # where the net cannot run in float64
CEILING = 1e-3  # of the largest logit: beyond that the gate would no longer see a weight scaled by one per cent
REL = 1e-5  # rounding grows with the number: about 80 float32 steps
# By how much a score can move for each unit that all logits may move: the activation's steepest slope.
SLOPE = {"softmax": 0.5, "sigmoid": 0.25}


def derive(wrapped: Wrapped, examples: dict[str, np.ndarray], outputs: dict[str, np.ndarray]) -> dict[str, Tolerance]:
    """Tolerances for `scores` and `logits`, given PyTorch's float32 outputs for the examples."""
    logits = outputs["logits"].astype(np.float64)
    exact = _in_float64(wrapped, examples)
    error = FALLBACK / ROOM if exact is None else float(np.abs(logits - exact).max())
    largest = float(np.abs(logits).max())
    floor = FLOOR * min(1.0, largest) or FLOOR
    allowed = float(np.clip(ROOM * error, floor, max(floor, CEILING * largest)))
    # Through the slope and not by measuring scores: golden scores near 0 and 1 hide what happens in between.
    scores = allowed if wrapped.activation == "none" else max(FLOOR, SLOPE[wrapped.activation] * allowed)
    return {"scores": Tolerance(_round_up(scores), REL), "logits": Tolerance(_round_up(allowed), REL)}


def _in_float64(wrapped: Wrapped, examples: dict[str, np.ndarray]) -> np.ndarray | None:
    """The logits as float64, or None where forward() has float32 written into it."""
    inputs = [_double(tensor) for tensor in wrap.tensors(examples)]
    state = {name: _double(tensor) for name, tensor in wrapped.state_dict().items()}
    try:
        with torch.no_grad(), warnings.catch_warnings():
            warnings.simplefilter("ignore")
            _, logits = functional_call(wrapped, state, tuple(inputs))
    except Exception:  # whatever the user's code raises: float32 is all that it promised
        return None
    exact = logits.numpy()
    return exact if exact.dtype == np.float64 and np.isfinite(exact).all() else None


def _double(tensor: torch.Tensor) -> torch.Tensor:
    return tensor.double() if tensor.is_floating_point() else tensor


def _round_up(value: float) -> float:
    """To two digits: more would not mean anything."""
    digit = 10.0 ** (np.floor(np.log10(value)) - 1)
    return float(f"{np.ceil(value / digit - 1e-9) * digit:.1e}")
