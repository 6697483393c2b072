"""The benchmark of the gate: its list of mutants, that each changes one operator, and the arithmetic of its classes."""

import contextlib
import io
from collections import Counter

import numpy as np
import onnx
import pytest

from benchmarks.gate import edits, kinds, mutants, score, search
from benchmarks.gate.graph import Graph, run
from seaway.artifacts.artifact_metadata import Tolerance
from seaway.artifacts.golden import Golden
from seaway.errors import ModelError

LISTED = mutants.read(mutants.SEED)
NETS = "average_pools", "integers", "reductions"  # which export in a second or two


def test_the_list_has_many_mutants_of_many_networks_and_no_kind_dominates():
    assert len(LISTED) >= 300
    assert len({mutant["id"] for mutant in LISTED}) == len(LISTED)
    assert len({mutant["net"] for mutant in LISTED}) >= 20
    counts = Counter(mutant["kind"] for mutant in LISTED)
    assert counts.keys() == kinds.KINDS.keys()
    assert max(counts.values()) <= 0.15 * len(LISTED)
    assert sum(not mutant["weight"] for mutant in LISTED) >= len(LISTED) / 2


@pytest.mark.slow
@pytest.mark.timeout(1200)
def test_the_seed_makes_the_committed_list():
    assert mutants.text(mutants.generate(mutants.SEED)) == mutants.file(mutants.SEED).read_text(encoding="utf-8")


@pytest.fixture(scope="module")
def graphs(tmp_path_factory):
    made = {}
    for name in NETS:
        folder = tmp_path_factory.mktemp(name) / "onnx"
        with contextlib.redirect_stdout(io.StringIO()):
            made[name] = mutants.graph(folder, mutants.export(name, folder))
    return made


def test_listed_mutants_are_among_those_that_the_network_has(graphs):
    for name, graph in graphs.items():
        listed = [mutant for mutant in LISTED if mutant["net"] == name]
        every = {mutant["id"]: mutant for found in mutants.candidates(name, graph).values() for mutant in found}
        assert listed
        for mutant in listed:
            assert every[mutant["id"]] == mutant
            assert mutants.runs(graph, mutant)


def test_a_mutant_changes_one_operator(graphs):
    for name, graph in graphs.items():
        before = {node.name: node.SerializeToString() for node in graph.model.graph.node}
        weights = {tensor.name: tensor.SerializeToString() for tensor in graph.model.graph.initializer}
        for mutant in (mutant for mutant in LISTED if mutant["net"] == name):
            changed = edits.apply(graph, mutant["node"], mutant["edit"]).graph
            after = {node.name: node.SerializeToString() for node in changed.node}
            assert {each for each in before if after.get(each) != before[each]} == {mutant["node"]}
            assert all(each.startswith(edits.PREFIX) for each in after.keys() - before.keys())
            kept = {t.name: t.SerializeToString() for t in changed.initializer if not t.name.startswith(edits.PREFIX)}
            assert kept == weights
            assert [value.name for value in changed.output] == [value.name for value in graph.model.graph.output]


def test_weights_are_told_from_other_constants(graphs):
    for mutant in LISTED:
        if mutant["kind"] in ("weight x 1.01", "transposed weight", "dropped bias"):
            assert mutant["weight"], mutant["id"]
        if mutant["kind"] in ("GELU", "softmax axis", "rounding", "comparison", "float16"):
            assert not mutant["weight"], mutant["id"]


@pytest.mark.parametrize(
    ("change", "expected"),
    [
        ({"scale": 2}, [[2, 4], [6, 8], [10, 12]]),
        ({"add": 1}, [[2, 3], [4, 5], [6, 7]]),
        ({"values": [7, 8]}, [7, 8]),
        ({"transpose": [0, 1]}, [[1, 3, 5], [2, 4, 6]]),
        ({"swap": [0, 0, 1]}, [[3, 4], [1, 2], [5, 6]]),
        ({"roll": [0, 3]}, [[3, 4], [5, 6], [1, 2]]),
    ],
)
def test_changes_of_constants(change, expected):
    result = edits.changed(np.array([[1, 2], [3, 4], [5, 6]], np.float32), change)
    assert result.dtype == np.float32
    np.testing.assert_array_equal(result, expected)


HALVES = np.array([-2.5, -1.5, -0.6, 0.5, 1.5, 2.5, 2.6], np.float32)


