"""Golden integers over what forward() accepts: negative, zero, large and repeated ones, found by trying.

Zeros and ones alone prove little: `x // 60` of them is right even where it rounds the wrong way, and so is a sum over
indices that happen not to repeat. How far integers may go only forward() knows (an embedding has as many rows as it
has), so that is searched, and half of the random examples take their integers from what was found.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np

from seaway.artifacts.card import Tensor
from seaway.export import wrap
from seaway.export.trials import COSTLY, Examples, Trials
from seaway.export.wrap import Wrapped

DTYPES = ("int64", "int32", "int8")  # random uint8 and bool already are of all values
COLUMNS = 32  # up to as many numbers an example are searched one by one: each may index a table of its own
SMALL = 100
DRAWS = 4  # for one example, until forward() takes one


@dataclass(frozen=True, slots=True)
class Accepted:
    """What forward() takes of one input: `low` to `high` for each of its numbers, and why not more."""

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
    """Random examples, the second half of them with integers from what forward() accepts, and what was tried.

    The latter is empty for a net without integer inputs, which costs nothing then.
    """
    tensors = [tensor for tensor in wrapped.inputs if tensor.dtype in DTYPES]
    if not tensors:
        return examples, {}
    with wrap.plain_attention(), Trials(wrapped, examples) as trials:
        found = {tensor.name: _search(tensor, examples, trials) for tensor in tensors}
        wider = {name: array.copy() for name, array in examples.items()}
        rows = range(len(next(iter(examples.values()))) // 2, len(next(iter(examples.values()))))
        changed = [row for row in rows if _draw(row, wider, found, trials)]
        told = {
            name: "0 and 1 only: " + accepted if isinstance(accepted, str) else str(accepted)
            for name, accepted in found.items()
        }
        return wider, {"accepted": told, "trials": trials.count, "examples": len(changed)}


def line(tried: dict[str, Any]) -> str:
    """What `widen` tells, as one sentence."""
    accepted = "; ".join(f"{name}: {ranges}" for name, ranges in tried["accepted"].items())
    return (
        f"integers that forward() takes, by {tried['trials']} trials: {accepted}; {tried['examples']} golden examples"
    )


def _search(tensor: Tensor, examples: Examples, trials: Trials) -> Accepted | str:
    """What `tensor` may hold while the other inputs are ordinary; why nothing is known where not even 0 or 1 passes."""
    ordinary = {name: array[:1] for name, array in examples.items()}
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
    bounds = np.iinfo(tensor.dtype)
    low, below = _reach(with_value(base, None), base, int(bounds.min))
    high, above = _reach(with_value(base, None), base, int(bounds.max))
    lows, highs = [low] * width, [high] * width
    costly = any(reason.startswith(COSTLY) for reason in (below, above))
    if (below or above) and 1 < width <= COLUMNS and not costly:
        for column in range(width):
            attempt = with_value(base, column)
            lows[column] = _reach(attempt, base, int(bounds.min), low)[0]
            highs[column] = _reach(attempt, base, int(bounds.max), high)[0]
    return Accepted(np.array(lows), np.array(highs), below, above)


def _reach(attempt: Callable[[int], str], base: int, end: int, known: int | None = None) -> tuple[int, str]:
    """The furthest accepted integer from `base` to `end`, by doubling and halving, and why the next one is not."""
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


def _draw(row: int, examples: Examples, found: dict[str, Accepted | str], trials: Trials) -> bool:
    """Gives the row other integers that forward() takes; it stays as it is where none of a few draws passes."""
    for draw in range(DRAWS):
        generator = np.random.default_rng([row, draw])
        example = {name: array[row : row + 1].copy() for name, array in examples.items()}
        for name, accepted in found.items():
            if isinstance(accepted, Accepted):
                numbers = _numbers(row + draw, accepted, generator)
                example[name] = numbers.astype(example[name].dtype).reshape(example[name].shape)
        if not trials.refusal(example):
            for name, array in example.items():
                examples[name][row] = array[0]
            return True
    return False


def _numbers(row: int, accepted: Accepted, generator: np.random.Generator) -> np.ndarray:
    """Of four kinds in turn: all numbers alike, small ones, ones of any magnitude, and ones from the whole range."""
    low, high = accepted.low, accepted.high
    kind, turn = row % 4, row // 4
    if kind == 0:
        alike = (low, high, np.full_like(low, -1), np.full_like(low, 1), np.full_like(low, -7), high // 2)
        numbers = alike[turn % len(alike)]
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
