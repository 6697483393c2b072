"""Compares what was published with PyTorch on inputs that the gate did not see.

An output is exact if no element is further from PyTorch's than 1e-4 of the output's range; integers and booleans must
be equal. An output that does not depend on the input, or is not finite, proves nothing: it is reported apart.
"""

import itertools
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from seaway.export.inputs import parse_size

SHARE = 1e-4  # of the output's range
MIN_VARIATION = 1e-3  # of the range: an output that inputs move less is constant
SEED = 20_000  # the gate's is 0
MAX_BATCH = 8
MIN_INPUTS = 32  # even if the budget is spent

Arrays = dict[str, np.ndarray]
Run = Callable[[Arrays], Arrays]


@dataclass
class Output:
    """One output over all inputs; `difference`: runtime → the largest |Δ|."""

    low: float = np.inf
    high: float = -np.inf
    finite: bool = True
    kind: str = "f"
    first: np.ndarray | None = None
    variation: float = 0.0
    difference: dict[str, float] = field(default_factory=dict)

    def add(self, expected: np.ndarray, actual: dict[str, np.ndarray]) -> None:
        """`expected`, `actual` (by runtime): [batch, ...]."""
        self.kind = expected.dtype.kind
        value = expected.astype(np.float64)
        self.finite = self.finite and bool(np.isfinite(value).all())
        self.low, self.high = (
            min(self.low, float(value.min(initial=np.inf))),
            max(self.high, float(value.max(initial=-np.inf))),
        )
        for row in value:
            if self.first is None:
                self.first = row
            # Rows of another size differ anyway.
            same = row.shape == self.first.shape
            self.variation = max(self.variation, float(np.abs(row - self.first).max(initial=0)) if same else np.inf)
        for runtime, array in actual.items():
            apart = np.inf
            if array.shape == expected.shape:
                with np.errstate(invalid="ignore"):
                    delta = np.abs(array.astype(np.float64) - value)
                matching = (array == expected) | (np.isnan(value) & np.isnan(array.astype(np.float64)))
                apart = float(np.nan_to_num(np.where(matching, 0.0, delta), nan=np.inf).max(initial=0))
            self.difference[runtime] = max(self.difference.get(runtime, 0.0), apart)

    @property
    def counts(self) -> bool:
        varies = self.variation > (MIN_VARIATION * (self.high - self.low) if self.kind == "f" else 0)
        return self.finite and self.high > self.low and varies

    @property
    def share(self) -> dict[str, float]:
        """Runtime → the largest |Δ| as a share of the range."""
        size = self.high - self.low
        return {r: (0.0 if d == 0 else d / size if size > 0 else float("inf")) for r, d in self.difference.items()}

    @property
    def exact(self) -> bool:
        limit = SHARE if self.kind == "f" else 0.0
        return all(value <= limit for value in self.share.values())

    def as_json(self) -> dict[str, Any]:
        state = "exact" if self.exact else "differs"
        if not self.counts:
            state += ", not finite" if not self.finite else ", constant"
        share = {runtime: float(f"{min(value, 1e99):.3g}") for runtime, value in self.share.items()}
        size = float(f"{self.high - self.low:.4g}") if self.finite and self.high >= self.low else None
        return {"state": state, "share": share, "range": size}


def compare(
    entry: dict[str, Any], pytorch: Run, runtimes: dict[str, Run], count: int, budget_s: float
) -> dict[str, Any]:
    """Runs all on the same inputs until `count` of them, or until CPU time is spent; the outputs' figures."""
    outputs: dict[str, Output] = {}
    began, done = time.process_time(), 0
    for inputs in batches(entry):
        expected = pytorch(inputs)
        actual = {name: run(inputs) for name, run in runtimes.items()}
        for name, array in expected.items():
            outputs.setdefault(name, Output()).add(array, {runtime: out[name] for runtime, out in actual.items()})
        done += len(next(iter(inputs.values())))
        if done >= count or (done >= MIN_INPUTS and time.process_time() - began > budget_s):
            break
    return {"inputs": done, "outputs": {name: output.as_json() for name, output in outputs.items()}}


def verdict(figures: dict[str, Any]) -> str:
    """exact, wrong, or constant: none of the outputs proves anything."""
    states = [output["state"] for output in figures["outputs"].values()]
    if any(state.startswith("differs") and "," not in state for state in states):
        return "wrong"
    return "exact" if "exact" in states else "constant"


def batches(entry: dict[str, Any], seed: int = SEED) -> Iterator[Arrays]:
    """Batches of 1, 2, … 8, 1, … random inputs of random sizes; `entry` as in the lists."""
    generator = np.random.default_rng(seed)
    sizes = [parse_size(text) for text in entry.get("sizes", [])]
    for batch in itertools.cycle(range(1, MAX_BATCH + 1) if not entry.get("batch") else [entry["batch"]]):
        drawn = {
            size.name: int(size.low + size.step * generator.integers(0, (size.high - size.low) // size.step + 1))
            for size in sizes
        }
        yield {name: _array(name, dims, dtype, batch, drawn, entry, generator) for name, dims, dtype in specs(entry)}


def specs(entry: dict[str, Any]) -> list[tuple[str, list[str], str]]:
    """Name ("" for forward()'s own), sizes and dtype of each input."""
    result = []
    for text in entry["inputs"]:
        parts = text.split(":")
        name = "" if parts[0][0].isdigit() else parts.pop(0)
        shape, dtype = [*parts, "float32"][:2]
        result.append((name, [] if shape == "scalar" else shape.split("x"), dtype))
    return result


def _array(
    name: str, dims: list[str], dtype: str, batch: int, sizes: dict[str, int], entry: dict[str, Any], generator: Any
) -> np.ndarray:
    shape = (batch, *(sizes[d] if d in sizes else int(d) for d in dims))
    if name in entry.get("masks", []):  # ones, then zeros; the first is always one
        lengths = generator.integers(1, shape[-1] + 1, (*shape[:-1], 1))
        ones = np.arange(shape[-1]) < lengths
        return (~ones if name in entry.get("invert", []) else ones).astype(dtype)
    if name in entry.get("boxes", []):  # left, top, right, bottom, of 0 to 1000
        corners = np.sort(generator.integers(0, 1000, (*shape[:-1], 2, 2)), axis=-2)
        return np.asarray(corners.reshape(shape).astype(dtype))
    if dtype.startswith("float"):
        return np.asarray(generator.standard_normal(shape).astype(dtype))
    high = entry.get("high", {}).get(name, 256 if dtype == "uint8" else 2)
    high, low = sizes.get(high, high), entry.get("low", {}).get(name, 0)
    return np.asarray(generator.integers(low, high + (low if high in sizes.values() else 0), shape).astype(dtype))
