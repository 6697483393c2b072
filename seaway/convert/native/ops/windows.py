"""Windows of convolutions and poolings: strides, dilations and pads, and the padding argument for TensorFlow."""

from dataclasses import dataclass
from typing import Any

import tensorflow as tf

from seaway.convert.native import shapes


@dataclass(frozen=True, slots=True)
class Window:
    """One entry per spatial axis. `pads`: (before, after), ints, or int64 scalar tensors if a size is unis_static."""

    kernel: list[int]
    strides: list[int]
    dilations: list[int]
    pads: list[tuple[Any, Any]]
    sizes: list[Any]
    same: bool = False  # the pads equal TensorFlow's SAME for every input size

    def wider(self) -> "Window":
        """The same window with a leading axis of size 1."""
        kernel, strides, dilations = [1, *self.kernel], [1, *self.strides], [1, *self.dilations]
        return Window(kernel, strides, dilations, [(0, 0), *self.pads], [1, *self.sizes], self.same)

    def reach(self) -> list[int]:
        return [(k - 1) * d + 1 for k, d in zip(self.kernel, self.dilations, strict=True)]

    def paddings(self) -> Any:
        """For tf.pad, channels last."""
        return [[0, 0], *[list(pair) for pair in self.pads], [0, 0]]

    def padding(self) -> Any:
        """The padding argument for TensorFlow's convolutions: "VALID", "SAME" if equivalent, else the pads."""
        if self.is_static and all(pair == (0, 0) for pair in self.pads):
            return "VALID"
        if self.same or all(
            _is_same(*axis) for axis in zip(self.pads, self.sizes, self.reach(), self.strides, strict=True)
        ):
            return "SAME"
        return self.paddings()

    def padded(self, x: Any) -> tuple[Any, Any]:
        """`x` and the padding argument for a convolution over it; pads known only at run time are applied to `x`."""
        padding = self.padding()
        return (x, padding) if self.is_static or padding == "SAME" else (tf.pad(x, self.paddings()), "VALID")

    @property
    def is_static(self) -> bool:
        return all(isinstance(n, int) for pair in self.pads for n in pair)


def of(call: Any, kernel: list[int], x: Any) -> Window:
    """The window of a node over `x`, [N, ..., C]."""
    spatial = len(kernel)
    strides = call.get("strides") or [1] * spatial
    dilations = call.get("dilations") or [1] * spatial
    sizes = shapes.shape_dims(x)[1:-1]
    auto = call.get("auto_pad", "NOTSET")
    if auto in ("SAME_UPPER", "SAME_LOWER"):
        for axis in zip(sizes, kernel, strides, dilations, strict=True):
            _check_no_gaps(*axis)
        pads = [
            _same_pads(size, (k - 1) * d + 1, s, auto == "SAME_UPPER")
            for size, k, d, s in zip(sizes, kernel, dilations, strides, strict=True)
        ]
    else:
        flat = (call.get("pads") if auto == "NOTSET" else None) or [0] * 2 * spatial
        pads = [(flat[i], flat[spatial + i]) for i in range(spatial)]
    return Window(list(kernel), list(strides), list(dilations), pads, sizes, auto == "SAME_UPPER")


def _check_no_gaps(size: Any, kernel: int, stride: int, dilation: int) -> None:
    """Refuses windows so far apart that pads would be below -1: ONNX Runtime crops the image then, others do not."""
    reach, last = (kernel - 1) * dilation + 1, size if isinstance(size, int) else stride
    if (-(-last // stride) - 1) * stride + reach - last < -1:
        raise ValueError(f"auto_pad with windows of {reach} that are {stride} apart; set the pads explicitly")


def _same_pads(size: Any, reach: int, stride: int, upper: bool) -> tuple[Any, Any]:
    if isinstance(size, int):
        total = max((-(-size // stride) - 1) * stride + reach - size, 0)
        return (total // 2, total - total // 2) if upper else (total - total // 2, total // 2)
    total = tf.maximum((-(-size // stride) - 1) * stride + reach - size, 0)
    half = total // 2
    return (half, total - half) if upper else (total - half, half)


def _is_same(pair: tuple[Any, Any], size: Any, reach: int, stride: int) -> bool:
    """Whether TensorFlow's SAME uses these pads; over three axes it crops if windows do not touch."""
    if stride > reach or not all(isinstance(n, int) for n in pair):
        return False
    if isinstance(size, int):
        return pair == _same_pads(size, reach, stride, True)
    return stride == 1 and pair == ((reach - 1) // 2, reach - 1 - (reach - 1) // 2)
