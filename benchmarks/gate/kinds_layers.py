"""Mutations of layers: normalizations, convolutions, poolings, resizes, activations, recurrent cells, weights."""

from collections.abc import Iterator

import numpy as np
import onnx

from benchmarks.gate.edits import OPERATOR, Sites
from benchmarks.gate.graph import Graph, attribute

FLOAT, FLOAT16 = onnx.TensorProto.FLOAT, onnx.TensorProto.FLOAT16


def epsilon(graph: Graph) -> Sites:
    """Ten times the epsilon of a normalization."""
    for node in graph.of("BatchNormalization", "LayerNormalization", "InstanceNormalization"):
        yield node, {"set": {"epsilon": 10 * attribute(node, "epsilon", 1e-5)}}
    for node in graph.of("Add", "Max", "Clip"):
        for index in (0, 1):
            value = graph.constant(node, index)
            if value is not None and value.size == 1 and value.dtype.kind == "f" and 0 < float(value.item()) < 1e-2:
                yield node, {"constants": {index: {"scale": 10}}}


MODES = "half_pixel", "asymmetric", "align_corners", "pytorch_half_pixel"


def coordinates(graph: Graph) -> Sites:
    """Another coordinate mode of Resize, or align_corners of GridSample."""
    for node in graph.of("Resize"):
        own = attribute(node, "coordinate_transformation_mode", MODES[0])
        for mode in MODES:
            if mode != own:
                yield node, {"set": {"coordinate_transformation_mode": mode}}
    for node in graph.of("GridSample"):
        yield node, {"set": {"align_corners": 1 - attribute(node, "align_corners", 0)}}


def interpolation(graph: Graph) -> Sites:
    """Another rounding of nearest, cubic coefficient, padding mode of GridSample, or mode of Resize."""
    for node in graph.of("Resize"):
        mode = attribute(node, "mode", "nearest")
        if mode == "nearest":
            own = attribute(node, "nearest_mode", "round_prefer_floor")
            for other in ("floor", "ceil", "round_prefer_floor", "round_prefer_ceil"):
                if other != own:
                    yield node, {"set": {"nearest_mode": other}}
        if mode == "cubic":
            yield node, {"set": {"cubic_coeff_a": -0.5}}
            yield node, {"set": {"exclude_outside": 1}}
            yield node, {"set": {"mode": "linear"}}
        if mode == "linear":
            yield node, {"set": {"mode": "cubic", "cubic_coeff_a": -0.75}}
    for node in graph.of("GridSample"):
        own = attribute(node, "padding_mode", "zeros")
        for other in ("zeros", "border", "reflection"):
            if other != own:
                yield node, {"set": {"padding_mode": other}}
        yield node, {"set": {"mode": "nearest"}}


def gelu(graph: Graph) -> Sites:
    """The tanh form of GELU instead of the exact one, or the reverse; or x·sigmoid(1.702 x)'s relative, SiLU."""
    for node in graph.of("Gelu"):
        tanh = attribute(node, "approximate", "none") == "tanh"
        yield node, {"set": {"approximate": "none" if tanh else "tanh"}}
        yield node, {"recipe": "swish"}


def padding(graph: Graph) -> Sites:
    """A pad on the other side, or another mode of Pad."""
    for node in graph.of("Conv", "MaxPool", "AveragePool", "ConvTranspose"):
        for pads in _moved(list(attribute(node, "pads", []))):
            yield node, {"set": {"pads": pads}}
        if attribute(node, "auto_pad", "NOTSET").startswith("SAME"):
            other = {"SAME_UPPER": "SAME_LOWER", "SAME_LOWER": "SAME_UPPER"}[attribute(node, "auto_pad")]
            yield node, {"set": {"auto_pad": other}}
    for node in graph.of("Pad"):
        pads = graph.constant(node, 1)
        for moved in _moved(pads.tolist()) if pads is not None else ():
            yield node, {"constants": {1: {"values": moved}}}
        own = attribute(node, "mode", "constant")
        for mode in ("constant", "reflect", "edge", "wrap"):
            if mode != own:
                yield node, {"set": {"mode": mode}}


