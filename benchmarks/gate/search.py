"""A search for inputs at which a mutant differs: stronger than the gate's golden examples, and apart from the gate.

The mutant's SavedModel is compared with that of the unchanged network, in the same runtime, so that what comes before
the mutated operator is the same bit for bit. Inputs are random in several scales and of several structures, within
twice the range of the golden ones, and those of the golden examples' own values in other places.
"""

from collections.abc import Callable, Iterator
from typing import Any

import numpy as np

from benchmarks.ship import exactness
from seaway.artifacts.artifact_metadata import Tolerance
from seaway.artifacts.golden import Golden
from seaway.errors import ModelError

CALLS = 160
WIDE = 100.0  # golden numbers beyond are the large ones that export tries, and no bound of ordinary ones
SEED = 30_000

Arrays = dict[str, np.ndarray]
Draw = Callable[[np.ndarray, np.random.Generator, np.ndarray], np.ndarray]


def _bound(pool: np.ndarray) -> float:
    sizes = np.abs(pool[np.isfinite(pool)].astype(np.float64))
    return 2 * float(sizes[sizes <= WIDE].max(initial=1.0))


# From normally distributed numbers and the golden examples' own to an input.
FLOATS: dict[str, Draw] = {
    "normal": lambda x, g, pool: x,
    "small": lambda x, g, pool: x * 0.1,
    "tiny": lambda x, g, pool: x * 1e-3,
    "minute": lambda x, g, pool: x * 1e-5,
    "twice": lambda x, g, pool: x * 2,
    "uniform": lambda x, g, pool: g.uniform(-1, 1, x.shape) * _bound(pool),
    "at the bounds": lambda x, g, pool: np.sign(x) * _bound(pool),
    "positive": lambda x, g, pool: np.abs(x) * 2,
    "negative": lambda x, g, pool: -np.abs(x) * 2,
    "halves": lambda x, g, pool: np.round(x * 4) / 2,
    "odd halves": lambda x, g, pool: np.floor(x * 2) + 0.5,
    "sixteenths": lambda x, g, pool: np.round(x * 16) / 16,
    "equal but for noise": lambda x, g, pool: np.mean(x) * 2 + x * 1e-3,
    "zeros": lambda x, g, pool: x * 0,
    "sparse": lambda x, g, pool: np.where(g.random(x.shape) < 0.9, 0, x * 4),
    "a few large": lambda x, g, pool: np.where(g.random(x.shape) < 0.1, np.sign(x) * _bound(pool), x * 0.1),
    "golden": lambda x, g, pool: g.choice(pool, x.shape),
    "half golden": lambda x, g, pool: np.where(g.random(x.shape) < 0.5, g.choice(pool, x.shape), x),
}


def inputs(entry: dict[str, Any], examples: Golden, seed: int = SEED) -> Iterator[tuple[str, Arrays]]:
    """CALLS inputs of batches of 1 to 8 and of random sizes, each with the name of its structure."""
    pools: dict[str, np.ndarray] = {}
    for call in examples.whole():
        for name, array in call.inputs.items():
            pools[name] = np.concatenate([pools.get(name, array[:0].reshape(-1)), array.reshape(-1)])
    generator = np.random.default_rng(seed)
    names = list(FLOATS)
    for number, drawn in zip(range(CALLS), exactness.batches(entry, seed), strict=False):
        structure = names[number % len(names)]
        call = {}
        for name, array in drawn.items():
            if array.dtype.kind == "f":
                call[name] = FLOATS[structure](array, generator, pools[name]).astype(array.dtype)
            elif array.dtype.kind in "iu" and number % 3 == 2:
                call[name] = generator.choice(pools[name], array.shape)
            else:
                call[name] = array
        yield structure, call


def worst(
    own: Callable[[Arrays], Arrays], mutant: Callable[[Arrays], Arrays], tolerances: dict[str, Tolerance],
    calls: Iterator[tuple[str, Arrays]],
) -> dict[str, Any]:  # fmt: skip
    """The largest difference in units of the gate's tolerance (`ratio`), its output and structure of input.

    Where the network itself fails or is not finite, nothing is compared; a mutant that fails alone is infinitely off.
    """
    found: dict[str, Any] = {"ratio": 0.0}
    for structure, call in calls:
        try:
            expected = own(call)
        except ModelError:
            continue
        try:
            actual = mutant(call)
        except ModelError:
            return {"ratio": float("inf"), "structure": structure, "output": "fails"}
        for name, reference in expected.items():
            value = ratio(actual[name], reference, tolerances[name])
            if value > found["ratio"]:
                found = {"ratio": value, "structure": structure, "output": name}
    return found


def ratio(actual: np.ndarray, expected: np.ndarray, tolerance: Tolerance) -> float:
    """The largest |Δ| as a multiple of what the tolerance allows there."""
    if actual.shape != expected.shape:
        return float("inf")
    known = np.isfinite(expected)
    value, reference = actual[known].astype(np.float64), expected[known].astype(np.float64)
    with np.errstate(invalid="ignore", divide="ignore"):
        distance = np.nan_to_num(np.abs(value - reference), nan=np.inf)
        times = np.where(distance == 0, 0.0, distance / tolerance.allowed(reference))
    return float(times.max(initial=0.0))
