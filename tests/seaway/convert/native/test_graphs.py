"""Random graphs of operators, in ONNX Runtime and converted: each operator must handle what the one before it leaves.

One test repeats the same graphs in every run; the other draws new ones. If that one fails, its error names the seed:

    SEAWAY_GRAPH_SEED=1234 python -m pytest tests/seaway/convert/native/test_graphs.py

`SEAWAY_GRAPH_EXAMPLES` sets the number of new graphs, for a longer search.
"""

import os
import secrets
from typing import Any

import numpy as np
import operators_over_images  # noqa: F401  they fill OPERATORS
import operators_over_tensors  # noqa: F401
import pytest
from graphs import Graph, graphs
from hypothesis import HealthCheck, Phase, given, seed, settings
from hypothesis import strategies as st

from seaway.convert.native import net


@settings(max_examples=80, deadline=None, derandomize=True)
@given(graph=graphs(), static=st.booleans())
def test_fixed_random_graphs(tf: Any, graph: Graph, static: bool) -> None:
    check(tf, graph, static)


@pytest.fixture
def graph_seed() -> int:
    """Chosen at run time: as a parameter it would differ between the workers of pytest-xdist."""
    return int(os.environ.get("SEAWAY_GRAPH_SEED") or secrets.randbelow(2**32))


def test_new_random_graphs(tf: Any, graph_seed: int) -> None:
    @seed(graph_seed)
    @settings(
        max_examples=int(os.environ.get("SEAWAY_GRAPH_EXAMPLES", "20")),
        deadline=None,
        database=None,
        phases=[Phase.generate],  # shrinking would take minutes
        suppress_health_check=list(HealthCheck),  # a slow machine is no failure
    )
    @given(graph=graphs(), static=st.booleans())
    def run(graph: Graph, static: bool) -> None:
        check(tf, graph, static)

    try:
        run()
    except Exception as error:
        error.add_note(f"repeat with SEAWAY_GRAPH_SEED={graph_seed}")
        raise


def check(tf: Any, graph: Graph, static: bool) -> None:
    """Compares at every batch size; with `static` TensorFlow knows all sizes but the batch, else only the channels."""
    specs = {
        v.name: tf.TensorSpec([n if axis and (static or axis == 1) else None for axis, n in enumerate(v.shape)])
        for v in graph.inputs
    }
    converted = net.convert(graph.model())
    function = tf.function(converted, autograph=False).get_concrete_function(specs)
    values = {v.name: v for v in graph.values if v not in graph.inputs and v not in graph.constants}
    for batch in range(len(graph.inputs[0].arrays)):
        outputs = function({v.name: tf.constant(v.arrays[batch]) for v in graph.inputs})
        for name, value in values.items():
            actual, expected = outputs[name].numpy(), value.arrays[batch]
            description = f"{name} of {[(n.op_type, *n.input) for n in graph.nodes]}"
            assert actual.dtype == expected.dtype, (description, actual.dtype, expected.dtype)
            assert actual.shape == expected.shape, (description, actual.shape, expected.shape)
            largest = float(np.abs(expected).max()) if expected.dtype != bool else 1.0
            np.testing.assert_allclose(actual, expected, rtol=1e-3, atol=1e-4 * max(1, largest), err_msg=description)
