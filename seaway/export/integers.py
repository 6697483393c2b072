"""Golden integers over the range that forward() accepts: negative, zero, large and repeated ones, found by trial.

Zeros and ones prove little: `x // 60` is right for them even if it rounds the wrong way, and so is a sum over indices
that happen not to repeat. Only forward() determines the range (an embedding has a fixed number of rows), so it is
searched, and half of the random examples take their integers from the accepted range.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np

from seaway.artifacts.artifact_metadata import Tensor
from seaway.export import wrap
from seaway.export.inputs import INTEGERS, Examples
from seaway.export.trials import COSTLY, Trials
from seaway.export.wrap import Wrapped

DTYPES = tuple(dtype for dtype in INTEGERS if dtype != "uint8")  # random uint8 and bool already cover all values
MAX_COLUMNS = 32  # up to this many numbers per example are searched separately: each may index its own table
SMALL = 100
MAX_DRAWS = 4  # for one example, until forward() accepts one


@dataclass(frozen=True, slots=True)
class Accepted:
    """The range that forward() accepts for each number of one input, and why not more."""

    low: np.ndarray
    high: np.ndarray
    below: str
    above: str

    def __str__(self) -> str:
        ranges = list(dict.fromkeys(f"{low} to {high}" for low, high in zip(self.low, self.high, strict=True)))
        shown = ranges if len(ranges) <= 4 else [*ranges[:3], f"and {len(ranges) - 3} other ranges"]
        why = [f"{side}: {reason}" for side, reason in (("below", self.below), ("above", self.above)) if reason]
        return ", ".join(shown) + (f" ({'; '.join(why)})" if why else "")


def widen(wrapped: Wrapped, examples: Examples) -> tuple[Examples, dict[str, Any]]:
    """The examples, the second half of them with integers from the accepted range, and a summary of the search.

    The summary is empty for a net without integer inputs, which costs nothing.
    """
    tensors = [tensor for tensor in wrapped.inputs.tensors if tensor.dtype in DTYPES]
    if not tensors:
        return examples, {}
    with wrap.plain_attention(), Trials(wrapped, examples) as trials:
        accepted_by_input = {tensor.name: _search(tensor, examples, trials) for tensor in tensors}
        widened = {name: array.copy() for name, array in examples.items()}
        count = len(next(iter(examples.values()))) if wrapped.inputs.batch else 1
        rows = range(count // 2, count)
        changed = [row for row in rows if _draw(row, widened, accepted_by_input, trials)]
        ranges = {
            name: "0 and 1 only: " + accepted if isinstance(accepted, str) else str(accepted)
            for name, accepted in accepted_by_input.items()
        }
        return widened, {"accepted": ranges, "trials": trials.count, "examples": len(changed)}


def line(search: dict[str, Any]) -> str:
    """The summary of `widen` as one sentence."""
    accepted = "; ".join(f"{name}: {ranges}" for name, ranges in search["accepted"].items())
    return (
        f"integers that forward() takes, by {search['trials']} trials: {accepted}; {search['examples']} golden examples"
    )


def _search(tensor: Tensor, examples: Examples, trials: Trials) -> Accepted | str:
    """The range that `tensor` may have while other inputs are ordinary; a reason if not even 0 or 1 is accepted."""
    ordinary = {name: trials.example(array, 0) for name, array in examples.items()}
    width = ordinary[tensor.name].size

    def with_value(base: int, column: int | None) -> Callable[[int], str]:
        def attempt(value: int) -> str:
            numbers = np.full(width, base, tensor.dtype)
            numbers[slice(None) if column is None else column] = value
            return trials.refusal(ordinary | {tensor.name: numbers.reshape(ordinary[tensor.name].shape)})

        return attempt

    refused = ""
    for base in (0, 1):
        refused = with_value(base, None)(base)
        if not refused:
            break
    else:
        return refused
    bounds = np.iinfo(tensor.dtype if tensor.dtype != "uint64" else "int64")
    low, below = _reach(with_value(base, None), base, int(bounds.min))
    high, above = _reach(with_value(base, None), base, int(bounds.max))
    lows, highs = [low] * width, [high] * width
    costly = any(reason.startswith(COSTLY) for reason in (below, above))
    if (below or above) and 1 < width <= MAX_COLUMNS and not costly:
        for column in range(width):
            attempt = with_value(base, column)
            lows[column] = _reach(attempt, base, int(bounds.min), low)[0]
            highs[column] = _reach(attempt, base, int(bounds.max), high)[0]
    return Accepted(np.array(lows), np.array(highs), below, above)


def _reach(attempt: Callable[[int], str], base: int, end: int, known: int | None = None) -> tuple[int, str]:
    """The furthest accepted integer from `base` to `end`, by doubling and bisection, and why the next is refused."""
    why = attempt(end)
    if not why:
        return end, ""
    sign = 1 if end > base else -1
    good, bad, step = known if known is not None else base, end, 1
    while abs(good - end) > step:
        value = good + sign * step
        refused = attempt(value)
        if refused:
            bad, why = value, refused
            break
        good, step = value, step * 2
    while abs(bad - good) > 1 and not why.startswith(COSTLY):
        value = good + (bad - good) // 2 if sign > 0 else good - (good - bad) // 2
        refused = attempt(value)
        if refused:
            bad, why = value, refused
        else:
            good = value
    return good, why


def _draw(row: int, examples: Examples, accepted_by_input: dict[str, Accepted | str], trials: Trials) -> bool:
    """Replaces the row's integers by others that forward() accepts; keeps them if none of a few draws passes."""
    for draw in range(MAX_DRAWS):
        generator = np.random.default_rng([row, draw])
        example = {name: trials.example(array, row).copy() for name, array in examples.items()}
        for name, accepted in accepted_by_input.items():
            if isinstance(accepted, Accepted):
                numbers = _numbers(row + draw, accepted, generator)
                example[name] = numbers.astype(example[name].dtype).reshape(example[name].shape)
        if not trials.refusal(example):
            for name, array in example.items():
                trials.example(examples[name], row)[...] = array
            return True
    return False


def _numbers(row: int, accepted: Accepted, generator: np.random.Generator) -> np.ndarray:
    """Four kinds in turn: all numbers equal, small ones, ones of any magnitude, ones from the whole range."""
    low, high = accepted.low, accepted.high
    kind, round_number = row % 4, row // 4
    if kind == 0:
        constants = (low, high, np.full_like(low, -1), np.full_like(low, 1), np.full_like(low, -7), high // 2)
        numbers = constants[round_number % len(constants)]
    elif kind == 1:
        numbers = generator.integers(-SMALL, SMALL, low.shape, endpoint=True)
    elif kind == 2:
        furthest = np.maximum(np.abs(low.astype(float)), np.abs(high.astype(float)))
        magnitudes = 2.0 ** generator.uniform(0, np.minimum(np.log2(furthest + 1), 62))
        numbers = magnitudes.astype(np.int64) * generator.choice([-1, 1], low.shape)
    else:
        numbers = generator.integers(low, high, endpoint=True)
    clipped: np.ndarray = np.clip(numbers, low, high)
    return clipped
