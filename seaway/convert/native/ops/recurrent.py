"""Recurrent layers: RNN, GRU and LSTM, one loop over time for each direction."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import tensorflow as tf

from seaway.convert.native.dtypes import scalar, tensor
from seaway.convert.native.shapes import as_target, numbers
from seaway.convert.native.table import op

Activation = Callable[[Any], Any]
# One step: (what the input comes to, the states) → the new states, of which the first is the output.
Step = Callable[[Any, list[Any]], list[Any]]

# Those with parameters: their defaults (None where ONNX has none), and what is done with them.
PLAIN: dict[str, Activation] = {
    "relu": tf.nn.relu, "tanh": tf.tanh, "sigmoid": tf.sigmoid, "softsign": tf.nn.softsign,
    "softplus": tf.math.softplus,
}  # fmt: skip
WITH: dict[str, tuple[tuple[float | None, ...], Callable[..., Any]]] = {
    "affine": ((None, None), lambda x, a, b: a * x + b),
    "scaledtanh": ((None, None), lambda x, a, b: a * tf.tanh(b * x)),
    "hardsigmoid": ((0.2, 0.5), lambda x, a, b: tf.clip_by_value(a * x + b, scalar(0, x), scalar(1, x))),
    "leakyrelu": ((0.01,), lambda x, a: tf.where(x < scalar(0, x), a * x, x)),
    "thresholdedrelu": ((1.0,), lambda x, a: tf.where(x > a, x, tf.zeros_like(x))),
    "elu": ((1.0,), lambda x, a: tf.where(x < scalar(0, x), a * tf.math.expm1(tf.minimum(x, scalar(0, x))), x)),
}


@dataclass(frozen=True, slots=True)
class Weights:
    """One direction's: [input, gates * hidden], [hidden, gates * hidden], [gates * hidden] each, [3 * hidden]."""

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
    lengths = None if lengths is None else tf.cast(lengths, tf.int32)
    direction = call.get("direction", "forward")
    initial = [None if s is None else tf.transpose(s, [1, 0, 2]) if batch_first else tensor(s) for s in (h, c)[:states]]
    outputs, finals = [], []
    for place, backward in enumerate({"forward": [0], "reverse": [1], "bidirectional": [0, 1]}[direction]):
        weights = _weights(place, w, r, b, p)
        step = _STEPS[call.node.op](call, weights, _activations(call, place, x))
        own = [_initial(None if s is None else s[place], x, weights.size()) for s in initial]
        sequence = _reversed(x, lengths) if backward else x
        output, last = _over_time(step, _projected(sequence, weights, call), own, lengths, call.wants(0))
        outputs.append(_reversed(output, lengths) if backward and output is not None else output)
        finals.append(last)
    axis = 2 if batch_first else 1
    got = [None]
    if call.wants(0):
        rows = [tf.transpose(one, [1, 0, 2]) if batch_first else one for one in outputs]
        got = [tf.stack(rows, axis)]
    last = [tf.stack([one[i] for one in finals], axis - 1) for i in range(states)]
    return [last[0] if one is None else one for one in [*got, *last][: call.outputs]]


def _weights(place: int, w: Any, r: Any, b: Any, p: Any) -> Weights:
    """Of the direction; constants are turned at once."""
    turned = [m[place].T if isinstance(m, np.ndarray) else tf.transpose(m[place]) for m in (w, r)]
    half = int(w.shape[1])
    bias = None if b is None else b[place]
    return Weights(
        turned[0], turned[1], None if bias is None else bias[:half], None if bias is None else bias[half:],
        None if p is None else p[place],
    )  # fmt: skip


def _initial(state: Any, x: Any, size: int) -> Any:
    return tf.zeros(tf.stack([tf.shape(x)[1], size]), x.dtype) if state is None else state


def _projected(x: Any, weights: Weights, call: Any) -> Any:
    """What the inputs of all steps come to, one product: [time, batch, gates * hidden]."""
    steps, batch, _ = numbers(x)
    flat = tf.matmul(tf.reshape(x, [-1, weights.input.shape[0]]), tensor(weights.input))
    if weights.input_bias is not None:
        bias = weights.input_bias
        if call.node.op != "GRU" or not call.get("linear_before_reset", 0):
            bias = bias + weights.hidden_bias
        else:  # the last gate's is added before it is reset
            known = 2 * weights.size()
            bias = tf.concat([bias[:known] + weights.hidden_bias[:known], bias[known:]], 0)
        flat = tf.nn.bias_add(flat, tensor(bias))
    return tf.reshape(flat, as_target([steps, batch, int(weights.input.shape[1])]))


def _reversed(x: Any, lengths: Any) -> Any:
    return tf.reverse(x, [0]) if lengths is None else tf.reverse_sequence(x, lengths, seq_axis=0, batch_axis=1)


