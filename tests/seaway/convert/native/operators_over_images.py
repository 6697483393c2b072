"""Operators of random graphs over images: for each a function that draws its attributes and weights."""

from typing import Any

import numpy as np
from graphs import ANY, IMAGES, Graph, Value, normal, operator

# Windows


def window(g: Graph, x: Value, kernel: list[int], dilated: bool = True) -> dict[str, Any]:
    spatial = x.rank - 2
    attributes: dict[str, Any] = {"kernel_shape": kernel, "strides": [g.whole(1, 2) for _ in range(spatial)]}
    if dilated and g.one_of(False, True):
        attributes["dilations"] = [g.whole(1, 2) for _ in range(spatial)]
    reach = [(k - 1) * d + 1 for k, d in zip(kernel, attributes.get("dilations", [1] * spatial), strict=True)]
    # ONNX Runtime ignores dilations with auto_pad in poolings, and pads below zero are refused.
    if "dilations" not in attributes and all(s <= r for s, r in zip(attributes["strides"], reach, strict=True)):
        attributes["auto_pad"] = g.one_of("NOTSET", "NOTSET", "SAME_UPPER", "SAME_LOWER", "VALID")
    if attributes.get("auto_pad", "NOTSET") == "NOTSET":
        attributes["pads"] = [g.whole(0, r // 2) for r in (*reach, *reach)]
    # A window beyond what there is, ONNX leaves open.
    fit = all(r <= min(a.shape[axis] for a in x.arrays) for axis, r in enumerate(reach, start=2))
    return attributes if fit else {"kernel_shape": kernel, "pads": [k // 2 for k in (*kernel, *kernel)]}


def kernel(g: Graph, x: Value) -> list[int]:
    return [g.whole(1, min(3, *(a.shape[axis] for a in x.arrays))) for axis in range(2, x.rank)]


@operator(ranks=IMAGES)
def convolution(g: Graph, x: Value) -> None:
    groups = g.one_of(*[d for d in (1, 2, 3, x.shape[1]) if x.shape[1] % d == 0])
    own, outputs = kernel(g, x), groups * g.whole(1, 2)
    weights = [g.weights(outputs, x.shape[1] // groups, *own)]
    weights += [g.weights(outputs)] if g.one_of(True, False) else []
    g.add("Conv", [x, *weights], group=groups, **window(g, x, own))


@operator(ranks=IMAGES)
def transposed_convolution(g: Graph, x: Value) -> None:
    groups = g.one_of(*[d for d in (1, 2) if x.shape[1] % d == 0])
    own, outputs, spatial = kernel(g, x), g.whole(1, 2), x.rank - 2
    strides = [g.whole(1, 2) for _ in range(spatial)]
    more: dict[str, Any] = {"pads": [g.whole(0, k // 2) for k in (*own, *own)]} if g.one_of(True, False) else {}
    more |= {"output_padding": [g.whole(0, s - 1) for s in strides]} if g.one_of(False, True) else {}
    weights = [g.weights(x.shape[1], outputs, *own), g.weights(outputs * groups)][: g.whole(1, 2)]
    g.add("ConvTranspose", [x, *weights], group=groups, strides=strides, kernel_shape=own, **more)


@operator(ranks=IMAGES)
def max_pooling(g: Graph, x: Value) -> None:
    g.add("MaxPool", [x], ceil_mode=g.whole(0, 1), **window(g, x, kernel(g, x)))


@operator(ranks=IMAGES)
def average_pooling(g: Graph, x: Value) -> None:
    more = {"ceil_mode": g.whole(0, 1), "count_include_pad": g.whole(0, 1)}
    g.add("AveragePool", [x], **more, **window(g, x, kernel(g, x), dilated=g.opset > 18))


@operator(ranks=IMAGES)
def global_pooling(g: Graph, x: Value) -> None:
    g.add(g.one_of("GlobalAveragePool", "GlobalMaxPool"), [x])


@operator(ranks=IMAGES)
def resize(g: Graph, x: Value) -> None:
    mode = g.one_of("nearest", "linear")
    if mode == "linear" and x.rank == 5:
        return
    ways = ["half_pixel", "asymmetric", "align_corners", "pytorch_half_pixel"]
    more = {"mode": mode, "coordinate_transformation_mode": g.one_of(*ways)}
    more |= {"nearest_mode": g.one_of("floor", "round_prefer_floor")} if mode == "nearest" else {}
    if g.one_of(True, False):
        scales = g.constant(np.array([1, 1, *[g.one_of(2, 1, 0.5, 1.5) for _ in range(x.rank - 2)]], np.float32))
        g.add("Resize", [x, None, scales], **more)
    else:  # as PyTorch's exporter writes a size
        head = g.add("Slice", [g.sizes(x), g.numbers(0), g.numbers(2)])
        wanted = g.constant(np.array([g.whole(1, 8) for _ in range(x.rank - 2)]))
        for sizes in g.add("Concat", [*head, wanted], axis=0) if head else []:
            g.add("Resize", [x, None, None, sizes], **more)


@operator(ranks=range(4, 5))
def depth_and_space(g: Graph, x: Value) -> None:
    op = g.one_of("SpaceToDepth", "DepthToSpace")
    g.add(op, [x], blocksize=2, **({"mode": g.one_of("DCR", "CRD")} if op == "DepthToSpace" else {}))


# Normalisations


@operator(ranks=range(2, 6))
def batch_normalization(g: Graph, x: Value) -> None:
    channels = x.shape[1]
    variance = g.constant(np.abs(normal(channels, (channels,))) + np.float32(0.5))
    g.add("BatchNormalization", [x, *[g.weights(channels) for _ in range(3)], variance])


@operator(ranks=IMAGES)
def instance_normalization(g: Graph, x: Value) -> None:
    g.add("InstanceNormalization", [x, g.weights(x.shape[1]), g.weights(x.shape[1])], epsilon=0.1)


@operator(ranks=IMAGES)
def group_normalization(g: Graph, x: Value) -> None:
    groups = g.one_of(*[d for d in (1, 2, x.shape[1]) if x.shape[1] % d == 0])
    if g.opset >= 21:
        g.add("GroupNormalization", [x, g.weights(x.shape[1]), g.weights(x.shape[1])], num_groups=groups, epsilon=0.1)


@operator(ranks=ANY)
def layer_normalization(g: Graph, x: Value) -> None:
    axis = g.axis(x.rank)
    own = x.shape[axis:]
    g.add("LayerNormalization", [x, g.weights(*own), g.weights(*own)][: g.whole(2, 3)], axis=axis, epsilon=0.1)


@operator(ranks=range(3, 6))
def local_response(g: Graph, x: Value) -> None:
    g.add("LRN", [x], size=g.one_of(3, 2, 5), alpha=0.1)
