"""Branches and loops: If, Loop and Scan, by TensorFlow's own."""

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import tensorflow as tf

from seaway.convert.native.dtypes import tensor
from seaway.convert.native.shapes import numbers
from seaway.convert.native.table import VALUES, op
from seaway.convert.native.values import Value

# One turn of a loop: (number of the turn, what it is given) → (whether to go on, what is handed on, what is collected).
Turn = Callable[[Any, Sequence[Any]], tuple[Any, list[Any], list[Any]]]


@op("If", kind=VALUES, foldable=False)
def if_(call: Any, condition: Value) -> Any:
    """Where the condition is known only the branch that is taken is built."""
    if condition.constant:
        branch = "then_branch" if condition.held.reshape(-1)[0] else "else_branch"
        return call.build.graph(call.get(branch), {}, call.values)

    def of(branch: str) -> Callable[[], list[Any]]:
        return lambda: [tensor(one) for one in call.body(branch, {})]

    return list(tf.cond(tf.reshape(condition.plain(), []), of("then_branch"), of("else_branch")))


@op("Loop", kind=VALUES, foldable=False)
def loop(call: Any, trips: Value | None, condition: Value | None, *given: Value) -> Any:
    body = call.get("body")
    turn_name, condition_name, *names = body.inputs
    kept = [name == out for name, out in zip(names, body.outputs[1:], strict=False)]  # handed on as they are
    unchanged = {name: value for name, value, same in zip(names, given, kept, strict=True) if same}
    changed = [name for name, same in zip(names, kept, strict=True) if not same]

    def turn(i: Any, held: Sequence[Any]) -> tuple[Any, list[Any], list[Any]]:
        # A turn is taken only while the condition holds.
        inputs = {turn_name: i, condition_name: np.array(True), **unchanged, **dict(zip(changed, held, strict=True))}
        on, *rest = call.body("body", inputs)
        handed = [one for one, same in zip(rest, kept, strict=False) if not same]
        return on, handed, rest[len(names) :]

    most = None if trips is None else _one(trips.plain())
    first = np.array(True) if condition is None else _one(condition.plain())
    initial = [value.plain() for value, same in zip(given, kept, strict=True) if not same]
    handed, collected = repeat(turn, most, first, initial)
    last = iter(handed)
    return [*(value if same else next(last) for value, same in zip(given, kept, strict=True)), *collected]


def _one(value: Any) -> Any:
    return value.reshape(()) if isinstance(value, np.ndarray) else tf.reshape(value, [])


def repeat(turn: Turn, most: Any, first: Any, initial: Sequence[Any]) -> tuple[list[Any], list[Any]]:
    """Turns until `most` are taken (None for no end) or one says to stop: (what was handed on, what was collected)."""
    start = [tensor(one) for one in initial]
    shapes, collected, ends = _settled(turn, start)
    counted = most is not None and not ends and isinstance(first, np.ndarray) and bool(first)
    size = tf.cast(tf.maximum(most, 0), tf.int32) if counted else 0
    arrays = [
        tf.TensorArray(one.dtype, size=size, dynamic_size=not counted, element_shape=one.shape, infer_shape=False)
        for one in collected
    ]

    def goes_on(i: Any, on: Any, *_: Any) -> Any:
        return on if most is None else tf.logical_and(i < tf.cast(most, tf.int64), on)

    def one_turn(i: Any, _: Any, held: Any, arrays: Any) -> Any:
        on, handed, extra = turn(i, held)
        handed = [tf.ensure_shape(tensor(one), shape) for one, shape in zip(handed, shapes, strict=True)]
        arrays = [array.write(tf.cast(i, tf.int32), tensor(one)) for array, one in zip(arrays, extra, strict=True)]
        return i + 1, tf.reshape(on, []), handed, arrays

    invariants = [tf.TensorShape([]), tf.TensorShape([]), list(shapes), [tf.TensorShape(None)] * len(arrays)]
    count, _, handed, arrays = tf.while_loop(
        goes_on, one_turn, [tf.constant(0, tf.int64), tensor(first), start, arrays], invariants
    )
    return list(handed), [_stacked(array, one, count) for array, one in zip(arrays, collected, strict=True)]


def _settled(turn: Turn, start: Sequence[Any]) -> tuple[list[Any], list[Any], bool]:
    """Shapes that what is handed on keeps over all turns, types of what is collected, whether a turn can end the loop.

    Found by building a turn aside, again with what changed left open until nothing does.
    """
    shapes, ends = [one.shape for one in start], False

    def aside(i: Any, held: Any) -> Any:
        nonlocal ends
        on, handed, extra = turn(i, held)
        ends = not (isinstance(on, np.ndarray) and bool(on))
        return [tensor(one) for one in handed], [tensor(one) for one in extra]

    while True:
        specs = [tf.TensorSpec(shape, one.dtype) for shape, one in zip(shapes, start, strict=True)]
        traced = tf.function(aside, autograph=False).get_concrete_function(tf.TensorSpec([], tf.int64), specs)
        handed, collected = traced.structured_outputs
        for one, own in zip(handed, start, strict=True):
            if one.dtype != own.dtype:
                raise ValueError(f"a loop begins with {own.dtype.name} and hands on {one.dtype.name}")
        settled = [_common(shape, one.shape) for shape, one in zip(shapes, handed, strict=True)]
        if all(_alike(new, old) for new, old in zip(settled, shapes, strict=True)):
            return shapes, list(collected), ends
        shapes = settled


