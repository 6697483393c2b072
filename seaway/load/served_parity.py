"""Served parity: sends a whole test set to a running server and compares each output with PyTorch's."""

import math
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass

import numpy as np

from seaway.artifacts import golden
from seaway.artifacts.artifact_metadata import Tolerance
from seaway.errors import DataError
from seaway.load.client import Client
from seaway.protocols import client_codecs

Inputs = Mapping[str, np.ndarray]
InputsReader = Callable[[slice], Inputs]  # reads the inputs of some examples, so the test set need not fit in memory


@dataclass(frozen=True, slots=True)
class ServedParity:
    """The result of sending a test set over one protocol. `max_abs`: None is infinite; `wrong`: examples out of
    tolerance; `flipped`: top-1 mismatches; `served_by`: Seaway-Model header → responses."""

    protocol: str
    hop: str
    examples: int
    accuracy: float | None
    max_abs: float | None
    wrong: int
    flipped: int
    served_by: dict[str, int]


def predict_batches(
    client: Client, protocol: client_codecs.Protocol, model: str, version: int | None, read_inputs: InputsReader,
    count: int, output: str, batch: int = 128, signature: str = "", whole: bool = False,
) -> Iterator[tuple[slice, np.ndarray, str]]:  # fmt: skip
    """Sends `count` examples in batches; yields (examples' slice, output [n, …], Seaway-Model). Raises as Client."""
    for start in range(0, count, batch):
        part = slice(start, min(start + batch, count))
        yield part, *client.predict(protocol, model, read_inputs(part), output, version, signature, whole=whole)


def served_parity(
    url: str,
    model: str,
    version: int | None,
    inputs: Inputs | InputsReader,
    expected: np.ndarray,
    true_labels: np.ndarray | None,
    tolerance: Tolerance,
    protocol: str,
    output: str = "scores",
    batch: int = 128,
    whole: bool = False,
) -> ServedParity:
    """Compares the outputs for N examples with `expected` [N, …], PyTorch's; `true_labels` [N]: class indices, or None.
    `whole`: the inputs are those of one call, and `expected` is its output.

    Raises DataError if the numbers of examples differ, and as Client.
    """
    count = 1 if whole else len(expected)
    read_inputs = inputs if callable(inputs) else (lambda part: inputs) if whole else _slicer(inputs, count)
    if true_labels is not None and len(true_labels) != len(expected):
        raise DataError(
            f"{len(expected)} recorded outputs for {len(true_labels)} labels: they are of different test sets"
        )
    codec = client_codecs.named(protocol)
    wrong = flipped = correct = 0
    max_abs = 0.0
    served_by: Counter[str] = Counter()
    with Client(url) as client:
        batches = predict_batches(client, codec, model, version, read_inputs, count, output, batch, whole=whole)
        for part, outputs, model_header in batches:
            comparison = golden.compare(outputs, expected if whole else expected[part], tolerance)
            max_abs = max(max_abs, comparison.max_abs)
            wrong += comparison.wrong
            flipped += comparison.flipped
            served_by[model_header] += 1
            if true_labels is not None and outputs.shape == expected[part].shape:
                correct += int((outputs.argmax(axis=1) == true_labels[part]).sum())
    return ServedParity(
        protocol,
        hop=f"served, {codec.title}",
        examples=count,
        accuracy=None if true_labels is None else correct / count,
        max_abs=max_abs if math.isfinite(max_abs) else None,
        wrong=wrong,
        flipped=flipped,
        served_by=dict(served_by),
    )


def _slicer(inputs: Inputs, count: int) -> InputsReader:
    for name, array in inputs.items():
        if len(array) != count:
            raise DataError(f"input {name!r} has {len(array)} examples, but there are {count} recorded outputs")
    return lambda part: {name: array[part] for name, array in inputs.items()}
