"""Recurrent layers: RNN, GRU and LSTM, one loop over time for each direction."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import tensorflow as tf

from seaway.convert.native.dtypes import scalar, tensor
from seaway.convert.native.registry import op
from seaway.convert.native.shapes import reshape_target, shape_dims

Activation = Callable[[Any], Any]
# One step: (the projected input, the states) → the new states, of which the first is the output.
Step = Callable[[Any, list[Any]], list[Any]]

# PARAMETRIC: the parameters' defaults (None if ONNX has none), and the function.
SIMPLE: dict[str, Activation] = {
    "relu": tf.nn.relu, "tanh": tf.tanh, "sigmoid": tf.sigmoid, "softsign": tf.nn.softsign,
    "softplus": tf.math.softplus,
}  # fmt: skip
PARAMETRIC: dict[str, tuple[tuple[float | None, ...], Callable[..., Any]]] = {
    "affine": ((None, None), lambda x, a, b: a * x + b),
    "scaledtanh": ((None, None), lambda x, a, b: a * tf.tanh(b * x)),
    "hardsigmoid": ((0.2, 0.5), lambda x, a, b: tf.clip_by_value(a * x + b, scalar(0, x), scalar(1, x))),
    "leakyrelu": ((0.01,), lambda x, a: tf.where(x < scalar(0, x), a * x, x)),
    "thresholdedrelu": ((1.0,), lambda x, a: tf.where(x > a, x, tf.zeros_like(x))),
    "elu": ((1.0,), lambda x, a: tf.where(x < scalar(0, x), a * tf.math.expm1(tf.minimum(x, scalar(0, x))), x)),
}


@dataclass(frozen=True, slots=True)
class Weights:
    """Of one direction: [input, gates * hidden], [hidden, gates * hidden], [gates * hidden] each, [3 * hidden]."""

    input: Any
    hidden: Any
    input_bias: Any
    hidden_bias: Any
    peepholes: Any

    def size(self) -> int:
        return int(self.hidden.shape[0])


@op("RNN", "GRU", "LSTM")
def recurrent(
    call: Any, x: Any, w: Any, r: Any, b: Any = None, lengths: Any = None, h: Any = None, c: Any = None, p: Any = None
) -> Any:
    x = tensor(x)
    batch_first, states = bool(call.get("layout", 0)), 2 if call.node.op == "LSTM" else 1
    x = tf.transpose(x, [1, 0, 2]) if batch_first else x
    w, r = _with_sizes(call, x, w, r)
    initial = [None if s is None else tf.transpose(s, [1, 0, 2]) if batch_first else tensor(s) for s in (h, c)[:states]]

    def direction(index: int, sequence: Any) -> tuple[Step, Any, int]:
        weights = _weights(index, w, r, b, p)
        step = _STEPS[call.node.op](call, weights, _activations(call, index, x))
        return step, _projected(sequence, weights, call), weights.size()

    return _run(call, x, lengths, initial, direction, batch_first)


def lstm(
    call: Any, x: Any, b: Any, lengths: Any, states: list[Any], p: Any, size: int,
    project: Callable[[Any, int], Any], multiply: Callable[[Any, int], Any],
) -> Any:  # fmt: skip
    """An LSTM with products of its own: `project` of all inputs, [time * batch, input], and `multiply` of a state, with
    the weights of a direction."""
    x = tensor(x)

    def direction(index: int, sequence: Any) -> tuple[Step, Any, int]:
        flat = project(tf.reshape(sequence, [-1, sequence.shape[2]]), index)
        if b is not None:
            flat = flat + (tensor(b[index][: 4 * size]) + tensor(b[index][4 * size :]))
        projected = tf.reshape(flat, reshape_target([*shape_dims(sequence)[:2], 4 * size]))
        peepholes = None if p is None else p[index]
        step = _lstm_step(call, size, peepholes, _activations(call, index, x), lambda h: multiply(h, index), x)
        return step, projected, size

    return _run(call, x, lengths, [None if s is None else tensor(s) for s in states], direction, False)


def _run(
    call: Any, x: Any, lengths: Any, initial: list[Any],
    direction: Callable[[int, Any], tuple[Step, Any, int]], batch_first: bool,
) -> list[Any]:  # fmt: skip
    """The outputs of all directions. `direction`: a direction's step, projected inputs and size."""
    lengths = None if lengths is None else tf.cast(lengths, tf.int32)
    outputs, finals, states = [], [], len(initial)
    directions = {"forward": [0], "reverse": [1], "bidirectional": [0, 1]}[call.get("direction", "forward")]
    for index, backward in enumerate(directions):
        step, projected, size = direction(index, _reversed(x, lengths) if backward else x)
        initial_states = [_initial(None if s is None else s[index], x, size) for s in initial]
        output, final = _over_time(step, projected, initial_states, lengths, call.wants(0))
        outputs.append(_reversed(output, lengths) if backward and output is not None else output)
        finals.append(final)
    axis = 2 if batch_first else 1
    sequence_output = [None]
    if call.wants(0):
        rows = [tf.transpose(output, [1, 0, 2]) if batch_first else output for output in outputs]
        sequence_output = [tf.stack(rows, axis)]
    last = [tf.stack([final[i] for final in finals], axis - 1) for i in range(states)]
    return [last[0] if output is None else output for output in [*sequence_output, *last][: call.outputs]]


