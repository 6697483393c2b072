"""Golden floats that random ones never are: zeros, denormals, large numbers, infinities and NaN.

Only those that the net lets through become golden examples: its outputs must be finite, and float32 must not round them
so much worse than those of ordinary examples that the tolerance would more than double. Of denormals they must be those
of zeros, for which TensorFlow takes them.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

import numpy as np

from seaway.artifacts import golden
from seaway.artifacts.artifact_metadata import Tolerance
from seaway.export import tolerance, wrap
from seaway.export.inputs import Examples
from seaway.export.tolerance import Outputs
from seaway.export.wrap import Wrapped

ORDINARY = 4  # examples, of which the tolerance is derived
MAX_GROWTH = 2  # of the tolerance
ZEROS, DENORMALS = "zeros", "denormals"
NOT_FINITE = INFINITIES, NAN = "infinities", "NaN"
KINDS: dict[str, Callable[[np.finfo], float]] = {
    ZEROS: lambda info: 0.0,
    DENORMALS: lambda info: float(info.tiny) / 8,
    "large numbers": lambda info: 1e4,
    "huge numbers": lambda info: float(info.max) ** 0.75,
    INFINITIES: lambda info: np.inf,
    NAN: lambda info: np.nan,
}


@dataclass(frozen=True, slots=True)
class Further:
    """Examples of a batch of one, or whole calls of a net without a batch. `accepted`: golden ones; `unusual`: kind →
    one with infinities or NaN, which the net does not let through; `said`: in a sentence, what was tried."""

    accepted: tuple[Examples, ...] = ()
    unusual: dict[str, Examples] = field(default_factory=dict)
    said: str = ""


def widen(wrapped: Wrapped, examples: Examples) -> Further:
    """What there is beside ordinary examples; nothing for a net without float inputs."""
    if not any(array.dtype.kind == "f" for array in examples.values()):
        return Further()
    ordinary, base = (wrap.batch_of(examples, n) if wrapped.inputs.batch else examples for n in (ORDINARY, 1))
    tolerances = tolerance.derive(wrapped, [(ordinary, wrap.run(wrapped, ordinary))])
    accepted: list[Examples] = []
    refused: dict[str, str] = {}
    unusual: dict[str, Examples] = {}
    for number, (kind, value) in enumerate(KINDS.items()):
        example = {name: _mixed(array, value, number) for name, array in base.items()}
        try:
            outputs = wrap.run(wrapped, example)
            why = _why_not(wrapped, example, outputs, tolerances)
            if not why and kind == DENORMALS:
                zeros = {name: _mixed(array, KINDS[ZEROS], number) for name, array in base.items()}
                others = wrap.run(wrapped, zeros)
                if any(golden.compare(outputs[name], others[name], tolerances[name]).wrong for name in outputs):
                    why = "the outputs are not those of zeros, for which TensorFlow takes them"
        except Exception as error:  # user code may raise anything
            refused[kind] = f"forward() fails: {type(error).__name__}"
            continue
        if not why:
            accepted.append(example)
            continue
        refused[kind] = why
        if kind in NOT_FINITE:
            unusual[kind] = example
    return Further(tuple(accepted), unusual, _line(refused))


def _line(refused: dict[str, str]) -> str:
    used = [kind for kind in KINDS if kind not in refused]
    reasons: dict[str, list[str]] = {}
    for kind, why in refused.items():
        reasons.setdefault(why, []).append(kind)
    without = "; ".join(f"without {', '.join(kinds)}: {why}" for why, kinds in reasons.items())
    return f"{', '.join(['ordinary', *used])}" + (f" ({without})" if without else "")


def _mixed(array: np.ndarray, value: Callable[[np.finfo], float], seed: int) -> np.ndarray:
    """The array with about half of its floats replaced by ± the value; all of a single one."""
    if array.dtype.kind != "f":
        return array
    generator = np.random.default_rng(seed)
    replaced = (generator.random(array.shape) < 0.5) | (array.size == 1)
    signs = generator.choice(np.array([-1, 1], array.dtype), array.shape)
    return np.where(replaced, signs * array.dtype.type(value(np.finfo(array.dtype))), array)


def placed(examples: Examples, further: Sequence[Examples]) -> Examples:
    """Examples with a batch, of which the further ones replace some of the first half; the second has integers."""
    if not further:
        return examples
    count = len(next(iter(examples.values())))
    first = max(2, count // 2 - len(further))
    replaced = {name: array.copy() for name, array in examples.items()}
    for row, example in zip(range(first, count), further, strict=False):
        for name, array in example.items():
            replaced[name][row] = array[0]
    return replaced


def _why_not(wrapped: Wrapped, example: Examples, outputs: Outputs, tolerances: dict[str, Tolerance]) -> str:
    floats = {name: array for name, array in outputs.items() if array.dtype.kind == "f"}
    if not floats:
        return "there is no float output that would show that they get through"
    if not all(np.isfinite(array).all() for array in floats.values()):
        return "the outputs are not finite"
    alone = tolerance.derive(wrapped, [(example, outputs)])
    if any(alone[name].abs > MAX_GROWTH * tolerances[name].abs for name in floats):
        return "their outputs are rounded too coarsely to compare"
    return ""