@pytest.mark.parametrize(
    ("recipe", "inputs", "expected"),
    [
        ("round half away from zero", [HALVES], [-3, -2, -1, 1, 2, 3, 3]),
        ("round half up", [HALVES], [-2, -1, -1, 1, 2, 3, 3]),
        ("truncate", [HALVES], [-2, -1, 0, 0, 1, 2, 2]),
        ("divide as floats", [np.array([-7, 7]), np.array([2, 2])], [-4, 3]),
        ("divide and round", [np.array([-7, 8]), np.array([2, 3])], [-4, 3]),
        ("remainder as floats", [np.array([-7, 7]), np.array([3, 3])], [2, 1]),
        ("relu by comparison", [np.array([-1, np.nan, 2], np.float32)], [0, 0, 2]),
        ("relu by product", [np.array([-1, 2], np.float32)], [0, 2]),
        ("maximum by comparison", [np.array([np.nan, 2], np.float32), np.array([1, 3], np.float32)], [1, 3]),
        ("minimum by comparison", [np.array([np.nan, 2], np.float32), np.array([1, 3], np.float32)], [1, 2]),
        ("softmax without maximum", [np.zeros((1, 2), np.float32)], [[0.5, 0.5]]),
        ("swish", [np.zeros(1, np.float32)], [0]),
    ],
)
def test_recipes_compute_what_their_names_say(recipe, inputs, expected):
    names = "abc"[: len(inputs)]
    node = onnx.helper.make_node("Identity", list(names), ["y"], name="node")
    kind = onnx.helper.np_dtype_to_tensor_dtype(inputs[0].dtype)
    values = [
        onnx.helper.make_tensor_value_info(name, kind, array.shape) for name, array in zip(names, inputs, strict=True)
    ]
    result = onnx.helper.make_tensor_value_info("y", kind, None)
    graph = onnx.helper.make_graph(edits.replacement(edits.RECIPES[recipe], node), "g", values, [result])
    model = onnx.helper.make_model(graph, opset_imports=[onnx.helper.make_opsetid("", 20)], ir_version=10)
    np.testing.assert_allclose(run(model, dict(zip(names, inputs, strict=True)), ["y"])["y"], expected)


@pytest.mark.parametrize(
    ("checks", "ratio", "whole", "without"),
    [
        (["weights", "golden examples, SavedModel"], None, "killed", "killed"),
        (["golden examples, SavedModel"], None, "killed", "killed"),
        (["weights"], 3.0, "killed", "survived"),
        (["files", "weights"], 0.5, "killed", "below tolerance"),
        ([], 1.0, "below tolerance", "below tolerance"),
        ([], 1.01, "survived", "survived"),
        ([], float("inf"), "survived", "survived"),
    ],
)
def test_the_class_of_a_mutant(checks, ratio, whole, without):
    assert score.verdict(checks, ratio) == {"class": whole, "without_weights": without}


def test_the_score_counts_killed_and_survived_alone():
    assert score.score(["killed"] * 3 + ["survived"] + ["below tolerance", "equivalent", "not converted"]) == 0.75
    assert score.score(["below tolerance"]) is None


def _result(name, **other):
    kept = {"id": f"net {name} edit", "net": "net", "kind": "scale", "operator": "Mul", "weight": False, "ratio": 2.0}
    missed = {"class": "survived", "without_weights": "survived", "structure": "halves", "cpu_s": 1.0, "commit": "abc"}
    return kept | missed | other


def test_equivalent_mutants_are_not_counted_unless_the_gate_killed_one():
    results = [_result("a"), _result("b")]
    classes = [result["class"] for result in score.classified(results, {"net a edit": "x + 0 = x"})]
    assert classes == ["equivalent", "survived"]
    with pytest.raises(ValueError, match="the gate killed it"):
        score.classified([_result("a", without_weights="killed")], {"net a edit": "x + 0 = x"})


def test_the_summary_has_the_scores_and_every_survivor():
    unchanged = {"id": "net", "net": "net", "kind": "unchanged", "class": "passed", "cpu_s": 1.0, "commit": "abc"}
    killed = {"class": "killed", "without_weights": "killed", "checks": ["golden examples, SavedModel"]}
    text = score.summary([unchanged, _result("a"), *(_result(n, **killed) for n in "bcd")], 5, {})
    assert "4 of 5 mutants; 1 unchanged networks, 0 refused; 5 CPU s; commits abc" in text
    assert "| the whole gate, all mutants | 4 | 3 | 1 | 0 | 0 | 0 | 75.0 % |" in text
    assert "| scale | net | Mul | edit | survived | 2 | halves |" in text