def _common(one: Any, other: Any) -> Any:
    if one.rank is None or one.rank != other.rank:
        return tf.TensorShape(None)
    return tf.TensorShape([a if a == b else None for a, b in zip(one, other, strict=True)])


def _alike(one: Any, other: Any) -> bool:
    return bool(one.rank == other.rank and (one.rank is None or one.as_list() == other.as_list()))


def _stacked(array: Any, spec: Any, count: Any) -> Any:
    """What was collected along a new first axis; where there was no turn, sizes that are not known are zero."""
    if spec.shape.is_fully_defined():
        return array.stack()
    if spec.shape.rank is None:
        return array.stack()
    none = tf.zeros([0, *(size or 0 for size in spec.shape)], spec.dtype)
    got = tf.cond(count > 0, array.stack, lambda: none)
    return tf.ensure_shape(got, [None, *spec.shape])


@op("Scan", since=9, kind=VALUES, foldable=False)
def scan(call: Any, *given: Value) -> Any:
    scanned = call.get("num_scan_inputs")
    states, inputs = [v.plain() for v in given[:-scanned]], [tensor(v.plain()) for v in given[-scanned:]]
    axes = call.get("scan_input_axes") or [0] * scanned
    turned = call.get("scan_input_directions") or [0] * scanned
    rows = []
    for x, axis, back in zip(inputs, axes, turned, strict=True):
        first = _first(x, axis % x.shape.rank)
        rows.append(tf.reverse(first, [0]) if back else first)
    handed, collected = _scanned(call, states, rows)
    axes = call.get("scan_output_axes") or [0] * len(collected)
    turned = call.get("scan_output_directions") or [0] * len(collected)
    outputs = []
    for y, axis, back in zip(collected, axes, turned, strict=True):
        y = tf.reverse(y, [0]) if back else y
        outputs.append(_last(y, axis % y.shape.rank))
    return [*handed, *outputs]


def _first(x: Any, axis: int) -> Any:
    """The axis before all others."""
    rest = [i for i in range(x.shape.rank) if i != axis]
    return x if axis == 0 else tf.transpose(x, [axis, *rest])


def _last(x: Any, axis: int) -> Any:
    """The first axis where `axis` says."""
    rest = list(range(1, x.shape.rank))
    return x if axis == 0 else tf.transpose(x, [*rest[:axis], 0, *rest[axis:]])


def _scanned(call: Any, states: Sequence[Any], rows: Sequence[Any]) -> tuple[list[Any], list[Any]]:
    """The body over the first axis of `rows`."""
    body = call.get("body")

    def turn(i: Any, held: Sequence[Any]) -> tuple[Any, list[Any], list[Any]]:
        given = [*held, *(x[i] for x in rows)]
        got = call.body("body", dict(zip(body.inputs, given, strict=True)))
        return np.array(True), got[: len(states)], got[len(states) :]

    handed, collected = repeat(turn, numbers(rows[0])[0], np.array(True), states)
    steps = rows[0].shape[0]
    return handed, [tf.ensure_shape(y, [steps, *y.shape[1:]]) if y.shape.rank else y for y in collected]


@op("Scan", since=8, kind=VALUES, foldable=False)
def scan_batched(call: Any, lengths: Value | None, *given: Value) -> Any:
    """Over the second axis, for each of the first by itself; what lies beyond a sequence's length is zero."""
    scanned = call.get("num_scan_inputs")
    states, inputs = [tensor(v.plain()) for v in given[:-scanned]], [tensor(v.plain()) for v in given[-scanned:]]
    turned = call.get("directions") or [0] * scanned
    steps = numbers(inputs[0])[1]
    own = None if lengths is None else tf.cast(tensor(lengths.plain()), tf.int64)

    def one(i: Any, held: Sequence[Any]) -> tuple[Any, list[Any], list[Any]]:
        length = steps if own is None else own[i]
        rows = [x[i][:length] for x in inputs]
        rows = [tf.reverse(x, [0]) if back else x for x, back in zip(rows, turned, strict=True)]
        handed, collected = _scanned(call, [state[i] for state in states], rows)
        if own is not None:
            collected = [_padded(y, steps) for y in collected]
        return np.array(True), [], [*handed, *collected]

    _, outputs = repeat(one, numbers(inputs[0])[0], np.array(True), [])
    return outputs


def _padded(y: Any, steps: Any) -> Any:
    more = tf.cast(steps, tf.int64) - tf.shape(y, tf.int64)[0]
    none = tf.zeros([y.shape.rank - 1, 2], tf.int64)
    return tf.ensure_shape(
        tf.pad(y, tf.concat([[[0, more]], none], 0)), [steps if isinstance(steps, int) else None, *y.shape[1:]]
    )
