"""Served parity: sends a whole test set to a running server and compares each output with the reference's."""

from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from seaway.artifacts import golden
from seaway.artifacts.artifact_metadata import Tolerance
from seaway.client_tls import DEFAULT_TLS, ClientTls
from seaway.errors import DataError
from seaway.load.client import Client
from seaway.load.counters import finite_or_none
from seaway.protocols import client_codecs, tensors

Arrays = Mapping[str, np.ndarray]
InputsReader = Callable[[slice], Arrays]  # reads the inputs of some examples, so the test set need not fit in memory


@dataclass(frozen=True, slots=True)
class OutputParity:
    """One output. `max_abs`: None is infinite; `wrong`: examples out of tolerance; `flipped`: top-1 mismatches."""

    name: str
    max_abs: float | None
    wrong: int
    flipped: int


@dataclass(frozen=True, slots=True)
class ServedParity:
    """The result of sending a test set over one protocol. `max_abs`, `wrong` and `flipped` are those of all `outputs`:
    the largest, and the sums. `served_by`: Seaway-Model header → responses."""

    protocol: str
    hop: str
    examples: int
    accuracy: float | None
    max_abs: float | None
    wrong: int
    flipped: int
    served_by: dict[str, int]
    outputs: tuple[OutputParity, ...] = ()


def predict_batches(
    client: Client, protocol: client_codecs.Protocol, model: str, version: int | None, read_inputs: InputsReader,
    count: int, outputs: Sequence[str], batch: int = 128, signature: str = "", whole: bool = False,
) -> Iterator[tuple[slice, Arrays, str]]:  # fmt: skip
    """Sends `count` examples in batches; yields (examples' slice, outputs [n, …], Seaway-Model). Raises as Client."""
    for start in range(0, count, batch):
        part = slice(start, min(start + batch, count))
        yield part, *client.predict_outputs(protocol, model, read_inputs(part), outputs, version, signature, whole)


def served_parity(
    url: str,
    model: str,
    version: int | None,
    inputs: Arrays | InputsReader,
    expected: Arrays,
    true_labels: np.ndarray | None,
    tolerances: Mapping[str, Tolerance],
    protocol: str,
    batch: int = 128,
    whole: bool = False,
    tls: ClientTls = DEFAULT_TLS,
) -> ServedParity:
    """Compares the outputs for N examples with `expected` [N, …], the reference's, as far as the protocol can carry
    them. `true_labels` [N]: indices of the classes that the first output scores, or None. `whole`: the inputs are those
    of one call, and `expected` are its outputs.

    Raises DataError if the numbers of examples differ, and as Client.
    """
    codec = client_codecs.named(protocol)
    names = codec.carried({name: tensors.dtype_name(array) for name, array in expected.items()})
    count = 1 if whole else len(expected[names[0]])
    read_inputs = inputs if callable(inputs) else (lambda part: inputs) if whole else _slicer(inputs, count)
    if true_labels is not None and len(true_labels) != count:
        raise DataError(f"{count} recorded outputs for {len(true_labels)} labels: they are of different test sets")
    totals = {name: _Total() for name in names}
    correct = 0
    served_by: Counter[str] = Counter()
    with Client(url, tls=tls) as client:
        batches = predict_batches(client, codec, model, version, read_inputs, count, names, batch, whole=whole)
        for part, outputs, model_header in batches:
            for name, total in totals.items():
                reference = expected[name] if whole else expected[name][part]
                array = client_codecs.restore_shape(outputs[name], reference)
                total.add(golden.compare(array, reference, tolerances[name]))
            served_by[model_header] += 1
            scores = outputs[names[0]]
            if true_labels is not None and scores.shape == expected[names[0]][part].shape:
                correct += int((scores.argmax(axis=1) == true_labels[part]).sum())
    rows = tuple(OutputParity(name, finite_or_none(t.max_abs), t.wrong, t.flipped) for name, t in totals.items())
    return ServedParity(
        protocol,
        hop=f"served, {codec.title}",
        examples=count,
        accuracy=None if true_labels is None else correct / count,
        max_abs=finite_or_none(max(total.max_abs for total in totals.values())),
        wrong=sum(row.wrong for row in rows),
        flipped=sum(row.flipped for row in rows),
        served_by=dict(served_by),
        outputs=rows,
    )


@dataclass(slots=True)
class _Total:
    max_abs: float = 0.0
    wrong: int = 0
    flipped: int = 0

    def add(self, comparison: golden.Comparison) -> None:
        self.max_abs = max(self.max_abs, comparison.max_abs)
        self.wrong += comparison.wrong
        self.flipped += comparison.flipped


def _slicer(inputs: Arrays, count: int) -> InputsReader:
    for name, array in inputs.items():
        if len(array) != count:
            raise DataError(f"input {name!r} has {len(array)} examples, but there are {count} recorded outputs")
    return lambda part: {name: array[part] for name, array in inputs.items()}
