"""If, Loop and Scan, built from tf.cond and tf.while_loop."""

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import tensorflow as tf

from seaway.convert.native.dtypes import tensor
from seaway.convert.native.registry import VALUES, op
from seaway.convert.native.shapes import shape_dims
from seaway.convert.native.values import Value

# One iteration of a loop: (its number, the loop-carried tensors) → (whether to continue, the updated loop-carried
# tensors, its scan outputs).
Step = Callable[[Any, Sequence[Any]], tuple[Any, list[Any], list[Any]]]


@op("If", kind=VALUES, foldable=False)
def if_(call: Any, condition: Value) -> Any:
    """If the condition is a constant, only the branch taken is built."""
    if condition.constant:
        branch = "then_branch" if condition.tensor.reshape(-1)[0] else "else_branch"
        return call.build.graph(call.get(branch), {}, call.values)

    def build(branch: str) -> Callable[[], list[Any]]:
        return lambda: [tensor(one) for one in call.body(branch, {})]

    return list(tf.cond(tf.reshape(condition.plain(), []), build("then_branch"), build("else_branch")))


@op("Loop", kind=VALUES, foldable=False)
def loop(call: Any, trips: Value | None, condition: Value | None, *initial: Value) -> Any:
    body = call.get("body")
    iteration_name, condition_name, *names = body.inputs
    # Loop-carried values that the body passes on as they are.
    is_unchanged = [name == out for name, out in zip(names, body.outputs[1:], strict=False)]
    unchanged = {name: value for name, value, same in zip(names, initial, is_unchanged, strict=True) if same}
    changed = [name for name, same in zip(names, is_unchanged, strict=True) if not same]

    def step(i: Any, carried: Sequence[Any]) -> tuple[Any, list[Any], list[Any]]:
        # The body runs only while the condition holds.
        inputs = {
            iteration_name: i,
            condition_name: np.array(True),
            **unchanged,
            **dict(zip(changed, carried, strict=True)),
        }
        go_on, *rest = call.body("body", inputs)
        updated = [one for one, same in zip(rest, is_unchanged, strict=False) if not same]
        return go_on, updated, rest[len(names) :]

    max_trips = None if trips is None else _scalar(trips.plain())
    first = np.array(True) if condition is None else _scalar(condition.plain())
    initial_changed = [value.plain() for value, same in zip(initial, is_unchanged, strict=True) if not same]
    updated, scan_outputs = repeat(step, max_trips, first, initial_changed)
    remaining = iter(updated)
    return [
        *(value if same else next(remaining) for value, same in zip(initial, is_unchanged, strict=True)),
        *scan_outputs,
    ]


def _scalar(value: Any) -> Any:
    return value.reshape(()) if isinstance(value, np.ndarray) else tf.reshape(value, [])


def repeat(step: Step, max_trips: Any, first: Any, initial: Sequence[Any]) -> tuple[list[Any], list[Any]]:
    """Runs `step` up to `max_trips` times (None: no limit) or until it says to stop; returns the loop-carried tensors
    and the stacked scan outputs."""
    initial_tensors = [tensor(one) for one in initial]
    shapes, scan_outputs, can_stop = _invariant_shapes(step, initial_tensors)
    fixed_size = max_trips is not None and not can_stop and isinstance(first, np.ndarray) and bool(first)
    size = tf.cast(tf.maximum(max_trips, 0), tf.int32) if fixed_size else 0
    arrays = [
        tf.TensorArray(one.dtype, size=size, dynamic_size=not fixed_size, element_shape=one.shape, infer_shape=False)
        for one in scan_outputs
    ]

    def continues(i: Any, go_on: Any, *_: Any) -> Any:
        return go_on if max_trips is None else tf.logical_and(i < tf.cast(max_trips, tf.int64), go_on)

    def loop_body(i: Any, _: Any, carried: Any, arrays: Any) -> Any:
        go_on, updated, scan_values = step(i, carried)
        updated = [tf.ensure_shape(tensor(one), shape) for one, shape in zip(updated, shapes, strict=True)]
        arrays = [
            array.write(tf.cast(i, tf.int32), tensor(one)) for array, one in zip(arrays, scan_values, strict=True)
        ]
        return i + 1, tf.reshape(go_on, []), updated, arrays

    invariants = [tf.TensorShape([]), tf.TensorShape([]), list(shapes), [tf.TensorShape(None)] * len(arrays)]
    count, _, updated, arrays = tf.while_loop(
        continues, loop_body, [tf.constant(0, tf.int64), tensor(first), initial_tensors, arrays], invariants
    )
    return list(updated), [_stacked(array, one, count) for array, one in zip(arrays, scan_outputs, strict=True)]


def _invariant_shapes(step: Step, initial_tensors: Sequence[Any]) -> tuple[list[Any], list[Any], bool]:
    """The loop-carried tensors' shapes that hold in every iteration, the scan outputs' specs, and whether `step` can
    stop the loop.

    `step` is traced on its own; dimensions that it changes become None, and it is traced again until none changes.
    """
    shapes, can_stop = [one.shape for one in initial_tensors], False

    def probe(i: Any, carried: Any) -> Any:
        nonlocal can_stop
        go_on, updated, scan_values = step(i, carried)
        can_stop = not (isinstance(go_on, np.ndarray) and bool(go_on))
        return [tensor(one) for one in updated], [tensor(one) for one in scan_values]

    while True:
        specs = [tf.TensorSpec(shape, one.dtype) for shape, one in zip(shapes, initial_tensors, strict=True)]
        traced = tf.function(probe, autograph=False).get_concrete_function(tf.TensorSpec([], tf.int64), specs)
        updated, scan_outputs = traced.structured_outputs
        for one, initial in zip(updated, initial_tensors, strict=True):
            if one.dtype != initial.dtype:
                raise ValueError(
                    f"a loop-carried tensor starts as {initial.dtype.name} but the body returns {one.dtype.name}"
                )
        merged = [_merged_shape(shape, one.shape) for shape, one in zip(shapes, updated, strict=True)]
        if all(_same_shape(new, old) for new, old in zip(merged, shapes, strict=True)):
            return shapes, list(scan_outputs), can_stop
        shapes = merged


