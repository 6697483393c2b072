"""Golden examples as requests ready to send, and the check of what comes back against PyTorch's recorded output."""

import math
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from loadtest.wire import Protocol
from seaway import card as cards
from seaway import golden, store
from seaway.card import Card, Tolerance
from seaway.errors import CardError, InvalidInput
from seaway.golden import Golden

Inputs = Mapping[str, np.ndarray]

MOST = 64  # different requests a protocol; fewer where the golden examples are fewer
MOST_BYTES = 64 * 2**20  # of bodies a protocol


class WrongAnswer(Exception):
    """A 2xx answer that is not PyTorch's. Few fixed messages, so that errors of a kind are counted together."""

    def __init__(self, message: str, max_abs: float = float("inf")) -> None:
        super().__init__(message)
        self.max_abs = max_abs


@dataclass(frozen=True, slots=True)
class Payload:
    """One encoded request, and PyTorch's first output for it: `expected`, `allowed` float64 [batch, …]."""

    body: bytes
    expected: np.ndarray
    allowed: np.ndarray
    tolerance: Tolerance


def read_model(folder: Path) -> tuple[Card, Golden]:
    """Card and golden examples of a published version's folder or of an ONNX artifact. Raises CardError."""
    if (folder / store.CARD).exists():
        card, examples = cards.read(folder, store.CARD), golden.read(folder / store.EXTRA / golden.GOLDEN)
    else:
        card, examples = cards.read(folder), golden.read(folder / golden.GOLDEN)
    if not card.outputs or card.outputs[0].name not in examples.outputs:
        raise CardError(f"{folder}: no golden output for what the card serves; give a version's or an onnx folder")
    if card.outputs[0].name not in card.tolerances:
        raise CardError(f"{folder}: the card gives no tolerance for {card.outputs[0].name!r}; export the model again")
    return card, examples


def encode(card: Card, examples: Golden, protocol: Protocol, batch: int) -> list[Payload]:
    """Requests of `batch` examples each, every one starting at another example, so that no two are alike.

    With fewer examples than `batch` they repeat. Raises InvalidInput.
    """
    if batch < 1:
        raise InvalidInput(f"--batch must be at least 1, not {batch}")
    output = card.outputs[0].name
    count = len(examples.outputs[output])
    if not count:
        raise InvalidInput("there is no golden example to send; export the model again")
    made: list[Payload] = []
    starts = range(0, count, max(1, count // MOST))
    for start in starts:
        rows = (start + np.arange(batch)) % count
        body = protocol.write({t.name: examples.inputs[t.name][rows] for t in card.inputs}, output)
        expected = examples.outputs[output][rows].astype(np.float64)
        tolerance = card.tolerances[output]
        made.append(Payload(body, expected, tolerance.allowed(expected), tolerance))
        if len(made) * len(body) > MOST_BYTES:
            break
    return made


def check(body: bytes, payload: Payload, protocol: Protocol) -> float:
    """The largest |Δ| of a right answer from PyTorch's. Raises WrongAnswer for any other."""
    try:
        got = protocol.read(body)
    except InvalidInput:
        raise WrongAnswer(f"not a {protocol.title} answer") from None
    if got.shape != payload.expected.shape:
        raise WrongAnswer("another shape than PyTorch's")
    if got.dtype.kind not in "fiub":
        raise WrongAnswer("not numbers")
    with np.errstate(invalid="ignore"):  # ∞ - ∞
        distance = np.abs(got - payload.expected)
    worst = float(distance.max(initial=0))
    if math.isfinite(worst) and (distance <= payload.allowed).all():
        return worst
    compared = golden.compare(got, payload.expected, payload.tolerance)  # knows about NaN and infinities
    if compared.wrong:
        raise WrongAnswer("differs from PyTorch's by more than the tolerance", compared.max_abs)
    return compared.max_abs


def distinct(payloads: list[Payload]) -> bool:
    """Whether the answers differ by more than the tolerance, so that a mixed-up or constant answer would be noticed."""
    first = payloads[0]
    return any((np.abs(p.expected - first.expected) > first.allowed).any() for p in payloads[1:])
