"""ONNX's own tests of single operators, all in scope. benchmarks/conversion/nodes.py runs them through SavedModel."""

from typing import Any

import pytest

from benchmarks.conversion import nodes

SHARDS = 8


@pytest.mark.slow
@pytest.mark.parametrize("shard", range(SHARDS))
def test_the_node_tests_pass_except_for_known_failures(tf: Any, shard: int) -> None:
    """And the server refuses none of the TensorFlow operators used."""
    from seaway.convert.native import net
    from seaway.serve.backends import operators

    refused = {}

    def convert(model: Any) -> Any:
        converted = net.convert(model)

        def watched(inputs: Any) -> Any:
            outputs = converted(inputs)
            graph = tf.compat.v1.get_default_graph().as_graph_def()
            used = [*graph.node, *(node for function in graph.library.function for node in function.node_def)]
            refused.update({node.op: why for node in used if (why := operators.refusal_reason(node))})
            return outputs

        return watched

    in_scope = [case for case in nodes.cases() if not nodes.out_of_scope(case.model)]
    assert len(in_scope) > 1600
    results = list(nodes.run(in_scope[shard::SHARDS], convert, saved=False))
    assert len(results) == len(in_scope[shard::SHARDS])
    failed = [r for r in results if r.error and not any(part in r.name for part in nodes.KNOWN_FAILURES)]
    assert not failed, "\n".join(f"{r.name}: {r.error}" for r in failed)
    assert not refused


def test_some_through_a_saved_model(tf: Any) -> None:
    from seaway.convert.native import net

    chosen = [case for case in nodes.cases("_softmax_") if not nodes.out_of_scope(case.model)]
    assert len(chosen) > 3
    assert [r.error for r in nodes.run(chosen, net.convert)] == [""] * len(chosen)


def test_a_wrong_result_is_detected(tf: Any) -> None:
    """Tests the comparison itself."""
    from seaway.convert.native import net

    def doubled(model: Any) -> Any:
        converted = net.convert(model)
        return lambda inputs: {name: value + value for name, value in converted(inputs).items()}

    chosen = nodes.cases("test_relu")[:1]
    (result,) = nodes.run(chosen, doubled, saved=False)
    assert "Not equal" in result.error