def _with_sizes(call: Any, x: Any, w: Any, r: Any) -> tuple[Any, Any]:
    """Weights that the graph computes may have unknown sizes; the node's attribute and its input tell them."""
    hidden = call.get("hidden_size") or r.shape[2]
    rows = {"RNN": 1, "GRU": 3, "LSTM": 4}[call.node.op] * hidden
    sizes = ((w, [None, rows, x.shape[2]]), (r, [None, rows, hidden]))
    w, r = (m if isinstance(m, np.ndarray) else tf.ensure_shape(m, shape) for m, shape in sizes)
    return w, r


def _weights(direction_index: int, w: Any, r: Any, b: Any, p: Any) -> Weights:
    """The weights of a direction; constants are transposed during conversion."""
    transposed = [
        m[direction_index].T if isinstance(m, np.ndarray) else tf.transpose(m[direction_index]) for m in (w, r)
    ]
    half = int(w.shape[1])
    bias = None if b is None else b[direction_index]
    return Weights(
        transposed[0], transposed[1], None if bias is None else bias[:half], None if bias is None else bias[half:],
        None if p is None else p[direction_index],
    )  # fmt: skip


def _initial(state: Any, x: Any, size: int) -> Any:
    """A direction's initial state; Keras's files compute it, so that its size is not known to TensorFlow."""
    if state is None:
        return tf.zeros(tf.stack([tf.shape(x)[1], size]), x.dtype)
    return tf.ensure_shape(tensor(state), [None, size])


def _projected(x: Any, weights: Weights, call: Any) -> Any:
    """Projects the inputs of all steps with one product: [time, batch, gates * hidden]."""
    steps, batch, _ = shape_dims(x)
    flat = tf.matmul(tf.reshape(x, [-1, weights.input.shape[0]]), tensor(weights.input))
    if weights.input_bias is not None:
        bias = weights.input_bias
        if call.node.op != "GRU" or not call.get("linear_before_reset", 0):
            bias = tensor(bias) + tensor(weights.hidden_bias)
        else:  # the candidate's hidden bias is added before the reset gate applies
            gate_columns = 2 * weights.size()
            gates = tensor(bias[:gate_columns]) + tensor(weights.hidden_bias[:gate_columns])
            bias = tf.concat([gates, bias[gate_columns:]], 0)
        flat = tf.nn.bias_add(flat, tensor(bias))
    return tf.reshape(flat, reshape_target([steps, batch, int(weights.input.shape[1])]))


def _reversed(x: Any, lengths: Any) -> Any:
    return tf.reverse(x, [0]) if lengths is None else tf.reverse_sequence(x, lengths, seq_axis=0, batch_axis=1)


def _over_time(step: Step, x: Any, states: list[Any], lengths: Any, keep_outputs: bool) -> tuple[Any, list[Any]]:
    """The outputs of all steps ([time, batch, hidden]; None unless `keep_outputs`) and the final states. Beyond a
    sequence's length its states stay and its outputs are zero."""
    steps, first = shape_dims(x)[0], tensor(states[0])
    count = tf.cast(steps, tf.int32)
    shape = tf.TensorShape([x.shape[1], first.shape[1]])
    states = [tf.ensure_shape(tensor(s), shape) for s in states]
    array = tf.TensorArray(x.dtype, size=count if keep_outputs else 0, element_shape=shape)

    def loop_body(i: Any, states_in: list[Any], array: Any) -> Any:
        new = step(x[i], states_in)
        output = new[0]
        if lengths is not None:
            within = (i < lengths)[:, None]
            output = tf.where(within, output, tf.zeros_like(output))
            new = [tf.where(within, a, b) for a, b in zip(new, states_in, strict=True)]
        new = [tf.ensure_shape(s, shape) for s in new]
        return i + 1, new, array.write(i, output) if keep_outputs else array

    invariants = (tf.TensorShape([]), [shape] * len(states), tf.TensorShape(None))
    _, states, array = tf.while_loop(lambda i, *_: i < count, loop_body, (tf.constant(0), states, array), invariants)
    if not keep_outputs:
        return None, list(states)
    stacked = tf.reshape(array.stack(), reshape_target([*shape_dims(x)[:2], int(shape[1])]))
    return stacked, list(states)