def test_the_summary_counts_the_refusals_that_name_the_changed_node():
    killed = {"class": "killed", "without_weights": "killed", "checks": ["weights"]}
    named = [("b", {"named": "node", "named_right": True}), ("c", {"named": "", "named_right": False})]
    text = score.summary([*(_result(name, **killed, **more) for name, more in named), _result("d", **killed)], 3, {})
    assert "right node named: 1 of 2 killed, 50.0 %" in text
    assert "| net c edit | none |" in text


def test_equivalent_mutants_are_few_and_each_has_a_reason():
    reasons = score.equivalents()
    assert reasons.keys() <= {mutant["id"] for mutant in LISTED}
    assert len(reasons) <= 0.05 * len(LISTED)
    assert all(len(reason) > 20 for reason in reasons.values())


def test_a_difference_counts_in_units_of_the_tolerance():
    tolerance = Tolerance(1e-3, 0.0)
    one = np.array([1.0, np.nan], np.float32)
    assert search.ratio(one, one, tolerance) == 0
    assert search.ratio(np.array([1.002, 7], np.float32), one, tolerance) == pytest.approx(2, rel=1e-3)
    assert search.ratio(np.array([np.nan, 0], np.float32), one, tolerance) == np.inf
    assert search.ratio(np.array([1], np.float32), one, tolerance) == np.inf
    assert search.ratio(np.array([2]), np.array([1]), Tolerance(0.0, 0.0)) == np.inf


def test_the_search_finds_what_ordinary_numbers_do_not_show():
    def own(call):
        return {"y": np.round(call["x"])}

    def mutant(call):
        return {"y": np.floor(call["x"] + np.float32(0.5))}

    def fails(call):
        raise ModelError("no kernel")

    examples = Golden({"x": np.random.default_rng(0).normal(size=(64, 3)).astype(np.float32)}, {})
    entry = {"inputs": ["x:3"]}
    assert not any((own(examples.inputs)["y"] != mutant(examples.inputs)["y"]).ravel())
    tolerances = {"y": Tolerance(1e-5, 1e-5)}
    found = search.worst(own, mutant, tolerances, search.inputs(entry, examples))
    assert found["ratio"] > 1000
    assert found["structure"] in ("halves", "odd halves", "sixteenths")
    assert search.worst(own, own, tolerances, search.inputs(entry, examples)) == {"ratio": 0.0}
    assert search.worst(own, fails, tolerances, search.inputs(entry, examples))["ratio"] == np.inf
    assert search.worst(fails, own, tolerances, search.inputs(entry, examples)) == {"ratio": 0.0}


def test_the_search_stays_within_twice_the_golden_range():
    examples = Golden({"x": np.array([[3, -2, 1e4]], np.float32), "ids": np.array([[-1, 5]])}, {})
    entry = {"inputs": ["x:3", "ids:2:int64"], "high": {"ids": 4}}
    calls = list(search.inputs(entry, examples))
    assert len(calls) == search.CALLS
    assert {structure for structure, _ in calls} == search.FLOATS.keys()
    for structure, call in calls:
        limit = 1e4 if "golden" in structure else 6.0 if "bound" in structure or "large" in structure else 25
        assert np.abs(call["x"]).max() <= limit
        assert call["x"].dtype == np.float32
        assert {*call["ids"].ravel().tolist()} <= {-1, 0, 1, 2, 3, 5}


def test_a_constant_that_several_nodes_read_changes_for_one_of_them():
    text = '<ir_version: 10, opset_import: ["" : 20]> g (float[2] x) => (float[2] y) <float[2] w = {1.0, 2.0}>'
    model = onnx.parser.parse_model(text + " { [one] a = Mul(x, w) [two] y = Mul(a, w) }")
    graph = Graph(model, {"x": np.ones(2, np.float32)}, frozenset({"w"}))
    mutant = edits.apply(graph, "two", {"constants": {"1": {"scale": 2}}})
    np.testing.assert_array_equal(run(mutant, {"x": np.ones(2, np.float32)}, ["y"])["y"], [2, 8])