def _moved(pads: list[int]) -> Iterator[list[int]]:
    half = len(pads) // 2
    for axis in range(half):
        for source, target in ((axis, axis + half), (axis + half, axis)):
            if pads[source] > 0:
                moved = list(pads)
                moved[source] -= 1
                moved[target] += 1
                yield moved


def pooling(graph: Graph) -> Sites:
    """What an average divides by, ceil_mode, and maximum for average."""
    for node in graph.of("AveragePool"):
        yield node, {"set": {"count_include_pad": 1 - attribute(node, "count_include_pad", 0)}}
        yield node, {"set": {"ceil_mode": 1 - attribute(node, "ceil_mode", 0)}}
        shared = ["kernel_shape", "strides", "pads", "ceil_mode", "auto_pad"]
        yield node, {OPERATOR: "MaxPool", "keep": shared}
    for node in graph.of("MaxPool"):
        yield node, {"set": {"ceil_mode": 1 - attribute(node, "ceil_mode", 0)}}
        shared = ["kernel_shape", "strides", "pads", "ceil_mode", "auto_pad"]
        yield node, {OPERATOR: "AveragePool", "keep": shared}


def slope(graph: Graph) -> Sites:
    """A parameter of an activation, a tenth off."""
    for node in graph.of("LeakyRelu", "Elu", "HardSigmoid", "Selu", "Celu"):
        defaults = {"LeakyRelu": 0.01, "HardSigmoid": 0.2, "Elu": 1.0, "Selu": 1.67326319217681884765625, "Celu": 1.0}
        alpha = attribute(node, "alpha", defaults[node.op_type])
        yield node, {"set": {"alpha": alpha * 1.1}}
        if node.op_type == "HardSigmoid":
            yield node, {"set": {"beta": attribute(node, "beta", 0.5) * 1.1}}
    for node in graph.of("PRelu"):
        yield node, {OPERATOR: "Relu", "inputs": [0]}
    for node in graph.of("Pow"):
        exponent = graph.constant(node, 1)
        if exponent is not None and exponent.size == 1:
            yield node, {"constants": {1: {"scale": 1.5}}}


def dropped_bias(graph: Graph) -> Sites:
    """No bias."""
    for node in graph.of("Conv", "ConvTranspose", "Gemm"):
        if len(node.input) > 2 and node.input[2]:
            yield node, {"inputs": [0, 1]}
    for node in graph.of("Add"):
        for index in (0, 1):
            bias = graph.constant(node, index)
            if bias is not None and bias.ndim == 1 and bias.size > 1:
                yield node, {OPERATOR: "Identity", "inputs": [1 - index]}


def transposed_weight(graph: Graph) -> Sites:
    """A square weight, or a kernel's square window, the other way round."""
    for node in graph.of("MatMul", "Gemm", "Conv", "ConvTranspose", "Einsum"):
        for index in range(len(node.input)):
            weight = graph.constant(node, index)
            if weight is None or weight.ndim < 2 or weight.size < 4:
                continue
            if weight.shape[-1] == weight.shape[-2] and weight.shape[-1] > 1:
                yield node, {"constants": {index: {"transpose": [-1, -2]}}}
            elif node.op_type in ("Conv", "ConvTranspose") and weight.shape[0] == weight.shape[1] > 1:
                yield node, {"constants": {index: {"transpose": [0, 1]}}}


def swapped_channels(graph: Graph) -> Sites:
    """Two neighbouring channels of a weight, or two parts of a split, change places."""
    for node in graph.of(
        "Conv", "Gemm", "MatMul", "BatchNormalization", "Add", "LayerNormalization", "Gather", "PRelu"
    ):
        for index in range(len(node.input)):
            weight = graph.constant(node, index)
            if weight is None or weight.dtype.kind != "f" or not weight.ndim:
                continue
            channels = 0 if node.op_type in ("Conv", "BatchNormalization", "PRelu") else weight.ndim - 1
            if node.op_type == "Gemm" and index == 1 and attribute(node, "transB", 0):
                channels = 0
            if weight.shape[channels] > 1:
                yield node, {"constants": {index: {"swap": [channels, 0, 1]}}}


