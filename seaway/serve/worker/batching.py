"""Dynamic batching: several calls in one run of the model.

Two calls can share a batch if they request the same outputs of the same signature, with inputs of the same types and
sizes except for the first dimension. Only signatures whose rows are proven independent are batched
(`rows_are_independent`).
"""

from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numpy as np

from seaway.artifacts import golden as goldens
from seaway.artifacts.artifact_metadata import Tolerance
from seaway.protocols.calls import Call, Signature

Arrays = dict[str, np.ndarray]
Predict = Callable[[str, Arrays, list[str] | None], Arrays]

PROOF_ROWS = 8
MIN_ROWS_PER_CORE = 16  # if a batch is split across cores, because each part costs 0.1 ms


def group(calls: Sequence[Call], batchable: Iterable[str], max_rows: int) -> list[list[int]]:
    """Groups calls into batches of at most `max_rows` rows: indices of the calls, in the order of their first ones."""
    groups: list[list[int]] = []
    open_: dict[Any, tuple[int, int]] = {}  # compatibility key → the group that still has room, and its rows
    for i, call in enumerate(calls):
        rows = _rows(call) if call.signature in batchable else None
        if rows is None:
            groups.append([i])
            continue
        key = _key(call)
        group, group_rows = open_.get(key, (-1, 0))
        if group >= 0 and group_rows + rows <= max_rows:
            groups[group].append(i)
            open_[key] = group, group_rows + rows
        else:
            groups.append([i])
            if rows < max_rows:
                open_[key] = len(groups) - 1, rows
    return groups


def _rows(call: Call) -> int | None:
    """The first dimension that all inputs share; None if they share none, or if it is 0."""
    sizes = {array.shape[0] if array.ndim else 0 for array in call.inputs.values()}
    return sizes.pop() or None if len(sizes) == 1 else None


def _key(call: Call) -> Any:
    inputs = tuple((name, array.dtype.str, array.shape[1:]) for name, array in call.inputs.items())
    return call.signature, tuple(call.outputs) if call.outputs is not None else None, inputs


def run(predict: Predict, calls: Sequence[Call]) -> list[Arrays] | None:
    """Runs the calls of one group as one batch. None if the outputs cannot be split by rows."""
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


def split_across_cores(predict: Predict, cores: int, threads: ThreadPoolExecutor) -> Predict:
    """`predict` for signatures with independent rows: splits large calls across several cores."""

    def run_parts(signature: str, inputs: Arrays, outputs: list[str] | None) -> Arrays:
        rows = min((len(array) if array.ndim else 0 for array in inputs.values()), default=0)
        parts = min(cores, rows // MIN_ROWS_PER_CORE)
        if parts < 2 or any(len(array) != rows for array in inputs.values()):
            return predict(signature, inputs, outputs)
        ends = [rows * (i + 1) // parts for i in range(parts)]
        slices = [slice(start, end) for start, end in zip([0, *ends], ends, strict=False)]
        shares = [{name: array[part] for name, array in inputs.items()} for part in slices]
        others = [threads.submit(predict, signature, share, outputs) for share in shares[1:]]
        first = predict(signature, shares[0], outputs)
        parts_outputs = [first, *(other.result() for other in others)]
        return {name: np.concatenate([part[name] for part in parts_outputs]) for name in first}

    return run_parts


def rows_are_independent(
    predict: Predict, name: str, signature: Signature, inputs: Arrays, whole: Arrays, tolerances: dict[str, Tolerance]
) -> bool:
    """Whether this signature computes each row independently of the batch: golden rows alone and in another order must
    give the same outputs as together (`whole`), within the metadata's tolerances. x - x.mean(0), for one, does not."""
    tensors = (*signature.inputs, *signature.outputs)
    if not signature.inputs or any(not t.shape or t.shape[0] is not None for t in tensors):
        return False
    count = min(len(array) for array in inputs.values())
    if count < 2 or any(not a.ndim or len(a) != count for a in (*inputs.values(), *whole.values())):
        return False
    orders = [[i] for i in range(min(count, PROOF_ROWS))] + [list(range(count))[::-1], [0, 0, count - 1]]
    for order in orders:
        outputs = predict(name, {key: array[order] for key, array in inputs.items()}, None)
        if not all(_equal(array, whole[output][order], tolerances.get(output)) for output, array in outputs.items()):
            return False
    return True


def _equal(actual: np.ndarray, expected: np.ndarray, tolerance: Tolerance | None) -> bool:
    if expected.dtype.kind in "OSU" or actual.dtype != expected.dtype:
        return actual.dtype == expected.dtype and np.array_equal(actual, expected)
    return not goldens.compare(actual, expected, tolerance or Tolerance(0, 0)).wrong
