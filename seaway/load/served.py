"""Served parity: a whole test set through a running server, each answer compared with PyTorch's for that example."""

import math
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass

import numpy as np

from seaway.artifacts import golden
from seaway.artifacts.card import Tolerance
from seaway.errors import DataError
from seaway.load.client import Client
from seaway.protocols import wire

Inputs = Mapping[str, np.ndarray]
Take = Callable[[slice], Inputs]  # the inputs of some examples, so that no test set has to fit into memory


@dataclass(frozen=True, slots=True)
class Served:
    """What one protocol made of a whole test set. `max_abs`: None is beyond measure; `wrong`: examples out of
    tolerance; `served_by`: Seaway-Model header → answers."""

    protocol: str
    hop: str
    examples: int
    accuracy: float | None
    max_abs: float | None
    wrong: int
    flipped: int
    served_by: dict[str, int]


def scores(
    client: Client, protocol: wire.Protocol, model: str, version: int | None, take: Take, count: int, output: str,
    batch: int = 128,
) -> Iterator[tuple[slice, np.ndarray, str]]:  # fmt: skip
    """Sends `count` examples in batches; yields (which examples, the output [n, …], Seaway-Model). Raises as Client."""
    for start in range(0, count, batch):
        part = slice(start, min(start + batch, count))
        yield part, *client.predict(protocol, model, take(part), output, version)


def served_parity(
    url: str,
    model: str,
    version: int | None,
    inputs: Inputs | Take,
    expected: np.ndarray,
    labels_true: np.ndarray | None,
    tolerance: Tolerance,
    protocol: str,
    output: str = "scores",
    batch: int = 128,
) -> Served:
    """`expected` [N, …]: PyTorch's output for the N examples; `labels_true` [N]: class indices, or None.

    Raises DataError where the counts do not fit, Unavailable or NotFound as the server answers.
    """
    take = inputs if callable(inputs) else _slices(inputs, len(expected))
    if labels_true is not None and len(labels_true) != len(expected):
        raise DataError(f"{len(expected)} recorded outputs for {len(labels_true)} labels: they are of two test sets")
    spoken = wire.named(protocol)
    wrong = flipped = right = 0
    worst = 0.0
    served_by: Counter[str] = Counter()
    with Client(url) as client:
        for part, got, served in scores(client, spoken, model, version, take, len(expected), output, batch):
            compared = golden.compare(got, expected[part], tolerance)
            worst = max(worst, compared.max_abs)
            wrong += compared.wrong
            flipped += compared.flipped
            served_by[served] += 1
            if labels_true is not None and got.shape == expected[part].shape:
                right += int((got.argmax(axis=1) == labels_true[part]).sum())
    accuracy = None if labels_true is None else right / len(expected)
    max_abs = worst if math.isfinite(worst) else None
    return Served(
        protocol, f"served, {spoken.title}", len(expected), accuracy, max_abs, wrong, flipped, dict(served_by)
    )


def _slices(inputs: Inputs, count: int) -> Take:
    for name, array in inputs.items():
        if len(array) != count:
            raise DataError(f"input {name!r} has {len(array)} examples, but there are {count} recorded outputs")
    return lambda part: {name: array[part] for name, array in inputs.items()}