def scaled_weight(graph: Graph) -> Sites:
    """A weight 1 % too large."""
    for node in graph.of("Conv", "ConvTranspose", "Gemm", "MatMul", "Einsum", "LSTM", "GRU", "RNN"):
        for index in range(min(len(node.input), 4)):
            weight = graph.constant(node, index)
            if weight is not None and weight.dtype.kind == "f" and weight.size > 1:
                yield node, {"constants": {index: {"scale": 1.01}}}


def activation(graph: Graph) -> Sites:
    """ReLU for ReLU6, the reverse, and other activations that are much alike."""
    for node in graph.of("Relu"):
        yield node, {OPERATOR: "Clip", "constants": {1: {"values": 0.0}, 2: {"values": 6.0}}}
    for node in graph.of("Clip"):
        low, high = graph.constant(node, 1), graph.constant(node, 2)
        if low is not None and high is not None and low == 0 and high == 6:
            yield node, {OPERATOR: "Relu", "inputs": [0]}
    for node in graph.of("HardSwish"):
        yield node, {"recipe": "swish"}
    for node in graph.of("HardSigmoid"):
        yield node, {OPERATOR: "Sigmoid"}
    for node in graph.of("Sigmoid"):
        yield node, {OPERATOR: "HardSigmoid", "set": {"alpha": 1 / 6, "beta": 0.5}}
    for node in graph.of("Mish"):
        yield node, {"recipe": "swish"}
    for node in graph.of("Tanh"):
        yield node, {OPERATOR: "Softsign"}
    for node in graph.of("Elu"):
        yield node, {OPERATOR: "Celu", "set": {"alpha": 1.5}}
    for node in graph.of("Softplus"):
        yield node, {OPERATOR: "Relu"}


def statistics(graph: Graph) -> Sites:
    """Statistics of the input instead of the running ones, or others of those."""
    for node in graph.of("BatchNormalization"):
        if len(graph.shape(node.output[0])) > 2:
            yield node, {"recipe": "statistics of the input"}
        yield node, {"constants": {3: {"scale": 0.0}}}
        yield node, {"constants": {4: {"scale": 1.05}}}
    for node in graph.of("InstanceNormalization", "LayerNormalization"):
        yield node, {"constants": {1: {"scale": 1.01}}}


def recurrent(graph: Graph) -> Sites:
    """Gates in another order, the reset gate at the other place, the reverse direction, another activation."""
    for node in graph.of("LSTM", "GRU"):
        blocks = 4 if node.op_type == "LSTM" else 3
        for index in (1, 2):
            if graph.constant(node, index) is not None:
                yield node, {"constants": {index: {"roll": [1, blocks]}}}
        if graph.constant(node, 3) is not None:
            yield node, {"constants": {3: {"roll": [1, 2 * blocks]}}}
            yield node, {"constants": {3: {"roll": [1, 2]}}}
    for node in graph.of("GRU"):
        yield node, {"set": {"linear_before_reset": 1 - attribute(node, "linear_before_reset", 0)}}
    for node in graph.of("LSTM", "GRU", "RNN"):
        own = attribute(node, "direction", "forward")
        count = 2 if own == "bidirectional" else 1
        names = {"LSTM": ["Sigmoid", "Tanh", "Tanh"], "GRU": ["Sigmoid", "Tanh"], "RNN": ["Tanh"]}[node.op_type]
        for i, name in enumerate(names):
            other = list(names)
            other[i] = {"Sigmoid": "HardSigmoid", "Tanh": "Softsign"}[name]
            yield node, {"set": {"activations": other * count}}
        if own != "bidirectional":
            yield node, {"set": {"direction": "reverse" if own == "forward" else "forward"}}
        yield node, {"set": {"clip": 1.0}}


def half(graph: Graph) -> Sites:
    """A result rounded to float16, or to bfloat16's eight bits."""
    for node in graph.of(
        "Conv", "Gemm", "MatMul", "Softmax", "Exp", "ReduceMean", "LayerNormalization", "Resize", "Div"
    ):
        if graph.values[node.output[0]].dtype == np.float32:
            yield node, {"after": [{OPERATOR: "Cast", "to": FLOAT16}, {OPERATOR: "Cast", "to": FLOAT}]}
            if node.op_type == "Conv":
                bfloat16 = onnx.TensorProto.BFLOAT16
                yield node, {"after": [{OPERATOR: "Cast", "to": bfloat16}, {OPERATOR: "Cast", "to": FLOAT}]}
