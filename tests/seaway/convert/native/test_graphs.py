"""Random graphs of operators, by ONNX Runtime and converted: what one node leaves must suit the next."""

from typing import Any

import numpy as np
import operators_over_pictures  # noqa: F401  they fill the table of operators
import operators_over_tensors  # noqa: F401
from graphs import Graph, graphs
from hypothesis import given, settings
from hypothesis import strategies as st

from seaway.convert.native import net


@settings(max_examples=80, deadline=None, derandomize=True)
@given(graph=graphs(), sizes_known=st.booleans())
def test_random_graphs(tf: Any, graph: Graph, sizes_known: bool) -> None:
    check(tf, graph, sizes_known)


def check(tf: Any, graph: Graph, sizes_known: bool) -> None:
    """At every batch; with `sizes_known` TensorFlow knows all sizes but the batch, else the channels alone."""
    specs = {
        v.name: tf.TensorSpec([n if axis and (sizes_known or axis == 1) else None for axis, n in enumerate(v.shape)])
        for v in graph.inputs
    }
    converted = net.convert(graph.model())
    function = tf.function(converted, autograph=False).get_concrete_function(specs)
    wanted = {v.name: v for v in graph.values if v not in graph.inputs and v not in graph.constants}
    for batch in range(len(graph.inputs[0].arrays)):
        got = function({v.name: tf.constant(v.arrays[batch]) for v in graph.inputs})
        for name, value in wanted.items():
            mine, own = got[name].numpy(), value.arrays[batch]
            told = f"{name} of {[(n.op_type, *n.input) for n in graph.nodes]}"
            assert mine.dtype == own.dtype and mine.shape == own.shape, (told, mine.shape, own.shape)
            largest = float(np.abs(own).max()) if own.dtype != bool else 1.0
            np.testing.assert_allclose(mine, own, rtol=1e-3, atol=1e-4 * max(1, largest), err_msg=told)