def _activations(call: Any, index: int, like: Any) -> list[Activation]:
    """The direction's activations with their parameters, which ONNX lists only for those that have any."""
    defaults = {"RNN": ["Tanh"], "GRU": ["Sigmoid", "Tanh"], "LSTM": ["Sigmoid", "Tanh", "Tanh"]}[
        call.node.op.removeprefix("DynamicQuantize")
    ]
    directions = 2 if call.get("direction", "forward") == "bidirectional" else 1
    names = call.get("activations") or defaults * directions
    if len(names) != len(defaults) * directions:
        raise ValueError(f"{len(names)} activations where {len(defaults) * directions} are needed")
    alphas, betas = iter(call.get("activation_alpha") or []), iter(call.get("activation_beta") or [])
    activations = [_activation(name, alphas, betas, like) for name in names]
    return activations[index * len(defaults) : (index + 1) * len(defaults)]


def _activation(name: str, alphas: Any, betas: Any, like: Any) -> Activation:
    key = name.lower()
    if key in SIMPLE:
        return SIMPLE[key]
    if key not in PARAMETRIC:
        raise ValueError(f"unknown activation {name}")
    defaults, function = PARAMETRIC[key]
    parameters = [next(values, default) for values, default in zip((alphas, betas), defaults, strict=False)]
    if None in parameters:
        raise ValueError(f"the activation {name} lacks its alpha or beta")
    return lambda x: function(x, *(scalar(float(n), like) for n in parameters if n is not None))


def _clipped(call: Any, like: Any) -> Activation:
    limit = call.get("clip")
    return (lambda x: x) if not limit else lambda x: tf.clip_by_value(x, scalar(-limit, like), scalar(limit, like))


def _rnn(call: Any, weights: Weights, activations: list[Activation]) -> Step:
    (f,), hidden = activations, tensor(weights.hidden)
    clip = _clipped(call, hidden)
    return lambda x, states_in: [f(clip(x + tf.matmul(states_in[0], hidden)))]


def _gru(call: Any, weights: Weights, activations: list[Activation]) -> Step:
    (f, g), size = activations, weights.size()
    hidden = tensor(weights.hidden)
    clip = _clipped(call, hidden)
    gates, candidate = hidden[:, : 2 * size], hidden[:, 2 * size :]
    bias = None if weights.hidden_bias is None else tensor(weights.hidden_bias[2 * size :])

    def after_reset(x: Any, states_in: list[Any]) -> list[Any]:
        (h,) = states_in
        z, r = tf.split(f(clip(x[:, : 2 * size] + tf.matmul(h, gates))), 2, -1)
        new = g(clip(x[:, 2 * size :] + tf.matmul(r * h, candidate)))
        return [new + z * (h - new)]

    def before_reset(x: Any, states_in: list[Any]) -> list[Any]:
        (h,) = states_in
        product = tf.matmul(h, hidden)
        z, r = tf.split(f(clip(x[:, : 2 * size] + product[:, : 2 * size])), 2, -1)
        candidate_product = product[:, 2 * size :]
        new = g(clip(x[:, 2 * size :] + r * (candidate_product if bias is None else candidate_product + bias)))
        return [new + z * (h - new)]

    return before_reset if call.get("linear_before_reset", 0) else after_reset


def _lstm(call: Any, weights: Weights, activations: list[Activation]) -> Step:
    hidden = tensor(weights.hidden)
    return _lstm_step(call, weights.size(), weights.peepholes, activations, lambda h: tf.matmul(h, hidden), hidden)


def _lstm_step(
    call: Any, size: int, peepholes: Any, activations: list[Activation], multiply: Activation, like: Any
) -> Step:
    """`multiply`: the product of the state with its weights; `like`: a tensor of the state's type."""
    f, g, h_ = activations
    clip = _clipped(call, like)
    coupled = bool(call.get("input_forget", 0))
    peep_i, peep_o, peep_f = [None] * 3 if peepholes is None else tf.split(tensor(peepholes), 3)

    def step(x: Any, states_in: list[Any]) -> list[Any]:
        h, c = states_in
        gates = x + multiply(h)
        if peep_i is None and not coupled:
            # One activation call for the adjacent gates i, o and f.
            i, o, forget = tf.split(f(clip(gates[:, : 3 * size])), 3, -1)
            new = forget * c + i * g(clip(gates[:, 3 * size :]))
            return [o * h_(new), new]
        i, o, forget, candidate = tf.split(gates, 4, -1)
        i = f(clip(i if peep_i is None else i + peep_i * c))
        forget = 1 - i if coupled else f(clip(forget if peep_f is None else forget + peep_f * c))
        new = forget * c + i * g(clip(candidate))
        o = f(clip(o if peep_o is None else o + peep_o * new))
        return [o * h_(new), new]

    return step


_STEPS: dict[str, Callable[[Any, Weights, list[Activation]], Step]] = {"RNN": _rnn, "GRU": _gru, "LSTM": _lstm}