def _merged_shape(one: Any, other: Any) -> Any:
    if one.rank is None or one.rank != other.rank:
        return tf.TensorShape(None)
    return tf.TensorShape([a if a == b else None for a, b in zip(one, other, strict=True)])


def _same_shape(one: Any, other: Any) -> bool:
    return bool(one.rank == other.rank and (one.rank is None or one.as_list() == other.as_list()))


def _stacked(array: Any, spec: Any, count: Any) -> Any:
    """The scan outputs along a new first axis; after no iteration, unknown dimensions are 0."""
    if spec.shape.is_fully_defined():
        return array.stack()
    if spec.shape.rank is None:
        return array.stack()
    none = tf.zeros([0, *(size or 0 for size in spec.shape)], spec.dtype)
    result = tf.cond(count > 0, array.stack, lambda: none)
    return tf.ensure_shape(result, [None, *spec.shape])


@op("Scan", since=9, kind=VALUES, foldable=False)
def scan(call: Any, *inputs: Value) -> Any:
    num_scan_inputs = call.get("num_scan_inputs")
    states = [value.plain() for value in inputs[:-num_scan_inputs]]
    scan_inputs = [tensor(value.plain()) for value in inputs[-num_scan_inputs:]]
    axes = call.get("scan_input_axes") or [0] * num_scan_inputs
    directions = call.get("scan_input_directions") or [0] * num_scan_inputs
    rows = []
    for x, axis, backward in zip(scan_inputs, axes, directions, strict=True):
        first = _axis_first(x, axis % x.shape.rank)
        rows.append(tf.reverse(first, [0]) if backward else first)
    updated, scan_outputs = _scanned(call, states, rows)
    axes = call.get("scan_output_axes") or [0] * len(scan_outputs)
    directions = call.get("scan_output_directions") or [0] * len(scan_outputs)
    outputs = []
    for y, axis, backward in zip(scan_outputs, axes, directions, strict=True):
        y = tf.reverse(y, [0]) if backward else y
        outputs.append(_axis_to(y, axis % y.shape.rank))
    return [*updated, *outputs]


def _axis_first(x: Any, axis: int) -> Any:
    """Moves the axis to the front."""
    rest = [i for i in range(x.shape.rank) if i != axis]
    return x if axis == 0 else tf.transpose(x, [axis, *rest])


def _axis_to(x: Any, axis: int) -> Any:
    """Moves the first axis to `axis`."""
    rest = list(range(1, x.shape.rank))
    return x if axis == 0 else tf.transpose(x, [*rest[:axis], 0, *rest[axis:]])


def _scanned(call: Any, states: Sequence[Any], rows: Sequence[Any]) -> tuple[list[Any], list[Any]]:
    """Runs the body over the first axis of `rows`."""
    body = call.get("body")

    def step(i: Any, carried: Sequence[Any]) -> tuple[Any, list[Any], list[Any]]:
        inputs = [*carried, *(x[i] for x in rows)]
        outputs = call.body("body", dict(zip(body.inputs, inputs, strict=True)))
        return np.array(True), outputs[: len(states)], outputs[len(states) :]

    updated, scan_outputs = repeat(step, shape_dims(rows[0])[0], np.array(True), states)
    steps = rows[0].shape[0]
    return updated, [tf.ensure_shape(y, [steps, *y.shape[1:]]) if y.shape.rank else y for y in scan_outputs]


@op("Scan", since=8, kind=VALUES, foldable=False)
def scan_batched(call: Any, lengths: Value | None, *inputs: Value) -> Any:
    """Scans the second axis, for each example of the first on its own; outputs beyond a sequence's length are zero."""
    num_scan_inputs = call.get("num_scan_inputs")
    states = [tensor(value.plain()) for value in inputs[:-num_scan_inputs]]
    scan_inputs = [tensor(value.plain()) for value in inputs[-num_scan_inputs:]]
    directions = call.get("directions") or [0] * num_scan_inputs
    steps = shape_dims(scan_inputs[0])[1]
    length_of = None if lengths is None else tf.cast(tensor(lengths.plain()), tf.int64)

    def one_example(i: Any, carried: Sequence[Any]) -> tuple[Any, list[Any], list[Any]]:
        length = steps if length_of is None else length_of[i]
        rows = [x[i][:length] for x in scan_inputs]
        rows = [tf.reverse(x, [0]) if backward else x for x, backward in zip(rows, directions, strict=True)]
        updated, scan_outputs = _scanned(call, [state[i] for state in states], rows)
        if length_of is not None:
            scan_outputs = [_padded(y, steps) for y in scan_outputs]
        return np.array(True), [], [*updated, *scan_outputs]

    _, outputs = repeat(one_example, shape_dims(scan_inputs[0])[0], np.array(True), [])
    return outputs


def _padded(y: Any, steps: Any) -> Any:
    more = tf.cast(steps, tf.int64) - tf.shape(y, tf.int64)[0]
    none = tf.zeros([y.shape.rank - 1, 2], tf.int64)
    return tf.ensure_shape(
        tf.pad(y, tf.concat([[[0, more]], none], 0)), [steps if isinstance(steps, int) else None, *y.shape[1:]]
    )
