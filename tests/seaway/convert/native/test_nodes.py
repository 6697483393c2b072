"""ONNX's own tests of single operators, all that are in scope. Through SavedModel: benchmarks/conversion/nodes.py."""

from typing import Any

import pytest

from benchmarks.conversion import nodes

SHARDS = 8


@pytest.mark.slow
@pytest.mark.parametrize("shard", range(SHARDS))
def test_the_node_tests_pass_but_for_those_that_are_known(tf: Any, shard: int) -> None:
    """And the server refuses none of TensorFlow's operators that they are made of."""
    from seaway.convert.native import net
    from seaway.serve.backends import operators

    refused = {}

    def convert(model: Any) -> Any:
        own = net.convert(model)

        def watched(given: Any) -> Any:
            got = own(given)
            graph = tf.compat.v1.get_default_graph().as_graph_def()
            made = [*graph.node, *(node for function in graph.library.function for node in function.node_def)]
            refused.update({node.op: why for node in made if (why := operators.why_refused(node))})
            return got

        return watched

    inside = [case for case in nodes.cases() if not nodes.out_of_scope(case.model)]
    assert len(inside) > 1600
    results = list(nodes.run(inside[shard::SHARDS], convert, saved=False))
    assert len(results) == len(inside[shard::SHARDS])
    failed = [r for r in results if r.said and not any(part in r.name for part in nodes.KNOWN)]
    assert not failed, "\n".join(f"{r.name}: {r.said}" for r in failed)
    assert not refused


def test_some_go_through_a_saved_model(tf: Any) -> None:
    from seaway.convert.native import net

    chosen = [case for case in nodes.cases("_softmax_") if not nodes.out_of_scope(case.model)]
    assert len(chosen) > 3
    assert [r.said for r in nodes.run(chosen, net.convert)] == [""] * len(chosen)


def test_a_wrong_result_is_found(tf: Any) -> None:
    """The comparison itself."""
    from seaway.convert.native import net

    def doubled(model: Any) -> Any:
        own = net.convert(model)
        return lambda given: {name: value + value for name, value in own(given).items()}

    chosen = nodes.cases("test_relu")[:1]
    (result,) = nodes.run(chosen, doubled, saved=False)
    assert "Not equal" in result.said
