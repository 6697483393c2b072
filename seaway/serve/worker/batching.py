"""Calls that can be answered together, by one run of the model.

Two calls go together where they ask the same outputs of the same signature with inputs of the same types and sizes, but
for the first dimension. Only signatures whose rows are proven not to depend on each other take part (`proven`).
"""

from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numpy as np

from seaway.artifacts import golden as goldens
from seaway.artifacts.card import Tolerance
from seaway.protocols.calls import Call, Signature

Arrays = dict[str, np.ndarray]
Predict = Callable[[str, Arrays, list[str] | None], Arrays]

PROOF_ROWS = 8
SPREAD_ROWS = 16  # a core's share at least, where one run is spread over several: handing over costs 0.1 ms


def groups(calls: Sequence[Call], batchable: Iterable[str], max_rows: int) -> list[list[int]]:
    """Indices of calls that go together, in the order of their first; each group's rows are at most `max_rows`."""
    found: list[list[int]] = []
    open_: dict[Any, tuple[int, int]] = {}  # what must be equal → the group that still has room, and its rows
    for i, call in enumerate(calls):
        rows = _rows(call) if call.signature in batchable else None
        if rows is None:
            found.append([i])
            continue
        key = _key(call)
        at, held = open_.get(key, (-1, 0))
        if at >= 0 and held + rows <= max_rows:
            found[at].append(i)
            open_[key] = at, held + rows
        else:
            found.append([i])
            if rows < max_rows:
                open_[key] = len(found) - 1, rows
    return found


def _rows(call: Call) -> int | None:
    """The first dimension that all inputs share; None where there is none, or where it is 0."""
    sizes = {array.shape[0] if array.ndim else 0 for array in call.inputs.values()}
    return sizes.pop() or None if len(sizes) == 1 else None


def _key(call: Call) -> Any:
    inputs = tuple((name, array.dtype.str, array.shape[1:]) for name, array in call.inputs.items())
    return call.signature, tuple(call.outputs) if call.outputs is not None else None, inputs


def run(predict: Predict, calls: Sequence[Call]) -> list[Arrays] | None:
    """The outputs of calls of one group, by one run. None where the outputs cannot be told apart by rows."""
    first = calls[0]
    inputs = {name: np.concatenate([call.inputs[name] for call in calls]) for name in first.inputs}
    outputs = predict(first.signature, inputs, first.outputs)
    sizes = [len(next(iter(call.inputs.values()))) for call in calls]
    ends = np.cumsum(sizes).tolist()
    if any(not array.ndim or len(array) != ends[-1] for array in outputs.values()):
        return None
    return [
        {name: array[end - size : end] for name, array in outputs.items()}
        for size, end in zip(sizes, ends, strict=True)
    ]


def spread(predict: Predict, cores: int, threads: ThreadPoolExecutor) -> Predict:
    """`predict` for signatures whose rows are proven not to depend on each other: large calls run on several cores."""

    def run_parts(signature: str, inputs: Arrays, outputs: list[str] | None) -> Arrays:
        rows = min((len(array) if array.ndim else 0 for array in inputs.values()), default=0)
        parts = min(cores, rows // SPREAD_ROWS)
        if parts < 2 or any(len(array) != rows for array in inputs.values()):
            return predict(signature, inputs, outputs)
        ends = [rows * (i + 1) // parts for i in range(parts)]
        cuts = [slice(start, end) for start, end in zip([0, *ends], ends, strict=False)]
        shares = [{name: array[cut] for name, array in inputs.items()} for cut in cuts]
        others = [threads.submit(predict, signature, share, outputs) for share in shares[1:]]
        first = predict(signature, shares[0], outputs)
        answers = [first, *(other.result() for other in others)]
        return {name: np.concatenate([answer[name] for answer in answers]) for name in first}

    return run_parts


def proven(
    predict: Predict, name: str, signature: Signature, inputs: Arrays, whole: Arrays, tolerances: dict[str, Tolerance]
) -> bool:
    """Whether rows of this signature can be answered in any company: golden rows alone, and in another order, give what
    they give together (`whole`), within the card's tolerance. Rows that depend on the batch (x - x.mean(0)) do not."""
    tensors = (*signature.inputs, *signature.outputs)
    if not signature.inputs or any(not t.shape or t.shape[0] is not None for t in tensors):
        return False
    count = min(len(array) for array in inputs.values())
    if count < 2 or any(not a.ndim or len(a) != count for a in (*inputs.values(), *whole.values())):
        return False
    orders = [[i] for i in range(min(count, PROOF_ROWS))] + [list(range(count))[::-1], [0, 0, count - 1]]
    for order in orders:
        got = predict(name, {key: array[order] for key, array in inputs.items()}, None)
        if not all(_equal(array, whole[output][order], tolerances.get(output)) for output, array in got.items()):
            return False
    return True


def _equal(got: np.ndarray, expected: np.ndarray, tolerance: Tolerance | None) -> bool:
    if expected.dtype.kind in "OSU" or got.dtype != expected.dtype:
        return got.dtype == expected.dtype and np.array_equal(got, expected)
    return not goldens.compare(got, expected, tolerance or Tolerance(0, 0)).wrong