def _over_time(step: Step, x: Any, states: list[Any], lengths: Any, wanted: bool) -> tuple[Any, list[Any]]:
    """[time, batch, hidden] of all steps, None where not wanted, and the last states; beyond a sequence's length its
    states stay and its outputs are zero."""
    steps, first = numbers(x)[0], tensor(states[0])
    count = tf.cast(steps, tf.int32)
    shape = tf.TensorShape([x.shape[1], first.shape[1]])
    states = [tf.ensure_shape(tensor(s), shape) for s in states]
    array = tf.TensorArray(x.dtype, size=count if wanted else 0, element_shape=shape)

    def one(i: Any, held: list[Any], array: Any) -> Any:
        new = step(x[i], held)
        output = new[0]
        if lengths is not None:
            within = (i < lengths)[:, None]
            output = tf.where(within, output, tf.zeros_like(output))
            new = [tf.where(within, a, b) for a, b in zip(new, held, strict=True)]
        new = [tf.ensure_shape(s, shape) for s in new]
        return i + 1, new, array.write(i, output) if wanted else array

    invariants = (tf.TensorShape([]), [shape] * len(states), tf.TensorShape(None))
    _, states, array = tf.while_loop(lambda i, *_: i < count, one, (tf.constant(0), states, array), invariants)
    if not wanted:
        return None, list(states)
    stacked = tf.reshape(array.stack(), as_target([*numbers(x)[:2], int(shape[1])]))
    return stacked, list(states)


def _activations(call: Any, place: int, like: Any) -> list[Activation]:
    """The direction's, each with its parameters, which ONNX lists for those alone that have any."""
    own = {"RNN": ["Tanh"], "GRU": ["Sigmoid", "Tanh"], "LSTM": ["Sigmoid", "Tanh", "Tanh"]}[call.node.op]
    directions = 2 if call.get("direction", "forward") == "bidirectional" else 1
    names = call.get("activations") or own * directions
    if len(names) != len(own) * directions:
        raise ValueError(f"{len(names)} activations where {len(own) * directions} are wanted")
    alphas, betas = iter(call.get("activation_alpha") or []), iter(call.get("activation_beta") or [])
    found = [_activation(name, alphas, betas, like) for name in names]
    return found[place * len(own) : (place + 1) * len(own)]


def _activation(name: str, alphas: Any, betas: Any, like: Any) -> Activation:
    low = name.lower()
    if low in PLAIN:
        return PLAIN[low]
    if low not in WITH:
        raise ValueError(f"the activation {name} is not known")
    defaults, function = WITH[low]
    numbers_ = [next(values, default) for values, default in zip((alphas, betas), defaults, strict=False)]
    if None in numbers_:
        raise ValueError(f"the activation {name} lacks its alpha or beta")
    return lambda x: function(x, *(scalar(float(n), like) for n in numbers_ if n is not None))


def _clipped(call: Any, like: Any) -> Activation:
    most = call.get("clip")
    return (lambda x: x) if not most else lambda x: tf.clip_by_value(x, scalar(-most, like), scalar(most, like))


def _rnn(call: Any, weights: Weights, activations: list[Activation]) -> Step:
    (f,), hidden = activations, tensor(weights.hidden)
    clip = _clipped(call, hidden)
    return lambda x, held: [f(clip(x + tf.matmul(held[0], hidden)))]


def _gru(call: Any, weights: Weights, activations: list[Activation]) -> Step:
    (f, g), size = activations, weights.size()
    hidden = tensor(weights.hidden)
    clip = _clipped(call, hidden)
    gates, candidate = hidden[:, : 2 * size], hidden[:, 2 * size :]
    bias = None if weights.hidden_bias is None else tensor(weights.hidden_bias[2 * size :])

    def after_reset(x: Any, held: list[Any]) -> list[Any]:
        (h,) = held
        z, r = tf.split(f(clip(x[:, : 2 * size] + tf.matmul(h, gates))), 2, -1)
        new = g(clip(x[:, 2 * size :] + tf.matmul(r * h, candidate)))
        return [new + z * (h - new)]

    def before_reset(x: Any, held: list[Any]) -> list[Any]:
        (h,) = held
        product = tf.matmul(h, hidden)
        z, r = tf.split(f(clip(x[:, : 2 * size] + product[:, : 2 * size])), 2, -1)
        own = product[:, 2 * size :]
        new = g(clip(x[:, 2 * size :] + r * (own if bias is None else own + bias)))
        return [new + z * (h - new)]

    return before_reset if call.get("linear_before_reset", 0) else after_reset


def _lstm(call: Any, weights: Weights, activations: list[Activation]) -> Step:
    (f, g, h_), size = activations, weights.size()
    hidden = tensor(weights.hidden)
    clip = _clipped(call, hidden)
    coupled = bool(call.get("input_forget", 0))
    peep_i, peep_o, peep_f = [None] * 3 if weights.peepholes is None else tf.split(tensor(weights.peepholes), 3)

    def step(x: Any, held: list[Any]) -> list[Any]:
        h, c = held
        gates = x + tf.matmul(h, hidden)
        if peep_i is None and not coupled:
            # Gates of one activation go through it together: i, o and f stand side by side.
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
